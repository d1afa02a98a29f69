"""Known networks are exact special cases: the same numbers as an independent implementation."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import odernn
from odernn import zoo
from odernn.analysis import classify

from .references import REFERENCES
from .references.weights import random_cell

STEPS = 40


def test_every_network_has_a_reference():
    assert REFERENCES.keys() == zoo.CELLS.keys()


@pytest.mark.parametrize("name", REFERENCES)
def test_a_network_is_what_its_paper_says(name, rng):
    cell, reference = REFERENCES[name](int(rng.integers(1, 5)), int(rng.integers(2, 7)), rng)
    xs = rng.normal(size=(STEPS, cell.input_size))
    past = np.zeros((cell.interpolation.samples - 1, cell.input_size))
    options = {"past": past} if len(past) else {}
    outputs, _ = odernn.Layer(cell, odernn.Scan())(xs, **options)
    expected = reference(xs)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", zoo.CELLS)
def test_declared_and_measured_class_agree(name, key):
    cell = zoo.CELLS[name](3, 4, key=key)
    measured = classify(cell)
    assert (measured.n, measured.t) == (cell.n, cell.t)
    assert measured.implicit is not cell.method.explicit


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "rnn": "1-1",
        "ctrnn": "1-1",
        "gru": "2-1",
        "lstm": "2-2",
        "urnn": "1-1",
        "exprnn": "1-1",
        "scornn": "1-1",
        "antisymmetricrnn": "1-1",
        "lipschitzrnn": "1-1",
        "cornn": "1-2",
        "unicornn": "1-2",
        "lem": "2-2",
        "linossim": "0-2 (implicit)",
        "linossimex": "0-2",
        "lru": "0-1",
        "mingru": "0-1",
        "minlstm": "0-1",
        "momentumrnn": "1-2",
        "ltc": "6-1",
        "qunn": "0-1",
    }.items(),
)
def test_classes_known_beforehand(name, expected, key):
    assert str(classify(zoo.CELLS[name](3, 4, key=key))) == expected


COMPLICATED = (
    *("taugru", "mut3", "nas", "mclstm", "tlstm", "unicornn", "momentumrnn"),
    *("urnn", "scornn", "exprnn", "incrementalrnn", "ltc", "cfc"),
    *("linossim", "linossimex", "lru", "s4d", "lmu", "hippolegs"),
    "qunn",
)


@pytest.mark.parametrize("name", COMPLICATED)
def test_gradients_do_not_depend_on_the_unroll(name, rng):
    cell = random_cell(zoo.CELLS[name], 3, 4, rng)
    xs = jnp.asarray(rng.normal(size=(9, 3)))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(cell, unroll):
        return jnp.sum(jnp.sin(odernn.Layer(cell, unroll)(xs)[0]))

    plain, adjoint = (gradient(cell, unroll) for unroll in (odernn.Scan(), odernn.Adjoint(block=4)))
    for ours, theirs in zip(jax.tree.leaves(adjoint), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)
    assert any(np.abs(a).max() > 1e-3 for a in jax.tree.leaves(plain))


@pytest.mark.parametrize(
    ("name", "sizes", "classes", "count"),
    [
        ("lem", [1, 128], 10, 68_362),  # psMNIST
        ("cornn", [1, 256], 10, 134_154),  # psMNIST
        ("unicornn", [1, 256, 256, 256], 10, 136_202),  # psMNIST
        ("lem", [6, 32], 5, 5_285),  # EigenWorms
    ],
)
def test_parameter_counts_are_the_published_ones(name, sizes, classes, count, key):
    layers = [odernn.Layer(zoo.CELLS[name](i, h, key=key)) for i, h in itertools.pairwise(sizes)]
    model = odernn.Model(layers, odernn.LastStep(sizes[-1], classes, key=key))
    assert odernn.parameter_count(model) == count


def test_a_network_says_what_it_is(key):
    assert repr(zoo.LSTM) == "zoo.LSTM: LSTM, GaussSeidelEuler, dt = 1 (1997)"
    cell = zoo.LSTM(3, 4, key=key)
    assert zoo.LSTM.matches(cell) and not zoo.GRU.matches(cell)
    other = zoo.LSTM(3, 4, method=odernn.RK4(), dt=0.5, key=key)
    assert (other.method, other.dt) == (odernn.RK4(), 0.5)
    assert not zoo.LSTM.matches(other)


def test_a_network_refuses_what_its_field_does_not_take(key):
    with pytest.raises(odernn.InputError, match=r"unknown argument of coRNN 'gama'.*'gamma'"):
        zoo.coRNN(3, 4, gama=1.0, key=key)
    with pytest.raises(odernn.InputError, match=r"unknown init 'oficial'.*'official'"):
        zoo.coRNN(3, 4, init="oficial", key=key)


@pytest.mark.parametrize("init", ["uniform", "glorot", "orthogonal"])
def test_initial_values_by_one_rule(init, key):
    cell = zoo.LSTM(3, 4, init=init, key=key)
    blocks = np.split(np.asarray(cell.field.weight), 4, axis=1)
    if init == "orthogonal":
        for block in blocks:
            np.testing.assert_allclose(block.T @ block, np.eye(4), rtol=0, atol=1e-12)
    else:
        bound = {"uniform": 0.5, "glorot": (6 / 20) ** 0.5}[init]
        largest = np.abs(cell.field.weight).max()
        assert 0.8 * bound < largest <= bound


@pytest.mark.parametrize("name", ["exprnn", "urnn", "cfc", "lmu", "gru", "tlstm"])
def test_what_cannot_be_undone_is_refused(name, key):
    with pytest.raises(odernn.InputError, match="has no(t)?( explicit)? inverse"):
        odernn.Layer(zoo.CELLS[name](3, 4, key=key), odernn.Reversible())
