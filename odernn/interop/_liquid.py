"""Cells and layers of ncps, liquid time constants and their closed form."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._cell import Cell
from .._layer import Layer
from .._method import FusedEuler, Substeps
from .._results import InputError, unknown_name
from ..zoo import _liquid as zoo
from ._arrays import Arrays, cell_of, check_names

_ACTIVATIONS = {"LeCun": "lecun_tanh", "ReLU": "relu", "Tanh": "tanh"}
"""Ours by the names of the classes of PyTorch and ncps."""

_SYNAPSES = {"weight": "w", "steepness": "sigma", "midpoint": "mu", "reversal": "erev"}
_NEURONS = {"capacitance": "cm", "leak": "gleak", "resting": "vleak"}
_MODES = {"default": zoo.CfC, "no_gate": zoo.CfCNoGate, "pure": zoo.CfCPure}


def _ltc(state: Arrays, module: Any = None) -> Cell:
    """An LTCCell. Not told otherwise by a module, its weights are explicit, its steps six.

    Of neurons that are no motor neurons the output is the potential itself.
    """
    named = {
        **_NEURONS,
        **_SYNAPSES,
        **{f"input_{ours}": f"sensory_{theirs}" for ours, theirs in _SYNAPSES.items()},
        "mask": "sparsity_mask",
        "input_mask": "sensory_sparsity_mask",
    }
    optional = {"input_w", "input_b", "output_w", "output_b"}
    check_names(set(state) - optional, named.values(), "LTCCell")
    arrays = {ours: state[theirs] for ours, theirs in named.items()}
    input_size, hidden_size = arrays["input_weight"].shape
    like = arrays["leak"].dtype
    for place, size in (("input", input_size), ("output", hidden_size)):
        for name, letter, neutral in (("scale", "w", np.ones), ("shift", "b", np.zeros)):
            mapping = state.get(f"{place}_{letter}", neutral(0, like))
            # The motor neurons are the first.
            rest = neutral(max(0, size - len(mapping)), like)
            arrays[f"{place}_{name}"] = np.concatenate([mapping, rest])
    sparse = not (np.all(arrays["mask"] == 1) and np.all(arrays["input_mask"] == 1))
    if not sparse:
        del arrays["mask"], arrays["input_mask"]
    return cell_of(
        zoo.LTC,
        input_size,
        hidden_size,
        arrays,
        implicit=bool(getattr(module, "_implicit_param_constraints", False)),
        sparse=sparse,
        epsilon=float(getattr(module, "_epsilon", 1e-8)),
        method=Substeps(FusedEuler(), int(getattr(module, "_ode_unfolds", 6))),
    )


def _cfc(state: Arrays, module: Any = None) -> Cell:
    """A CfCCell with a backbone of one layer; without a module its gates are the default ones."""
    mode = "pure" if "w_tau" in state else getattr(module, "mode", "default")
    if mode not in _MODES:
        raise unknown_name("mode", mode, _MODES)
    heads = ["ff1"] if mode == "pure" else ["ff1", "ff2", "time_a", "time_b"]
    layers = ["backbone.0", *heads]
    wanted = [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    if "sparsity_mask" in state or "backbone.2.weight" in state or "backbone.0.weight" not in state:
        raise InputError(
            "the CfCCell has a sparsity mask, no backbone or several layers of it: CfC has one "
            "layer (backbone_layers=1, no wiring)."
        )
    check_names(state, [*wanted, *(("w_tau", "A") if mode == "pure" else ())], "CfCCell")
    hidden_size = len(state["ff1.bias"])
    backbone = state["backbone.0.weight"].T
    input_size = len(backbone) - hidden_size
    arrays = {
        "input_weight": backbone[:input_size],
        "weight": backbone[input_size:],
        "bias": state["backbone.0.bias"],
        "head_weight": np.concatenate([state[f"{head}.weight"].T for head in heads], axis=1),
        "head_bias": np.concatenate([state[f"{head}.bias"] for head in heads]),
    }
    if mode == "pure":
        arrays |= {"tau": np.ravel(state["w_tau"]), "limit": np.ravel(state["A"])}
    return cell_of(
        _MODES[mode],
        input_size,
        hidden_size,
        arrays,
        backbone_size=backbone.shape[1],
        activation=_activation(module),
    )


def _activation(module: Any) -> str:
    backbone = getattr(module, "backbone", None)
    name = "LeCun" if backbone is None else type(backbone[1]).__name__
    if name not in _ACTIVATIONS:
        raise unknown_name("activation of a CfCCell", name, _ACTIVATIONS)
    return _ACTIVATIONS[name]


def _layer(importer: Callable[[Arrays, Any], Cell]) -> Callable[[Arrays, Any], Layer]:
    """The importer of a layer around a cell, LTC or CfC."""

    def build(state: Arrays, module: Any = None) -> Layer:
        cells = {
            name.removeprefix("rnn_cell."): array
            for name, array in state.items()
            if name.startswith("rnn_cell.")
        }
        if len(cells) < len(state):
            other = next(name for name in state if not name.startswith("rnn_cell."))
            raise InputError(
                f"the module has {other!r} beside its cell: a mixed memory or a projection is no "
                "part of the cell; give module.rnn_cell."
            )
        cell = getattr(module, "rnn_cell", _Defaults)
        return Layer(importer(cells, cell))

    return build


class _Defaults:
    """What a layer of ncps makes of its cell unless it is told otherwise."""

    _implicit_param_constraints = True


IMPORTERS: Mapping[str, Callable[[Arrays, Any], Cell | Layer]] = {
    "LTCCell": _ltc,
    "CfCCell": _cfc,
    "LTC": _layer(_ltc),
    "CfC": _layer(_cfc),
}
"""``importer(arrays, module or None)`` by the name of ncps's class."""
