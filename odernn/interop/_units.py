"""Cells of torchrecurrent with one state: which of its arrays are which of ours."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .._cell import Cell
from .._results import InputError
from ..zoo import AntisymmetricRNN, GatedAntisymmetricRNN, Network
from ..zoo import _units as zoo
from ._arrays import Arrays, cell_of

_ACTIVATIONS = {
    "Hardsigmoid": "hard_sigmoid",
    "Identity": "identity",
    "ReLU": "relu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Tanh": "tanh",
}
"""Ours by the names of PyTorch's classes."""


class _Source:
    """A module's arrays, read in blocks of hidden size, which stand along the first axis.

    Blocks are named by their number: ``~i`` is block i with its sign turned, None a block of zeros.
    ``forms`` is the number of blocks of ``weight_ih``.
    """

    def __init__(self, state: Arrays, module: Any, forms: int):
        self.state, self.module = state, module
        rows, self.input_size = self["weight_ih"].shape
        self.hidden_size = rows // forms

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.state:
            raise InputError(f"{name} is missing: there are {', '.join(sorted(self.state))}.")
        return self.state[name]

    def blocks(self, name: str, *numbers: int | None) -> np.ndarray:
        """Return blocks side by side, of a matrix as its transpose, as ours are input-major."""
        size = self.hidden_size
        each = [self[name][i : i + size] for i in range(0, len(self[name]), size)]
        signed = [*each, *(-block for block in reversed(each))]  # block -1 - i is ~i
        zero = np.zeros_like(each[0])
        return np.concatenate([zero if i is None else signed[i] for i in numbers]).T

    def ih(self, *numbers: int | None) -> np.ndarray:
        """Return blocks of the matrix of the input."""
        return self.blocks("weight_ih", *numbers)

    def hh(self, *numbers: int | None) -> np.ndarray:
        """Return blocks of the matrix of the state."""
        return self.blocks("weight_hh", *numbers)

    def bias(self, *numbers: int | None) -> np.ndarray:
        """Return blocks of the sum of both biases."""
        return self.blocks("bias_ih", *numbers) + self.blocks("bias_hh", *numbers)

    def option(self, name: str, default: Any) -> Any:
        """Return an option of the module, an activation by our name; of none, the default."""
        value = getattr(self.module, name, default)
        kind = type(value).__name__
        if isinstance(value, bool | float | int | str):
            return value
        if kind not in _ACTIVATIONS:
            raise InputError(f"{name} is {kind}: activations are {', '.join(_ACTIVATIONS)}.")
        return _ACTIVATIONS[kind]

    def require(self, options: Mapping[str, str]) -> None:
        """Raise ``InputError`` unless these options are as in the paper."""
        for name, wanted in options.items():
            if (found := self.option(name, wanted)) != wanted:
                raise InputError(
                    f"{name} is {found}: the network has {wanted} in its paper, and only such a "
                    "module can be imported."
                )


# --- arrays, ours by name --------------------------------------------------------------------

_Named = dict[str, np.ndarray]


def _input(s: _Source) -> _Named:
    return {"input_weight": s["weight_ih"].T, "bias": s["bias_ih"] + s["bias_hh"]}


def _with_scalars(*names: str) -> Callable[[_Source], _Named]:
    return lambda s: {"weight": s.hh(0), **_input(s), **{n: s[n].reshape(()) for n in names}}


def _antisymmetric(s: _Source) -> _Named:
    return {"weight": s.hh(0), **_input(s)}


def _gated_antisymmetric(s: _Source) -> _Named:
    bias = s["bias_ih"] + s.blocks("bias_hh", None, 0)
    return {"weight": s.hh(0), "input_weight": s.ih(0, 1), "bias": bias}


def _twin(s: _Source) -> _Named:
    biases = {"bias": s["bias_ih"], "recurrent_bias": s["bias_hh"]}
    return {"weight": s.hh(0), "input_weight": s.ih(0), **biases}


def _two(keep: int) -> Callable[[_Source], _Named]:
    order = (keep, 1 - keep)
    return lambda s: {
        "weight": s.hh(*order),
        "input_weight": s.ih(*order),
        "bias": s.bias(*order),
    }


