"""Ways to unroll: the same gradients, against three oracles, and what they cost in memory."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import odernn
from odernn import InputError

from . import cases


def _python_loop(layer, xs):
    """The oracle: one step after the other, differentiated by JAX."""
    cell, hs = layer.cell, []
    y = cell.initial_state()
    for k, x in enumerate(xs):
        y = cell(y, x, elapsed=float(k))
        hs.append(cell.output(y))
    return jnp.stack(hs), y


def _loss(run, layer, xs):
    hs, last = run(layer, xs)
    tail = sum(jnp.sum(jnp.cos(a)) for a in jax.tree.leaves(last))
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


@functools.cache
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


@pytest.mark.parametrize(("field", "method"), cases.SIMPLE_PAIRS)
def test_adjoint_in_single_precision(field, method):
    cell, wanted = _reference(field, method)
    layer = cases.as_precision(odernn.Layer(cell, odernn.Adjoint(block=4)), jnp.float32)
    got = eqx.filter_jit(_gradient)(_run, layer, jnp.asarray(_XS, jnp.float32))
    assert {a.dtype for a in _leaves(got)} == {np.dtype("float32")}
    _assert_same(got, wanted, 5e-5)


@pytest.mark.parametrize(("field", "method"), cases.TRAINED)
def test_every_method_trains_each_kind_of_field_that_it_fits(field, method, rng):
    """Adjoint against Scan, and both against finite differences, compiled in one program."""
    cell = odernn.Cell(cases.FIELDS[field](jax.random.key(1)), cases.METHODS[method], 0.3)
    xs = jnp.asarray(_XS)
    parameters, static = eqx.partition((cell, xs), eqx.is_inexact_array)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), parameters)

    def loss(p, unroll):
        cell, xs = eqx.combine(p, static)
        return _loss(_run, odernn.Layer(cell, unroll), xs)

    @jax.jit
    def measure(p):
        def along(step):
            moved = jax.tree.map(lambda a, d: a + step * d, p, direction)
            return loss(moved, odernn.Scan())

        values = jax.lax.map(along, jnp.array([1e-5, -1e-5]))
        gradients = [jax.grad(loss)(p, u) for u in (odernn.Adjoint(block=4), odernn.Scan())]
        return (values[0] - values[1]) / 2e-5, gradients

    slope, (adjoint, scan) = measure(parameters)
    _assert_same(adjoint, scan, 1e-10)
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), adjoint, direction)
    # An adaptive step rounds to its tolerance.
    tolerance = 1e-3 if method == "adaptive" else 1e-5
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=tolerance, atol=1e-7)


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


@pytest.mark.parametrize("name", ["gru", "lem", "cornn"])
def test_adjoint_under_vmap_and_per_example(name, key, rng):
    batch = jnp.asarray(rng.normal(size=(4, 10, 3)))
    cell = cases.CELLS[name](key)
    fast, slow = odernn.Layer(cell, odernn.Adjoint(block=4)), odernn.Layer(cell, odernn.Scan())

    def total(layer):
        return sum(jax.tree.leaves(jax.vmap(lambda x: _loss(_run, layer, x))(batch).sum()))

    def each(layer):
        return jax.vmap(lambda x: eqx.filter_grad(lambda part: _loss(_run, part, x))(layer))(batch)

    for run in (eqx.filter_grad(total), each):
        got, wanted = eqx.filter_jit(run)(fast), eqx.filter_jit(run)(slow)
        _assert_same(got, wanted, 1e-13)


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


def test_reversible_measures_its_drift(key, rng):
    field = odernn.fields.Leaky(3, 5, key=key)
    cell = odernn.Cell(field, odernn.ImplicitMidpoint(), 0.9)
    xs = jnp.asarray(rng.normal(size=(200, 3)))
    # Undoing a contraction a hundred times multiplies rounding errors beyond every bound.
    with pytest.raises(Exception, match="drifted by more than"):
        _gradient(_run, odernn.Layer(cell, odernn.Reversible()), xs)
    got = _gradient(_run, odernn.Layer(cell, odernn.Reversible(anchor=8)), xs)
    _assert_same(got, _gradient(_run, odernn.Layer(cell), xs), 1e-6)


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
