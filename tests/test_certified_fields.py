"""Fields that are stable by construction: what they claim holds for all parameters and states."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import odernn
from odernn import InputError
from odernn.fields import _certified as certified
from odernn.fields import _conservative as conservative
from odernn.zoo import _certified as zoo

from . import cases

INPUTS, HIDDEN = 2, 4
NETWORKS = {network.name: network for network in zoo.NETWORKS}
CLASSES = [
    certified.ContractingLeaky,
    certified.GradientFlow,
    certified.ContractingLipschitz,
    certified.ContractingOscillator,
    certified.ContractingGated,
    conservative.Conservative,
    conservative.SelectiveRotation,
]
FIELDS = {
    "leaky": (certified.ContractingLeaky, {"margin": 0.05}),
    "gradient": (certified.GradientFlow, {"strength": 3.0, "damping": 0.2}),
    "lipschitz": (certified.ContractingLipschitz, {"gain": 0.7, "margin": 0.1, "rotation": 1.5}),
    "lipschitz-free": (certified.ContractingLipschitz, {"margin": 0.2, "rotation": None}),
    "oscillator": (certified.ContractingOscillator, {"stiffness": 2.0, "damping": 0.8}),
    "gated": (certified.ContractingGated, {"margin": 0.1}),
    "gated-floor": (certified.ContractingGated, {"margin": 0.3, "floor": 0.2}),
    "conservative": (conservative.Conservative, {}),
    "selective": (conservative.SelectiveRotation, {}),
}


def field_of(name, key=None):
    make, options = FIELDS[name]
    return make(INPUTS, HIDDEN, key=jax.random.key(0) if key is None else key, **options)


# --- measuring ---------------------------------------------------------------------------------


def draw(field, key, largest=2.0):
    """Parameters, a state and an input, each of a scale of its own, up to 10**largest."""
    keys = iter(jax.random.split(key, 40))

    def normal(shape, highest):
        scale = 10 ** jax.random.uniform(next(keys), (), float, -1.5, highest)
        return scale * jax.random.normal(next(keys), shape)

    field = jax.tree.map(
        lambda a: normal(a.shape, largest) if eqx.is_inexact_array(a) else a, field
    )
    y = jax.tree.map(lambda a: normal(a.shape, 1.0), field.initial_state())
    return field, y, normal((INPUTS,), 1.0)


def inside(field, y):
    """The state, moved to where the claims hold."""
    bound = field.certified.state
    return y if bound is None else jax.tree.map(lambda a: bound * jnp.sin(a), y)


def jacobian(function, y, field):
    """The Jacobian in the coordinates T y of the field's claims."""
    flat, unravel = ravel_pytree(y)
    matrix = jax.jacfwd(lambda v: ravel_pytree(function(unravel(v)))[0])(flat)
    scale = field.certified.scale
    if scale is None:
        return matrix
    # The blocks of a dict follow one another by their names.
    scale = np.kron(np.array(scale), np.eye(HIDDEN)).astype(matrix.dtype)
    return scale @ matrix @ np.linalg.inv(scale)


def jacobians(field, y, x):
    """Those of the field and, where it has them, of its linear part and the rest."""
    y, u = inside(field, y), field.drive(x)
    functions = [lambda y: field(0.0, y, u)]
    if field.certified.linear is not None:
        functions += [lambda y: field.linear().apply(y), lambda y: field.rest(0.0, y, u)]
    return [jacobian(function, y, field) for function in functions]


def norm(matrices, kind):
    return np.linalg.norm(matrices, 2 if kind == "2" else np.inf, axis=(-2, -1))


def growth(matrices, kind):
    """Logarithmic norms."""
    if kind == "2":
        return np.linalg.eigvalsh(0.5 * (matrices + np.swapaxes(matrices, -1, -2)))[..., -1]
    diagonal = np.diagonal(matrices, axis1=-2, axis2=-1)
    return np.max(np.abs(matrices).sum(axis=-1) - np.abs(diagonal) + diagonal, axis=-1)


