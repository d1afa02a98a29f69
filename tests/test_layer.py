"""Layers: masks, lengths, time stamps, direction, states; and models."""

import equinox as eqx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import odernn
from odernn import InputError

from . import cases


def _close(a, b, tolerance=1e-13):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=tolerance), a, b)


@pytest.fixture(params=cases.UNROLLS)
def unroll(request):
    return cases.UNROLLS[request.param]


@pytest.mark.parametrize("name", cases.CELLS)
def test_step_by_step_equals_the_whole_sequence(name, unroll, key, rng):
    cell = cases.CELLS[name](key)
    xs = jnp.asarray(rng.normal(size=(6, 3)))
    hs, last = odernn.Layer(cell, unroll)(xs)
    y = cell.initial_state()
    for k, x in enumerate(xs):
        y = cell(y, x)
        _close(cell.output(y, x), hs[k])
    _close(y, last)


@hypothesis.given(
    mask=st.lists(st.booleans(), min_size=1, max_size=12).filter(any),
    gaps=st.lists(st.floats(0.05, 3.0), min_size=12, max_size=12),
    reverse=st.booleans(),
    with_times=st.booleans(),
    name=st.sampled_from(sorted(cases.CELLS)),
)
@hypothesis.settings(max_examples=25)
def test_a_masked_step_is_as_if_it_were_not_there(mask, gaps, reverse, with_times, name):
    mask = np.array(mask)
    rng = np.random.default_rng(len(mask))
    xs = rng.normal(size=(len(mask), 3))
    xs_dirty = np.where(mask[:, None], xs, np.nan)
    layer = odernn.Layer(cases.CELLS[name](jax.random.key(0)), odernn.Scan(), reverse=reverse)
    times = np.cumsum(gaps)[: len(mask)]
    full = {"times": np.where(mask, times, np.nan)} if with_times else {}
    few = {"times": times[mask]} if with_times else {}
    hs, last = layer(xs_dirty, mask=mask, **full)
    wanted, wanted_last = layer(xs[mask], **few)
    _close(hs[mask], wanted)
    _close(last, wanted_last)


def test_hidden_states_repeat_where_masked(key, rng):
    xs = rng.normal(size=(6, 3))
    mask = np.array([False, True, False, False, True, False])
    hs, _ = odernn.Layer(cases.CELLS["gru"](key))(xs, mask=mask)
    _close(hs[0], jnp.zeros(5))
    _close(hs[2], hs[1])
    _close(hs[3], hs[1])
    _close(hs[5], hs[4])


def test_missing_values_under_a_mask_reach_no_gradient(key, rng, unroll):
    xs = np.where(np.arange(8)[:, None] % 3 == 1, np.nan, rng.normal(size=(8, 3)))
    mask = np.isfinite(xs).all(axis=1)
    layer = odernn.Layer(cases.CELLS["lem"](key), unroll)
    gradient = eqx.filter_grad(lambda part: jnp.sum(part(xs, mask=mask)[0]))(layer)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(eqx.filter(gradient, eqx.is_array)))


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_changes_nothing(key, rng, reverse, unroll):
    layer = odernn.Layer(cases.CELLS["lstm"](key), unroll, reverse=reverse)
    batch = rng.normal(size=(3, 10, 3))
    lengths = jnp.asarray([10, 4, 1])
    hs, last = jax.vmap(lambda x, n: layer(x, length=n))(batch, lengths)
    for i, n in enumerate(lengths):
        wanted, wanted_last = layer(batch[i, :n])
        _close(hs[i, :n], wanted)
        _close(jax.tree.map(lambda a, i=i: a[i], last), wanted_last)


def test_time_stamps_scale_each_step(key, rng):
    xs = rng.normal(size=(5, 3))
    cell = odernn.Cell(cases.FIELDS["Leaky"](key), odernn.RK4(), dt=0.5)
    layer = odernn.Layer(cell)
    times = np.array([0.0, 0.7, 1.0, 2.5, 2.6])
    y, wanted = cell.initial_state(), []
    for x, interval in zip(xs, [0.7, 0.7, 0.3, 1.5, 0.1], strict=True):
        y = cell(y, jnp.asarray(x), interval=interval)
        wanted.append(y)
    _close(layer(xs, times=times)[0], jnp.stack(wanted))
    _close(layer(xs, times=times + 100)[0], jnp.stack(wanted), 1e-12)
    _close(layer(xs, times=np.cumsum([0, 0.7, 0.7, 0.3, 1.5, 0.1]))[0], jnp.stack(wanted))
    _close(layer(xs, times=np.arange(5.0))[0], layer(xs)[0])
    _close(layer(xs[:1], times=[3.0])[0], layer(xs[:1])[0])


