"""PyTorch's RNN, GRU and LSTM: of their arrays a cell or layer, and back."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from .. import fields, zoo
from .._cell import Cell
from .._interpolation import HeldInput
from .._layer import AbstractLayer, Bidirectional, Layer, Stack
from .._method import GaussSeidelEuler
from .._results import InputError
from ..zoo import Network
from ._arrays import Arrays, cell_of, check_names, check_shape

_PROJECTED = Network("LSTM with a projection", "", 2014, fields.ProjectedLSTM, GaussSeidelEuler())
# PyTorch's class, and what it is here.
_NETWORKS = {"RNN": zoo.RNN, "GRU": zoo.GRU, "LSTM": zoo.LSTM}
_GATES = {1: "RNN", 3: "GRU", 4: "LSTM"}
CELLS = {"RNN": "RNNCell", "GRU": "GRUCell", "LSTM": "LSTMCell"}
_NONLINEARITIES = ("tanh", "relu")
_NAME = re.compile(r"(?:(.*)\.)?((?:weight|bias)_(?:ih|hh|hr)(?:_l\d+(?:_reverse)?)?)")


class _Weights(NamedTuple):
    """The arrays of one cell, as PyTorch names and shapes them."""

    weight_ih: np.ndarray
    weight_hh: np.ndarray
    bias_ih: np.ndarray | None = None
    bias_hh: np.ndarray | None = None
    weight_hr: np.ndarray | None = None


# --- From PyTorch's arrays ----------------------------------------------------------------------


def without_prefix(state: Arrays) -> Arrays:
    """The arrays without what all their names begin with."""
    matches = {name: _NAME.fullmatch(name) for name in state}
    prefixes = {match[1] for match in matches.values() if match}
    if not prefixes:
        raise InputError(
            "source names no weight_hh or weight_hh_l0: a state is read under the names of nn.RNN, "
            "nn.GRU, nn.LSTM and their cells, or of the authors with kind = 'cornn', 'lem' or "
            f"'unicornn'; it begins with {', '.join(list(state)[:3])}."
        )
    if None in prefixes:
        return state
    if len(prefixes) > 1 or not all(matches.values()):
        found = " or ".join(f"prefix={prefix!r}" for prefix in sorted(filter(None, prefixes))[:5])
        raise InputError(f"source holds more than one module: choose with {found}.")
    if re.search(r"\bcells\.\d+$", next(iter(prefixes)) or ""):
        raise InputError(
            "source has the names of torchrecurrent, which do not say what the gates are: give the "
            "module itself, or of PyTorch's own cell its prefix, 'cells.0'."
        )
    return {match[2]: state[name] for name, match in matches.items() if match}


def from_state(state: Arrays, nonlinearity: str | None) -> Cell | AbstractLayer:
    """Return the cell or layer of arrays under PyTorch's names."""
    suffixes = _suffixes(state)
    parts = ["weight_ih", "weight_hh"]
    parts += ["bias_ih", "bias_hh"] if any(name.startswith("bias") for name in state) else []
    parts += ["weight_hr"] if any(name.startswith("weight_hr") for name in state) else []
    names = [part + suffix for level in suffixes for suffix in level for part in parts]
    check_names(state, names, "this module")
    levels = []
    for level in suffixes:
        cells = []
        for suffix in level:
            for part in parts:
                _check_axes(part + suffix, state[part + suffix])
            weights = _Weights(**{part: state[part + suffix] for part in parts})
            cells.append(_to_cell(weights, suffix, nonlinearity))
        if level == [""]:
            return cells[0]
        layers = [Layer(cell) for cell in cells]
        levels.append(layers[0] if len(layers) == 1 else Bidirectional(*layers))
    return levels[0] if len(levels) == 1 else Stack(levels)


