"""Theorems for known networks: no random cell, state or input may break them."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import odernn
from odernn import zoo
from odernn.analysis import _special_gated
from odernn.analysis._region import box, everywhere
from odernn.analysis._special import special_rates

ROUNDING = 1e-9


# --- Tools --------------------------------------------------------------------------------------


def drawn(network, count, key, scales=None, **arguments):
    """So many cells as one, with an axis in front of every parameter, each times its own factor."""
    inputs, hidden = arguments.pop("sizes", (2, 4))
    build = eqx.filter_vmap(lambda k: network(inputs, hidden, key=k, **arguments))
    cells = build(jax.random.split(key, count))
    if scales is None:
        return cells
    scales = jnp.asarray(scales)

    def scaled(leaf):
        return leaf * scales.reshape(-1, *[1] * (leaf.ndim - 1)) if eqx.is_array(leaf) else leaf

    return eqx.tree_at(lambda c: c.field, cells, jax.tree.map(scaled, cells.field))


def one(cells, index):
    return jax.tree.map(lambda leaf: leaf[index] if eqx.is_array(leaf) else leaf, cells)


def real_step(cell):
    """The step of one vector of real numbers, as regions count them."""
    leaves, structure = jax.tree.flatten(jax.eval_shape(cell.initial_state))

    def step(vector, x):
        parts = []
        for leaf in leaves:
            size = int(np.prod(leaf.shape))
            if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
                real, imaginary = vector[:size], vector[size : 2 * size]
                parts.append(jax.lax.complex(real, imaginary).reshape(leaf.shape))
                vector = vector[2 * size :]
            else:
                parts.append(vector[:size].reshape(leaf.shape))
                vector = vector[size:]
        after = jax.tree.leaves(cell(structure.unflatten(parts), x))
        flat = []
        for leaf in after:
            both = (leaf.real, leaf.imag) if jnp.iscomplexobj(leaf) else (leaf,)
            flat += [part.reshape(-1) for part in both]
        return jnp.concatenate(flat)

    return step


@eqx.filter_jit
def jacobians(cells, states, inputs):
    """(cells, samples, m, m) of (cells, samples, m) states and inputs."""

    def of(cell, y, x):
        return jax.vmap(jax.jacfwd(real_step(cell)))(y, x)

    axes = jax.tree.map(lambda leaf: 0 if eqx.is_array(leaf) else None, cells)
    return eqx.filter_vmap(of, in_axes=(axes, 0, 0))(cells, states, inputs)


def samples(rng, region, shape, spread=3.0):
    """States and inputs of a region: inside, at corners, and from N(0, spread^2) if unbounded."""

    def values(low, high):
        inside = rng.uniform(size=(*shape, low.size))
        inside = np.where(rng.uniform(size=(*shape, 1)) < 0.3, np.round(inside), inside)
        far = np.isinf(low)
        width = np.where(far, 0.0, high - np.where(far, 0.0, low))
        normal = spread * rng.normal(size=inside.shape)
        return np.where(far, normal, np.where(far, 0.0, low) + width * inside)

    states = values(region.state_lower, region.state_upper)
    return states, values(region.input_lower, region.input_upper)


def extremes(norm, matrices):
    """The least and the largest ``||J v|| / ||v||`` over the samples."""
    return 1 / norm.of_matrices(np.linalg.inv(matrices)).max(), norm.of_matrices(matrices).max()


def check(cells, region, rng, count, *, per_cell=20, spread=3.0):
    """Every rate of every cell holds at random states and inputs; return the rates."""
    states, inputs = samples(rng, region, (count, per_cell), spread)
    found = np.asarray(jacobians(cells, jnp.asarray(states), jnp.asarray(inputs)))
    every = []
    for i in range(count):
        rates = special_rates(one(cells, i), region)
        for rate in rates:
            upper = rate.norm.of_matrices(found[i]).max()
            assert upper <= rate.upper + ROUNDING * (1 + rate.upper), (i, rate.theorem)
            assert 0 <= rate.lower <= rate.upper
            if rate.lower > 0:
                assert extremes(rate.norm, found[i])[0] >= rate.lower - ROUNDING
        every.append(rates)
    return every, found


def with_field(cell, **values):
    """The cell, or the cells, with other parameters."""
    return eqx.tree_at(
        lambda c: [getattr(c.field, name) for name in values], cell, [*values.values()]
    )


def certified(every, which=0):
    return np.mean([len(rates) > which and rates[which].upper <= 1 for rates in every])


# --- GRU ----------------------------------------------------------------------------------------


def many_grus(key, rng, count, dt):
    scales = rng.uniform(0.05, 0.6, count)
    return drawn(zoo.GRU, count, key, scales, sizes=(2, 4), dt=dt)


@pytest.mark.parametrize("dt", [1.0, 0.5])
def test_ten_thousand_certified_grus_contract(key, rng, dt):
    cells = many_grus(key, rng, 16000, dt)
    region = box(one(cells, 0), 1.0, 1.0)
    gates = _special_gated.gru_gates(cells.field, dt, region)
    sums = gates.sums(np.ones(4))
    upper, lower = sums.high.max(axis=-1), sums.low.min(axis=-1)
    chosen = np.flatnonzero(upper <= 1)[:10000]
    assert len(chosen) == 10000
    certain = one(cells, chosen)
    states, inputs = samples(rng, region, (10000, 20))
    found = np.asarray(jacobians(certain, jnp.asarray(states), jnp.asarray(inputs)))
    rows = np.abs(found).sum(axis=-1).max(axis=(1, 2))
    assert (rows <= upper[chosen] + ROUNDING).all() and rows.max() <= 1
    # The bound is no empty one: it is met closely.
    assert (upper[chosen] - rows).min() < 0.02
    diagonal = np.abs(np.diagonal(found, axis1=-2, axis2=-1))
    assert (2 * diagonal - np.abs(found).sum(axis=-1) >= lower[chosen][:, None, None] - 1e-9).all()


def test_the_functions_of_many_networks_are_those_of_one(key, rng):
    cells = many_grus(key, rng, 50, 1.0)
    region = box(one(cells, 0), 1.0, 1.0)
    upper = _special_gated.growth(_special_gated.gru_gates(cells.field, 1.0, region), np.ones(4))
    for i in range(50):
        rates = special_rates(one(cells, i), region)
        assert rates[0].upper == pytest.approx(upper[i], rel=1e-14)


@pytest.mark.parametrize("arguments", [{}, {"biases": 2, "dt": 0.4}, {"biases": 0}])
def test_rates_of_a_gru_hold(key, rng, arguments):
    cells = drawn(zoo.GRU, 100, key, rng.uniform(0.1, 3.0, 100), sizes=(2, 4), **arguments)
    every, _ = check(cells, box(one(cells, 0), 1.0, (-0.5, 1.0)), rng, 100)
    assert certified(every) > 0.05
    # Weights for each unit never make it worse, and so it is with the authors' inequality.
    for rates in every:
        assert min(r.upper for r in rates) == rates[-1].upper or len(rates) < 3
        authors = [r for r in rates if r.theorem.startswith("incremental")]
        assert all(r.upper >= rates[0].upper - ROUNDING for r in authors)
    assert any(r.theorem.startswith("incremental") for rates in every for r in rates)


def test_a_gru_is_certified_for_all_inputs_and_in_other_boxes(key, rng):
    cells = drawn(zoo.GRU, 100, key, rng.uniform(0.05, 1.0, 100))
    every, _ = check(cells, box(one(cells, 0), 1.0), rng, 100, spread=20.0)
    assert certified(every) > 0.05
    assert all(rates[0].lower == 0 and rates[0].upper >= 1 for rates in every)
    check(cells, box(one(cells, 0), (-3.0, 0.5), 2.0), rng, 100)
    assert special_rates(one(cells, 0), everywhere(one(cells, 0))) == []


def test_worst_states_of_a_gru_stay_inside_its_bound(key, rng):
    cells = many_grus(key, rng, 100, 1.0)
    region = box(one(cells, 0), 1.0, 1.0)
    gates = _special_gated.gru_gates(cells.field, 1.0, region)
    upper = _special_gated.growth(gates, np.ones(4))

    def size(cell, point):
        matrix = jax.jacfwd(real_step(cell))(jnp.tanh(point[:4]), jnp.tanh(point[4:]))
        return jnp.max(jnp.sum(jnp.abs(matrix), axis=1))

    @eqx.filter_jit
    def climb(cells, points):
        axes = jax.tree.map(lambda leaf: 0 if eqx.is_array(leaf) else None, cells)

        def up(points, _):
            slope = eqx.filter_vmap(
                lambda c, p: jax.vmap(jax.grad(lambda v: size(c, v)))(p), in_axes=(axes, 0)
            )(cells, points)
            return points + 0.1 * jnp.sign(slope), None

        points = jax.lax.scan(up, points, length=40)[0]
        return eqx.filter_vmap(lambda c, p: jax.vmap(lambda v: size(c, v))(p), in_axes=(axes, 0))(
            cells, points
        )

    start = jnp.asarray(rng.normal(size=(100, 16, 6)))
    worst = np.asarray(climb(cells, start)).max(axis=1)
    assert (worst <= upper + ROUNDING).all()
    assert np.median(upper - worst) < 0.1


@pytest.mark.parametrize("term", ["state", "reset"])
@pytest.mark.parametrize("gain", [0.999, 1.001])
def test_a_gru_just_outside_the_condition_expands(key, term, gain):
    # One unit, its update gate fixed, one weight: the row sum is exact, at h = 0.
    weight, bias, content = {
        "state": ([0.0, 0.0, gain], [40.0, -0.5, 0.0], 0.0),
        "reset": ([2 * gain, 0.0, 0.0], [0.0, -0.5, -1.0], 2.0),
    }[term]
    cell = with_field(
        zoo.GRU(1, 1, key=key),
        weight=jnp.array([weight]),
        input_weight=jnp.zeros((1, 3)),
        bias=jnp.array(bias),
        candidate_bias=jnp.array([content]),
    )
    rates = special_rates(cell, box(cell, 1.0, 1.0))
    steepest = float(jax.jacfwd(lambda h: cell(h, jnp.zeros(1)))(jnp.zeros(1))[0, 0])
    assert rates[0].upper == pytest.approx(steepest, abs=1e-12)
    assert (rates[0].upper <= 1) == (steepest <= 1) == (gain < 1)
    assert (rates[0].dt_max is not None) == (gain < 1)
    assert any(r.theorem.startswith("incremental") for r in rates) == (gain < 1)


def test_a_gru_keeps_its_bound_up_to_the_largest_step(key, rng):
    cells = drawn(zoo.GRU, 100, key, rng.uniform(0.1, 0.4, 100), dt=0.3)
    region = box(one(cells, 0), 1.0, 1.0)
    for i in range(100):
        cell = one(cells, i)
        rate = special_rates(cell, region)[0]
        if rate.upper <= 1:
            assert rate.dt_max > 1
            after = special_rates(dataclasses.replace(cell, dt=rate.dt_max), region)
            assert after[0].upper <= 1 + ROUNDING
            assert special_rates(dataclasses.replace(cell, dt=1.01 * rate.dt_max), region) == []


# --- LSTM and LEM -------------------------------------------------------------------------------


def best_of_ratios(gates, size):
    """The best of some weights of the second block, for many networks at once."""
    trials = [np.repeat([1.0, ratio], size) for ratio in np.geomspace(0.02, 50, 41)]
    return np.min([_special_gated.growth(gates, w) for w in trials], axis=0), trials


@pytest.mark.parametrize(("network", "state"), [(zoo.LSTM, {"h": 1.0, "c": 4.0}), (zoo.LEM, 1.0)])
def test_thousands_of_certified_lstms_and_lems_contract(key, rng, network, state):
    cells = drawn(network, 6000, key, rng.uniform(0.05, 0.7, 6000), sizes=(2, 3))
    region = box(one(cells, 0), state, 1.0)
    build = _special_gated.lstm_gates if network is zoo.LSTM else _special_gated.lem_gates
    gates = build(cells.field, 1.0, region)
    upper, trials = best_of_ratios(gates, 3)
    chosen = np.flatnonzero(upper <= 1)[:2000]
    assert len(chosen) == 2000
    states, inputs = samples(rng, region, (2000, 20))
    found = np.asarray(jacobians(one(cells, chosen), jnp.asarray(states), jnp.asarray(inputs)))
    for w in trials[::5]:
        sums = gates.sums(w)
        high, low = (sums.high / w)[chosen], (sums.low / w)[chosen]
        rows = (np.abs(found) @ w / w).max(axis=1)
        assert (rows <= high + ROUNDING).all()
        least = (2 * np.abs(np.diagonal(found, axis1=-2, axis2=-1)) - np.abs(found) @ w / w).min(1)
        assert (least >= low - ROUNDING).all()


@pytest.mark.parametrize(
    ("network", "state", "arguments"),
    [
        (zoo.LSTM, {"h": 1.0, "c": 3.0}, {}),
        (zoo.LSTM, ({"h": -1.0, "c": -0.2}, {"h": 1.0, "c": 6.0}), {"dt": 0.6, "biases": 2}),
        (zoo.LEM, 1.0, {}),
        (zoo.LEM, ({"h": -1.0, "z": -2.0}, {"h": 1.0, "z": 0.5}), {"dt": 0.7}),
    ],
)
def test_rates_of_lstm_and_lem_hold(key, rng, network, state, arguments):
    cells = drawn(network, 40, key, rng.uniform(0.05, 2.0, 40), sizes=(2, 3), **arguments)
    every, found = check(cells, box(one(cells, 0), state, 1.0), rng, 40, per_cell=60)
    assert certified(every) > 0
    # Those with the largest weights do expand, in any norm: they are no artefacts of the bound.
    radii = np.abs(np.linalg.eigvals(found)).max(axis=(1, 2))
    for rates, radius in zip(every, radii, strict=True):
        assert radius <= min(r.upper for r in rates) + ROUNDING
        assert rates[-1].upper <= rates[0].upper
        assert all(r.dt_max is None or r.upper <= 1 for r in rates)


def test_an_lstm_far_outside_the_condition_expands(key, rng):
    cells = drawn(zoo.LSTM, 40, key, np.full(40, 6.0), sizes=(2, 3))
    every, found = check(cells, box(one(cells, 0), {"h": 1.0, "c": 3.0}, 1.0), rng, 40, per_cell=60)
    assert all(min(r.upper for r in rates) > 1 for rates in every)
    assert (np.abs(np.linalg.eigvals(found)).max(axis=(1, 2)) > 1).all()


@pytest.mark.parametrize("gain", [0.99, 1.01])
def test_an_lstm_just_outside_the_condition_expands(key, gain):
    # One unit with nothing but a memory that halves and an output gate that reads the state.
    slope = np.tanh(2.0) / 4
    cell = with_field(
        zoo.LSTM(1, 1, key=key),
        weight=jnp.array([[0.0, 0.0, 0.0, gain / slope]]),
        input_weight=jnp.zeros((1, 4)),
        bias=jnp.zeros(4),
    )
    rates = special_rates(cell, box(cell, {"h": 1.0, "c": 4.0}, 1.0))
    matrix = np.asarray(jax.jacfwd(real_step(cell))(jnp.array([4.0, 0.0]), jnp.zeros(1)))
    radius = np.abs(np.linalg.eigvals(matrix)).max()
    assert radius == pytest.approx(gain)
    assert radius <= rates[0].upper < radius + 1e-3
    assert (rates[0].upper <= 1) == (gain < 1)


def test_an_lstm_says_where_its_memory_stays(key, rng):
    cell = one(drawn(zoo.LSTM, 1, key, [0.5]), 0)
    wide, narrow = (special_rates(cell, box(cell, {"h": 1.0, "c": c}, 1.0))[0] for c in (5.0, 0.1))
    text = "as long as c stays in the region"
    assert text in narrow.assumptions and text not in wide.assumptions
    limit = float(wide.assumptions[2].split("<= ")[1].split(",")[0]) * (1 + 1e-3)
    y = {"h": jnp.ones(4), "c": jnp.full(4, limit)}
    for x in rng.uniform(-1, 1, (200, 2)):
        y = cell(y, jnp.asarray(x))
        assert (
            max(
                float(jnp.abs(leaf).max() / bound)
                for leaf, bound in zip(jax.tree.leaves(y), (limit, 1.0), strict=True)
            )
            <= 1
        )
    assert special_rates(cell, box(cell, {"h": 1.0, "c": np.inf}, 1.0)) == []


def test_lem_is_certified_for_all_inputs(key, rng):
    cells = drawn(zoo.LEM, 40, key, rng.uniform(0.02, 0.6, 40), sizes=(2, 3))
    every, _ = check(cells, box(one(cells, 0), 1.0), rng, 40, per_cell=60, spread=10.0)
    assert certified(every) > 0.1


# --- Lipschitz ----------------------------------------------------------------------------------


def test_rates_of_lipschitz_networks_hold(key, rng):
    cells = drawn(zoo.LipschitzRNN, 1000, key, dt=0.2, gamma=1.0, sizes=(2, 4))
    scales = jnp.asarray(rng.uniform(0.1, 4.0, (1000, 1, 1)))
    cells = with_field(cells, weight=cells.field.weight * scales + jnp.eye(4))
    every, _ = check(cells, everywhere(one(cells, 0)), rng, 1000, spread=1.0)
    named = [rates for rates in every if len(rates) == 2]
    assert 0.05 < len(named) / 1000 < 0.95
    for first, second in named:
        assert second.upper <= first.upper + ROUNDING
        assert first.upper <= 1 or first.dt_max is None
    for rates in named[:50]:
        cell = one(cells, every.index(rates))
        for k, rate in enumerate(rates):
            if rate.dt_max is None:
                continue
            ends = [
                special_rates(dataclasses.replace(cell, dt=f * rate.dt_max), everywhere(cell))[k]
                for f in (1 - 1e-9, 1.001)
            ]
            assert ends[0].upper <= 1 < ends[1].upper


def test_a_lipschitz_network_just_outside_expands(key):
    cell = zoo.LipschitzRNN(1, 2, dt=0.1, gamma=0.0, beta=0.0, key=key)
    for gain, fine in ((0.99, True), (1.01, False)):
        # S(B) = B + B^T: the linear part -1, and W = gain.
        cell = with_field(cell, linear_weight=-jnp.eye(2) / 2, weight=gain * jnp.eye(2) / 2)
        cell = with_field(cell, bias=jnp.zeros(2))
        rates = special_rates(cell, everywhere(cell))
        matrix = np.asarray(jax.jacfwd(lambda y, c=cell: c(y, jnp.zeros(1)))(jnp.zeros(2)))
        largest = np.linalg.norm(matrix, 2)
        assert (largest <= 1) == fine == (len(rates) == 2)
        assert rates[-1].upper == pytest.approx(largest, abs=1e-12)


# --- Oscillators --------------------------------------------------------------------------------


def test_rates_of_cornns_hold(key, rng):
    cells = drawn(zoo.coRNN, 500, key, rng.uniform(0.05, 2.0, 500), sizes=(2, 3))
    every, _ = check(cells, everywhere(one(cells, 0)), rng, 500, spread=1.0)
    assert 0.1 < certified(every) < 0.9
    for i in range(0, 500, 20):
        rate = every[i][0]
        if rate.dt_max is not None and rate.dt_max < np.inf:
            late = dataclasses.replace(one(cells, i), dt=rate.dt_max)
            states, inputs = samples(rng, everywhere(late), (1, 50))
            late = jax.tree.map(lambda leaf: leaf[None] if eqx.is_array(leaf) else leaf, late)
            found = jacobians(late, jnp.asarray(states), jnp.asarray(inputs))
            assert rate.norm.of_matrices(np.asarray(found)).max() <= 1 + ROUNDING


def test_the_gradient_bound_of_a_cornn_is_one_plus_a_multiple_of_dt(key):
    cell = zoo.coRNN(2, 8, key=key)
    excess = []
    for dt in (1e-3, 1e-4):
        rate = special_rates(dataclasses.replace(cell, dt=dt), everywhere(cell))[1]
        assert rate.norm.kind == "inf"
        excess.append((rate.upper - 1) / dt)
    assert excess[0] == pytest.approx(excess[1], rel=0.01)


def test_a_cornn_far_outside_expands(key):
    cell = zoo.coRNN(2, 3, key=key)
    cell = with_field(cell, weight=3 * jnp.eye(3), velocity_weight=jnp.zeros((3, 3)))
    cell = with_field(cell, bias=jnp.zeros(3))
    assert all(r.upper > 1 for r in special_rates(cell, everywhere(cell)))
    matrix = jax.jacfwd(real_step(cell))(jnp.zeros(6), jnp.zeros(2))
    assert np.abs(np.linalg.eigvals(np.asarray(matrix))).max() > 1


@pytest.mark.parametrize("network", [zoo.LinOSSIM, zoo.LinOSSIMEX])
def test_rates_of_linoss_hold(key, rng, network):
    cells = drawn(network, 500, key, rng.uniform(0.5, 3.0, 500), sizes=(2, 2), dt=1.5)
    every, _ = check(cells, everywhere(one(cells, 0)), rng, 500, per_cell=1)
    assert certified(every) > 0.5
    if network is zoo.LinOSSIMEX:
        assert all(r.lower == r.upper == 1 for rates in every for r in rates)
        assert any(not rates for rates in every)
    else:
        assert all(rates[0].dt_max == np.inf for rates in every)


def test_the_frequency_limit_of_linoss_is_sharp(key):
    cell = zoo.LinOSSIMEX(2, 3, key=key)
    limit = special_rates(cell, everywhere(cell))[0].dt_max
    for factor, fine in ((0.999, True), (1.001, False)):
        there = dataclasses.replace(cell, dt=factor * limit)
        matrix = jax.jacfwd(real_step(there))(jnp.zeros(12), jnp.zeros(2))
        radius = np.abs(np.linalg.eigvals(np.asarray(matrix))).max()
        assert (radius <= 1 + 1e-12) == fine == bool(special_rates(there, everywhere(there)))


@pytest.mark.parametrize("network", [zoo.LinOSSIM, zoo.LinOSSIMEX])
def test_an_oscillator_without_a_spring_is_not_certified(key, rng, network):
    cells = drawn(network, 500, key, sizes=(2, 2), dt=1.5)
    cells = with_field(cells, stiffness=jnp.asarray([[-0.1, 0.5]] * 500))
    every, _ = check(cells, everywhere(one(cells, 0)), rng, 500, per_cell=1)
    for rates in every:
        assert 1 < rates[0].upper < 1.001 and rates[0].dt_max is None
        assert not rates[0].structural


def test_rates_of_unicornns_hold(key, rng):
    scales = rng.uniform(-1.0, 3.0, 1000)
    cells = drawn(zoo.UnICORNN, 1000, key, scales, sizes=(2, 3), alpha=2.0, dt=0.5)
    every, _ = check(cells, everywhere(one(cells, 0)), rng, 1000, spread=1.0)
    for (rate,) in every:
        assert rate.lower == 1 / rate.upper and rate.upper < 3
    assert np.median([rate.upper for (rate,) in every]) < 1.2


def test_a_unicornn_without_coupling_is_an_isometry_up_to_its_frequency_limit(key):
    cell = zoo.UnICORNN(2, 3, key=key)
    cell = with_field(cell, weight=jnp.zeros(3))
    (rate,) = special_rates(cell, everywhere(cell))
    assert rate.lower == rate.upper == 1
    speed = float(jax.nn.sigmoid(cell.field.time_scale).max())
    assert rate.dt_max == pytest.approx(2 / (speed * np.sqrt(30.65)), rel=1e-12)
    for factor, fine in ((0.999, True), (1.001, False)):
        there = dataclasses.replace(cell, dt=factor * rate.dt_max)
        matrix = np.asarray(jax.jacfwd(real_step(there))(jnp.zeros(6), jnp.zeros(2)))
        assert (np.abs(np.linalg.eigvals(matrix)).max() <= 1 + 1e-9) == fine
        rates = special_rates(there, everywhere(there))
        assert bool(rates) == fine
        if fine:
            assert rates[0].norm.of_matrices(matrix) == pytest.approx(1, abs=1e-9)


# --- Linear in the state ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "structural"), [(zoo.LRU, True), (zoo.S4D, True), (zoo.S5, False)]
)
def test_rates_of_diagonal_networks_are_exact(key, rng, network, structural):
    scales = rng.uniform(0.1, 2.0, 200)
    cells = drawn(network, 200, key, scales, sizes=(2, 2), dt=0.8, state_size=4)
    every, found = check(cells, everywhere(one(cells, 0)), rng, 200, per_cell=1)
    for (rate,), matrices in zip(every, found, strict=True):
        low, high = extremes(rate.norm, matrices)
        assert (rate.lower, rate.upper) == pytest.approx((low, high), rel=1e-9)
        assert rate.structural == structural and rate.upper < 1 and rate.dt_max == np.inf


def test_an_s5_with_a_growing_component_is_not_certified(key):
    cell = zoo.S5(2, 2, key=key)
    cell = with_field(cell, real=jnp.array([-1.0, 0.1]))
    (rate,) = special_rates(cell, everywhere(cell))
    assert rate.upper > 1 and rate.dt_max is None


@pytest.mark.parametrize("network", [zoo.minGRU, zoo.minLSTM])
@pytest.mark.parametrize("dt", [1.0, 1.9])
def test_rates_of_input_gated_networks_hold(key, rng, network, dt):
    cells = drawn(network, 500, key, rng.uniform(0.1, 5.0, 500), sizes=(2, 2), dt=dt)
    every, found = check(cells, box(one(cells, 0), np.inf, 1.0), rng, 500, per_cell=50)
    assert all(rate.structural and rate.upper <= 1 and rate.dt_max == 2 for (rate,) in every)
    # The ends of one gate are reached, in corners of the box; the ends of two need not be at once.
    reached = np.abs(np.diagonal(found, axis1=-2, axis2=-1)).max(axis=(1, 2))
    gap = np.array([rate.upper for (rate,) in every]) - reached
    assert np.median(gap) < (1e-12 if network is zoo.minGRU else 0.1)
    every, _ = check(cells, everywhere(one(cells, 0)), rng, 500, per_cell=50, spread=10.0)
    assert all(rate.upper == 1 for (rate,) in every)


def test_gates_of_two_inputs_are_in_their_range(key):
    cell = zoo.TGRU(2, 3, key=key, interpolation=odernn.StackedInput(2))
    (rate,) = special_rates(cell, everywhere(cell))
    assert (rate.lower, rate.upper, rate.structural) == (0, 1, True)


def test_the_scaled_legendre_memory_contracts_at_all_times(key):
    cell = zoo.HiPPOLegS(1, 12, key=key)
    (rate,) = special_rates(cell, everywhere(cell))
    assert rate.structural and rate.upper == 1

    def size(time):
        matrix = jax.jacfwd(lambda y: cell(y, jnp.zeros(1), elapsed=time))(jnp.zeros(12))
        return jnp.linalg.norm(matrix, 2)

    sizes = np.asarray(jax.vmap(size)(jnp.concatenate([jnp.arange(20.0), jnp.array([1e3, 1e5])])))
    assert (sizes <= 1 + 1e-12).all() and sizes[-1] > 0.9999


# --- Unitary ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        (zoo.expRNN, {}),
        (zoo.scoRNN, {"negative": 1, "dt": 0.7}),
        (zoo.FullCapacityuRNN, {"dt": 1.3}),
        (zoo.uRNN, {"epsilon": 0.01}),
    ],
)
def test_rates_of_unitary_networks_hold(key, rng, network, arguments):
    cells = drawn(network, 400, key, sizes=(2, 4), **arguments)
    units = cells.field.bias.shape[-1]
    bias = 0.1 * rng.normal(size=(400, units))
    # Some thresholds have one sign, some are zero, some below epsilon.
    bias[:100], bias[100:200], bias[200:250] = -abs(bias[:100]), abs(bias[100:200]), 0.0
    bias[250:300] = rng.uniform(0, 0.01, (50, units))
    cells = with_field(cells, bias=jnp.asarray(bias))
    every, _ = check(cells, everywhere(one(cells, 0)), rng, 400, per_cell=60, spread=0.1)
    real = network in (zoo.expRNN, zoo.scoRNN)
    for i, rates in enumerate(every):
        sign = (bias[i] >= 0).all()
        if real:
            assert len(rates) == 1 + sign and rates[0].structural and rates[0].upper == 1
            assert not sign or (rates[1].lower == 1 and not rates[1].structural)
        elif (bias[i] <= 0).all():
            assert rates[0].upper == 1 and not rates[0].structural and rates[0].dt_max == np.inf
        elif network is zoo.FullCapacityuRNN:
            assert rates == []
        else:
            assert rates[0].upper == pytest.approx(max(1.0, bias[i].max() / 0.01))
            assert rates[0].upper > 1 or rates[0].dt_max == pytest.approx(0.01 / bias[i].max())


def test_positive_thresholds_of_complex_units_stretch_without_bound(key):
    cell = zoo.FullCapacityuRNN(1, 2, key=key)
    cell = with_field(cell, bias=jnp.array([0.01]))
    assert special_rates(cell, everywhere(cell)) == []
    # What the step does to two states that the rotation has brought near to zero.
    near = jnp.array([1e-6, 1e-6j])
    moved = cell.field.flow("shrink", 0.0, near, near, 1.0)
    assert abs(moved[0] - moved[1]) > 1e3 * abs(near[0] - near[1])


# --- Dispatch -----------------------------------------------------------------------------------


def test_other_methods_orders_and_inputs_have_no_special_theorem(key):
    for cell in (
        zoo.GRU(2, 3, key=key, method=odernn.RK4()),
        zoo.coRNN(2, 3, key=key, method=odernn.GaussSeidelEuler(("h", "v"))),
        zoo.LSTM(2, 3, key=key, dt=1.2),
        zoo.GRU(2, 3, key=key, interpolation=odernn.LinearInput()),
        zoo.RNN(2, 3, key=key),
        zoo.LipschitzRNN(2, 3, key=key, method=odernn.Midpoint()),
    ):
        assert special_rates(cell, box(cell, 1.0, 1.0)) == []
    spelled = zoo.coRNN(2, 3, key=key, method=odernn.GaussSeidelEuler(("v", "h")))
    assert len(special_rates(spelled, everywhere(spelled))) == 2


def test_a_trained_step_is_used_as_it_is(key):
    fixed = zoo.coRNN(2, 3, key=key, dt=0.1)
    trained = dataclasses.replace(fixed, dt=odernn.TrainedStep(0.1))
    uppers = [special_rates(c, everywhere(c))[0].upper for c in (fixed, trained)]
    assert uppers[0] == pytest.approx(uppers[1], rel=1e-12)
