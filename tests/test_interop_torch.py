"""PyTorch's modules in and out: the same numbers, the same outputs."""

import copy
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import ncps.torch
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
import torchrecurrent

import odernn
from odernn import InputError, fields, interop, zoo

nn = torch.nn
STEPS = 12
# All kinds; layers, directions, biases and projections, each of them at least once with each other.
MODULES = {
    "rnn": (nn.RNN, {}),
    "rnn-relu-2-both": (
        nn.RNN,
        {"nonlinearity": "relu", "num_layers": 2, "bidirectional": True},
    ),
    "gru": (nn.GRU, {}),
    "gru-2-nobias": (nn.GRU, {"num_layers": 2, "bias": False}),
    "gru-both": (nn.GRU, {"bidirectional": True, "batch_first": True}),
    "lstm": (nn.LSTM, {}),
    "lstm-2-both-nobias": (nn.LSTM, {"num_layers": 2, "bidirectional": True, "bias": False}),
    "lstm-proj": (nn.LSTM, {"proj_size": 2}),
    "lstm-proj-2-both": (nn.LSTM, {"proj_size": 2, "num_layers": 2, "bidirectional": True}),
}
CELLS = {
    "rnn": (nn.RNNCell, {}),
    "rnn-relu-nobias": (nn.RNNCell, {"nonlinearity": "relu", "bias": False}),
    "gru": (nn.GRUCell, {}),
    "gru-nobias": (nn.GRUCell, {"bias": False}),
    "lstm": (nn.LSTMCell, {}),
}


def make(table, name, seed, dtype="float64"):
    torch.manual_seed(seed)
    kind, options = table[name]
    return kind(3, 4, **options, dtype=getattr(torch, dtype))


def run(module, xs):
    """Outputs and final state of a PyTorch module with these weights, in double precision.

    In single precision some versions warn that they have no faster program for projections.
    """
    with torch.no_grad():
        return copy.deepcopy(module).double()(torch.tensor(xs, dtype=torch.float64))


def final_states(state):
    """The blocks of PyTorch's final state, (layers * directions, size) each, of ours."""
    states = jax.tree.leaves(state, is_leaf=lambda s: isinstance(s, dict) or eqx.is_array(s))
    blocks = [s if isinstance(s, dict) else {"h": s} for s in states]
    return [np.stack([b[name] for b in blocks]) for name in ("h", "c") if name in blocks[0]]


