import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odernn import zoo
from odernn._enclosure import MatrixSet, NotEnclosed, enclose
from odernn._enclosure import _polynomial as polynomials
from odernn._enclosure._polynomial import Symbol
from odernn.analysis import Norm, box, everywhere, reachable, step_rate
from odernn.analysis._jacobians import field_set, step_set
from tests.cases import as_precision

M = 4
W, V = (np.random.default_rng(s).normal(size=(M, M)) / 2 for s in (1, 2))
C = np.random.default_rng(3).normal(size=M)


def _gate(p):
    return 0.5 * jnp.tanh(0.5 * p) + 0.5


def _loop(y, x):
    return jax.lax.fori_loop(0, 3, lambda i, h: h + 0.3 * jnp.tanh(h @ W + x), y)


# Each uses other rules; x has the size of y.
PROGRAMS = {
    "product": lambda y, x: y @ W + x,
    "tanh": lambda y, x: jnp.tanh(y @ W + x),
    "two layers": lambda y, x: jnp.tanh(jnp.tanh(y @ W + x) @ V) @ W,
    "gate": lambda y, x: (1 - _gate(y @ W)) * y + _gate(y @ W) * jnp.tanh(y @ V + x),
    "gate of the input": lambda y, x: (1 - _gate(x)) * y + _gate(x) * jnp.tanh(y @ V),
    "logistic": lambda y, x: jax.nn.sigmoid(y + x) * y,
    "relu": lambda y, x: jax.nn.relu(y @ W + x) - y,
    "leaky relu": lambda y, x: jax.nn.leaky_relu(y @ W + x),
    "softplus": lambda y, x: jax.nn.softplus(y @ W + x),
    "silu": lambda y, x: jax.nn.silu(y @ W),
    "hard sigmoid": lambda y, x: jax.nn.hard_sigmoid(y @ W + x),
    "exp": lambda y, x: jnp.exp(-jnp.abs(y)) * jnp.sin(y @ W),
    "erf": lambda y, x: jax.lax.erf(y @ W) + jnp.cos(y),
    "powers": lambda y, x: y**2 - (y @ W) ** 3,
    "quotient": lambda y, x: jnp.tanh(y @ W) / (2 + jnp.tanh(y)),
    "logarithm": lambda y, x: jnp.log(3 + y) + jnp.sqrt(3 + y @ W / 4) + jnp.log1p(1 + _gate(y)),
    "slices": lambda y, x: jnp.concatenate([y[2:] * y[:2], jnp.tanh(y[:2] + x[2:])]),
    "moved": lambda y, x: jnp.flip(y) * jnp.roll(jnp.tanh(y), 1) + jnp.pad(y[1:], (0, 1)),
    "sum": lambda y, x: y * jnp.tanh(jnp.sum(y)) + jnp.cumsum(y),
    "choice": lambda y, x: jnp.where(y > 0, y @ W, 0.5 * y),
    "a step": lambda y, x: (y > 0).astype(float) * (y @ W),
    "fixed choice": lambda y, x: jnp.where(jnp.asarray(C) > 0, jnp.tanh(y), 2 * y),
    "bounds": lambda y, x: jnp.clip(y @ W, -0.5, 0.5) + jnp.minimum(y, x),
    "rounding": lambda y, x: y * jnp.sign(y) + jnp.floor(y @ W),
    "stopped": lambda y, x: jax.lax.stop_gradient(y) * jnp.tanh(y),
    "loop": _loop,
    "matrix": lambda y, x: (jnp.tanh(y.reshape(2, 2) @ W[:2, :2]).T * 0.5).reshape(-1),
}


def _matrices(function, size, inputs=1.0, m=M):
    side, around = np.full(m, float(size)), np.full(m, float(inputs))
    like = jax.ShapeDtypeStruct((m,), float)
    return enclose(function, like, like, (-side, side), (-around, around))


def _smallest(matrices, norm):
    scaled = matrices if norm.scale is None else matrices * norm.scale[:, None] / norm.scale
    order = {"1": 1, "2": 2, "inf": np.inf}[norm.kind]
    safe = scaled + 1e-13 * np.eye(matrices.shape[-1])
    return 1 / np.linalg.norm(np.linalg.inv(safe), order, axis=(1, 2))