def _suffixes(state: Arrays) -> list[list[str]]:
    """How the names of each layer end, in each direction; that of a cell ends with nothing."""
    if "weight_hh" in state:
        return [[""]]
    count = 0
    while any(re.fullmatch(rf"\w+_l{count}(_reverse)?", name) for name in state):
        count += 1
    directions = ("", "_reverse") if any(name.endswith("_reverse") for name in state) else ("",)
    return [[f"_l{i}{direction}" for direction in directions] for i in range(max(count, 1))]


def _check_axes(name: str, array: np.ndarray) -> None:
    axes = 2 if name.startswith("weight") else 1
    if array.ndim != axes:
        raise InputError(f"{name} has the shape {array.shape}: it has {axes} axes in PyTorch.")


def _to_cell(w: _Weights, suffix: str, nonlinearity: str | None) -> Cell:
    """Return the cell with PyTorch's weights."""
    rows, hidden = w.weight_hh.shape
    width = hidden if w.weight_hr is None else w.weight_hr.shape[1]
    name = _GATES.get(rows // width) if width and rows % width == 0 else None
    if name is None or (w.weight_hr is not None and name != "LSTM"):
        raise InputError(
            f"weight_hh{suffix} has the shape {w.weight_hh.shape}: its rows are {width} for an "
            f"RNN, {3 * width} for a GRU, {4 * width} for an LSTM."
        )
    if nonlinearity is not None and (name != "RNN" or nonlinearity not in _NONLINEARITIES):
        raise InputError(f"nonlinearity = {nonlinearity!r}: an RNN has 'tanh' or 'relu'.")
    inputs = w.weight_ih.shape[1]
    shapes = ((rows, inputs), (rows, hidden), (rows,), (rows,), (hidden, width))
    for part, array, shape in zip(w._fields, w, shapes, strict=True):
        if array is not None:
            check_shape(part + suffix, array, shape)
    arrays = {"weight": w.weight_hh.T, "input_weight": w.weight_ih.T}
    options: dict[str, Any] = {"biases": 0}
    if w.bias_ih is not None and w.bias_hh is not None:
        arrays |= {"bias": w.bias_ih, "recurrent_bias": w.bias_hh}
        options["biases"] = 2
        if name == "GRU":
            gates, candidate = np.split(w.bias_hh, [2 * width])
            arrays |= {"recurrent_bias": gates, "candidate_bias": candidate}
    if name == "RNN":
        options["activation"] = nonlinearity or "tanh"
    if w.weight_hr is None:
        return cell_of(_NETWORKS[name], inputs, hidden, arrays, **options)
    arrays["projection"] = w.weight_hr.T
    return cell_of(_PROJECTED, inputs, hidden, arrays, cell_size=width, **options)


# --- To PyTorch's arrays ------------------------------------------------------------------------


def export(model: Any) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """The class in torch.nn, its arguments, and its arrays."""
    single = isinstance(model, Cell)
    levels: list[list[Any]] = [[model]] if single else [_cells(layer) for layer in _flat(model)]
    cells = [cell for level in levels for cell in level]
    kinds = [(_name(cell), _shared(cell), str(cell.field.dtype)) for cell in cells]
    if any(kind != kinds[0] for kind in kinds):
        raise InputError(
            "the layers differ in kind, size or precision, which are the same for all in PyTorch: "
            "export them one by one."
        )
    if len({len(level) for level in levels}) > 1:
        raise InputError("some layers are bidirectional and some are not: export them one by one.")
    name, shared, _ = kinds[0]
    biased = any(cell.field.biases for cell in cells)
    arguments = {"input_size": cells[0].input_size, **shared, "bias": biased}
    if single:
        if _projected(model.field):
            raise InputError("PyTorch has no cell with a projection: give odernn.Layer(cell).")
        return CELLS[name], arguments, _named(model.field, biased, "")
    state = {}
    for number, level in enumerate(levels):
        for cell, direction in zip(level, ("", "_reverse"), strict=False):
            state |= _named(cell.field, biased, f"_l{number}{direction}")
    both = len(levels[0]) == 2
    return name, arguments | {"num_layers": len(levels), "bidirectional": both}, state


def _named(field: Any, biased: bool, suffix: str) -> dict[str, np.ndarray]:
    weights = _to_weights(field, biased)._asdict()
    # A transposed view would be written to a file the wrong way round.
    return {k + suffix: np.array(a, order="C") for k, a in weights.items() if a is not None}


def _flat(model: Any) -> Sequence[Layer | Bidirectional]:
    if isinstance(model, Stack):
        return [layer for part in model.layers for layer in _flat(part)]
    if isinstance(model, Layer | Bidirectional):
        return [model]
    raise InputError(
        f"model is a {type(model).__name__}: give a Cell, Layer, Bidirectional or Stack; of a "
        "Model, odernn.Stack(model.layers)."
    )


def _cells(layer: Layer | Bidirectional) -> list[Cell]:
    """The cells of a layer, forwards and backwards."""
    both = isinstance(layer, Bidirectional)
    parts = [layer.forward, layer.backward] if both else [layer]
    if not both and layer.reverse:
        raise InputError("the layer has reverse=True: PyTorch has no layer in reverse only.")
    if any(part.initial_state is not None for part in parts):
        raise InputError(
            "the layer has an initial_state of its own: PyTorch's module is given one in each call."
        )
    return [part.cell for part in parts]


def _name(cell: Cell) -> str:
    """The class in torch.nn of a layer of this cell."""
    field = cell.field
    networks = {**_NETWORKS, "LSTM": _PROJECTED if _projected(field) else zoo.LSTM}
    for name, network in networks.items():
        if type(field) is not network.field:
            continue
        activation = getattr(field, "activation", "tanh")
        if activation not in _NONLINEARITIES:
            raise InputError(f"activation = {activation!r}: PyTorch's RNN has 'tanh' or 'relu'.")
        held = isinstance(cell.interpolation, HeldInput)
        if network.matches(cell) and cell.dt == network.dt and held:
            return name
        method = type(network.method).__name__
        raise InputError(
            f"model steps {type(field).__name__} by {type(cell.method).__name__} with dt = "
            f"{cell.dt} and {type(cell.interpolation).__name__}: PyTorch's {name} is {method} with "
            "dt = 1.0 and HeldInput (odernn.replace changes them)."
        )
    raise InputError(
        f"model has the field {type(field).__name__}: PyTorch has a module for zoo.RNN, zoo.GRU, "
        "zoo.LSTM and fields.ProjectedLSTM."
    )


def _projected(field: Any) -> bool:
    return isinstance(field, fields.ProjectedLSTM)


def _shared(cell: Cell) -> dict[str, Any]:
    """The arguments of PyTorch's that are the same in all layers."""
    field: Any = cell.field
    if isinstance(field, fields.Leaky):
        return {"hidden_size": field.hidden_size, "nonlinearity": field.activation}
    if not _projected(field):
        return {"hidden_size": field.hidden_size}
    if field.hidden_size >= field.cell_size:
        raise InputError(
            f"hidden_size = {field.hidden_size}: PyTorch projects to fewer than cell_size = "
            f"{field.cell_size} channels."
        )
    return {"hidden_size": field.cell_size, "proj_size": field.hidden_size}


def _to_weights(field: Any, biased: bool) -> _Weights:
    """The inverse of ``_to_cell``; a bias that the field lacks is zero."""
    arrays = {k: np.asarray(v) for k, v in vars(field).items() if eqx.is_array(v)}
    weight, inward = arrays["weight"].T, arrays["input_weight"].T
    projection = arrays["projection"].T if "projection" in arrays else None
    if not biased:
        return _Weights(inward, weight, weight_hr=projection)
    zeros = np.zeros(len(weight), weight.dtype)
    bias, recurrent = arrays.get("bias", zeros), arrays.get("recurrent_bias", zeros)
    if "candidate_bias" in arrays:
        split = 2 * field.hidden_size
        recurrent = np.concatenate([recurrent[:split], arrays["candidate_bias"]])
    return _Weights(inward, weight, bias, recurrent, projection)