def test_halving_the_interval_and_repeating_the_input_refines_the_solution(key, rng):
    """Time stamps are time: a fine grid with held inputs follows the same continuous solution."""
    cell = odernn.Cell(cases.FIELDS["Oscillator"](key), odernn.RK4(), dt=1.0)
    xs = rng.normal(size=(6, 3))
    coarse = odernn.Layer(cell)(xs, times=np.arange(7) * 0.1)[0]
    fine = odernn.Layer(cell)(np.repeat(xs, 2, axis=0), times=np.arange(13) * 0.05)[0]
    _close(coarse, fine[1::2], 1e-6)


def test_large_stamps_keep_their_differences_in_single_precision(key, rng):
    layer = cases.as_precision(odernn.Layer(cases.CELLS["rnn"](key)), jnp.float32)
    xs = rng.normal(size=(4, 3)).astype("float32")
    times = 1.7e9 + np.array([0.0, 0.25, 0.5, 1.0])
    _close(layer(xs, times=times)[0], layer(xs, times=times - times[0])[0], 0)


def test_reverse_is_the_flipped_layer(key, rng):
    cell = cases.CELLS["cornn"](key)
    xs = rng.normal(size=(7, 3))
    times = np.array([0.0, 1.0, 1.5, 1.7, 3.0, 3.1, 4.0])
    hs, last = odernn.Layer(cell, reverse=True)(xs, times=times)
    wanted, wanted_last = odernn.Layer(cell)(xs[::-1], times=-times[::-1])
    _close(hs, wanted[::-1])
    _close(last, wanted_last)


def test_bidirectional_is_both_layers_side_by_side(key, rng):
    a, b = (odernn.Layer(cases.CELLS["gru"](k)) for k in jax.random.split(key))
    xs = rng.normal(size=(6, 3))
    both = odernn.Bidirectional(a, b)
    hs, (first, second) = both(xs)
    _close(hs[:, :5], a(xs)[0])
    _close(hs[:, 5:], b(xs[::-1])[0][::-1])
    _close(second, b(xs[::-1])[1])
    _close(first, a(xs)[1])
    assert (both.input_size, both.hidden_size) == (3, 10)
    with pytest.raises(InputError, match="both read the same sequence"):
        odernn.Bidirectional(a, odernn.Layer(odernn.zoo.GRU(4, 5, key=key)))
    with pytest.raises(InputError, match="reverse=True"):
        odernn.Bidirectional(odernn.Layer(a.cell, reverse=True), b)


def test_initial_state_given_trained_or_zero(key, rng):
    cell = cases.CELLS["lstm"](key)
    xs = rng.normal(size=(8, 3))
    layer = odernn.Layer(cell)
    hs, _ = layer(xs)
    _, middle = layer(xs[:5])
    _close(layer(xs[5:], initial_state=middle)[0], hs[5:])
    start = {"h": jnp.full(5, 0.3), "c": jnp.full(5, -0.2)}
    trained = odernn.Layer(cell, initial_state=start)
    _close(trained(xs)[0], layer(xs, initial_state=start)[0])
    assert odernn.parameter_count(trained) == odernn.parameter_count(layer) + 10
    with pytest.raises(InputError, match="this cell's state is"):
        layer(xs, initial_state=jnp.zeros(5))
    with pytest.raises(InputError, match="this cell's state is"):
        odernn.Layer(cell, initial_state={"h": jnp.zeros(4), "c": jnp.zeros(5)})


