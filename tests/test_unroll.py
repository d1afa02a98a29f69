"""Ways to unroll: the same gradients, against three oracles, and what they cost in memory."""

from functools import cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import odernn
from odernn import InputError
from odernn._method._solve import AbstractSolving

from . import cases


def _python_loop(layer, xs):
    """The oracle: one step after the other, differentiated by JAX."""
    cell, hs = layer.cell, []
    y, samples = cell.initial_state(), cell.interpolation.samples
    padded = jnp.concatenate([*[xs[:1]] * (samples - 1), xs])
    for k in range(len(xs)):
        x = padded[k : k + samples].reshape(cell.input_shape)
        y = cell(y, x, elapsed=float(k))
        hs.append(cell.output(y))
    return jnp.stack(hs), y


def _loss(run, layer, xs):
    hs, last = run(layer, xs)
    tail = sum(jnp.sum(jnp.cos(a).real) for a in jax.tree.leaves(last))
    return jnp.sum(jnp.sin(2 * hs)) + tail


def _run(layer, xs):
    return layer(xs)


def _gradient(run, layer, xs):
    return eqx.filter_grad(lambda both: _loss(run, *both))((layer, xs))


def _leaves(tree):
    return [np.asarray(a) for a in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]


def _assert_same(got, wanted, tolerance):
    got, wanted = _leaves(got), _leaves(wanted)
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * (1 + np.abs(b).max()))


# Two blocks of four steps.
_XS = np.random.default_rng(0).normal(size=(8, 3))


@cache
def _reference(field, method):
    """A cell with a trained step and its gradient by the plain loop."""
    field = cases.FIELDS[field](jax.random.key(1))
    cell = odernn.Cell(field, cases.METHODS[method], odernn.TrainedStep(0.3))
    layer = odernn.Layer(cell)
    return cell, _gradient(_python_loop, layer, jnp.asarray(_XS))


@pytest.mark.parametrize(("field", "method", "unroll"), cases.SIMPLE_TRIPLES)
def test_gradients_equal_those_of_a_plain_loop(field, method, unroll):
    cell, wanted = _reference(field, method)
    layer = odernn.Layer(cell, cases.UNROLLS[unroll])
    xs = jnp.asarray(_XS)
    _assert_same(eqx.filter_jit(_gradient)(_run, layer, xs), wanted, 1e-13)


def _train(field, method, dt, unrolls, precision):
    """Return a jitted function: the loss of a batch and its gradient by each unroll that fits."""
    cell = odernn.Cell(cases.FIELDS[field](jax.random.key(1)), cases.METHODS[method], dt)
    batch = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 3)))
    both = cases.as_precision((cell, batch), precision)
    parameters, static = eqx.partition(both, odernn.trained(both))
    layers = [lambda cell, unroll=unroll: odernn.Layer(cell, unroll) for unroll in unrolls]

    def loss(layer, parameters):
        cell, batch = eqx.combine(parameters, static)
        return jnp.sum(jax.vmap(lambda xs: _loss(_run, layer(cell), xs))(batch))

    def train(parameters):
        return [jax.value_and_grad(partial(loss, layer))(parameters) for layer in layers]

    return jax.jit(train), parameters


def _unrolls_for(field, method):
    """Every kind of unroll, Reversible where a step has an inverse, and the dt to take."""
    cell = odernn.Cell(cases.MADE[field], cases.METHODS[method])
    # Methods that carry a past train their step in test_method_multistep.
    dt = 0.3 if cell.method.starting_steps else odernn.TrainedStep(0.3)
    unrolls = [odernn.Scan(), odernn.Adjoint(block=4)]
    # Programs that solve equations take long to compile: for most fields Adjoint is compared in
    # single precision alone.
    if isinstance(cell.method, AbstractSolving) and field not in ("Leaky", "LSTM"):
        unrolls.pop()
    try:
        cell.check_inverse()
    except InputError:
        return dt, unrolls
    return dt, [*unrolls, odernn.Reversible(block=4)]