def _three(s: _Source) -> _Named:
    bias = s["bias_ih"] + s.blocks("bias_hh", 0, 1, None)
    return {"weight": s.hh(0, 1), "input_weight": s.ih(0, 1, 2), "bias": bias}


def _content(s: _Source) -> _Named:
    bias = s.blocks("bias_ih", 1, 0) + s.blocks("bias_hh", 0, None)
    return {"weight": s.hh(0), "input_weight": s.ih(1, 0), "bias": bias}


def _minimal(s: _Source) -> _Named:
    return {
        "weight": s.hh(0),
        "content_weight": s.blocks("weight_mm", 0),
        "input_weight": s.ih(0),
        "bias": s["bias_ih"],
        "gate_bias": s["bias_hh"],
    }


def _reset(s: _Source) -> _Named:
    return {
        "weight": s.hh(0),
        "candidate_weight": s.hh(1),
        "input_weight": s.ih(0, 1),
        "bias": s.bias(0, 1),
    }


def _mut1(s: _Source) -> _Named:
    return {
        "weight": s.hh(0),
        "candidate_weight": s.hh(1),
        "input_weight": s.ih(1, 0, 2),
        "bias": s.blocks("bias_ih", 1, 0, 2) + s.blocks("bias_hh", 0, None, None),
        "candidate_bias": s.blocks("bias_hh", 1),
    }


def _mut2(s: _Source) -> _Named:
    return {
        "weight": s.hh(1, ~0),  # its z is our 1 - z
        "candidate_weight": s.hh(2),
        "input_weight": s.ih(1, ~0, 2),
        "bias": s.bias(1, ~0, 2),
    }


def _mut3(s: _Source) -> _Named:
    return {
        "weight": s.hh(1),
        "rate_weight": s.hh(0),
        "candidate_weight": s.hh(2),
        "input_weight": s.ih(1, 0, 2),
        "bias": s.bias(1, 0, 2),
    }


def _multiplicative(s: _Source) -> _Named:
    return {
        "weight": s.hh(1),
        "inner_weight": s.hh(0),
        "input_weight": s.ih(0, 1),
        "bias": s["bias_ih"] + s.blocks("bias_hh", None, 1),
        "inner_bias": s.blocks("bias_hh", 0),
    }


def _delayed(s: _Source) -> _Named:
    return {
        "weight": s.hh(0, 2, 3),
        "delayed_weight": s.hh(1),
        "input_weight": s.ih(0, 2, 3, 1),
        "bias": s.bias(0, 2, 3, 1),
    }


def _typed_gru(s: _Source) -> _Named:
    both = np.concatenate([s.ih(0, 1, 2), s.hh(0, 1, 2)], axis=1)
    return {"input_weight": both, "bias": s.bias(0, 1, 2)}


# --- cells by torchrecurrent's names ---------------------------------------------------------


class _Recipe(NamedTuple):
    """A network, the blocks of ``weight_ih``, and what is made of arrays and options.

    ``required`` are options that have to be as they are in the paper.
    """

    network: Network
    forms: int
    arrays: Callable[[_Source], _Named]
    options: Callable[[_Source], dict[str, Any]] = lambda s: {}
    required: Mapping[str, str] = {}

    def __call__(self, state: Arrays, module: Any = None) -> Cell:
        source = _Source(state, module, self.forms)
        source.require(self.required)
        sizes = (source.input_size, source.hidden_size)
        return cell_of(self.network, *sizes, self.arrays(source), **self.options(source))


def _activated(default: str, name: str = "activation") -> Callable[[_Source], dict[str, Any]]:
    return lambda s: {name: s.option("act", default)}


def _step(s: _Source) -> dict[str, Any]:
    return {"dt": 1 - s.option("update_coefficient", 0.5)}


def _diffused(s: _Source) -> dict[str, Any]:
    return {"gamma": s.option("gamma", 0.0), "dt": s.option("epsilon", 1.0)}


