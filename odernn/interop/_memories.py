"""Cells of torchrecurrent with two or more states, and the authors' own coRNN, LEM, UnICORNN."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import zoo
from .._cell import Cell
from .._layer import AbstractLayer, Layer, Stack
from .._method import Euler
from .._results import InputError
from ..zoo import Network
from ..zoo import _memories as networks
from ._arrays import Arrays, cell_of


class _Port(NamedTuple):
    """A network, its parameters from another library's arrays, and what else it needs."""

    network: Network
    parameters: Callable[[Arrays], Arrays]
    scalars: tuple[str, ...] = ()
    options: Mapping[str, Any] = {}


def _blocks(array: np.ndarray, count: int, *order: int) -> np.ndarray:
    """Reorder the ``count`` blocks of rows that are packed in an array."""
    parts = np.split(array, count)
    return np.concatenate([parts[i] for i in order])


def _plain(a: Arrays) -> dict[str, np.ndarray]:
    """What most cells have; rows become columns, and two biases one."""
    bias = a["bias_ih"] + a["bias_hh"]
    return {"weight": a["weight_hh"].T, "input_weight": a["weight_ih"].T, "bias": bias}


def _multiplicative(a: Arrays) -> Arrays:
    factor, bias = np.split(a["bias_ih"], [len(a["bias_hh"])])
    return {
        "weight": a["weight_mh"].T,
        "factor_weight": a["weight_hh"].T,
        "input_weight": a["weight_ih"].T,
        "bias": bias + a["bias_mh"],
        "recurrent_bias": np.concatenate([factor, a["bias_hh"]]),
    }


def _working_memory(a: Arrays) -> Arrays:
    gates, leave = np.split(a["weight_mh"], [2 * a["weight_hh"].shape[1]])
    more = {"memory_weight": gates.T, "leave_weight": leave.T, "recurrent_bias": a["bias_mh"]}
    return {**_plain(a), **more}


def _controlled(a: Arrays) -> Arrays:
    return _plain({name: _blocks(array, 5, 1, 0, 4, 2, 3) for name, array in a.items()})


def _residual(a: Arrays) -> Arrays:
    inputs = np.concatenate([a["weight_ih"], a["weight_res"]])
    more = {"peephole": a["weight_ph"], "projection": a["weight_proj"].T}
    return {**_plain({**a, "weight_ih": inputs}), **more}


def _typed(a: Arrays) -> Arrays:
    inputs = np.concatenate([a["weight_ih"], a["weight_hh"]])
    return {"input_weight": inputs.T, "bias": a["bias_ih"] + a["bias_hh"]}


def _cornn(a: Arrays) -> Arrays:
    bias = a["bias_ih"] + a["bias_hh"] + a["bias_ch"]
    return {**_plain(a), "velocity_weight": a["weight_ch"].T, "bias": bias}


def _lem(a: Arrays) -> Arrays:
    return {
        "weight": a["weight_hh"].T,
        "slow_weight": a["weight_ch"].T,
        "input_weight": a["weight_ih"].T,
        "bias": a["bias_ih"],
        "recurrent_bias": np.concatenate([a["bias_hh"], a["bias_ch"]]),
    }


_PORTS = {
    "OriginalLSTMCell": _Port(networks.OriginalLSTM, _plain),
    "PeepholeLSTMCell": _Port(
        networks.PeepholeLSTM, lambda a: {**_plain(a), "peephole": a["weight_ph"]}
    ),
    "MultiplicativeLSTMCell": _Port(
        networks.MultiplicativeLSTM, _multiplicative, options={"biases": 2}
    ),
    "WMCLSTMCell": _Port(networks.WMCLSTM, _working_memory, options={"biases": 2}),
    "MCLSTMCell": _Port(networks.MCLSTM, _controlled),
    "ResLSTMCell": _Port(networks.ResLSTM, _residual),
    "RANCell": _Port(
        networks.RAN,
        lambda a: {**_plain(a), "input_weight": _blocks(a["weight_ih"], 3, 1, 2, 0).T},
    ),
    "IntersectionRNNCell": _Port(networks.IntersectionRNN, _plain),
    "TLSTMCell": _Port(networks.TLSTM, _typed),
    "coRNNCell": _Port(zoo.coRNN, _cornn, ("dt", "gamma", "epsilon")),
    # Both blocks read the old state there; the authors' h reads the new z.
    "LEMCell": _Port(zoo.LEM, _lem, ("dt",), {"method": Euler()}),
    "UnICORNNCell": _Port(
        networks.UnICORNN, lambda a: {**_plain(a), "time_scale": a["weight_ch"]}, ("dt", "alpha")
    ),
}
"""torchrecurrent's cells, by the names of their classes."""