def same(a, b):
    """Whether two states are the same, bit by bit."""
    return a.keys() == b.keys() and all(
        np.asarray(a[name]).dtype == np.asarray(b[name]).dtype
        and np.array_equal(np.asarray(a[name]), np.asarray(b[name]))
        for name in a
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("name", MODULES)
def test_a_module_computes_the_same_and_comes_back(name, dtype, tolerance, seed, rng):
    module = make(MODULES, name, seed, dtype)
    xs = rng.normal(size=(STEPS, 3)).astype(dtype)
    expected, last = run(module, xs)
    layer = interop.from_torch(module)
    hs, state = layer(xs)
    assert hs.dtype == dtype
    np.testing.assert_allclose(hs, expected, rtol=0, atol=tolerance)
    for ours, theirs in zip(
        final_states(state), last if isinstance(last, tuple) else (last,), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)

    back = interop.to_torch(layer)
    assert same(back.state_dict(), module.state_dict())
    assert same(interop.to_state_dict(layer), module.state_dict())
    again, _ = run(back, xs)
    assert type(back) is type(module) and torch.equal(again, expected)
    assert eqx.tree_equal(interop.from_torch(back), layer)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_computes_the_same_and_comes_back(name, dtype, tolerance, seed, rng):
    module = make(CELLS, name, seed, dtype)
    cell = interop.from_torch(module)
    assert isinstance(cell, odernn.Cell)
    ours, theirs = cell.initial_state(), None
    for x in rng.normal(size=(3, 3)).astype(dtype):
        ours = cell(ours, jnp.asarray(x))
        with torch.no_grad():
            theirs = module(torch.tensor(x), theirs)
        blocks = (ours["h"], ours["c"]) if isinstance(ours, dict) else (ours,)
        wanted = theirs if isinstance(theirs, tuple) else (theirs,)
        for a, b in zip(blocks, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
    back = interop.to_torch(cell)
    assert type(back) is type(module) and same(back.state_dict(), module.state_dict())
    assert eqx.tree_equal(interop.from_torch(back), cell)


def test_what_a_module_becomes(seed):
    def imported(kind, **options):
        return interop.from_torch(kind(3, 4, **options))

    both = imported(nn.GRU, bidirectional=True)
    assert isinstance(both, odernn.Bidirectional) and both.hidden_size == 8
    deep = imported(nn.LSTM, num_layers=2, bidirectional=True, proj_size=2)
    assert isinstance(deep, odernn.Stack) and deep.hidden_size == 4
    assert isinstance(deep.layers[1], odernn.Bidirectional)
    assert (deep.layers[1].input_size, deep.layers[1].forward.hidden_size) == (4, 2)
    layer = imported(nn.RNN, nonlinearity="relu")
    assert isinstance(layer, odernn.Layer) and zoo.RNN.matches(layer.cell)
    assert (layer.cell.field.activation, layer.cell.field.biases) == ("relu", 2)


def test_the_three_sources_agree(seed, tmp_path):
    module = make(MODULES, "rnn-relu-2-both", seed)
    layer = interop.from_torch(module)
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(module.state_dict(), file)
    arrays = {name: a.numpy() for name, a in module.state_dict().items()}
    for source in (module.state_dict(), arrays, file, str(file)):
        assert eqx.tree_equal(interop.from_torch(source, nonlinearity="relu"), layer)
    assert interop.from_torch(file).layers[0].forward.cell.field.activation == "tanh"


def test_a_file_is_written_without_torch(key, tmp_path):
    layer = odernn.Layer(zoo.LSTM(3, 4, biases=2, key=key))
    file = tmp_path / "lstm.safetensors"
    safetensors.numpy.save_file(interop.to_state_dict(layer), file)
    assert eqx.tree_equal(interop.from_torch(file), layer)
    module = nn.LSTM(3, 4, dtype=torch.float64)
    module.load_state_dict(safetensors.torch.load_file(file))


def test_an_imported_layer_is_saved_as_any_other(seed, tmp_path):
    layer = interop.from_torch(make(MODULES, "lstm-proj-2-both", seed, "float32"))
    odernn.save(layer, tmp_path)
    assert eqx.tree_equal(odernn.load(tmp_path), layer)


class _Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.rnn = nn.GRU(3, 4)
        self.decoder = nn.LSTMCell(3, 4)
        self.norm = nn.BatchNorm1d(4)  # it has an integer array


def test_a_part_of_a_larger_state(tmp_path):
    model = _Encoder().double()
    layer, cell = interop.from_torch(model.encoder.rnn), interop.from_torch(model.decoder)
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_model(model, file)
    for state in (model.state_dict(), file):
        assert eqx.tree_equal(interop.from_torch(state, prefix="encoder.rnn."), layer)
        assert eqx.tree_equal(interop.from_torch(state, prefix="encoder"), layer)
        assert eqx.tree_equal(interop.from_torch(state, prefix="decoder"), cell)
        with pytest.raises(InputError, match=r"choose with prefix='decoder' or prefix='encoder"):
            interop.from_torch(state)
        with pytest.raises(InputError, match=r"unknown prefix 'encodr\.': did you mean 'encoder\."):
            interop.from_torch(state, prefix="encodr")
    with pytest.raises(InputError, match=r"give one of them, encoder\.rnn \(GRU\), decoder \(LSTM"):
        interop.from_torch(model)


def test_a_parametrised_weight_is_taken_as_it_is_in_effect(seed, rng):
    module = make(MODULES, "lstm", seed)
    xs = rng.normal(size=(STEPS, 3))
    nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    with torch.no_grad():
        module.parametrizations.weight_hh_l0.original0.mul_(0.5)
    expected, _ = run(module, xs)
    np.testing.assert_allclose(interop.from_torch(module)(xs)[0], expected, rtol=0, atol=1e-12)


def test_nothing_is_shared_and_nothing_is_drawn(seed):
    module = make(MODULES, "gru", seed)
    layer = interop.from_torch(module)
    before = interop.to_state_dict(layer)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert same(interop.to_state_dict(layer), before)
    state = torch.random.get_rng_state()
    back = interop.to_torch(layer)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        back.bias_ih_l0.zero_()
    assert same(interop.to_state_dict(layer), before)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_single(half, seed, tmp_path):
    module = make(MODULES, "lstm", seed).to(half)
    layer = interop.from_torch(module)
    assert layer.cell.field.dtype == jnp.float32
    assert same(interop.to_state_dict(layer), module.float().state_dict())
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(module.to(half).state_dict(), file)
    assert eqx.tree_equal(interop.from_torch(file), layer)


def test_double_precision_is_not_rounded_silently(seed):
    module = make(MODULES, "lstm", seed)
    with jax.enable_x64(False):
        with pytest.raises(InputError, match=r"weight_ih_l0 is float64.*jax_enable_x64"):
            interop.from_torch(module)
        assert interop.from_torch(module.float()).cell.field.dtype == jnp.float32


def test_an_imported_lstm_runs_with_another_method(seed, rng):
    layer = interop.from_torch(make(MODULES, "lstm", seed))
    xs = jnp.asarray(rng.normal(size=(STEPS, 3)))
    other = odernn.replace(layer, method=odernn.RK4(), dt=0.5)
    assert (other.cell.n, other.cell.t) == (4, 2)
    assert eqx.tree_equal(other.cell.field, layer.cell.field)
    hs, _ = other(xs)
    assert jnp.all(jnp.isfinite(hs)) and not jnp.allclose(hs, layer(xs)[0])
    with pytest.raises(
        InputError, match=r"LSTM by RK4 with dt = 0\.5.*is GaussSeidelEuler with dt"
    ):
        interop.to_torch(other)


@pytest.mark.parametrize("biases", [0, 1])
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_one_bias_is_exported_with_a_second_of_zeros(name, biases, key, rng):
    layer = odernn.Layer(getattr(zoo, name)(3, 4, biases=biases, key=key))
    xs = rng.normal(size=(STEPS, 3))
    module = interop.to_torch(layer)
    assert module.bias == bool(biases)
    if biases:
        assert not torch.any(module.bias_hh_l0[: 8 if name == "GRU" else None])
    expected, _ = run(module, xs)
    np.testing.assert_allclose(layer(xs)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MGU", {}),
        ("LEM", {"num_layers": 2}),
        ("tauGRU", {"num_layers": 2, "delay": 3}),  # the delay is the layer's, not its cells'
    ],
)
def test_a_layer_of_torchrecurrent(name, options, seed, rng):
    torch.manual_seed(seed)
    module = getattr(torchrecurrent, name)(3, 4, **options).double()
    layer = interop.from_torch(module)
    assert isinstance(layer, odernn.Stack if "num_layers" in options else odernn.Layer)
    xs = rng.normal(size=(STEPS, 3))
    expected, _ = run(module, xs[:, None])
    np.testing.assert_allclose(layer(xs)[0], expected[:, 0], rtol=0, atol=1e-12)
    assert isinstance(interop.from_torch(module.cells[0]), odernn.Cell)


@pytest.mark.parametrize("name", ["CfC", "LTC"])
def test_a_layer_of_ncps(name, seed, rng):
    torch.manual_seed(seed)
    module = getattr(ncps.torch, name)(3, 4)
    xs = rng.normal(size=(4, 3)).astype("float32")
    with torch.no_grad():
        expected, _ = module(torch.tensor(xs))
    layer = interop.from_torch(module)
    assert isinstance(layer, odernn.Layer)
    np.testing.assert_allclose(layer(xs)[0], expected, rtol=0, atol=1e-5)
    assert isinstance(interop.from_torch(module.rnn_cell), odernn.Cell)


class _Oscillators(nn.Module):
    """Rusch and Mishra's coRNN: one matrix for [x | velocity | position]."""

    def __init__(self):
        super().__init__()
        self.cell = nn.Module()
        self.cell.i2h = nn.Linear(3 + 4 + 4, 4)
        self.readout = nn.Linear(4, 2)


def test_the_authors_own_layouts(seed, rng, tmp_path):
    torch.manual_seed(seed)
    module = _Oscillators().double()
    options = {"kind": "cornn", "dt": 0.1, "gamma": 2.7, "epsilon": 4.7}
    file = tmp_path / "cornn.safetensors"
    safetensors.torch.save_file(module.state_dict(), file)
    cell = interop.from_torch(module, **options)
    for source in (module.state_dict(), file):
        assert eqx.tree_equal(interop.from_torch(source, **options), cell)
    xs = rng.normal(size=(STEPS, 3))
    h = v = torch.zeros(4, dtype=torch.float64)
    with torch.no_grad():
        for x in torch.tensor(xs):
            force = torch.tanh(module.cell.i2h(torch.cat([x, v, h])))
            v = v + 0.1 * (force - 2.7 * h - 4.7 * v)
            h = h + 0.1 * v
    np.testing.assert_allclose(odernn.Layer(cell)(xs)[0][-1], h, rtol=0, atol=1e-12)


def _state(kind="LSTM", **changes):
    state = getattr(nn, kind)(3, 4, dtype=torch.float64).state_dict()
    return {k: v for k, v in {**state, **changes}.items() if v is not None}


class _Other(nn.LSTM):
    def forward(self, *arguments):
        return super().forward(*arguments)


@pytest.mark.parametrize(
    ("source", "options", "match"),
    [
        (nn.Linear(3, 4), {}, r"unknown module 'Linear'.*Known: .*GRU, GRUCell, LSTM"),
        (_Other(3, 4), {}, r"unknown module '_Other'.*does is read by its state_dict\(\)"),
        (nn.LSTM(3, 4), {"prefix": "rnn"}, r"give the part itself"),
        (nn.RNN(3, 4), {"nonlinearity": "relu"}, r"give the part itself"),
        (3, {}, r"source is a int: give a PyTorch module, a mapping.*\.safetensors"),
        ({1: np.ones(2)}, {}, r"source is a dict: give"),
        ({}, {}, r"source names no weight_hh"),
        ({"i2h.weight": np.ones(2)}, {}, r"kind = 'cornn'.*begins with i2h\.weight"),
        ({"weight_hh": [[1.0, 2.0], 3]}, {}, r"weight_hh is a list"),
        ({"weight_hh": "ones"}, {}, r"weight_hh is a str: give a tensor"),
        (_state(bias_hh_l0=None), {}, r"bias_hh_l0 is missing: this module has the arrays bias_hh"),
        (_state(bias_hh_l1=np.ones(16)), {}, r"bias_ih_l1 is missing"),
        (
            _state(weight_hx_l0=np.ones(1)),
            {},
            r"weight_hx_l0': did you mean 'weight_ih_l0' or 'weight_hh",
        ),
        (_state(bias_ih_l0=np.ones(12)), {}, r"bias_ih_l0 has the shape \(12,\).*it \(16,\)"),
        (_state(bias_ih_l0=np.ones((16, 1))), {}, r"bias_ih_l0 has the shape.* 1 axes"),
        (
            _state(weight_hh_l0=np.ones((8, 4))),
            {},
            r"shape \(8, 4\): its rows are 4 for an RNN, 12",
        ),
        (_state(bias_ih_l0=np.ones(16, int)), {}, r"bias is int64: a parameter is a real"),
        (_state("GRU", weight_hr_l0=np.ones((4, 4))), {}, r"weight_hh_l0.*16 for an LSTM"),
        (_state(), {"nonlinearity": "relu"}, r"nonlinearity = 'relu': an RNN has"),
        (_state("RNN"), {"nonlinearity": "gelu"}, r"nonlinearity = 'gelu': an RNN has 'tanh' or"),
        (_state(), {"dt": 0.5}, r"unknown argument of from_torch 'dt'"),
        (_state(), {"kind": "conn"}, r"unknown kind 'conn': did you mean 'cornn'"),
        (_state(), {"kind": "cornn", "dt": 1.0}, r"gamma is missing: the authors' code does not"),
        (_state(), {"kind": "lem", "gama": 1}, r"unknown option of kind 'lem' 'gama'.*Known: dt"),
        (_state(), {"kind": "lem", "nonlinearity": "relu"}, r"of kind 'lem' 'nonlinearity'"),
        (nn.RNN(3, 4), {"kind": "lem", "prefix": "rnn"}, r"give the part itself"),
        (torchrecurrent.NAS(3, 4), {}, r"NASCell of torchrecurrent is no network of the zoo"),
        ({f"cells.0.{k[:-3]}": v for k, v in _state().items()}, {}, r"names of torchrecurrent"),
        ("model.pt", {}, r"model\.pt is no \.safetensors file.*pickles.*execute code"),
        ("absent.safetensors", {}, r"absent\.safetensors does not exist"),
    ],
)
def test_what_cannot_be_read_is_said(source, options, match):
    with pytest.raises(InputError, match=match) as error:
        interop.from_torch(source, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\x10" + bytes(7) + b"{not json", bytes(100)])
def test_a_corrupt_file(content, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors is truncated or corrupt"):
        interop.from_torch(file)
    with pytest.raises(InputError, match=r"is not a regular file"):
        folder = tmp_path / "folder.safetensors"
        folder.mkdir()
        interop.from_torch(folder)


def _lstm(input_size=3, hidden_size=4, **options):
    return zoo.LSTM(input_size, hidden_size, key=jax.random.key(0), **options)


def _cases():
    layer, key = odernn.Layer, jax.random.key(0)
    both = odernn.Bidirectional(layer(_lstm()), layer(_lstm()))
    wide = zoo.GRU(8, 4, key=key)
    projected = fields.ProjectedLSTM(3, 4, key=key)
    method = odernn.GaussSeidelEuler()
    single = jax.tree.map(lambda a: a.astype("f4") if eqx.is_array(a) else a, _lstm(4))
    return [
        (zoo.LEM(3, 4, key=key), r"has the field LEM: PyTorch has a module for zoo\.RNN"),
        (_lstm(dt=0.5), r"GaussSeidelEuler with dt = 0\.5.*odernn\.replace"),
        (_lstm(dt=odernn.TrainedStep(1.0)), r"with dt = TrainedStep"),
        (_lstm(interpolation=odernn.LinearInput()), r"and LinearInput"),
        (zoo.RNN(3, 4, activation="sigmoid", key=key), r"activation = 'sigmoid': PyTorch's RNN"),
        (layer(_lstm(), reverse=True), r"reverse=True: PyTorch has no layer in reverse only"),
        (layer(_lstm(), initial_state=_lstm().initial_state()), r"initial_state of its own"),
        (odernn.Stack([both, layer(wide)]), r"differ in kind"),
        (odernn.Stack([both, layer(_lstm(8))]), r"some layers are bidirectional"),
        (odernn.Stack([layer(_lstm()), layer(_lstm(4, 5))]), r"differ in kind, size or"),
        (odernn.Stack([layer(_lstm()), layer(single)]), r"differ in kind, size or precision"),
        (odernn.Cell(projected, method), r"hidden_size = 4: PyTorch projects to fewer than cell"),
        (
            odernn.Cell(fields.ProjectedLSTM(3, 2, cell_size=4, key=key), method),
            r"no cell with a projection: give odernn\.Layer\(cell\)",
        ),
        (odernn.Model([layer(_lstm())], odernn.LastStep(4, 2, key=key)), r"model is a Model: give"),
    ]


@pytest.mark.parametrize("case", range(len(_cases())))
def test_what_pytorch_has_no_module_for_is_said(case):
    model, match = _cases()[case]
    with pytest.raises(InputError, match=match) as error:
        interop.to_torch(model)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=match):
        interop.to_state_dict(model)


def test_without_torch_it_says_so(monkeypatch, key):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"PyTorch is not installed: pip install torch"):
        interop.to_torch(odernn.Layer(_lstm()))
    assert interop.to_state_dict(odernn.Layer(_lstm()))


def test_importing_it_imports_no_torch(tmp_path):
    code = "import sys, odernn.interop; assert not {'torch', 'ncps'} & sys.modules.keys()"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