def excess(claims, whole, linear=None, rest=None):
    """By how much each claim is exceeded."""
    kind, one = claims.norm, np.eye(whole.shape[-1])
    found = {"growth": growth(whole, kind) - claims.growth}
    if claims.size is not None:
        found["size"] = norm(whole, kind) - claims.size
    if claims.circle is not None:
        found["circle"] = norm(whole + claims.circle * one, kind) - claims.circle
    if claims.euler is not None:
        for share in (0.3, 1.0):
            step = share * claims.euler
            found[f"euler {share}"] = norm(one + step * whole, kind) - 1 - step * claims.growth
    if claims.linear is not None:
        found["linear"] = growth(linear, kind) - claims.linear
        found["rest"] = norm(rest, kind) - claims.rest
        found["sum"] = norm(linear + rest - whole, kind) / (1 + norm(whole, kind))
    return {name: float(values.max()) for name, values in found.items()}


def worst(field, key, count=2000):
    keys = jax.random.split(key, count)
    found = jax.jit(jax.vmap(lambda key: jacobians(*draw(field, key))))(keys)
    return excess(field.certified, *map(np.asarray, found))


# --- the claims --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIELDS)
def test_claims_hold_for_random_parameters_and_states(name, key):
    for claim, value in worst(field_of(name), key).items():
        assert value <= 1e-9, claim


@pytest.mark.parametrize("name", ["leaky", "oscillator", "gated-floor"])
def test_claims_are_false_without_the_construction(name, key, monkeypatch):
    monkeypatch.setattr(certified, "contraction", lambda matrix: matrix)
    gated = certified.ContractingGated
    monkeypatch.setattr(gated, "weight", property(lambda self: self.free_weight))
    found = worst(field_of(name), key, count=500)
    assert found["growth"] > 0.5
    assert found["size"] > 0.5


def quotient(field, y, x, v, w, kind):
    """What growth, size and circle (or an Euler step) are the suprema of, over directions v, w."""
    (whole, *_), claims = jacobians(field, y, x), field.certified
    if claims.norm == "inf":
        rows, diagonal = jnp.sum(jnp.abs(whole), axis=1), jnp.diagonal(whole)
        stepped = jnp.abs(1 + diagonal) - jnp.abs(diagonal) + rows
        return jnp.max([rows - jnp.abs(diagonal) + diagonal, rows, stepped][kind])
    v, w = v / jnp.linalg.norm(v), w / jnp.linalg.norm(w)
    return [v @ whole @ v, w @ whole @ v, w @ (whole @ v + claims.circle * v)][kind]


@pytest.mark.parametrize("name", ["leaky", "lipschitz", "oscillator", "gated-floor"])
def test_claims_hold_in_the_worst_case_and_say_no_more_than_that(name, key):
    """Ascent over parameters, state, input and direction at once, on each claim."""
    field = field_of(name)
    claims = field.certified
    kinds = {"growth": claims.growth, "size": claims.size, "circle": claims.circle}
    if claims.norm == "inf":
        kinds["circle"] = 1 + claims.growth

    def goal(point, weights):
        return sum(w * quotient(*point, kind) for kind, w in enumerate(weights))

    def climb(key, weights):
        point = draw(field, key, 0.3)
        shape = ravel_pytree(point[1])[0].shape
        point, static = eqx.partition(
            (*point, *jax.random.normal(key, (2, *shape))), eqx.is_inexact_array
        )

        def step(point, length):
            slopes = jax.grad(lambda p: goal(eqx.combine(p, static), weights))(point)
            return jax.tree.map(lambda a, g: a + length * jnp.sign(g), point, slopes), None

        lengths = 0.2 * 0.98 ** jnp.arange(250.0)
        point, _ = jax.lax.scan(step, point, lengths)
        return goal(eqx.combine(point, static), weights)

    keys = jax.random.split(key, 12)
    climbed = jax.jit(jax.vmap(jax.vmap(climb, (0, None)), (None, 0)))
    top = climbed(keys, jnp.eye(3)).max(axis=1)
    for (kind, bound), value in zip(kinds.items(), top, strict=True):
        assert bound - 0.1 * claims.size <= value <= bound + 1e-9, kind


