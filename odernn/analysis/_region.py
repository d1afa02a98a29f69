"""Where a certificate holds: sets of states and inputs."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._cell import Cell
from .._results import InputError
from .._typing import PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Region:
    """A box of states and inputs; its bounds may be infinite.

    ``state_lower``, ``state_upper``: one number for each element of the state, the leaves one after
    the other as in ``jax.tree.leaves`` (a complex element counts as its real and imaginary part,
    all real parts of a leaf first); ``input_lower``, ``input_upper`` of shape (input,);
    ``text`` says it in words.
    """

    state_lower: np.ndarray
    state_upper: np.ndarray
    input_lower: np.ndarray
    input_upper: np.ndarray
    text: str

    @property
    def bounded_inputs(self) -> bool:
        """Whether no input is unbounded."""
        return bool(np.isfinite(self.input_lower).all() and np.isfinite(self.input_upper).all())


def everywhere(cell: Cell) -> Region:
    """Return the region of all states and inputs."""
    states, inputs = np.full(state_size(cell), np.inf), np.full(cell.input_size, np.inf)
    return Region(-states, states, -inputs, inputs, "all states and inputs")


def box(cell: Cell, state: Any = np.inf, inputs: Any = np.inf) -> Region:
    """Return a box: ``state`` and ``inputs`` are bounds b for [-b, b], or pairs (lower, upper).

    Bounds of the state are numbers, or pytrees like the state (numbers for its leaves, say
    ``{"h": 1.0, "c": 5.0}``). Raises ``InputError`` for bounds that do not fit or are not numbers.

    >>> import jax, odernn
    >>> cell = odernn.zoo.LSTM(3, 8, key=jax.random.key(0))
    >>> print(odernn.analysis.box(cell, {"h": 1.0, "c": 5.0}, (0.0, 1.0)).text)
    states in a box, c in [-5, 5], h in [-1, 1]; inputs in [0, 1]
    """
    like = eqx.filter_eval_shape(cell.initial_state)
    low, high = _pair("state", state)
    lower, upper = _spread("state", low, like), _spread("state", high, like)
    input_low, input_high = _pair("inputs", inputs)
    shape = jax.ShapeDtypeStruct((cell.input_size,), float)
    input_lower, input_upper = (_spread("inputs", v, shape) for v in (input_low, input_high))
    for name, a, b in (("state", lower, upper), ("inputs", input_lower, input_upper)):
        if not (a <= b).all():
            raise InputError(f"{name}: a lower bound is above its upper bound, or not a number.")
    text = (
        f"states in a box{_ranges(like, lower, upper)}; inputs {_range(input_lower, input_upper)}"
    )
    return Region(lower, upper, input_lower, input_upper, text)


def state_size(cell: Cell) -> int:
    """Return the number of real numbers in the carried state."""
    return sum(
        element_count(leaf) for leaf in jax.tree.leaves(eqx.filter_eval_shape(cell.initial_state))
    )


def element_count(leaf: Any) -> int:
    """Return the number of real numbers in an array."""
    return int(np.prod(leaf.shape)) * (2 if np.issubdtype(leaf.dtype, np.complexfloating) else 1)


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    """The lower and the upper bound."""
    if isinstance(value, tuple) and len(value) == 2:
        return value
    return jax.tree.map(lambda v: -np.asarray(_numbers(name, v)), value), value


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} = {value!r}: give numbers as bounds, 1.0 say.") from None


def _spread(name: str, value: PyTree, like: PyTree) -> np.ndarray:
    """The bounds of every element: numbers are broadcast over their leaf, or over all leaves."""
    leaves, structure = jax.tree.flatten(like)
    if jax.tree_util.treedef_is_leaf(jax.tree.structure(value)):
        value = structure.unflatten([value] * len(leaves))
    if jax.tree.structure(value) != structure:
        raise InputError(
            f"{name} has bounds of the structure {jax.tree.structure(value)}: give one number, or "
            f"one for each leaf of {structure}."
        )
    spread = []
    for bound, leaf in zip(jax.tree.leaves(value), leaves, strict=True):
        number, size = _numbers(name, bound).reshape(-1), element_count(leaf)
        if number.size not in (1, size):
            raise InputError(f"{name} has {number.size} bounds for {size} numbers.")
        spread.append(np.broadcast_to(number, (size,)))
    return np.concatenate(spread)


def _ranges(like: PyTree, lower: np.ndarray, upper: np.ndarray) -> str:
    """The ranges of the leaves in words."""
    paths, _ = jax.tree_util.tree_flatten_with_path(like)
    text, start = "", 0
    for path, leaf in paths:
        stop = start + element_count(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "y"
        text += f", {name} {_range(lower[start:stop], upper[start:stop])}"
        start = stop
    return text


def _range(lower: np.ndarray, upper: np.ndarray) -> str:
    return f"in [{lower.min():.4g}, {upper.max():.4g}]"
