"""What a step costs: multiplications with additions, other functions, numbers in the state."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from .._cell import Cell
from .._layer import Layer
from .._results import InputError

_PRODUCTS = frozenset(("mul", "div", "integer_pow", "square"))
_FUNCTIONS = frozenset(
    (
        *("tanh", "logistic", "exp", "exp2", "expm1", "log", "log1p", "sin", "cos", "tan", "atan2"),
        *("sqrt", "rsqrt", "cbrt", "pow", "erf", "erfc", "sinh", "cosh", "asinh", "acos", "asin"),
    )
)


class Cost(NamedTuple):
    """What one step takes, for one sequence; a complex product counts as four.

    ``multiply_adds``: multiplications, most of which come with an addition, in products of matrices
    and of elements; ``functions``: values of tanh, exp and their like; ``state``: real numbers that
    are carried from step to step. Work on parameters alone is left out: it is done once for a
    sequence. ``exact``: false for a step that iterates until something is reached (an implicit
    one), of which one iteration is counted.
    """

    multiply_adds: int
    functions: int
    state: int
    exact: bool


def cost(cell: Cell | Layer) -> Cost:
    """Return what a step of a cell costs, counted in its program.

    Input weights and what the next layer sees are part of it, the read-out is not.
    Raises ``InputError`` for what is no cell.

    >>> import jax, odernn
    >>> from odernn.analysis import cost
    >>> cost(odernn.zoo.RNN(3, 8, key=jax.random.key(0)))  # 8 (8 + 3)
    Cost(multiply_adds=88, functions=8, state=8, exact=True)
    """
    cell = cell.cell if isinstance(cell, Layer) else cell
    if not isinstance(cell, Cell):
        raise InputError(f"cell is a {type(cell).__name__}: give a Cell, or a Layer with one.")
    dtype = cell.field.dtype
    real = jnp.finfo(dtype).dtype
    state = eqx.filter_eval_shape(cell.initial_state)
    x = jax.ShapeDtypeStruct(cell.input_shape, real)
    clock = jax.ShapeDtypeStruct((), real)
    arrays, static = eqx.partition(cell, _is_array_or_shape)

    def step(arrays: Any, y: Any, x: Any, elapsed: Any) -> Any:
        here: Cell = eqx.combine(arrays, static)
        u = here.drive(x)
        after = here.step(y, u, elapsed=elapsed, phase="later")
        return after, here.output(after, x if x.ndim == 1 else x[-1])

    program = jax.make_jaxpr(step)(arrays, state, x, clock)
    fixed = len(jax.tree.leaves(arrays))
    live = [index >= fixed for index in range(len(program.jaxpr.invars))]
    counted = _Count()
    _walk(program.jaxpr, live, 1, counted)
    width = sum(
        (2 if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else 1) * math.prod(leaf.shape)
        for leaf in jax.tree.leaves(state)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    )
    return Cost(counted.products, counted.functions, width, counted.exact)


def _is_array_or_shape(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


class _Count:
    products, functions, exact = 0, 0, True


def _walk(jaxpr: Jaxpr, live: list[bool], times: int, count: _Count) -> list[bool]:
    """Count the operations on what is no parameter; return which results depend on such."""
    alive = {v for v, yes in zip(jaxpr.invars, live, strict=True) if yes}
    for eqn in jaxpr.eqns:
        living = [not isinstance(v, Literal) and v in alive for v in eqn.invars]
        results = [any(living)] * len(eqn.outvars)
        if any(living):
            inner = _inner(eqn, living)
            if inner:
                for program, entries, repeats in inner:
                    count.exact &= repeats is not None
                    found = _walk(program, entries, times * (repeats or 1), count)
                    if len(found) == len(results):
                        results = found
            else:
                _one(eqn, times, count)
        alive.update(v for v, yes in zip(eqn.outvars, results, strict=True) if yes)
    return [not isinstance(v, Literal) and v in alive for v in jaxpr.outvars]


def _inner(eqn: JaxprEqn, living: list[bool]) -> list[tuple[Jaxpr, list[bool], int | None]]:
    """Programs inside an equation, which of their arguments live, and how often they run."""
    name, params = eqn.primitive.name, eqn.params
    if name == "while":
        body, first = params["body_jaxpr"].jaxpr, params["cond_nconsts"]
        return [(body, [True] * len(body.invars), None)] if len(living) > first else []
    repeats = params["length"] if name == "scan" else 1
    found = []
    for value in params.values():
        for program in value if isinstance(value, list | tuple) else (value,):
            if not isinstance(program, ClosedJaxpr | Jaxpr):
                continue
            body = program.jaxpr if isinstance(program, ClosedJaxpr) else program
            size = len(body.invars)
            # Of a branch the arguments come behind the number that chooses it.
            entries = living[len(living) - size :] if size <= len(living) else [True] * size
            # What a loop carries may come alive in its first turn.
            found.append((body, [True] * size if name == "scan" else entries, repeats))
    if name == "custom_jvp_call" or name == "cond":
        return found[:1]
    return found


def _one(eqn: JaxprEqn, times: int, count: _Count) -> None:
    name = eqn.primitive.name
    out: Any = eqn.outvars[0].aval
    operands: list[Any] = [v.aval for v in eqn.invars]
    size = times * math.prod(out.shape)
    kinds = [jnp.issubdtype(operand.dtype, jnp.complexfloating) for operand in operands]
    weight = 2 ** sum(kinds[:2])
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        shape = operands[0].shape
        count.products += weight * size * math.prod(shape[axis] for axis in contracted)
    elif name == "fft":
        length = math.prod(eqn.params["fft_lengths"])
        # Half a logarithm of complex products for each number.
        count.products += 2 * size * max(1, math.ceil(math.log2(max(length, 2))))
    elif name in ("triangular_solve", "lu", "custom_linear_solve"):
        count.products += size * operands[0].shape[-1]
    elif not jnp.issubdtype(out.dtype, jnp.inexact) or not out.shape:
        return
    elif name in _PRODUCTS:
        count.products += weight * size
    elif name in _FUNCTIONS:
        count.functions += size