WEIGHTS = np.array([0.5, 1.0, 2.0, 1.5])
NORMS = [Norm(kind, scale) for kind in ("1", "2", "inf") for scale in (None, WEIGHTS)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_jacobian_is_outside(name, rng):
    function, size = PROGRAMS[name], 1.3
    ys, xs = rng.uniform(-size, size, (2000, M)), rng.uniform(-1, 1, (2000, M))
    ys[:200], xs[:200] = size * np.sign(ys[:200]), np.sign(xs[:200])  # corners
    found = _matrices(function, size)
    (out,), matrices = found.outputs, MatrixSet.of(found)
    values = np.asarray(jax.vmap(function)(ys, xs))
    assert (values >= out.lower - 1e-9).all() and (values <= out.upper + 1e-9).all()
    jacobians = np.asarray(jax.jit(jax.vmap(jax.jacfwd(function)))(ys, xs))
    lower, upper = matrices.entries
    assert (jacobians >= lower - 1e-9).all() and (jacobians <= upper + 1e-9).all()
    one = np.eye(M)
    for norm in NORMS:
        assert norm.of_matrices(jacobians).max() <= matrices.norm(norm) + 1e-9, norm
        assert _smallest(jacobians, norm).min() >= matrices.lowest(norm) - 1e-9, norm
        shifted = norm.of_matrices(one - 0.2 * jacobians).max()
        assert shifted <= matrices.shifted(1.0, -0.2).norm(norm) + 1e-9, norm
        growth = (norm.of_matrices(one + 1e-6 * jacobians).max() - 1) / 1e-6
        assert growth <= matrices.growth(norm) + 1e-4, norm


_ENDS = st.lists(st.floats(-3, 3), min_size=2, max_size=2).map(sorted)


@given(st.lists(_ENDS, min_size=3, max_size=3), st.floats(0, 1))
def test_polynomials_stay_between_their_bounds(ends, cut):
    index = np.zeros(1, np.int32).tobytes()
    a, b, c = (
        polynomials.variable(Symbol(name, index), np.array([low]), np.array([high]))
        for name, (low, high) in enumerate(ends)
    )
    one = polynomials.constant(np.ones(1))
    hump = polynomials.multiply(a, polynomials.add(one, a.scaled(-1.0)))  # a (1 - a)
    total = polynomials.add(polynomials.multiply(hump, b), polynomials.multiply(c, a))
    x, y, z = np.meshgrid(np.linspace(*ends[0], 41), ends[1], ends[2], indexing="ij")
    values = x * (1 - x) * y + z * x
    for splits in ({}, {0: np.array([cut])}):
        low, high = polynomials.bounds(total, splits)
        assert low[0] - 1e-9 <= values.min() and values.max() <= high[0] + 1e-9
    # Of what is linear in every symbol the bounds are reached.
    product = polynomials.bounds(polynomials.multiply(a, b), {})
    corners = [p * q for p in ends[0] for q in ends[1]]
    np.testing.assert_allclose(np.ravel(product), [min(corners), max(corners)], atol=1e-12)


def test_a_cut_makes_the_slope_of_a_gate_exact():
    index = np.zeros(1, np.int32).tobytes()
    a = polynomials.variable(Symbol(0, index), np.zeros(1), np.ones(1))
    one = polynomials.constant(np.ones(1))
    slope = polynomials.multiply(a, polynomials.add(one, a.scaled(-1.0)))
    assert np.ravel(polynomials.bounds(slope, {})).tolist() == [0.0, 0.5]
    assert np.ravel(polynomials.bounds(slope, {0: np.full(1, 0.5)})).tolist() == [0.0, 0.25]


def test_bounds_are_reached_where_slopes_stand_before_a_matrix():
    matrices = MatrixSet.of(_matrices(PROGRAMS["tanh"], np.inf))
    assert matrices.norm(Norm("2")) == pytest.approx(np.linalg.norm(W, 2))
    assert matrices.norm(Norm("inf")) == pytest.approx(abs(W).sum(axis=0).max())
    assert matrices.norm(Norm("1")) == pytest.approx(abs(W).sum(axis=1).max())
    # -I + D W with D in [0, 1]: D = 0 or D = 1, row by row.
    leaky = MatrixSet.of(_matrices(lambda y, x: jnp.tanh(y @ W + x) - y, np.inf))
    assert leaky.growth(Norm("inf")) == pytest.approx(
        max(0.0, (W.diagonal() + abs(W).sum(axis=0) - abs(W.diagonal())).max()) - 1
    )


def test_a_gate_between_two_values_stays_between_them():
    (out,) = _matrices(PROGRAMS["gate"], 1.0).outputs
    assert (abs(out.upper) <= 1).all() and (abs(out.lower) <= 1).all()
    # So does its derivative: a row is at most 1 - a + 0.9 a, where intervals say 1 + 0.9.
    positive = abs(V) * 0.9 / abs(V).sum(axis=0).max()

    def contracting(y, x):
        return (1 - _gate(x)) * y + _gate(x) * jnp.tanh(y @ positive)

    smallest = 1 / (1 + np.exp(1.0))
    bound = MatrixSet.of(_matrices(contracting, 1.0)).norm(Norm("inf"))
    assert bound == pytest.approx(1 - 0.1 * smallest, abs=1e-12)


def test_descent_on_a_convex_function_does_not_expand():
    # I - dt A^T D A, D in [0, 1]: at most 1 for dt ||A||^2 <= 2, which the triangle inequality
    # does not see.
    size = np.linalg.norm(W, 2) ** 2

    def step(dt):
        return MatrixSet.of(_matrices(lambda y, x: y - dt * jnp.tanh(y @ W + x) @ W.T, np.inf))

    assert step(1.999 / size).norm(Norm("2")) <= 1 + 1e-9
    assert step(2.2 / size).norm(Norm("2")) > 1.01


def test_a_metric_that_mixes_the_state(rng):
    metric = rng.normal(size=(M, M)) + 2 * np.eye(M)
    ys, xs = rng.uniform(-1, 1, (500, M)), rng.uniform(-1, 1, (500, M))
    for name in ("tanh", "gate", "two layers"):
        jacobians = np.asarray(jax.vmap(jax.jacfwd(PROGRAMS[name]))(ys, xs))
        bound = MatrixSet.of(_matrices(PROGRAMS[name], 1.0)).norm(Norm("2", metric))
        assert Norm("2", metric).of_matrices(jacobians).max() <= bound + 1e-9


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda y, x: jnp.sort(y), "'sort'"),
        (lambda y, x: jnp.outer(y, y) @ y, "dot"),
        (lambda y, x: jax.lax.while_loop(lambda h: h[0] < 0, lambda h: h + 1, y), "'while'"),
    ],
)
def test_what_has_no_rule_is_named(function, words):
    with pytest.raises(NotEnclosed, match=words):
        _matrices(function, 1.0)


