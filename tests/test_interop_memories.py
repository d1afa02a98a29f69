"""Cells of torchrecurrent and of the authors' own code compute the same numbers as here."""

import inspect

import jax
import numpy as np
import pytest
import torchrecurrent
import torchrecurrent.base

import odernn
from odernn.fields._memories import PeepholeLSTM
from odernn.interop._memories import IMPORTERS, OFFICIAL
from odernn.zoo import _memories as zoo

from .references.memories import module_outputs, random_module
from .references.weights import sigma

STEPS = 30
OPTIONS = {
    "coRNNCell": {"dt": 0.076, "gamma": 2.7, "epsilon": 4.7},
    "LEMCell": {"dt": 0.31},
    "UnICORNNCell": {"dt": 0.19, "alpha": 30.65},
}
DEVIATING = {"NASCell": "adds what the paper's authors multiply", "SCRNCell": "feeds back its out"}
FAITHFUL = sorted(IMPORTERS.keys() - DEVIATING.keys())


def arrays_of(module):
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def outputs(layer, xs):
    """What a cell or a layer of cells puts out; before the first input there were zeros."""
    layer = odernn.Layer(layer) if isinstance(layer, odernn.Cell) else layer
    samples = getattr(layer, "cell", None) and layer.cell.interpolation.samples
    past = {"past": np.zeros((samples - 1, xs.shape[1]))} if samples and samples > 1 else {}
    return layer(xs, **past)[0]


# --- torchrecurrent ----------------------------------------------------------------------------


def test_every_cell_with_two_states_is_known():
    kinds = (
        torchrecurrent.base.DoubleStateCellBase,
        torchrecurrent.base.DecoupledDoubleStateCellBase,
        torchrecurrent.base.DecoupledSingleStateCellBase,
    )
    found = {
        name
        for name, cls in inspect.getmembers(torchrecurrent, inspect.isclass)
        if issubclass(cls, kinds)
    }
    # These have one: JANET's two are equal, the typed GRU's second is the input before.
    assert found - {"JANETCell", "TGRUCell"} == IMPORTERS.keys()


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("name", FAITHFUL)
def test_an_imported_cell_computes_the_same(name, biases, rng):
    sizes = (4, 4) if name == "IntersectionRNNCell" else (3, 5)
    options = {**OPTIONS.get(name, {}), "bias": biases, "recurrent_bias": biases}
    module = random_module(name, *sizes, rng, **options)
    xs = rng.normal(size=(STEPS, sizes[0]))
    expected = module_outputs(module, xs)
    assert np.abs(expected).max() > 1e-3
    cell = IMPORTERS[name](arrays_of(module), module)
    np.testing.assert_allclose(outputs(cell, xs), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FAITHFUL)
def test_precision_is_kept(name, rng):
    module = random_module(name, 4, 4, rng).float()
    cell = IMPORTERS[name](arrays_of(module), module)
    assert cell.field.dtype == np.float32
    assert outputs(cell, np.ones((2, 4), np.float32)).dtype == np.float32


@pytest.mark.parametrize(("name", "reason"), DEVIATING.items())
def test_a_cell_that_deviates_is_refused(name, reason, rng):
    module = random_module(name, 3, 5, rng)
    with pytest.raises(odernn.InputError, match=f"{name}.*{reason}"):
        IMPORTERS[name](arrays_of(module), module)


def test_what_cannot_be_imported_is_named(rng):
    module = random_module("PeepholeLSTMCell", 3, 5, rng, nonlinearity="relu")
    arrays = arrays_of(module)
    with pytest.raises(odernn.InputError, match="act = ReLU.*only Tanh"):
        IMPORTERS["PeepholeLSTMCell"](arrays, module)
    assert isinstance(IMPORTERS["PeepholeLSTMCell"](arrays, None).field, PeepholeLSTM)
    with pytest.raises(odernn.InputError, match="weight_mh is missing"):
        IMPORTERS["WMCLSTMCell"](arrays, None)
    with pytest.raises(odernn.InputError, match="dt is missing"):
        IMPORTERS["LEMCell"](arrays, None)


# --- The authors' code -------------------------------------------------------------------------


def draw(rng, **shapes):
    return {name.replace("__", "."): 0.5 * rng.normal(size=shape) for name, shape in shapes.items()}