def steps():
    """(name, method, dt, what the norm of the step's Jacobian is at most, is an isometry)."""
    euler = odernn.LieTrotter(methods={"rest": odernn.Euler()})
    leaky, gradient = field_of("leaky").certified, field_of("gradient").certified
    lipschitz, free = field_of("lipschitz").certified, field_of("lipschitz-free").certified
    spiral = field_of("oscillator")

    def imex(claims, dt):
        return (1 + dt * claims.rest) / (1 - dt * claims.linear)

    def etd(claims, dt):
        decay = math.exp(dt * claims.linear)
        return decay + claims.rest * (1 - decay) / -claims.linear

    def split(claims, dt):
        return math.exp(dt * claims.linear) * (1 + dt * claims.rest)

    yield "leaky", odernn.Euler(), 1.0, 0.95
    yield "leaky", odernn.ETD1(), 3.0, etd(leaky, 3.0)
    yield "leaky", odernn.FusedEuler(), 5.0, imex(leaky, 5.0)
    yield "gradient", odernn.Euler(), 1 / gradient.circle, 1
    yield "gradient", odernn.SSPRK43(), 2 / gradient.circle, 1
    yield "lipschitz", odernn.Euler(), 1 / lipschitz.circle, 1
    yield "lipschitz-free", odernn.IMEXEuler(), 3.0, imex(free, 3.0)
    yield "oscillator", euler, 0.5, split(spiral.certified, 0.5)
    yield "oscillator", odernn.GaussSeidelEuler(), 0.1, spiral.sequential_rate(0.1)
    yield "oscillator", odernn.ImplicitMidpoint(), 3.0, 1
    yield "gated", odernn.SSPRK33(), 1.0, 1
    yield "gated-floor", odernn.Euler(), 0.7, 1 - 0.7 * 0.2 * 0.3


@pytest.mark.parametrize(
    ("name", "method", "dt", "bound"),
    [pytest.param(*s, id=f"{s[0]}-{type(s[1]).__name__}") for s in steps()],
)
def test_steps_are_bounded_as_the_theorems_say(name, method, dt, bound, key):
    # Far out an implicit equation is hard to solve; what is tested is the bound.
    largest = 0.5 if method == odernn.ImplicitMidpoint() else 2.0

    def matrix(key):
        field, y, x = draw(field_of(name), key, largest)
        cell = odernn.Cell(field, method, dt)
        return jacobian(lambda y: cell(y, x), inside(field, y), field)

    matrices = jax.jit(jax.vmap(matrix))(jax.random.split(key, 500))
    found = norm(np.asarray(matrices), field_of(name).certified.norm).max()
    assert found <= bound + 1e-9
    assert bound <= 1 or isinstance(method, odernn.GaussSeidelEuler)
    assert found >= 0.5 * bound


@pytest.mark.parametrize(
    ("name", "method", "dt"),
    [
        ("conservative", odernn.ETD1(), 1.0),
        ("conservative", odernn.ImplicitMidpoint(), 0.7),
        ("selective", odernn.LieTrotter(), 1.0),
        ("selective", odernn.Strang(), 2.5),
    ],
)
def test_steps_of_rotations_are_isometries(name, method, dt, key):
    def defect(key):
        field, y, x = draw(field_of(name), key, 1.0)
        cell = odernn.Cell(field, method, dt)
        matrix = jacobian(lambda y: cell(y, x), y, field)
        return jnp.abs(matrix @ matrix.T - jnp.eye(HIDDEN)).max()

    assert float(jnp.max(jax.jit(jax.vmap(defect))(jax.random.split(key, 200)))) < 1e-9


def test_an_isometry_keeps_differences_over_many_steps(key):
    cell = zoo.SelectiveRotationRNN(INPUTS, HIDDEN, key=key)
    xs = jax.random.normal(key, (1000, INPUTS))
    starts = jax.random.normal(key, (2, HIDDEN))
    run = jax.jit(jax.vmap(lambda y: odernn.Layer(cell, odernn.Scan())(xs, initial_state=y)[1]))
    before, after = (jnp.linalg.norm(y[0] - y[1]) for y in (starts, run(starts)))
    np.testing.assert_allclose(after, before, rtol=1e-11)