def test_trained_step_is_positive_and_has_a_gradient(key, rng):
    cell = odernn.Cell(cases.FIELDS["Leaky"](key), odernn.Euler(), odernn.TrainedStep(0.2))
    xs = rng.normal(size=(5, 3))
    fixed = odernn.Cell(cell.field, odernn.Euler(), 0.2)
    _close(odernn.Layer(cell)(xs)[0], odernn.Layer(fixed)(xs)[0])
    gradient = eqx.filter_grad(lambda c: jnp.sum(odernn.Layer(c)(xs)[0]))(cell)
    assert float(jnp.abs(gradient.dt.log_dt)) > 1e-6
    low = eqx.tree_at(lambda c: c.dt.log_dt, cell, jnp.asarray(-50.0))
    assert float(low.dt.value) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": [0.0, 1.0, 1.0, 2.0]}, "strictly increasing"),
        ({"times": [0.0, 1.0, float("nan"), 2.0]}, "finite and strictly increasing"),
        ({"times": [0.0, 1.0]}, r"times has the shape \(2,\)"),
        ({"mask": [True, False]}, r"mask is bool of shape \(2,\)"),
        ({"mask": [1, 1, 0, 1]}, "give booleans"),
        ({"length": 0}, "length must be between 1"),
        ({"length": 5}, "length must be between 1"),
        ({"length": 2.0}, "give one whole number"),
        ({"length": [2, 3]}, "give one whole number"),
    ],
)
def test_wrong_options_are_refused_with_the_remedy(options, message, key):
    layer = odernn.Layer(cases.CELLS["rnn"](key))
    with pytest.raises(InputError, match=message):
        layer(jnp.ones((4, 3)), **options)


def test_wrong_times_are_refused_under_jit_too(key):
    layer = odernn.Layer(cases.CELLS["rnn"](key))
    run = eqx.filter_jit(lambda t: layer(jnp.ones((3, 3)), times=t))
    run(jnp.asarray([0.0, 1.0, 2.0]))
    with pytest.raises(eqx.EquinoxRuntimeError, match="strictly increasing"):
        run(jnp.asarray([0.0, 2.0, 1.0]))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 2), r"takes one sequence of shape \(time, 3\)"),
        ((2, 4, 3), r"for a batch use jax.vmap"),
        ((0, 3), "no steps"),
    ],
)
def test_wrong_sequences_are_refused(shape, message, key):
    with pytest.raises(InputError, match=message):
        odernn.Layer(cases.CELLS["rnn"](key))(jnp.zeros(shape))


@pytest.mark.parametrize("readout", [odernn.LastStep, odernn.MeanPool, odernn.EachStep])
def test_read_outs_ignore_padding(readout, key, rng):
    a, b = jax.random.split(key)
    model = odernn.Model([odernn.Layer(cases.CELLS["gru"](a))], readout(5, 2, key=b))
    xs = rng.normal(size=(9, 3))
    got, wanted = model(xs, length=6), model(xs[:6])
    _close(got[:6] if readout is odernn.EachStep else got, wanted)
    assert wanted.shape == ((6, 2) if readout is odernn.EachStep else (2,))
    mask = np.arange(9) < 6
    _close(model(xs, mask=mask), got)


def test_read_outs_are_affine_maps_of_the_states(key, rng):
    a, b = jax.random.split(key)
    layer = odernn.Layer(cases.CELLS["gru"](a))
    xs = rng.normal(size=(4, 3))
    hs = layer(xs)[0]
    for readout, pooled in (
        (odernn.LastStep, hs[-1]),
        (odernn.MeanPool, hs.mean(0)),
        (odernn.EachStep, hs),
    ):
        out = readout(5, 2, key=b)
        _close(odernn.Model([layer], out)(xs), pooled @ out.weight + out.bias)


def test_stacked_model_and_dropout(key, rng):
    a, b, c = jax.random.split(key, 3)
    layers = [
        odernn.Layer(odernn.zoo.LSTM(3, 64, key=a)),
        odernn.Layer(odernn.zoo.coRNN(64, 4, key=b)),
    ]
    model = odernn.Model(layers, odernn.LastStep(4, 2, key=c), dropout=0.5)
    xs = rng.normal(size=(6, 3))
    hs = layers[1](layers[0](xs)[0])[0]
    _close(model(xs), hs[-1] @ model.readout.weight + model.readout.bias)
    assert np.abs(model(xs, key=a) - model(xs)).max() > 1e-6
    _close(model(xs, key=a), model(xs, key=a))
    # The same units are dropped at all steps, and the rest scaled up to keep the mean.
    each = odernn.EachStep(64, 64, key=c)
    each = eqx.tree_at(lambda r: (r.weight, r.bias), each, (jnp.eye(64), jnp.zeros(64)))
    full = odernn.Model(layers[:1], each)(xs)
    ratio = odernn.Model(layers[:1], each, dropout=0.5)(xs, key=a) / full
    _close(ratio, jnp.broadcast_to(ratio[0], ratio.shape), 1e-12)
    assert set(np.round(np.asarray(ratio).ravel(), 9)) == {0.0, 2.0}
    assert (model.input_size, model.output_size) == (3, 2)
    with pytest.raises(
        InputError, match="layer 1 takes 3 channels but the layer before it puts out 64"
    ):
        odernn.Model([layers[0], layers[0]], model.readout)
    with pytest.raises(InputError, match="the read-out takes 4 channels"):
        odernn.Model(layers[:1], model.readout)
    with pytest.raises(InputError, match="layers is empty"):
        odernn.Model([], model.readout)
    with pytest.raises(InputError, match="dropout = 1"):
        odernn.Model(layers, model.readout, dropout=1.0)