def linear(state, name, x):
    """An affine layer as PyTorch has it."""
    return state[f"{name}.weight"] @ x + state.get(f"{name}.bias", 0)


def cornn(state, force, xs, dt, gamma, epsilon):
    y = z = np.zeros(len(state["i2h.bias"]))
    for x in xs:
        z = z + dt * (np.tanh(force(state, x, y, z)) - gamma * y - epsilon * z)
        y = y + dt * z
        yield y


CORNN = {
    "one matrix": (
        {"i2h__weight": (5, 13), "i2h__bias": (5,)},
        lambda s, x, y, z: linear(s, "i2h", np.concatenate([x, z, y])),
    ),
    "two matrices": (
        {"i2h__weight": (5, 3), "i2h__bias": (5,), "h2h__weight": (5, 10)},
        lambda s, x, y, z: linear(s, "h2h", np.concatenate([z, y])) + linear(s, "i2h", x),
    ),
    "three matrices": (
        {
            "i2h__weight": (5, 3),
            "i2h__bias": (5,),
            "h2h1__weight": (5, 5),
            "h2h2__weight": (5, 5),
        },
        lambda s, x, y, z: linear(s, "h2h1", y) + linear(s, "h2h2", z) + linear(s, "i2h", x),
    ),
}


@pytest.mark.parametrize("layout", CORNN)
def test_the_authors_cornn(layout, rng):
    shapes, force = CORNN[layout]
    state = draw(rng, **shapes)
    xs = rng.normal(size=(STEPS, 3))
    options = {"dt": 0.076, "gamma": 0.4, "epsilon": 8.0}
    expected = list(cornn(state, force, xs, **options))
    whole = {f"cell.{name}": a for name, a in state.items()} | {"readout.weight": np.ones((2, 5))}
    for given in (state, whole):
        cell = OFFICIAL["cornn"](given, **options)
        np.testing.assert_allclose(outputs(cell, xs), expected, rtol=0, atol=1e-12)


def lem(state, xs, dt):
    y = z = np.zeros(len(state["transform_z.bias"]))
    for x in xs:
        i_dt1, i_dt2, i_z, i_y = np.split(linear(state, "inp2hid", x), 4)
        h_dt1, h_dt2, h_y = np.split(linear(state, "hid2hid", y), 3)
        bar, step = dt * sigma(i_dt1 + h_dt1), dt * sigma(i_dt2 + h_dt2)
        z = (1 - step) * z + step * np.tanh(i_y + h_y)
        y = (1 - bar) * y + bar * np.tanh(linear(state, "transform_z", z) + i_z)
        yield y


def lem_of_the_extension(state, xs, dt):
    y = z = np.zeros(len(state["rnn.bias_lin_z"]))
    for x in xs:
        scales = state["rnn.weights"] @ np.concatenate([y, x]) + state["rnn.bias"]
        step, candidate, bar = np.split(scales, 3)
        z = z + dt * sigma(step) * (np.tanh(candidate) - z)
        new = state["rnn.weights_lin_z"] @ np.concatenate([z, x]) + state["rnn.bias_lin_z"]
        y = y + dt * sigma(bar) * (np.tanh(new) - y)
        yield y


def test_the_authors_lem(rng):
    shapes = {"inp2hid__weight": (20, 3), "inp2hid__bias": (20,)}
    shapes |= {"hid2hid__weight": (15, 5), "hid2hid__bias": (15,)}
    state = draw(rng, **shapes, transform_z__weight=(5, 5), transform_z__bias=(5,))
    xs = rng.normal(size=(STEPS, 3))
    cell = OFFICIAL["lem"](state, dt=0.44)
    np.testing.assert_allclose(outputs(cell, xs), list(lem(state, xs, 0.44)), rtol=0, atol=1e-12)


def test_the_lem_of_the_authors_extension(rng):
    shapes = {"rnn__weights": (15, 8), "rnn__bias": (15,)}
    shapes |= {"rnn__weights_lin_z": (5, 8), "rnn__bias_lin_z": (5,), "classifier__weight": (2, 5)}
    state = draw(rng, **shapes)
    xs = rng.normal(size=(STEPS, 3))
    expected = list(lem_of_the_extension(state, xs, 0.31))
    cell = OFFICIAL["lem"](state, dt=0.31)
    np.testing.assert_allclose(outputs(cell, xs), expected, rtol=0, atol=1e-12)