_NONLINEARITIES = {
    **dict.fromkeys(("act", "cell_act", "recurrent_act", "out_act"), "Tanh"),
    "gate_act": "Sigmoid",
    "depth_act": "ReLU",
}
"""What torchrecurrent's cells must have, where they have a choice."""


def _import(name: str, state: Arrays, module: Any) -> Cell:
    """Return the cell of a module's arrays; of the module only options are read."""
    port = _PORTS[name]
    for attribute, wanted in _NONLINEARITIES.items():
        found = type(getattr(module, attribute, None)).__name__
        if found not in (wanted, "NoneType"):
            raise InputError(f"this {name} has {attribute} = {found}(): only {wanted} is known.")
    missing = [scalar for scalar in port.scalars if not hasattr(module, scalar)]
    if missing:
        raise InputError(f"{missing[0]} is missing: a {name} does not keep it with its arrays.")
    scalars = {scalar: float(getattr(module, scalar)) for scalar in port.scalars}
    try:
        arrays = port.parameters(state)
    except KeyError as error:
        raise InputError(f"{error.args[0]} is missing: it is an array of a {name}.") from None
    # The strongly-typed network has no matrix of the state.
    hidden = len(arrays["weight"]) if "weight" in arrays else len(arrays["bias"]) // 3
    return cell_of(
        port.network, state["weight_ih"].shape[1], hidden, arrays, **scalars, **port.options
    )


def _refuse(name: str, reason: str, state: Arrays, module: Any) -> Cell:
    raise InputError(f"a {name} of torchrecurrent is no network of the zoo: {reason}.")


_DEVIATING = {
    "NASCell": "its fourth node adds what the paper's authors multiply",
    "SCRNCell": "it feeds back its outputs where the paper has the hidden state",
}

IMPORTERS: dict[str, Callable[[Arrays, Any], Cell]] = {
    **{name: partial(_import, name) for name in _PORTS},
    **{name: partial(_refuse, name, reason) for name, reason in _DEVIATING.items()},
}
"""From (arrays, module) of torchrecurrent, by the name of the module's class."""


# --- The authors' own code ---------------------------------------------------------------------


def _named(state: Arrays, *layouts: Sequence[str]) -> tuple[int, list[np.ndarray]]:
    """Return the first of the layouts that a state has, and its arrays in that order.

    Prefixes and other parts of a model do not matter.
    """
    for number, layout in enumerate(layouts):
        prefixes = [name.removesuffix(layout[0]) for name in state if name.endswith(layout[0])]
        prefixes = [
            prefix
            for prefix in prefixes
            if prefix[-1:] in ("", ".") and all(prefix + name in state for name in layout)
        ]
        if len(prefixes) > 1:
            raise InputError(
                f"source holds more than one cell: choose with prefix={prefixes[0]!r}."
            )
        if prefixes:
            return number, [state[prefixes[0] + name] for name in layout]
    wanted = " or ".join(", ".join(layout) for layout in layouts)
    raise InputError(f"source lacks arrays of the authors' code: their names end with {wanted}.")