def test_the_drive_is_computed_outside_the_loop(key):
    """One product for many steps: no input projection inside the loop's body."""
    layer = odernn.Layer(odernn.zoo.LSTM(7, 5, key=key), odernn.Scan())
    jaxpr = jax.make_jaxpr(lambda x: layer(x)[0])(jnp.ones((40, 7)))
    inside, outside = [], []

    def walk(jaxpr, shapes):
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "dot_general":
                shapes.append([v.aval.shape for v in eqn.invars])
            for value in eqn.params.values():
                if hasattr(value, "jaxpr"):
                    walk(value.jaxpr, inside if eqn.primitive.name == "scan" else shapes)

    walk(jaxpr.jaxpr, outside)
    assert inside == [[(5,), (5, 20)]]
    assert outside == [[(40, 7), (7, 20)]]


class Direct(odernn.AbstractField):
    """h' = -h, while the next layer also sees the input."""

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    fixed = ("scale",)
    weight: jax.Array
    scale: jax.Array

    def __call__(self, time, y, u):
        return u @ self.weight - y

    def feedthrough(self, x):
        return self.scale * x


@pytest.mark.parametrize("reverse", [False, True])
def test_what_is_fed_through_is_added_to_the_outputs(reverse, key):
    field = Direct(3, 3, jax.random.normal(key, (3, 3)), jnp.arange(3.0))
    cell = odernn.Cell(field, odernn.Euler())
    layer = odernn.Layer(cell, reverse=reverse)
    xs = jax.random.normal(key, (6, 3))
    # Euler with dt = 1 leaves nothing of the state.
    expected = xs @ field.weight + jnp.arange(3.0) * xs
    np.testing.assert_allclose(layer(xs)[0], expected, rtol=0, atol=1e-13)
    model = odernn.Model([layer], odernn.LastStep(3, 2, key=key))
    readout = model.readout
    last = expected[-1] @ readout.weight + readout.bias
    np.testing.assert_allclose(model(xs), last, rtol=0, atol=1e-13)


def test_fixed_arrays_are_not_trained(key):
    field = Direct(3, 3, jax.random.normal(key, (3, 3)), jnp.arange(3.0))
    model = odernn.Model([odernn.Layer(odernn.Cell(field, odernn.Euler()))], _readout(3, key))
    weights, _ = eqx.partition(model, odernn.trained(model))
    assert weights.layers[0].cell.field.scale is None
    assert weights.layers[0].cell.field.weight is not None
    assert odernn.parameter_count(model) == 9 + 3 * 2 + 2


def _readout(size, key):
    return odernn.LastStep(size, 2, key=key)


def test_stacked_inputs_reach_the_field_as_they_are(key):
    class Sum(Direct):
        def __call__(self, time, y, u):
            before, now = u
            return before @ self.weight + 2.0 * now - y

        def feedthrough(self, x):
            return None

    field = Sum(3, 3, jax.random.normal(key, (3, 3)), jnp.zeros(3))
    cell = odernn.Cell(field, odernn.Euler(), interpolation=odernn.StackedInput(2))
    xs = jax.random.normal(key, (6, 3))
    before = jnp.concatenate([jnp.zeros((1, 3)), xs[:-1]])
    outputs, _ = odernn.Layer(cell)(xs, past=jnp.zeros((1, 3)))
    np.testing.assert_allclose(outputs, before @ field.weight + 2.0 * xs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("samples", [1, 0, 2.0, True])
def test_stacked_input_needs_two(samples):
    with pytest.raises(odernn.InputError, match=f"samples = {samples}"):
        odernn.StackedInput(samples)


def test_a_stack_is_its_layers_one_after_the_other(key):
    a, b = jax.random.split(key)
    first = odernn.Layer(cases.CELLS["gru"](a))
    second = odernn.Layer(odernn.zoo.LSTM(5, 4, key=b))
    stack = odernn.Stack([first, second])
    xs = jax.random.normal(key, (9, 3))
    hs, states = stack(xs)
    between, state = first(xs)
    expected, final = second(between)
    np.testing.assert_array_equal(hs, expected)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, states, (state, final)))
    # The whole in two parts.
    early, states = stack(xs[:4])
    late, _ = stack(xs[4:], initial_state=states)
    np.testing.assert_allclose(jnp.concatenate([early, late]), expected, rtol=0, atol=1e-14)
    assert (stack.input_size, stack.hidden_size) == (3, 4)