def test_a_gate_alone_reaches_the_bound_of_the_gated_field(key):
    """The worst state and input for the gate's weights: their part of the bound is no slack."""
    field = certified.ContractingGated(1, HIDDEN, margin=0.3, floor=0.2, key=key)
    free = jnp.concatenate([jnp.full((HIDDEN, HIDDEN), 9.0), jnp.zeros((HIDDEN, HIDDEN))], axis=1)
    field = eqx.tree_at(lambda f: f.free_weight, field, free)
    rate = math.sqrt(0.2)
    gate = (rate - 0.2) / 0.8

    @jax.jit
    def step_jacobian(y):
        form = math.log(gate / (1 - gate)) + field.weight[:, 0].sum()
        u = jnp.concatenate([jnp.full(HIDDEN, form), jnp.full(HIDDEN, 30.0)])
        return jax.jacfwd(lambda y: y + field(0.0, y, u))(y)

    matrix = step_jacobian(-np.ones(HIDDEN))
    np.testing.assert_allclose(jnp.abs(matrix).sum(axis=1), 1 - rate * 0.3, rtol=1e-9)


def test_the_gated_field_stays_where_its_claims_hold(key):
    cell = zoo.ContractingUGRNN(INPUTS, HIDDEN, key=key)
    big = jax.tree.map(lambda a: 100 * a if eqx.is_inexact_array(a) else a, cell)
    hs, _ = odernn.Layer(big, odernn.Scan())(jax.random.normal(key, (200, INPUTS)))
    assert np.abs(hs).max() <= 1
    assert np.abs(hs).max() > 0.9


def test_sequential_rate_has_its_limit():
    field = certified.ContractingOscillator(2, 3, damping=0.5, margin=0.1, key=jax.random.key(0))
    assert field.sequential_rate(0.0) == pytest.approx(1)
    small = 1e-6
    assert field.sequential_rate(small) == pytest.approx(1 - 0.1 * small, abs=2e-12)
    assert field.sequential_rate(0.1) < 1 < field.sequential_rate(0.4)


# --- the construction --------------------------------------------------------------------------


