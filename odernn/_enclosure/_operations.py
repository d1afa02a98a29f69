"""Ranges and derivatives of the operations that programs are made of."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from . import _polynomial as polynomials
from ._polynomial import Polynomial, space
from ._traced import Traced


class NotEnclosed(Exception):
    """The program has an operation for which there is no rule; the message names it."""


STRUCTURAL = frozenset(
    (
        *("broadcast_in_dim", "concatenate", "copy", "device_put", "dynamic_slice"),
        *("dynamic_update_slice", "expand_dims", "gather", "pad", "reshape", "rev", "slice"),
        *("split", "squeeze", "transpose"),
    )
)
"""Operations that move elements and change none."""
COMPARISONS = frozenset(["eq", "ge", "gt", "is_finite", "le", "lt", "ne"])
"""Operations with truth values as results."""
MOVED = {"dynamic_slice": 1, "dynamic_update_slice": 2, "gather": 1}
"""How many of their operands are moved; the others say where to. All, where it is not said."""
LINEAR = frozenset(
    ["dot_general", "reduce_sum", "cumsum", "conv_general_dilated", "reduce_window_sum"]
)
"""Operations that mix elements linearly, each operand by itself."""


def _same_shape(run: Any, eqn: Any, operands: tuple[Any, ...]) -> list[Traced]:
    """Operands as traced values of one shape."""
    shape, found = eqn.outvars[0].aval.shape, []
    for value in operands:
        value = run.traced(value)
        if value.shape != shape:
            index = np.zeros(int(np.prod(shape, dtype=int)), np.int32)
            value = run.take(value, index, shape)
        found.append(value)
    return found


def _flat(run: Any, eqn: Any, value: Any) -> Any:
    """A constant as one number for each unit."""
    shape = eqn.outvars[0].aval.shape
    return run.number(
        jnp.broadcast_to(value, shape) if run.tracing else np.broadcast_to(value, shape)
    ).reshape(-1)


def _add(run: Any, eqn: Any, u: Any, v: Any) -> Traced:
    return run.plus(*_same_shape(run, eqn, (u, v)))


def _sub(run: Any, eqn: Any, u: Any, v: Any) -> Traced:
    u, v = _same_shape(run, eqn, (u, v))
    return run.plus(u, run.scaled(v, -1.0))


def _mul(run: Any, eqn: Any, u: Any, v: Any) -> Traced:
    if not (isinstance(u, Traced) and isinstance(v, Traced)):
        one, other = (u, v) if isinstance(u, Traced) else (v, u)
        (one,) = _same_shape(run, eqn, (one,))
        return run.scaled(one, _flat(run, eqn, other))
    return run.times(*_same_shape(run, eqn, (u, v)))


def _div(run: Any, eqn: Any, u: Any, v: Any) -> Traced:
    if not isinstance(v, Traced):
        (u,) = _same_shape(run, eqn, (u,))
        return run.scaled(u, 1 / _flat(run, eqn, v))
    u, v = _same_shape(run, eqn, (u, v))
    return run.times(u, _reciprocal(run, v))


def _reciprocal(run: Any, x: Traced) -> Traced:
    """``1/x`` where x keeps away from zero."""
    xp = space(x.lower)
    with np.errstate(divide="ignore"):
        ends = 1 / x.upper, 1 / x.lower
    apart = (x.lower > 0) | (x.upper < 0)
    infinite = xp.full(x.units, xp.inf)
    ends = xp.where(apart, ends[0], -infinite), xp.where(apart, ends[1], infinite)

    def slope(value: Polynomial) -> Polynomial:
        return polynomials.multiply(value, value).scaled(-1.0)

    return run.function(x, ends, slope)


def _neg(run: Any, eqn: Any, x: Any) -> Traced:
    return run.scaled(x, -1.0)


def _square(run: Any, eqn: Any, x: Any) -> Traced:
    return run.times(x, x)


def _integer_pow(run: Any, eqn: Any, x: Any) -> Traced:
    power = eqn.params["y"]
    if power == 0:
        return run.traced(np.ones(x.shape))
    result = x
    for _ in range(abs(power) - 1):
        result = run.times(result, x)
    return result if power > 0 else _reciprocal(run, result)


def _tanh(run: Any, eqn: Any, x: Any) -> Traced:
    xp = space(x.lower)

    def slope(value: Polynomial) -> Polynomial:
        """``(1 - v)(1 + v)``."""
        one = polynomials.constant(run.number(np.ones(x.units)))
        below = polynomials.add(one, value.scaled(-1.0))
        return polynomials.multiply(below, polynomials.add(one, value))

    return run.function(x, (xp.tanh(x.lower), xp.tanh(x.upper)), slope, cut=0.0)


def _logistic(run: Any, eqn: Any, x: Any) -> Traced:
    xp = space(x.lower)

    def slope(value: Polynomial) -> Polynomial:
        """``v (1 - v)``."""
        one = polynomials.constant(run.number(np.ones(x.units)))
        return polynomials.multiply(value, polynomials.add(one, value.scaled(-1.0)))

    ends = (0.5 + 0.5 * xp.tanh(0.5 * x.lower), 0.5 + 0.5 * xp.tanh(0.5 * x.upper))
    return run.function(x, ends, slope, cut=0.5)


def _exp(run: Any, eqn: Any, x: Any) -> Traced:
    xp = space(x.lower)
    with np.errstate(over="ignore"):
        return run.function(x, (xp.exp(x.lower), xp.exp(x.upper)), lambda value: value)


def _increasing(
    value: Callable[[Any, Any], Any], slope: Callable[[Any, Any], Any], *, falling: bool
) -> Callable[..., Traced]:
    """A function that increases on the range, with a slope that falls or rises."""

    def rule(run: Any, eqn: Any, x: Any) -> Traced:
        xp = space(x.lower)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ends = value(xp, x.lower), value(xp, x.upper)
            slopes = slope(xp, x.lower), slope(xp, x.upper)
        # Outside its domain nothing is known of it.
        slopes = slopes[::-1] if falling else slopes
        ends, slopes = (
            (xp.where(xp.isnan(low), -xp.inf, low), xp.where(xp.isnan(high), xp.inf, high))
            for low, high in (ends, slopes)
        )
        return run.function(x, ends, slopes)

    return rule


def _inverse(xp: Any, x: Any) -> Any:
    """The slope of the logarithm, nowhere known outside its domain."""
    return xp.where(x > 0, 1 / x, xp.nan)


def _even_slope(
    value: Callable[[Any, Any], Any], slope: Callable[[Any, Any], Any]
) -> Callable[..., Traced]:
    """An increasing function whose slope is even and falls away from zero."""

    def rule(run: Any, eqn: Any, x: Any) -> Traced:
        xp = space(x.lower)
        ends = value(xp, x.lower), value(xp, x.upper)
        near, far = _sizes(x)
        return run.function(x, ends, (slope(xp, far), slope(xp, near)))

    return rule


def _erf(xp: Any, x: Any) -> Any:
    from jax.scipy.special import erf

    return erf(x) if xp is jnp else np.vectorize(math.erf, otypes=[float])(x)


def _wave(run: Any, eqn: Any, x: Any) -> Traced:
    """Sine and cosine: their values and slopes are in [-1, 1]."""
    one = run.number(np.ones(x.units))
    return run.function(x, (-one, one), (-one, one))


def _abs(run: Any, eqn: Any, x: Any) -> Traced:
    xp = space(x.lower)
    one = xp.ones_like(x.lower)
    slopes = xp.where(x.lower >= 0, one, -one), xp.where(x.upper > 0, one, -one)
    return run.function(x, _sizes(x), slopes)


def _sizes(x: Traced) -> tuple[Any, Any]:
    """Smallest and largest absolute value."""
    xp, ends = space(x.lower), (abs(x.lower), abs(x.upper))
    near = xp.minimum(*ends)
    crosses = (x.lower < 0) & (x.upper > 0)
    return xp.where(crosses, xp.zeros_like(near), near), xp.maximum(*ends)


def _flat_steps(run: Any, eqn: Any, x: Any) -> Traced:
    """Sign and rounding: constant where they can be differentiated."""
    xp, name = space(x.lower), eqn.primitive.name
    rounded = {"sign": xp.sign, "floor": xp.floor, "ceil": xp.ceil, "round": xp.round}[name]
    return run.fresh(x.shape, rounded(x.lower), rounded(x.upper), x.value is not None)


def _stop(run: Any, eqn: Any, x: Any) -> Traced:
    return x._replace(terms=(), rest=None)


def _same(run: Any, eqn: Any, x: Any) -> Traced:
    return x


def _convert(run: Any, eqn: Any, x: Any) -> Traced:
    if not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating):
        raise NotEnclosed(f"a conversion to {eqn.outvars[0].aval.dtype}")
    return x


def _larger(run: Any, eqn: Any, u: Any, v: Any) -> Traced:
    """The maximum of two."""
    u, v = _same_shape(run, eqn, (u, v))
    xp = space(u.lower, v.lower)
    ends = xp.maximum(u.lower, v.lower), xp.maximum(u.upper, v.upper)
    # The share of u: 1 where it is always the larger one, 0 where never.
    always, never = u.lower >= v.upper, u.upper <= v.lower
    one = xp.ones_like(u.lower)
    return _mixed(run, u, v, xp.where(always, one, 0 * one), xp.where(never, 0 * one, one), ends)


def _smaller(run: Any, eqn: Any, u: Any, v: Any) -> Traced:
    u, v = (run.scaled(w, -1.0) for w in _same_shape(run, eqn, (u, v)))
    return run.scaled(_larger(run, eqn, u, v), -1.0)


def _mixed(run: Any, u: Traced, v: Traced, low: Any, high: Any, ends: Any) -> Traced:
    """Either u or v: a derivative between theirs, with a share of u between bounds."""
    share = run.fresh(u.shape, low, high, True)
    one = polynomials.constant(run.number(np.ones(u.units)))
    rest = polynomials.add(one, share.value.scaled(-1.0))
    parts = (
        run.chain(u, share.value, (low, high)),
        run.chain(v, rest, (1 - high, 1 - low)),
    )
    terms, loose = run.sum_terms(*parts)
    made = run.fresh(u.shape, *ends, u.value is not None and v.value is not None)
    return made._replace(terms=terms, rest=loose)


def _clamp(run: Any, eqn: Any, low: Any, x: Any, high: Any) -> Traced:
    return _smaller(run, eqn, _larger(run, eqn, x, low), high)


def either(run: Any, eqn: Any, *cases: Any) -> Traced:
    """A choice between two by a condition of which nothing is known."""
    if len(cases) != 2:
        raise NotEnclosed("a choice by the state among more than two")
    u, v = _same_shape(run, eqn, cases)
    xp = space(u.lower, v.lower)
    ends = xp.minimum(u.lower, v.lower), xp.maximum(u.upper, v.upper)
    one = xp.ones_like(ends[0])
    return _mixed(run, u, v, 0 * one, one, ends)


def _select(run: Any, eqn: Any, which: Any, *cases: Any) -> Traced:
    """A choice by parameters."""
    if len(cases) != 2:
        raise NotEnclosed("a choice among more than two")
    if run.tracing:
        return either(run, eqn, *cases)
    u, v = _same_shape(run, eqn, cases)
    second = np.broadcast_to(np.asarray(which), eqn.outvars[0].aval.shape).reshape(-1).astype(bool)
    index = np.arange(second.size)
    first = run.take(u, np.where(second, -1, index), u.shape)
    return run.plus(first, run.take(v, np.where(second, index, -1), v.shape))


RULES: dict[str, Callable[..., Any]] = {
    "abs": _abs,
    "add": _add,
    "add_any": _add,
    "clamp": _clamp,
    "convert_element_type": _convert,
    "cos": _wave,
    "div": _div,
    "erf": _even_slope(_erf, lambda xp, x: 2 / math.sqrt(math.pi) * xp.exp(-x * x)),
    "exp": _exp,
    "expm1": _increasing(lambda xp, x: xp.expm1(x), lambda xp, x: xp.exp(x), falling=False),
    "integer_pow": _integer_pow,
    "log": _increasing(lambda xp, x: xp.log(x), _inverse, falling=True),
    "log1p": _increasing(
        lambda xp, x: xp.log1p(x), lambda xp, x: _inverse(xp, 1 + x), falling=True
    ),
    "logistic": _logistic,
    "max": _larger,
    "min": _smaller,
    "mul": _mul,
    "neg": _neg,
    "optimization_barrier": _same,
    "reduce_precision": _same,
    "sin": _wave,
    "sqrt": _increasing(lambda xp, x: xp.sqrt(x), lambda xp, x: 0.5 / xp.sqrt(x), falling=True),
    "square": _square,
    "stop_gradient": _stop,
    "sub": _sub,
    "tanh": _tanh,
    **dict.fromkeys(("sign", "floor", "ceil", "round"), _flat_steps),
    "select_n": _select,
}
"""Rules by the name of the operation: ``rule(run, eqn, *operands) -> Traced``."""