@pytest.mark.parametrize(("field", "method"), cases.TRAINED)
def test_every_triple_trains(field, method, rng):
    """Gradients by all unrolls equal finite differences along a direction; in both precisions."""
    dt, unrolls = _unrolls_for(field, method)
    run, parameters = _train(field, method, dt, unrolls, jnp.float64)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), parameters)
    (_, wanted), *others = run(parameters)
    for _, got in others:
        _assert_same(got, wanted, 1e-9)
    step = 1e-5
    ahead, behind = (
        run(jax.tree.map(lambda a, d, s=s: a + s * d, parameters, direction))[0][0]
        for s in (step, -step)
    )
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), wanted, direction)
    # An adaptive step rounds to its tolerance.
    tolerance = 1e-3 if method == "adaptive" else 1e-6
    slope = (ahead - behind) / (2 * step)
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=tolerance, atol=1e-6)

    if (field, method) in cases.SINGLE:
        single, rounded = _train(field, method, dt, [odernn.Adjoint()], jnp.float32)
        ((_, got),) = single(rounded)
        assert {a.dtype for a in _leaves(got)} == {np.dtype("float32")}
        _assert_same(got, wanted, 5e-4)


@pytest.mark.parametrize("unroll", cases.UNROLLS)
@pytest.mark.parametrize("name", ["lstm", "cornn"])
def test_gradients_equal_finite_differences(name, unroll, key, rng):
    layer = odernn.Layer(cases.CELLS[name](key), cases.UNROLLS[unroll])
    xs = jnp.asarray(rng.normal(size=(9, 3)))
    parameters, static = eqx.partition((layer, xs), eqx.is_inexact_array)

    @jax.jit
    def loss(p):
        return _loss(_run, *eqx.combine(p, static))

    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), parameters)
    step = 1e-6
    ahead, behind = (
        jax.tree.map(lambda a, d, s=s: a + s * d, parameters, direction) for s in (step, -step)
    )
    slope = (loss(ahead) - loss(behind)) / (2 * step)
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), jax.grad(loss)(parameters), direction)
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-6)


@pytest.mark.parametrize("name", ["gru", "lem", "cornn", "reversible"])
def test_gradients_under_vmap_and_per_example(name, key, rng):
    batch = jnp.asarray(rng.normal(size=(4, 10, 3)))
    if name == "reversible":
        cell = odernn.Cell(cases.FIELDS["Gated"](key), cases.METHODS["reversiblerk4"], 0.3)
        unroll = odernn.Reversible(block=4)
    else:
        cell, unroll = cases.CELLS[name](key), odernn.Adjoint(block=4)
    fast, slow = odernn.Layer(cell, unroll), odernn.Layer(cell, odernn.Scan())

    def total(layer):
        return sum(jax.tree.leaves(jax.vmap(lambda x: _loss(_run, layer, x))(batch).sum()))

    def each(layer):
        return jax.vmap(lambda x: eqx.filter_grad(lambda part: _loss(_run, part, x))(layer))(batch)

    for run in (eqx.filter_grad(total), each):
        got, wanted = eqx.filter_jit(run)(fast), eqx.filter_jit(run)(slow)
        _assert_same(got, wanted, 1e-13)


class _Clockwork(odernn.AbstractPartitionedField):
    """Units driven by a pendulum of their own, which no input reaches."""

    input_size: int = eqx.field(static=True, default=3)
    hidden_size: int = eqx.field(static=True, default=5)
    rate_of_clock: jax.Array = eqx.field(default_factory=lambda: jnp.linspace(0.5, 1.5, 5))
    blocks = ("h", "clock")
    update_order = ("h", "clock")
    depths = {"h": 1, "clock": 1}

    def rate(self, block, time, y, u):
        if block == "clock":
            return self.rate_of_clock * jnp.cos(y["clock"])
        return jnp.tanh(y["clock"]) * jnp.sum(u) - y["h"]