def test_ranges_that_overflow_are_no_error():
    def grows(y, x):
        return jax.lax.fori_loop(0, 12, lambda i, h: h**3 + jnp.tanh(h @ W), y)

    matrices = MatrixSet.of(_matrices(grows, 1e3))
    assert matrices.norm(Norm("2")) == np.inf and matrices.lowest(Norm("inf")) == 0


def test_states_without_bounds():
    gated = MatrixSet.of(_matrices(PROGRAMS["gate"], np.inf))
    assert gated.norm(Norm("2")) == np.inf and gated.lowest(Norm("2")) == 0
    quotient = MatrixSet.of(_matrices(lambda y, x: 1 / y, 1.0))
    assert quotient.norm(Norm("inf")) == np.inf


# --- thousands of networks, compiled -----------------------------------------------------------

MAKERS = {
    "rnn": (zoo.RNN, everywhere, 1.5),
    "gru": (zoo.GRU, lambda cell: box(cell, 1.0), 2.0),
    "lem": (zoo.LEM, lambda cell: box(cell, 1.0), 1.5),
    "cornn": (zoo.coRNN, everywhere, 3.0),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_rate_of_thousands_of_networks(name, key):
    make, region_of, spread = MAKERS[name]
    region = region_of(make(2, 2, key=key))
    keys = jax.random.split(key, 2000)
    like = make(2, 2, key=key).initial_state()
    leaves, structure = jax.tree.flatten(like)
    size = sum(leaf.size for leaf in leaves)

    def flat_step(cell, v, x):
        y = structure.unflatten(jnp.split(v, size // 2))
        return jnp.concatenate(jax.tree.leaves(cell(y, x)))

    def both(key):
        a, b, c, d = jax.random.split(key, 4)
        cell = make(2, 2, key=a)
        scale = spread * jax.random.uniform(b)
        cell = jax.tree.map(lambda w: scale * w if eqx.is_inexact_array(w) else w, cell)
        vs = jax.random.uniform(c, (8, size), minval=-1, maxval=1)
        xs = 3 * jax.random.normal(d, (8, 2))

        def excess(v, x):
            return jnp.abs(jax.jacfwd(flat_step, 1)(cell, v, x)).sum(axis=1).max()

        def climb(_, vx):
            dv, dx = jax.vmap(jax.grad(excess, (0, 1)))(*vx)
            vs, xs = vx[0] + 0.2 * jnp.sign(dv), vx[1] + 0.5 * jnp.sign(dx)
            return jnp.clip(vs, -1, 1), xs

        vs, xs = jax.lax.fori_loop(0, 5, climb, (vs, xs))
        return step_rate(cell, region), jax.vmap(excess)(vs, xs).max()

    rates, found = (np.asarray(a) for a in jax.jit(jax.vmap(both))(keys))
    assert (found <= rates + 1e-9).all()
    # Close: of half of them the search finds 70 % of the bound at least.
    assert np.median(found / rates) > 0.7


def test_the_rate_is_the_same_compiled_and_in_single_precision(key):
    cell = zoo.GRU(3, 5, key=key)
    region = box(cell, 1.0, 1.0)
    exact = step_set(cell, region).norm(Norm("inf"))
    assert float(eqx.filter_jit(lambda c: step_rate(c, region))(cell)) == pytest.approx(
        exact, abs=1e-12
    )
    single = as_precision(cell, jnp.float32)
    assert float(step_rate(single, region)) == pytest.approx(exact, abs=1e-5)


# --- regions -----------------------------------------------------------------------------------


def test_states_within_reach(key):
    gru, lstm = zoo.GRU(3, 5, key=key), zoo.LSTM(3, 5, key=key)
    region = reachable(gru)
    np.testing.assert_allclose(region.state_upper, 1.0)
    bounded, free = reachable(lstm, 1.0), reachable(lstm)
    assert np.isfinite(bounded.state_upper).all() and bounded.state_upper.max() > 1
    # Without bounds of the input the memory may grow for ever; its output may not.
    assert np.isinf(free.state_upper[:5]).all() and (free.state_upper[5:] <= 1).all()
    xs = np.random.default_rng(0).uniform(-1, 1, (20, 300, 3))
    _, states = jax.vmap(lambda xs: _run(lstm, xs))(xs)
    flat = np.concatenate([states["c"], states["h"]], axis=-1)
    assert (flat <= bounded.state_upper).all() and (flat >= bounded.state_lower).all()


def _run(cell, xs):
    def step(y, x):
        y = cell(y, x)
        return y, y

    return jax.lax.scan(step, cell.initial_state(), xs)


def test_the_field_s_jacobians(key):
    cell = zoo.AntisymmetricRNN(3, 5, key=key)
    matrices = field_set(cell, everywhere(cell))
    weight = np.asarray(cell.field.weight)
    a = (weight - weight.T - cell.field.gamma * np.eye(5)).T
    assert matrices.norm(Norm("2")) <= np.linalg.norm(a, 2) * 1.3
    with pytest.raises(NotEnclosed, match="changes with time"):
        legs = zoo.HiPPOLegS(3, 5, key=key)
        field_set(legs, everywhere(legs))
    with pytest.raises(NotEnclosed, match="complex"):
        lru = zoo.LRU(3, 5, key=key)
        step_set(lru, everywhere(lru))
