"""Functional nonlinearity and temporal memory of any step function, read off its program.

Every value of the program has a level: none where it does not depend on the state, 0 for the state
itself, and what an operation adds to the levels of its operands otherwise:

- what is linear in the state adds none (``_LINEAR``; products with parameters and inputs);
- a product of two state-dependent factors, a quotient by a state-dependent divisor, a choice by a
  state-dependent condition or index is a gate: the highest level, at least 1 (``_PRODUCTS``,
  ``_GATES``);
- everything else adds one: the elementwise nonlinear functions, comparisons, rounding, maxima,
  sorting, and operations that this module does not know. Arithmetic and logic on integers and
  booleans add none: the level was added where a number became one.

As levels only meet in sums, with one, and in maxima, a loop acts on the levels of what it carries
as a monotone convex function, which makes looking ahead exact (``_repeat``).
"""

import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.special
from jax.extend.core import Jaxpr, JaxprEqn, Literal, jaxprs_in_params

from .. import fields
from .._cell import Cell, TrainedStep
from .._field import AbstractField
from .._initial import check_sizes
from .._layer import AbstractLayer, Layer
from .._model import Model
from .._results import InputError
from .._typing import PyTree

Levels = list[float]
_NONE = -math.inf
"""The level of what does not depend on the state."""


class Class(NamedTuple):
    """The class n-t of a step; it prints as ``2-1``, or ``1-2 (implicit)``.

    ``n``, functional nonlinearity: nonlinearities nested between one state and the next; None
    where there is no bound (a loop that ends when the state says so), printed as ``inf``. ``t``,
    temporal memory: blocks of hidden size in the state that the next one depends on.
    ``implicit``: a step solves equations.
    """

    n: int | None
    t: int
    implicit: bool = False

    def __str__(self) -> str:
        n = "inf" if self.n is None else self.n
        return f"{n}-{self.t}" + (" (implicit)" if self.implicit else "")


class _Step(NamedTuple):
    """A step function with what is known about it."""

    function: Callable[[PyTree, PyTree], PyTree]
    y: PyTree = None
    x: PyTree = None
    block_size: int | None = None
    implicit: bool = False
    declared: int | None = None  # n of an implicit method


def classify(
    step: Any, y: PyTree = None, x: PyTree = None, *, hidden_size: int | None = None
) -> Class:
    """Return the class n-t of any step function, measured by tracing it; nothing is computed.

    n is the highest level among the leaves of the next state, where those of the state have level
    0: an elementwise nonlinear function adds one, sums and products with parameters and inputs
    none; a product of two state-dependent factors (a gate) has the level of the deeper one, at
    least 1, and so has a choice by a state-dependent condition. A function with a name in
    ``jax.nn`` or ``jax.numpy`` (silu, softplus, gelu) is one function; an unknown operation adds
    one. t counts the leaves of the state that the next state depends on, in blocks of hidden size:
    a leaf of ``k hidden_size`` elements is k blocks, a smaller one (a step length) or a scalar
    beside arrays none. Leaves of integers and booleans (counters) are no state.

    **Arguments**: ``step``, a ``Cell`` or ``Layer``, a ``GRUCell`` or ``LSTMCell`` of Equinox, a
    recurrent cell of Flax NNX, or any function ``(y, x) -> y`` or ``(y, x) -> (y, output)``;
    ``y`` and ``x``, a state and an input without a batch axis (arrays, pytrees of them, or
    ``jax.ShapeDtypeStruct``), which only a function needs, one of a Linen cell say:
    ``lambda y, x: cell.apply(params, y, x)[0]``;
    ``hidden_size``, by default the step's own (a field's ``block_size``), but not more than the
    largest leaf of the state has elements; of a function the size of the last axis of that leaf.

    Of a multistep method a later step is measured, not one of the first, which are another
    method's. A method that solves equations is marked implicit; where Newton's method does it the
    trace has no bound, and n is what the cell declares: its stages times the field's depth.

    Raises ``InputError`` for what is no step, for missing examples, and if a step returns no state
    like the one it takes.

    >>> import jax, jax.numpy as jnp, odernn
    >>> from odernn.analysis import classify
    >>> print(classify(odernn.zoo.LSTM(3, 8, key=jax.random.key(0))))
    2-2
    >>> print(classify(lambda h, x: h + 0.1 * jnp.tanh(h + x), jnp.zeros(8), jnp.zeros(8)))
    1-1

    Reference: Niu, Horesh, Chuang, arXiv:1904.12933.
    """
    found = _take(step)
    y, x = (found.y if y is None else y), (found.x if x is None else x)
    if y is None or x is None:
        raise InputError(
            f"{'y' if y is None else 'x'} is missing: a function is traced with examples of its "
            "state y and input x, arrays or jax.ShapeDtypeStruct (without an input: jnp.zeros(0))."
        )
    if hidden_size is not None:
        check_sizes(hidden_size=hidden_size)
    program = _program(found.function, y, x)
    state = program.invars[: len(jax.tree.leaves(y))]

    def highest(leaves: list[Any]) -> float:
        start = [0.0 if v in leaves and _is_inexact(v) else _NONE for v in program.invars]
        return max(_levels(program, start), default=_NONE)

    level = max(highest(state), 0.0)
    n = None if level == math.inf else int(level)
    if found.implicit and n is None:
        n = found.declared
    blocks = _blocks(state, hidden_size, found.block_size)
    read = [highest([v]) > _NONE for v in state]
    return Class(n, sum(k for k, r in zip(blocks, read, strict=True) if r), found.implicit)