@pytest.mark.parametrize("unroll", [odernn.Adjoint(block=4), odernn.Reversible(block=4)])
def test_a_block_that_no_input_reaches_counts_once_in_a_batch(unroll, rng):
    batch = jnp.asarray(rng.normal(size=(4, 10, 3)))
    cell = odernn.Cell(_Clockwork(), odernn.AlgebraicallyReversible(odernn.Heun()), 0.2)

    def total(layer):
        return jnp.sum(jax.vmap(lambda xs: _loss(_run, layer, xs))(batch))

    got, wanted = (
        eqx.filter_jit(eqx.filter_grad(total))(odernn.Layer(cell, u))
        for u in (unroll, odernn.Scan())
    )
    _assert_same(got, wanted, 1e-12)


@pytest.mark.parametrize("length", [1, 7, 64, 97])
def test_adjoint_for_lengths_that_blocks_do_not_divide(length, key, rng):
    xs = jnp.asarray(rng.normal(size=(length, 3)))
    cell = cases.CELLS["lem"](key)
    wanted = _gradient(_run, odernn.Layer(cell, odernn.Scan()), xs)
    for block in (1, 32):
        got = _gradient(_run, odernn.Layer(cell, odernn.Adjoint(block=block)), xs)
        _assert_same(got, wanted, 1e-13)


class _Awkward(odernn.AbstractField):
    """A field that uses its parameters in every way: products of several kinds, and elementwise."""

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    matrix: jax.Array
    scale: jax.Array
    tensor: jax.Array

    def __init__(self, key):
        self.input_size = self.hidden_size = 4
        self.matrix, self.tensor = jax.random.normal(key, (4, 4)), jax.random.normal(key, (4, 4, 4))
        self.scale = jax.random.uniform(key, (4,))

    def __call__(self, time, y, u):
        skew = self.matrix - self.matrix.T
        bilinear = jnp.einsum("i,ijk,k->j", y, 0.1 * self.tensor, y)
        gate = jax.nn.sigmoid(self.scale * y) * jnp.where(y > 0, self.scale, -y / (1 + y * y))
        spread = jnp.outer(y, self.scale) @ self.matrix[0]
        # One matrix in a product with the state and in another way: neither may count twice.
        spread = spread + y @ self.matrix + jnp.sum(self.matrix * y, axis=1)
        return jnp.tanh(skew @ y + u) + bilinear - gate + 0.1 * spread - jnp.linalg.norm(y + 1) * y


def test_adjoint_of_a_field_that_uses_parameters_in_every_way(key, rng):
    cell = odernn.Cell(_Awkward(key), odernn.Heun(), odernn.TrainedStep(0.05))
    xs = jnp.asarray(rng.normal(size=(20, 4)))
    wanted = _gradient(_run, odernn.Layer(cell, odernn.Scan()), xs)
    got = eqx.filter_jit(_gradient)(_run, odernn.Layer(cell, odernn.Adjoint(block=6)), xs)
    _assert_same(got, wanted, 1e-12)


def test_adjoint_trains_the_initial_state(key, rng):
    cell = cases.CELLS["lstm"](key)
    start = jax.tree.map(lambda a: a + 0.1, cell.initial_state())
    xs = jnp.asarray(rng.normal(size=(10, 3)))
    got, wanted = (
        _gradient(_run, odernn.Layer(cell, unroll, initial_state=start), xs)[0].initial_state
        for unroll in (odernn.Adjoint(block=3), odernn.Scan())
    )
    _assert_same(got, wanted, 1e-13)
    assert all(np.abs(a).max() > 1e-6 for a in _leaves(got))


def test_adjoint_refuses_second_derivatives(key):
    layer = odernn.Layer(cases.CELLS["rnn"](key), odernn.Adjoint())
    xs = jnp.ones((4, 3))

    def slope(layer, xs, loss):
        return jnp.sum(jax.grad(lambda x: jnp.sum(loss(layer(x)[0])))(xs))

    def by_inputs(xs):
        return jax.grad(lambda x: slope(layer, x, jnp.asarray))(xs)

    def by_weights(xs):
        return eqx.filter_grad(lambda part: slope(part, xs, jnp.sin))(layer)

    for second in (by_inputs, jax.jit(by_inputs), by_weights, eqx.filter_jit(by_weights)):
        with pytest.raises(Exception, match=r"take Scan\(\) for higher derivatives"):
            second(xs)