def _official_cornn(state: Arrays, *, dt: float, gamma: float, epsilon: float) -> Cell:
    """Return Rusch and Mishra's coRNN: one matrix for [x | velocity | position], or two, or three.

    Their code for the adding problem and images has one, that for IMDB two, for noisy CIFAR three.
    """
    layout, (inputs, bias, *rest) = _named(
        state,
        ["i2h.weight", "i2h.bias", "h2h1.weight", "h2h2.weight"],
        ["i2h.weight", "i2h.bias", "h2h.weight"],
        ["i2h.weight", "i2h.bias"],
    )
    hidden = len(bias)
    if layout == 2:
        inputs, *rest = np.split(inputs, [inputs.shape[1] - 2 * hidden], axis=1)
    if layout > 0:
        rest = np.split(rest[0], 2, axis=1)[::-1]
    position, velocity = rest
    arrays = {
        "weight": position.T,
        "velocity_weight": velocity.T,
        "input_weight": inputs.T,
        "bias": bias,
    }
    scalars = {"dt": dt, "gamma": gamma, "epsilon": epsilon}
    return cell_of(zoo.coRNN, inputs.shape[1], hidden, arrays, **scalars)


def _official_lem(state: Arrays, *, dt: float = 1.0) -> Cell:
    """Return the LEM of Rusch et al.: of their PyTorch code or their CUDA extension."""
    linear = [f"{n}.{p}" for n in ("inp2hid", "hid2hid", "transform_z") for p in ("weight", "bias")]
    packed = ["weights", "bias", "weights_lin_z", "bias_lin_z"]
    layout, found = _named(state, linear, packed)
    if layout == 0:
        inputs, bias, weight, recurrent, slow, slow_bias = found
        # Their i_z and i_y feed y and z.
        inputs, bias = (_blocks(a, 4, 0, 1, 3, 2) for a in (inputs, bias))
        recurrent = np.concatenate([recurrent, slow_bias])
    else:
        hidden = len(found[3])
        # Rows of a, z, e on [y | x].
        first, bias = (_blocks(a, 3, 2, 0, 1) for a in found[:2])
        weight, inputs = np.split(first, [hidden], axis=1)
        slow, more = np.split(found[2], [hidden], axis=1)
        inputs, bias = np.concatenate([inputs, more]), np.concatenate([bias, found[3]])
        recurrent = np.zeros_like(bias)
    arrays = {
        "weight": weight.T,
        "slow_weight": slow.T,
        "input_weight": inputs.T,
        "bias": bias,
        "recurrent_bias": recurrent,
    }
    return cell_of(zoo.LEM, inputs.shape[1], len(slow), arrays, dt=dt)


def _official_unicornn(
    state: Arrays, *, dt: float | Sequence[float], alpha: float
) -> Cell | AbstractLayer:
    """Return Rusch and Mishra's UnICORNN: a cell if it has one layer, a stack if it has more.

    ``dt`` is one number, or one for each layer.
    """
    count = 1
    while any(name.endswith(f"RNNs.{count}.weight_hh") for name in state):
        count += 1
    if np.shape(dt) not in ((), (count,)):
        raise InputError(f"dt = {dt!r}: give one number, or {count}, one for each layer.")
    cells = []
    for k, step in enumerate(np.broadcast_to(dt, count)):
        layer = (f"RNNs.{k}.weight_hh", f"RNNs.{k}.c_", f"DIs.{k}.fc.weight", f"DIs.{k}.fc.bias")
        _, (weight, scale, inputs, bias) = _named(state, layer)
        arrays = {"weight": weight, "time_scale": scale, "input_weight": inputs.T, "bias": bias}
        options = {"dt": float(step), "alpha": alpha}
        cells.append(cell_of(networks.UnICORNN, inputs.shape[1], len(weight), arrays, **options))
    return cells[0] if count == 1 else Stack([Layer(cell) for cell in cells])


OFFICIAL: dict[str, Callable[..., Cell | AbstractLayer]] = {
    "cornn": _official_cornn,
    "lem": _official_lem,
    "unicornn": _official_unicornn,
}
"""From the arrays that the authors' code stores, and what it does not store, as options."""