def _blocks(state: list[Any], hidden_size: int | None, own: int | None) -> list[int]:
    """Blocks of hidden size in each leaf."""
    shapes = [v.aval.shape for v in state]
    largest = max(shapes, key=math.prod, default=())
    # Hidden units may be parts of complex numbers, of which there are fewer.
    likely = min(own, math.prod(largest)) if own else max(largest[-1:], default=1)
    size = hidden_size or max(likely, 1)
    return [math.prod(shape) // size if shape or not largest else 0 for shape in shapes]


def _take(step: Any) -> _Step:
    step = step.cell if isinstance(step, Layer) else step
    if isinstance(step, Cell):
        return _of_cell(step)
    if isinstance(step, eqx.nn.GRUCell | eqx.nn.LSTMCell):
        return _of_equinox(step)
    # There is no cell of Flax where Flax is not imported.
    nnx, linen = sys.modules.get("flax.nnx"), sys.modules.get("flax.linen")
    kind = type(step).__name__
    if nnx and isinstance(step, nnx.Module) and hasattr(step, "initialize_carry"):
        return _of_flax(step, nnx)
    if linen and isinstance(step, linen.Module):
        raise InputError(
            f"step is a Linen {kind}, whose parameters are kept elsewhere: give the function "
            "lambda y, x: cell.apply(params, y, x)[0], and examples of y and x."
        )
    if isinstance(step, Model | AbstractLayer):
        raise InputError(
            f"step is a {kind}: each layer in it has a class of its own; take one of them, "
            "model.layers[0].cell or layer.forward say."
        )
    if isinstance(step, AbstractField) or not callable(step):
        raise InputError(
            f"step is a {kind}, which takes no step: give a Cell, a Layer, a recurrent cell of "
            "Equinox or Flax NNX, or a function (y, x) -> y."
        )
    return _Step(step)


def _of_cell(cell: Cell) -> _Step:
    if isinstance(cell.dt, TrainedStep):
        # A step that is a number is known to be as long as those before.
        cell = Cell(cell.field, cell.method, cell.dt.initial, cell.interpolation)

    def step(y: PyTree, x: PyTree) -> PyTree:
        return cell.step(y, cell.drive(x), phase="later")

    y = eqx.filter_eval_shape(cell.initial_state)
    x = jax.ShapeDtypeStruct(cell.input_shape, jnp.finfo(cell.field.dtype).dtype)
    return _Step(step, y, x, cell.field.block_size, not cell.method.explicit, cell.n)


def _of_equinox(cell: eqx.nn.GRUCell | eqx.nn.LSTMCell) -> _Step:
    dtype = cell.weight_hh.dtype
    h = jax.ShapeDtypeStruct((cell.hidden_size,), dtype)
    y = (h, h) if isinstance(cell, eqx.nn.LSTMCell) else h
    x = jax.ShapeDtypeStruct((cell.input_size,), dtype)
    return _Step(lambda y, x: cell(x, y), y, x, cell.hidden_size)


def _of_flax(cell: Any, nnx: Any) -> _Step:
    def step(y: PyTree, x: PyTree) -> PyTree:
        # A copy: what a cell keeps (random numbers, say) may change only where it was made.
        return nnx.clone(cell)(y, x)

    if not hasattr(cell, "in_features"):
        return _Step(step)
    y = jax.eval_shape(lambda: cell.initialize_carry((cell.in_features,), nnx.Rngs(0)))
    x = jax.ShapeDtypeStruct((cell.in_features,), jax.tree.leaves(y)[0].dtype)
    return _Step(step, y, x, cell.hidden_features)


def _program(function: Callable, y: PyTree, x: PyTree) -> Jaxpr:
    """Trace the step, from (state, input) to the leaves of the next state."""

    def form(tree: PyTree) -> tuple:
        return jax.tree.structure(tree), [a.shape for a in jax.tree.leaves(tree)]

    closed, returned = jax.make_jaxpr(function, return_shape=True)(y, x)
    y = jax.eval_shape(lambda y: y, y)
    pair = isinstance(returned, tuple) and len(returned) == 2
    if not (form(returned) == form(y) or (pair and form(returned[0]) == form(y))):
        kinds = [eqx.tree_pformat(a, width=10**6, struct_as_array=True) for a in (returned, y)]
        raise InputError(
            f"the step returns {kinds[0]}, in which there is no state like the one it takes, "
            f"{kinds[1]}: give a function (y, x) -> y or (y, x) -> (y, output)."
        )
    return closed.jaxpr.replace(outvars=closed.jaxpr.outvars[: len(jax.tree.leaves(y))])


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LINEAR = _names(
    """add add_any all_gather broadcast_in_dim complex concatenate conj copy cumsum expand_dims fft
    imag neg pad ppermute psum_invariant pvary real reduce_precision reduce_sum reduce_window_sum
    reshape rev slice split squeeze stack sub tile transpose unstack"""
)
_SAME = _names(
    """device_put layout_constraint name nonbatchable nondifferentiable_backward nontraceable
    optimization_barrier psum sharding_constraint stop_gradient unvmap_all unvmap_any unvmap_max"""
)
"""Each result has the level of its operand."""
_PRODUCTS = _names("conv_general_dilated dot_general linear_solve mul ragged_dot_general")
_GATES = {
    **dict.fromkeys(_names("cumprod integer_pow lu reduce_prod square"), slice(None)),
    **dict.fromkeys(_names("select_if_vmap select_n triangular_solve"), slice(0, 1)),
    **dict.fromkeys(_names("div gather scatter scatter-add scatter-sub"), slice(1, 2)),
    "dynamic_slice": slice(1, None),
    "dynamic_update_slice": slice(2, None),
}
"""Operations that are gates where these of their operands depend on the state."""
_ELEMENTWISE = _names(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e
    broadcast_in_dim cbrt ceil clamp complex conj convert_element_type copy cos cosh digamma div eq
    erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow is_finite le lgamma log log1p
    logistic lt max min mul ne neg not or pow real rem round rsqrt select_n sign sin sinh sqrt
    square stop_gradient sub tan tanh xor"""
)
"""What the body of a named activation may be made of."""


def _levels(program: Jaxpr, start: Levels) -> Levels:
    """Return the levels of the results, from those of the arguments."""
    known = dict(zip(program.invars, start, strict=True))
    zeros: set = set()
    inlined = _inlined(program)

    def is_zero(v: Any) -> bool:
        return not v.val if isinstance(v, Literal) else v in zeros

    def level(v: Any) -> float:
        return _NONE if isinstance(v, Literal) else known.get(v, _NONE)

    for eqn in program.eqns:
        name, operands = eqn.primitive.name, [level(v) for v in eqn.invars]
        # Nothing depends on what is multiplied with a zero that is written down.
        vanish = any if name == "mul" else all if name == "broadcast_in_dim" else None
        if vanish and vanish(is_zero(v) for v in eqn.invars):
            zeros.update(eqn.outvars)
        elif max(operands, default=_NONE) > _NONE:
            results = _RULES.get(name, _other)(eqn, operands)
            known.update(zip(eqn.outvars, results, strict=True))
            for v in filter(inlined.get, eqn.outvars):
                known[v] = min(known[v], level(inlined[v]) + 1)
    return [level(v) for v in program.outvars]


def _same(eqn: JaxprEqn, operands: Levels) -> Levels:
    return operands


def _linear(eqn: JaxprEqn, operands: Levels) -> Levels:
    return _gate(eqn, operands, False)


def _product(eqn: JaxprEqn, operands: Levels) -> Levels:
    return _gate(eqn, operands, sum(level > _NONE for level in operands) > 1)


def _gated(eqn: JaxprEqn, operands: Levels) -> Levels:
    return _gate(eqn, operands, max(operands[_GATES[eqn.primitive.name]], default=_NONE) > _NONE)


def _solve(eqn: JaxprEqn, operands: Levels) -> Levels:
    """The solution is linear in the right-hand side; the rest of the operands make the matrix."""
    matrix = operands[: sum(eqn.params["const_lengths"])]
    return _gate(eqn, operands, max(matrix, default=_NONE) > _NONE)


def _gate(eqn: JaxprEqn, operands: Levels, is_gate: bool) -> Levels:
    return [max(operands + [1.0] * is_gate)] * len(eqn.outvars)


def _convert(eqn: JaxprEqn, operands: Levels) -> Levels:
    return _linear(eqn, operands) if _is_inexact(eqn.outvars[0]) else _nonlinear(eqn, operands)


def _nonlinear(eqn: JaxprEqn, operands: Levels) -> Levels:
    pairs = zip(eqn.invars, operands, strict=True)
    # What follows from integers and booleans is no new nonlinearity.
    numbers = any(level > _NONE and _is_inexact(v) for v, level in pairs)
    return [max(operands) + numbers] * len(eqn.outvars)


def _other(eqn: JaxprEqn, operands: Levels) -> Levels:
    """A program that is called, or an operation that is not known."""
    if eqn.primitive.name in ("addupdate", "swap"):
        raise InputError(
            "the step writes into a mutable array (jax.new_ref), which cannot be followed: return "
            "what it writes instead."
        )
    inner = [p for p in jaxprs_in_params(eqn.params) if len(p.invars) == len(operands)]
    if len(inner) != 1 or len(inner[0].outvars) != len(eqn.outvars):
        return _nonlinear(eqn, operands)
    most = max(operands) + 1 if _is_activation(inner[0]) else math.inf
    return [min(level, most) for level in _levels(inner[0], operands)]


def _is_inexact(v: Any) -> bool:
    return hasattr(v.aval, "dtype") and jnp.issubdtype(v.aval.dtype, jnp.inexact)


_PUBLIC = {*dir(jax.nn), *dir(jnp), *dir(jax.scipy.special)}
_JAX = Path(jax.__file__).parent
_EQUINOX_ERRORS = Path(eqx.__file__).parent / "_errors.py"
_ACTIVATIONS = Path(fields.__file__).parent / "_activation.py"


def _is_activation(program: Jaxpr) -> bool:
    """Whether it is an elementwise function with a name, of JAX or of this library."""
    home = _home(program)
    named = program.debug_info.func_name in _PUBLIC and _JAX in home.parents
    return (named or home == _ACTIVATIONS) and _is_elementwise(program)


def _is_elementwise(program: Jaxpr) -> bool:
    return all(
        eqn.primitive.name in _ELEMENTWISE
        or (
            eqn.primitive.name in ("custom_jvp_call", "jit")
            and all(map(_is_elementwise, jaxprs_in_params(eqn.params)))
        )
        for eqn in program.eqns
    )


def _home(program: Jaxpr) -> Path:
    """The file of the function that the program was made of."""
    return Path(program.debug_info.func_filename or "")


def _inlined(program: Jaxpr) -> dict[Any, Any]:
    """Find the activations that JAX does not call by name; return {result: argument}."""
    found = {}
    for i, eqn in enumerate(program.eqns):
        x: Any = eqn.invars[0] if eqn.invars else None
        if eqn.primitive.name == "integer_pow" and _is_inexact(x):
            pattern = _gelu(x.aval.shape, x.aval.dtype)
            eqns = program.eqns[i : i + len(pattern.eqns)]
            results = eqns[-1].outvars
            if str(pattern.replace(invars=[x], eqns=eqns, outvars=results)) == str(pattern):
                found[results[0]] = x
    return found


@cache
def _gelu(shape: tuple[int, ...], dtype: Any) -> Jaxpr:
    return jax.make_jaxpr(jax.nn.gelu)(jax.ShapeDtypeStruct(shape, dtype)).jaxpr


def _cond(eqn: JaxprEqn, operands: Levels) -> Levels:
    branches = [branch.jaxpr for branch in eqn.params["branches"]]
    chosen, (index, *rest) = eqn.invars[0], operands
    if isinstance(chosen, Literal):
        branches = [branches[min(max(int(chosen.val), 0), len(branches) - 1)]]
    # A check that raises an error chooses between a value and none.
    is_check = any(_home(branch) == _EQUINOX_ERRORS for branch in branches)
    gate = _NONE if is_check or index == _NONE else max(index, 1.0)
    results = [_levels(branch, rest) for branch in branches]
    return [max(gate, *levels) for levels in zip(*results, strict=True)]


def _scan(eqn: JaxprEqn, operands: Levels) -> Levels:
    first, carried = eqn.params["num_consts"], eqn.params["num_carry"]
    after = first + carried

    def turn(levels: Levels) -> tuple[Levels, Levels]:
        results = _levels(eqn.params["jaxpr"].jaxpr, operands[:first] + levels + operands[after:])
        return results[:carried], results[carried:]

    outputs = [_NONE] * (len(eqn.outvars) - carried)
    carry, outputs = _repeat(turn, operands[first:after], outputs, eqn.params["length"])
    return carry + outputs


def _repeat(
    turn: Callable[[Levels], tuple[Levels, Levels]], levels: Levels, outputs: Levels, times: int
) -> tuple[Levels, Levels]:
    """Return the levels of a carry after so many turns, and the highest of what turns put out.

    Looks ahead: where levels have grown evenly over two periods and would over one far ahead, they
    do so all the way, as ``turn`` is monotone and convex; and the highest outputs are at the ends.
    """
    past = [levels]

    def take(turns: int, levels: Levels) -> Levels:
        nonlocal outputs
        for _ in range(turns):
            levels, out = turn(levels)
            outputs = _highest(outputs, out)
        return levels

    while times > 0:
        last, times = take(1, past[-1]), times - 1
        past.append(last)
        if last == past[-2]:
            break
        for period in range(1, min(len(levels), (len(past) - 1) // 2) + 1):
            middle, before = past[-1 - period], past[-1 - 2 * period]
            growth, ahead = _growth(middle, last), times // period
            if growth != _growth(before, middle):
                continue
            end = _grown(last, growth, ahead)
            while ahead > 1 and take(period, _grown(end, growth, -1)) != end:
                ahead //= 2
                end = _grown(last, growth, ahead)
            if ahead > 1:
                past, times = [end], times - ahead * period
                break
    return past[-1], outputs


def _growth(before: Levels, after: Levels) -> Levels:
    return [0.0 if a == b else b - a for a, b in zip(before, after, strict=True)]


def _grown(levels: Levels, growth: Levels, times: int) -> Levels:
    return [a + times * g for a, g in zip(levels, growth, strict=True)]


def _highest(*many: Levels) -> Levels:
    return [max(levels) for levels in zip(*many, strict=True)]


def _while(eqn: JaxprEqn, operands: Levels) -> Levels:
    tests, bodies = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    fixed, inner = operands[:tests], operands[tests : tests + bodies]

    def turn(levels: Levels) -> Levels:
        (test,) = _levels(eqn.params["cond_jaxpr"].jaxpr, fixed + levels)
        gate = max(test, 1.0) if test > _NONE else _NONE
        return [max(gate, a) for a in _levels(eqn.params["body_jaxpr"].jaxpr, inner + levels)]

    levels, turns = operands[tests + bodies :], 0
    while (after := _highest(levels, turn(levels))) != levels:
        turns += 1
        if turns > 2 * len(levels):
            # All that can be known of each other is known by now: what still grows has no bound.
            after = [a if a == b else math.inf for a, b in zip(after, levels, strict=True)]
        levels = after
    return levels


_RULES: dict[str, Callable[[JaxprEqn, Levels], Levels]] = {
    **dict.fromkeys(_LINEAR, _linear),
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_PRODUCTS, _product),
    **dict.fromkeys(_GATES, _gated),
    "cond": _cond,
    "convert_element_type": _convert,
    "custom_linear_solve": _solve,
    **dict.fromkeys(_names("reduce reduce_window"), _nonlinear),
    "scan": _scan,
    "while": _while,
}
"""The rest: programs that are called, and operations that add one (``_other``)."""