def test_scan_gives_second_derivatives_and_forward_mode(key):
    layer = odernn.Layer(cases.CELLS["rnn"](key), odernn.Scan())
    xs = jnp.ones((4, 3))
    hessian = jax.hessian(lambda x: jnp.sum(layer(x)[0]))(xs)
    assert float(jnp.abs(hessian).max()) > 0
    forward = jax.jacfwd(lambda x: layer(x)[0])(xs)
    np.testing.assert_allclose(forward, jax.jacrev(lambda x: layer(x)[0])(xs), atol=1e-13)


def _peak(unroll, length, key):
    """Bytes that the compiled gradient needs beside its arguments and results."""
    layer = odernn.Layer(odernn.zoo.LSTM(2, 32, key=key), unroll)
    parameters, static = eqx.partition(layer, eqx.is_inexact_array)

    def loss(p, xs):
        return jnp.sum(jax.vmap(eqx.combine(p, static))(xs)[1]["h"])

    xs = jax.ShapeDtypeStruct((8, length, 2), jnp.float64)
    compiled = jax.jit(jax.grad(loss)).lower(parameters, xs).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_checkpointing_needs_memory_of_the_square_root_of_the_length(key):
    plain, checkpointed = (
        [_peak(u(n), n, key) for n in (256, 1024)]
        for u in (lambda n: odernn.Scan(), lambda n: odernn.Scan(checkpoint=int(n**0.5)))
    )
    assert plain[1] / plain[0] > 3.5
    # The stored states grow as the root, the inputs' projection and the states put out as n.
    assert checkpointed[1] < 0.6 * plain[1]


def test_adjoint_stores_states_only(key):
    assert _peak(odernn.Adjoint(), 1024, key) < 0.5 * _peak(odernn.Scan(), 1024, key)


def test_wrong_options_are_refused():
    for k in (0, -1, 2.5, True):
        with pytest.raises(InputError, match="checkpoint = "):
            odernn.Scan(checkpoint=k)
        with pytest.raises(InputError, match="block = "):
            odernn.Adjoint(block=k)


def test_an_unroll_works_for_any_step_and_names_a_step_that_changes_its_state():
    def keep(inputs):
        return inputs

    def step(y, x):
        return 0.5 * y + x

    xs = jnp.arange(6.0)
    for unroll in cases.UNROLLS.values():
        states, last = unroll(step, keep, jnp.zeros(()), xs)
        np.testing.assert_allclose(last, sum(0.5 ** (5 - k) * k for k in range(6)))
        assert states.shape == (6,)
    with pytest.raises(InputError, match="another structure, shape or dtype"):
        odernn.Adjoint()(lambda y, x: (y, x), keep, jnp.zeros(()), xs)


@pytest.mark.parametrize("anchor", [None, 5])
@pytest.mark.parametrize("name", ["reversiblerk4", "stormerverlet", "leapfrog", "implicitmidpoint"])
def test_reversible_rebuilds_the_trajectory(name, anchor, key, rng):
    cell = odernn.Cell(cases.FIELDS["Oscillator"](key), cases.METHODS[name], 0.1)
    batch = jnp.asarray(rng.normal(size=(2, 33, 3)))
    mask = jnp.asarray(rng.uniform(size=33) < 0.8)

    def gradient(unroll):
        def total(layer):
            def one(xs):
                return _loss(lambda layer, xs: layer(xs, mask=mask), layer, xs)

            return jnp.sum(jax.vmap(one)(batch))

        return eqx.filter_grad(total)(odernn.Layer(cell, unroll))

    got = eqx.filter_jit(gradient)(odernn.Reversible(anchor=anchor, block=4))
    _assert_same(got, gradient(odernn.Scan()), 1e-9)


def test_reversible_needs_memory_that_does_not_grow(key):
    cell = odernn.Cell(
        cases.FIELDS["Oscillator"](key), odernn.AlgebraicallyReversible(odernn.RK4())
    )

    def peak(unroll, length):
        layer = odernn.Layer(cell, unroll)
        parameters, static = eqx.partition(layer, eqx.is_inexact_array)

        def loss(p, xs):
            return jnp.sum(eqx.combine(p, static)(xs)[1].y["h"])

        xs = jax.ShapeDtypeStruct((length, 3), jnp.float64)
        compiled = jax.jit(jax.grad(loss)).lower(parameters, xs).compile()
        # The clock takes one number a step.
        return compiled.memory_analysis().temp_size_in_bytes - 2 * 8 * length

    small, large = (peak(odernn.Reversible(), n) for n in (128, 8192))
    assert large < 1.5 * small
    assert peak(odernn.Adjoint(), 8192) > 5 * large