def test_every_contraction_is_reached_and_no_other(rng):
    left, right = (np.linalg.qr(rng.normal(size=(5, 5)))[0] for _ in range(2))
    target = left @ np.diag([0.999, 0.999, 0.9, 0.3, 0.0]) @ right
    # R^-T is the root of I - C^T C.
    root = np.linalg.cholesky(np.eye(5) - target.T @ target)
    free = target @ np.linalg.inv(root.T)
    np.testing.assert_allclose(certified.contraction(jnp.asarray(free)), target, atol=1e-12)
    singular = np.linalg.svd(free, compute_uv=False)
    found = np.linalg.svd(target, compute_uv=False)
    np.testing.assert_allclose(found, singular / np.sqrt(1 + singular**2), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_contraction_has_a_norm_of_at_most_one_to_rounding(dtype, rng):
    scales = 10.0 ** np.arange(-3, 9)
    free = scales[:, None, None] * rng.normal(size=(12, 8, 8))
    found = jax.vmap(certified.contraction)(jnp.asarray(free, dtype))
    norms = np.linalg.norm(np.asarray(found, np.float64), 2, axis=(1, 2))
    assert norms.max() <= 1 + 20 * np.finfo(dtype).eps
    assert norms.max() > 0.999


def test_small_weights_are_left_as_they_are(rng):
    free = 1e-5 * rng.normal(size=(6, 3))
    np.testing.assert_allclose(certified.contraction(jnp.asarray(free)), free, atol=1e-13)


@pytest.mark.parametrize("name", ["leaky", "lipschitz", "oscillator", "gated", "selective"])
def test_gradients_are_finite_at_special_points(name, key):
    cell = odernn.Cell(field_of(name, key), odernn.Euler(), 0.1)
    xs = jax.random.normal(key, (5, INPUTS))

    @jax.jit
    @jax.grad
    def gradient(arrays):
        layer = odernn.Layer(eqx.combine(arrays, static), odernn.Scan())
        return jnp.sum(jnp.sin(layer(xs)[0] + 0.3))

    arrays, static = eqx.partition(cell, eqx.is_inexact_array)
    equal = jax.tree.map(lambda a: 3 * jnp.eye(*a.shape) if a.ndim == 2 else a, arrays)
    points = [equal, *(jax.tree.map(lambda a, s=s: s * a, arrays) for s in (0.0, 1.0, 1e6))]
    for point in points:
        assert all(np.isfinite(a).all() for a in jax.tree.leaves(gradient(point)))
    found = gradient(arrays)
    assert all(np.abs(a).max() > 1e-8 for a in jax.tree.leaves(found))


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train(name, key):
    cell = NETWORKS[name](INPUTS, HIDDEN, key=key)
    model = odernn.Model([odernn.Layer(cell, odernn.Scan())], odernn.LastStep(HIDDEN, 1, key=key))
    xs = jax.random.normal(key, (32, 8, INPUTS))
    wanted = jnp.sin(2 * xs[:, :, 0].mean(axis=1))
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    optimiser = optax.adam(0.03)

    def loss(arrays):
        found = jax.vmap(eqx.combine(arrays, static))(xs)[:, 0]
        return jnp.mean((found - wanted) ** 2)

    def step(carry, _):
        arrays, state = carry
        value, slopes = jax.value_and_grad(loss)(arrays)
        updates, state = optimiser.update(slopes, state)
        return (optax.apply_updates(arrays, updates), state), value

    start = (arrays, optimiser.init(arrays))
    with jax.numpy_dtype_promotion("standard"):  # optax counts its steps in integers
        _, losses = jax.jit(lambda start: jax.lax.scan(step, start, length=100))(start)
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("name", ["ContractingRNN", "ContractingCoRNN", "SelectiveRotationRNN"])
def test_single_precision(name, key):
    cell = cases.as_precision(NETWORKS[name](INPUTS, HIDDEN, key=key), jnp.float32)
    field, claims = cell.field, cell.field.certified
    xs = jax.random.normal(key, (6, INPUTS), jnp.float32)
    hs, _ = odernn.Layer(cell, odernn.Scan())(xs)
    assert hs.dtype == jnp.float32
    assert np.isfinite(hs).all()
    y = field.initial_state()
    matrix = jax.jit(lambda u: jacobian(lambda y: field(0.0, y, u), y, field))(field.drive(xs[0]))
    assert growth(matrix, claims.norm) <= claims.growth + 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_saved_and_loaded(name, key, tmp_path):
    cell = NETWORKS[name](INPUTS, HIDDEN, key=key)
    model = odernn.Model([odernn.Layer(cell)], odernn.LastStep(HIDDEN, 1, key=key))
    odernn.save(model, tmp_path)
    again = odernn.load(tmp_path, classes=CLASSES)
    assert eqx.tree_equal(again, model)
    assert again.layers[0].cell.field.certified == cell.field.certified


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (CLASSES[0], {"margin": 1.0}, r"margin = 1.0: give a number of at least 0 and below 1\."),
        (CLASSES[0], {"margin": "a"}, r"margin = 'a': give a number of at least 0 and below 1\."),
        (CLASSES[0], {"activation": "lecun_tanh"}, r"unknown activation of a slope in \[0, 1\]"),
        (
            CLASSES[1],
            {"strength": -1.0},
            r"strength = -1.0: give a number of at least 0 and finite",
        ),
        (CLASSES[1], {"damping": math.inf}, r"damping = inf: give a number of at least 0 and fini"),
        (CLASSES[2], {"rotation": math.nan}, r"rotation = nan: give a number of at least 0"),
        (CLASSES[2], {"gain": None}, r"gain = None: give a number of at least 0 and finite\."),
        (CLASSES[3], {"damping": 2.0}, r"damping = 2.0: give a number of at least 0 and below 2\."),
        (CLASSES[3], {"margin": 0.3}, r"margin = 0.3: give at most half the damping, 0.5/2\."),
        (CLASSES[4], {"floor": 1}, r"floor = 1: give a number of at least 0 and below 1\."),
        (CLASSES[5], {"activation": "tahn"}, r"unknown activation 'tahn': did you mean 'tanh'"),
        (CLASSES[6], {"hidden_size": 5}, r"hidden_size = 5: give an even number"),
    ],
)
def test_bad_arguments(make, options, message, key):
    with pytest.raises(InputError, match=message):
        make(**{"input_size": 2, "hidden_size": 4, "key": key, **options})