def unicornn(state, xs, dts, alpha):
    for k, dt in enumerate(dts):
        y = z = np.zeros(len(state[f"RNNs.{k}.c_"]))
        step, hs = dt * sigma(state[f"RNNs.{k}.c_"]), []
        for x in xs:
            inner = state[f"RNNs.{k}.weight_hh"] * y + linear(state, f"DIs.{k}.fc", x)
            z = z - step * (np.tanh(inner) + alpha * y)
            y = y + step * z
            hs.append(y)
        xs = np.array(hs)
    return xs


@pytest.mark.parametrize("dt", [[0.126], [0.0066, 0.205, 0.1], 0.19])
def test_the_authors_unicornn(dt, rng):
    dts = dt if isinstance(dt, list) else [dt, dt]
    state = {}
    for k in range(len(dts)):
        shapes = {f"RNNs__{k}__weight_hh": (5,), f"RNNs__{k}__c_": (5,)}
        shapes |= {f"DIs__{k}__fc__weight": (5, 5 if k else 3), f"DIs__{k}__fc__bias": (5,)}
        state |= draw(rng, **shapes)
    xs = rng.normal(size=(STEPS, 3))
    layers = OFFICIAL["unicornn"](state, dt=dt, alpha=13.0)
    assert isinstance(layers, odernn.Cell if len(dts) == 1 else odernn.Stack)
    expected = unicornn(state, xs, dts, 13.0)
    np.testing.assert_allclose(outputs(layers, xs), expected, rtol=0, atol=1e-12)


def test_the_authors_unicornn_has_as_many_parameters(key):
    keys = jax.random.split(key, 4)
    cells = [zoo.UnICORNN(256 if k else 1, 256, key=keys[k]) for k in range(3)]
    layers = [odernn.Layer(cell, odernn.Reversible()) for cell in cells]
    model = odernn.Model(layers, odernn.LastStep(256, 10, key=keys[3]))
    assert odernn.parameter_count(model) == 136_202


def test_errors_of_the_authors_layouts(rng):
    state = draw(rng, i2h__weight=(5, 13), i2h__bias=(5,))
    two = {f"{part}.{name}": a for part in "ab" for name, a in state.items()}
    options = {"dt": 0.1, "gamma": 1.0, "epsilon": 1.0}
    with pytest.raises(odernn.InputError, match="more than one cell.*prefix='a.'"):
        OFFICIAL["cornn"](two, **options)
    with pytest.raises(odernn.InputError, match="lacks arrays.*inp2hid.weight.* or weights"):
        OFFICIAL["lem"](state)
    state = draw(
        rng,
        RNNs__0__weight_hh=(5,),
        RNNs__0__c_=(5,),
        DIs__0__fc__weight=(5, 3),
        DIs__0__fc__bias=5,
    )
    with pytest.raises(odernn.InputError, match="dt = .*or 1, one for each layer"):
        OFFICIAL["unicornn"](state, dt=[0.1, 0.2], alpha=1.0)


# --- Arguments of these networks ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SCRN", {"alpha": 1.0}, "alpha = 1.0.*share of the context"),
        ("SCRN", {"context_size": 0}, "context_size = 0"),
        ("MomentumRNN", {"mu": -0.1}, "mu = -0.1.*share of the momentum"),
        ("UnICORNN", {"alpha": -1.0}, "alpha = -1.0.*not negative"),
        ("WMCLSTM", {"biases": 3}, "biases = 3"),
    ],
)
def test_arguments_out_of_range(name, options, message, key):
    with pytest.raises(odernn.InputError, match=message):
        getattr(zoo, name)(3, 5, **options, key=key)


def test_the_strongly_typed_network_needs_the_input_before(key):
    assert zoo.TLSTM(3, 5, key=key).interpolation == odernn.StackedInput(2)
    with pytest.raises(odernn.InputError, match="which reads the last 2 inputs as they are"):
        zoo.TLSTM(3, 5, interpolation=odernn.HeldInput(), key=key)