def test_a_model_that_reads_the_last_step_keeps_no_outputs(key):
    cell = odernn.Cell(cases.FIELDS["Oscillator"](key), odernn.StormerVerlet(), 0.1)
    model = odernn.Model([odernn.Layer(cell, odernn.Reversible())], odernn.LastStep(5, 2, key=key))
    parameters, static = eqx.partition(model, eqx.is_inexact_array)

    def peak(length):
        def loss(p, xs):
            return jnp.sum(eqx.combine(p, static)(xs))

        xs = jax.ShapeDtypeStruct((length, 3), jnp.float64)
        compiled = jax.jit(jax.grad(loss)).lower(parameters, xs).compile()
        return compiled.memory_analysis().temp_size_in_bytes - 2 * 8 * length

    assert peak(8192) < 1.5 * peak(128)


@pytest.mark.parametrize("unroll", [odernn.Scan(), odernn.Adjoint(block=4)])
def test_the_last_step_is_read_from_the_final_state(unroll, key, rng):
    layers = [odernn.Layer(cases.CELLS[name](key), unroll) for name in ("lstm", "gru")]
    layers[1] = odernn.Layer(odernn.zoo.GRU(5, 5, key=key), unroll)
    model = odernn.Model(layers, odernn.LastStep(5, 2, key=key))
    xs, mask = jnp.asarray(rng.normal(size=(9, 3))), jnp.arange(9) % 3 != 2
    for options in ({}, {"mask": mask}, {"length": 6}):
        valid = jnp.arange(9) < 6 if "length" in options else options.get("mask")
        hs = xs
        for layer in layers:
            hs, _ = layer(hs, mask=valid)
        wanted = model.readout(hs, valid)
        np.testing.assert_allclose(model(xs, **options), wanted, rtol=0, atol=1e-15)


def test_reversible_measures_its_drift(key, rng):
    field = odernn.fields.Leaky(3, 5, key=key)
    cell = odernn.Cell(field, odernn.ImplicitMidpoint(), 0.9)
    xs = jnp.asarray(rng.normal(size=(200, 3)))
    # Undoing a contraction a hundred times multiplies rounding errors beyond every bound.
    with pytest.raises(Exception, match="drifted by more than"):
        _gradient(_run, odernn.Layer(cell, odernn.Reversible()), xs)
    got = _gradient(_run, odernn.Layer(cell, odernn.Reversible(anchor=8)), xs)
    _assert_same(got, _gradient(_run, odernn.Layer(cell), xs), 1e-6)
    # The measure says so before any training, for a part of the sequence as well.
    layer = odernn.Layer(cell)
    assert layer.drift(xs) > 1e-3
    assert layer.drift(xs[:8]) < layer.drift(xs, length=20) < 1e-3
    with pytest.raises(InputError, match="a step of RK4 has no inverse"):
        odernn.Layer(odernn.Cell(field, odernn.RK4())).drift(xs)


def test_reversible_refuses_what_it_cannot_undo(key):
    cell = odernn.Cell(cases.FIELDS["Leaky"](key), odernn.RK4())
    with pytest.raises(InputError, match=r"a step of RK4 has no inverse.*Reversible\(RK4"):
        odernn.Layer(cell, odernn.Reversible())
    with pytest.raises(InputError, match="the rate of 'v' reads 'v'"):
        odernn.Layer(cases.CELLS["cornn"](key), odernn.Reversible())
    with pytest.raises(InputError, match="AlgebraicallyReversible"):
        odernn.Reversible(odernn.RK4())
    with pytest.raises(InputError, match="step.inverse"):
        odernn.Reversible()(lambda y, x: y + x, lambda x: x, jnp.zeros(()), jnp.ones(3))