def test_a_stack_whose_sizes_do_not_fit(key):
    layer = odernn.Layer(cases.CELLS["gru"](key))
    with pytest.raises(odernn.InputError, match="layer 1 takes 3 channels but the layer before"):
        odernn.Stack([layer, layer])
    with pytest.raises(odernn.InputError, match="layers is empty"):
        odernn.Stack([])


def test_replace_changes_method_and_step_everywhere_and_keeps_the_weights(key):
    a, b = jax.random.split(key)
    forward, backward = (odernn.Layer(cases.CELLS["lstm"](k)) for k in (a, b))
    model = odernn.Model([odernn.Bidirectional(forward, backward)], _readout(10, key))
    changed = odernn.replace(model, method=odernn.RK4(), dt=0.5)
    for layer in (changed.layers[0].forward, changed.layers[0].backward):
        assert layer.cell.method == odernn.RK4()
        assert layer.cell.dt == 0.5
    assert changed.layers[0].backward.reverse
    arrays = [jax.tree.leaves(eqx.filter(m, eqx.is_array)) for m in (changed, model)]
    assert all(a is b for a, b in zip(*arrays, strict=True))
    again = odernn.replace(changed, method=odernn.GaussSeidelEuler(), dt=1.0)
    xs = jax.random.normal(key, (7, 3))
    np.testing.assert_array_equal(again(xs), model(xs))
    assert odernn.replace(model, interpolation=odernn.LinearInput()).layers[0].forward.cell.dt == 1


def test_replace_refuses_what_does_not_fit(key):
    with pytest.raises(odernn.InputError, match="GaussSeidelEuler does not fit Leaky"):
        odernn.replace(cases.CELLS["rnn"](key), method=odernn.GaussSeidelEuler())
    with pytest.raises(odernn.InputError, match="give a cell, a layer or a model"):
        odernn.replace(_readout(3, key), dt=0.5)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda key: odernn.zoo.QUNN(2, 3, memory=3, encoding="fixed", key=key),
        lambda key: odernn.zoo.QUNN(2, 3, memory=3, feedback=True, encoding="fixed", key=key),
        lambda key: odernn.zoo.TGRU(2, 4, key=key),
        lambda key: odernn.zoo.RNN(2, 4, interpolation=odernn.LinearInput(), key=key),
        lambda key: odernn.zoo.RNN(2, 4, key=key),
    ],
    ids=["lags", "feedback", "tgru", "linear", "held"],
)
def test_a_stream_holds_the_last_inputs(make, given, key):
    # Everything counts: untrained, a QUNN does not hear what is past.
    cell = jax.tree.map(lambda a: a + 0.3 if eqx.is_inexact_array(a) else a, make(key))
    xs = jax.random.normal(key, (7, 2))
    count = cell.interpolation.samples - 1
    past = jax.random.normal(jax.random.key(1), (count, 2)) if given else None
    whole, _ = odernn.Layer(cell)(xs, past=past)
    state = cell.stream(past=past)
    for x, expected in zip(xs, whole, strict=True):
        state = cell(state, x)
        np.testing.assert_allclose(cell.output(state), expected, rtol=1e-12, atol=1e-12)


def test_a_stream_takes_one_input_and_the_right_past(key):
    cell = odernn.zoo.QUNN(2, 3, memory=3, key=key)
    with pytest.raises(InputError, match=r"x has the shape \(3, 2\): from a state of stream\(\)"):
        cell(cell.stream(), jnp.ones((3, 2)))
    with pytest.raises(InputError, match=r"past has the shape \(3, 2\): this cell reads 2 inputs"):
        cell.stream(past=jnp.ones((3, 2)))