def _multiplied(default: str) -> Callable[[_Source], dict[str, Any]]:
    return lambda s: {
        "gate_activation": s.option("gate_act", "hard_sigmoid"),
        "output_activation": s.option("output_act", default),
    }


_TANH, _LOGISTIC = {"act": "tanh"}, {"gate_act": "sigmoid"}

IMPORTERS: dict[str, Callable[[Arrays, Any], Cell]] = {
    "AntisymmetricRNNCell": _Recipe(AntisymmetricRNN, 1, _antisymmetric, _diffused, _TANH),
    # Its gate has no bias of the state, which ours can have or not.
    "GatedAntisymmetricRNNCell": _Recipe(GatedAntisymmetricRNN, 2, _gated_antisymmetric, _diffused),
    "ATRCell": _Recipe(zoo.ATR, 1, _twin),
    "BRCell": _Recipe(zoo.BR, 3, _three),
    "NBRCell": _Recipe(zoo.NBR, 3, _three),
    "CFNCell": _Recipe(zoo.CFN, 3, _three),
    "FastRNNCell": _Recipe(zoo.FastRNN, 1, _with_scalars("alpha", "beta"), _activated("tanh")),
    "FastGRNNCell": _Recipe(
        zoo.FastGRNN, 1, _with_scalars("zeta", "nu"), _activated("tanh", "gate_activation")
    ),
    "IndRNNCell": _Recipe(
        zoo.IndRNN, 1, lambda s: {"weight": s["vector_u"], **_input(s)}, _activated("tanh")
    ),
    "JANETCell": _Recipe(zoo.JANET, 2, _two(0), lambda s: {"beta": float(s["beta"])}),
    "LiGRUCell": _Recipe(zoo.LiGRU, 2, _two(0), _activated("relu"), _LOGISTIC),
    "UGRNNCell": _Recipe(zoo.UGRNN, 2, _two(1)),
    "LightRUCell": _Recipe(zoo.LightRU, 2, _content),
    "STARCell": _Recipe(zoo.STAR, 2, _content),
    "SGRNCell": _Recipe(zoo.SGRN, 1, _twin),
    "MinimalRNNCell": _Recipe(zoo.MinimalRNN, 1, _minimal, required=_TANH | _LOGISTIC),
    "MGUCell": _Recipe(zoo.MGU, 2, _reset, required=_TANH | _LOGISTIC),
    "MiRU1Cell": _Recipe(zoo.MiRU1, 2, _reset, _step, _TANH | _LOGISTIC),
    "MiRU2Cell": _Recipe(
        zoo.MiRU2,
        1,
        lambda s: {"weight": s.option("reset_coefficient", 0.5) * s.hh(0), **_input(s)},
        lambda s: _step(s) | _activated("tanh")(s),
    ),
    "MUT1Cell": _Recipe(zoo.MUT1, 3, _mut1),
    "MUT2Cell": _Recipe(zoo.MUT2, 3, _mut2),
    "MUT3Cell": _Recipe(zoo.MUT3, 3, _mut3),
    "SGUCell": _Recipe(zoo.SGU, 2, _multiplicative, _multiplied("softplus"), _TANH),
    "DSGUCell": _Recipe(
        zoo.DSGU,
        2,
        lambda s: {**_multiplicative(s), "projection": s.blocks("weight_ho", 0)},
        _multiplied("sigmoid"),
        _TANH,
    ),
    "tauGRUCell": _Recipe(
        zoo.tauGRU, 4, _delayed, lambda s: {"delay": s.option("delay", 1)}, _TANH | _LOGISTIC
    ),
    "TRNNCell": _Recipe(
        zoo.TRNN,
        2,
        # Its f is our 1 - z.
        lambda s: {"input_weight": s.ih(~1, 0), "bias": s.blocks("bias_ih", ~1, 0)},
        required=_LOGISTIC,
    ),
    "TGRUCell": _Recipe(zoo.TGRU, 3, _typed_gru, required=_LOGISTIC | {"out_act": "tanh"}),
}
"""By torchrecurrent's class: its arrays, and the module or None for its defaults, to our cell.

A tauGRU's delay is read off the layer, which has it, unlike its cell.
"""
