"""All Jacobians that a function may have on a box of states and inputs, from its program.

Every value of the program is kept as a range, a polynomial in symbols where it is bounded
(``_polynomial``), and its derivative by the state as a sum of terms ``L diag(p) R``: L and R are
matrices of parameters, p is a polynomial for each unit. Slopes of activations and gates are in p,
weights in L and R, so that the structure of the field is not lost: of ``tanh(W h)`` the terms are
``diag(p) W`` with p in [0, 1]. A gate times what went through a matrix refers to the value before
that matrix, an inner value with a derivative of its own. What is unbounded, or has too many
symbols, is kept as an interval of each entry.

Derivatives are meant where the function is differentiable; rounding is not accounted for.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import Jaxpr, Literal

from .._typing import PyTree
from .._unroll._linear import evaluate, program_of_call
from . import _polynomial as polynomials
from ._operations import COMPARISONS, LINEAR, MOVED, RULES, STRUCTURAL, NotEnclosed, either
from ._polynomial import LIMIT, VALUE_LIMIT, Polynomial, Symbol, space
from ._traced import (
    Choice,
    Term,
    Traced,
    between,
    constants_joined,
    entries,
    inner_entries,
    interval_product,
    interval_sum,
    mixed_bounds,
    zero_times,
)


class Enclosed(NamedTuple):
    """The results of a program; derivatives of inner values; where ranges of symbols are cut."""

    outputs: list[Traced]
    inner: list[tuple[Term, ...]]
    splits: dict[int, Any]


def enclose(
    function: Callable[[PyTree, PyTree], PyTree],
    y: PyTree,
    x: PyTree,
    state: tuple[np.ndarray, np.ndarray],
    inputs: tuple[np.ndarray, np.ndarray],
) -> Enclosed:
    """Return ranges and derivatives of ``function(y, x)`` for states and inputs in boxes.

    ``y`` and ``x`` are examples (``jax.ShapeDtypeStruct`` will do); ``state`` and ``inputs`` are
    lower and upper bounds, flat. Works on parameters that are traced, too. Raises ``NotEnclosed``.
    """
    closed = jax.make_jaxpr(function)(y, x)
    traced = any(isinstance(c, Tracer) for c in closed.consts)
    run = _Run(traced)
    leaves, start, arguments = jax.tree.leaves(y), 0, []
    size = sum(int(np.prod(leaf.shape)) for leaf in leaves)
    for leaf in leaves:
        stop = start + int(np.prod(leaf.shape))
        rows = np.eye(size)[start:stop]
        arguments.append(run.given(leaf.shape, state[0][start:stop], state[1][start:stop], rows))
        start = stop
    start = 0
    for leaf in jax.tree.leaves(x):
        stop = start + int(np.prod(leaf.shape))
        arguments.append(run.given(leaf.shape, inputs[0][start:stop], inputs[1][start:stop], None))
        start = stop
    # Ranges that overflow become infinite or no number: nothing is known then, which is no error.
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = run.program(closed.jaxpr, closed.consts, arguments)
    return Enclosed([run.traced(value) for value in outputs], run.inner, run.splits)


class _Run:
    """One pass through a program."""

    def __init__(self, tracing: bool):
        self.tracing = tracing
        self.splits: dict[int, Any] = {}
        self.inner: list[tuple[Term, ...]] = []
        self._done: dict[Any, tuple[list[Any], list[Any]]] = {}
        self._entries: list[tuple[Any, Any]] = []
        self._sources: dict[tuple[Any, ...], int] = {}
        self._names: Iterator[int] = itertools.count()

    # --- values --------------------------------------------------------------------------------

    def given(self, shape: Any, lower: Any, upper: Any, rows: Any) -> Traced:
        """A state or an input between bounds."""
        bounded = bool(np.isfinite(lower).all() and np.isfinite(upper).all())
        made = self.fresh(shape, self.number(lower), self.number(upper), bounded)
        if rows is None:
            return made
        one = polynomials.constant(self.number(np.ones(made.units)))
        return made._replace(terms=(Term(None, one, self.number(rows)),))

    def number(self, value: Any) -> Any:
        """An array to calculate with: NumPy's in double precision, or JAX's while it traces."""
        if self.tracing:
            return jnp.asarray(value, jnp.result_type(float))
        return np.asarray(value, np.float64)

    def bounded(self, ends: tuple[Any, Any]) -> bool:
        """Whether bounds are finite; while JAX traces, those of a function count as finite."""
        return self.tracing or bool(np.isfinite(ends[0]).all() and np.isfinite(ends[1]).all())

    def fresh(self, shape: Any, lower: Any, upper: Any, bounded: bool) -> Traced:
        """Values between bounds of which nothing else is known."""
        units = int(np.prod(shape, dtype=int))
        if not bounded:
            return Traced(tuple(shape), lower, upper, None)
        symbol = Symbol(next(self._names), np.arange(units, dtype=np.int32).tobytes())
        value = polynomials.variable(symbol, lower, upper)
        return Traced(tuple(shape), lower, upper, value)

    def traced(self, value: Any) -> Traced:
        """A constant as a traced value."""
        if isinstance(value, Traced):
            return value
        flat = self.number(np.asarray(value) if not self.tracing else value).reshape(-1)
        return Traced(tuple(np.shape(value)), flat, flat, polynomials.constant(flat))

    def polynomial(self, shape: Any, value: Polynomial) -> Traced:
        """A value given by a polynomial."""
        if value.count > VALUE_LIMIT:
            return self.fresh(shape, *polynomials.bounds(value, self.splits), True)
        return Traced(tuple(shape), *polynomials.bounds(value, self.splits), value)

    # --- programs ------------------------------------------------------------------------------

    def program(self, jaxpr: Jaxpr, consts: Any, arguments: list[Any]) -> list[Any]:
        """Go through a program."""
        known = dict(zip(jaxpr.constvars, consts, strict=True))
        known.update(zip(jaxpr.invars, arguments, strict=True))

        def read(v: Any) -> Any:
            return v.val if isinstance(v, Literal) else known[v]

        for eqn in jaxpr.eqns:
            operands = [read(v) for v in eqn.invars]
            place = _identity(eqn, operands)
            if place not in self._done:
                # The operands are kept: identities of objects that are gone come again.
                self._done[place] = self.equation(eqn, operands), operands
            known.update(zip(eqn.outvars, self._done[place][0], strict=True))
        return [read(v) for v in jaxpr.outvars]

    def equation(self, eqn: Any, operands: list[Any]) -> list[Any]:
        """The results of one operation."""
        name = eqn.primitive.name
        if any(isinstance(v, Choice) for v in operands):
            return self.chosen(eqn, operands)
        if not any(isinstance(v, Traced) for v in operands):
            return self.concretely(eqn, operands)
        if (called := program_of_call(eqn)) is not None:
            return self.program(called.jaxpr, called.consts, operands)
        if name in COMPARISONS:
            return [Choice(eqn.outvars[0].aval.shape)]
        if name == "scan":
            return self.scan(eqn, operands)
        if name in STRUCTURAL:
            return self.structural(eqn, operands)
        rule = RULES.get(name)
        if rule is not None:
            return [rule(self, eqn, *operands)]
        if name in LINEAR and sum(isinstance(v, Traced) for v in operands) == 1:
            return [self.linear(eqn, operands)]
        raise NotEnclosed(f"there is no rule for the operation {name!r}")

    def chosen(self, eqn: Any, operands: list[Any]) -> list[Any]:
        """What depends on a truth value that is not known."""
        name = eqn.primitive.name
        if (called := program_of_call(eqn)) is not None:
            return self.program(called.jaxpr, called.consts, operands)
        if name == "select_n" and not any(isinstance(v, Choice) for v in operands[1:]):
            return [either(self, eqn, *operands[1:])]
        if name in COMPARISONS or name in STRUCTURAL or name in ("and", "or", "not", "xor"):
            return [Choice(v.aval.shape) for v in eqn.outvars]
        if name == "convert_element_type" and jnp.issubdtype(eqn.params["new_dtype"], jnp.floating):
            shape = eqn.outvars[0].aval.shape
            one = self.number(np.ones(int(np.prod(shape, dtype=int))))
            return [self.fresh(shape, 0 * one, one, True)]
        raise NotEnclosed(f"a choice by the state goes into the operation {name!r}")

    def concretely(self, eqn: Any, operands: list[Any]) -> list[Any]:
        """What depends on parameters only is computed."""
        results = evaluate(eqn, operands)
        return results if self.tracing else [_plain(r) for r in results]

    def scan(self, eqn: Any, operands: list[Any]) -> list[Any]:
        """A loop of known length, written out."""
        body, length = eqn.params["jaxpr"], eqn.params["length"]
        consts, carried = eqn.params["num_consts"], eqn.params["num_carry"]
        if length > 64 or any(isinstance(v, Traced) for v in operands[consts + carried :]):
            raise NotEnclosed(f"a loop of {length} turns is too long to write out")
        if len(eqn.outvars) > carried:
            raise NotEnclosed("a loop that collects its results")
        state = operands[consts : consts + carried]
        turns = range(length)
        for turn in reversed(turns) if eqn.params["reverse"] else turns:
            each = [v[turn] for v in operands[consts + carried :]]
            state = self.program(body.jaxpr, body.consts, [*operands[:consts], *state, *each])
        return state

    # --- derivatives ---------------------------------------------------------------------------

    def chain(self, x: Traced, factor: Polynomial | None, bounds: tuple[Any, Any]) -> Traced:
        """The derivative of x, each unit times a factor; only ``terms`` and ``rest`` count."""
        if not x.terms and x.rest is None:
            return x
        if factor is None or not self.fits(x, factor):
            rest = between(self.collapsed(x), bounds)
            return x._replace(terms=(), rest=rest)
        terms, loose = [], {}
        for term in x.terms:
            if term.left is None:
                weights = polynomials.multiply(term.weights, factor)
                terms.append(term._replace(weights=weights))
            elif factor.constant:
                terms.append(term._replace(left=factor.coefficients[:, None] * term.left))
            else:
                loose.setdefault(id(term.left), []).append(term)
        for group in loose.values():
            inner = tuple(term._replace(left=None) for term in group)
            terms.append(Term(None, factor, group[0].left, self.source(inner)))
        rest = None if x.rest is None else between(x.rest, bounds)
        return x._replace(terms=tuple(terms), rest=rest)

    def fits(self, x: Traced, factor: Polynomial) -> bool:
        """Whether the products of the derivative's weights with a factor are small enough."""
        counts = [polynomials.product_count(term.weights, factor) for term in x.terms]
        return max(counts, default=0) <= LIMIT

    def source(self, terms: tuple[Term, ...]) -> int:
        """The number of an inner value with this derivative."""
        key = tuple((id(t.weights.coefficients), id(t.right), t.source) for t in terms)
        if key not in self._sources:
            self.inner.append(terms)
            self._sources[key] = len(self.inner)
        return self._sources[key]

    def collapsed(self, x: Traced) -> tuple[Any, Any]:
        """Bounds of every entry of the derivative."""
        inner = inner_entries(self.inner, self.splits, self._entries)
        return entries(x.terms, x.rest, inner, self.splits)

    def sum_terms(self, *parts: Traced) -> tuple[tuple[Term, ...], tuple[Any, Any] | None]:
        """The sum of derivatives; terms with the same matrices become one."""
        merged: dict[tuple[int, ...], Term] = {}
        rest = None
        for part in parts:
            for term in part.terms:
                place = (id(term.left), id(term.right), term.source)
                pair = [term.weights, merged[place].weights] if place in merged else []
                if pair and polynomials.common_count(pair) <= LIMIT:
                    merged[place] = term._replace(weights=polynomials.add(*pair))
                else:
                    merged[(*place, len(merged))[: 4 if pair else 3]] = term
            if part.rest is not None:
                rest = part.rest if rest is None else interval_sum(rest, part.rest)
        return constants_joined(list(merged.values())), rest

    def times(self, u: Traced, v: Traced) -> Traced:
        """The product of two values of the same shape."""
        one = self.chain(u, v.value, (v.lower, v.upper))
        terms, rest = self.sum_terms(one, self.chain(v, u.value, (u.lower, u.upper)))
        if u.value is None or v.value is None:
            lower, upper = interval_product((u.lower, u.upper), (v.lower, v.upper))
            result = Traced(u.shape, lower, upper, None)
        elif polynomials.product_count(u.value, v.value) > VALUE_LIMIT:
            lower, upper = interval_product((u.lower, u.upper), (v.lower, v.upper))
            result = self.fresh(u.shape, lower, upper, True)
        else:
            result = self.polynomial(u.shape, polynomials.multiply(u.value, v.value))
        return result._replace(terms=terms, rest=rest)

    def plus(self, u: Traced, v: Traced) -> Traced:
        """The sum of two values of the same shape."""
        terms, rest = self.sum_terms(u, v)
        if u.value is None or v.value is None:
            result = Traced(u.shape, u.lower + v.lower, u.upper + v.upper, None)
        elif polynomials.common_count([u.value, v.value]) > VALUE_LIMIT:
            result = self.fresh(u.shape, u.lower + v.lower, u.upper + v.upper, True)
        else:
            result = self.polynomial(u.shape, polynomials.add(u.value, v.value))
        return result._replace(terms=terms, rest=rest)

    def scaled(self, x: Traced, factor: Any) -> Traced:
        """The product with numbers, one or one for each unit."""
        factor = self.number(factor)
        every = factor * self.number(np.ones(x.units))
        ends = zero_times(every, x.lower), zero_times(every, x.upper)
        xp = space(*ends)
        result = Traced(x.shape, xp.minimum(*ends), xp.maximum(*ends), None)
        if x.value is not None:
            result = result._replace(value=x.value.scaled(every))
        derivative = self.chain(x, polynomials.constant(every), (every, every))
        return result._replace(terms=derivative.terms, rest=derivative.rest)

    def function(
        self,
        x: Traced,
        ends: tuple[Any, Any],
        slope: Callable[[Polynomial], Polynomial] | tuple[Any, Any],
        cut: float | None = None,
    ) -> Traced:
        """A nonlinear function of every unit.

        ``ends`` bound its value; ``slope`` is the slope as a polynomial of the value, or bounds of
        it; ``cut`` is the value where the range is cut for closer bounds.
        """
        made = self.fresh(x.shape, *ends, self.bounded(ends))
        if not x.terms and x.rest is None:
            return made
        if callable(slope) and made.value is not None:
            if cut is not None and made.value.symbols:
                xp, width = space(*ends), ends[1] - ends[0]
                safe = xp.where(width > 0, width, xp.ones_like(width))
                self.splits[made.value.symbols[0].name] = xp.clip((cut - ends[0]) / safe, 0.0, 1.0)
            factor = slope(made.value)
            bounds = polynomials.bounds(factor, self.splits)
        elif callable(slope):
            factor, bounds = None, (np.full(x.units, -np.inf), np.full(x.units, np.inf))
        else:
            factor, bounds = self.fresh(x.shape, *slope, self.bounded(slope)).value, slope
        derivative = self.chain(x, factor, bounds)
        return made._replace(terms=derivative.terms, rest=derivative.rest)

    # --- operations that move or mix elements --------------------------------------------------

    def structural(self, eqn: Any, operands: list[Any]) -> list[Any]:
        """What only moves elements: where they go is found by moving their numbers."""
        moved = MOVED.get(eqn.primitive.name, len(operands))
        values = [self.traced(v) for v in operands[:moved]]
        starts = np.cumsum([0, *(v.units for v in values)])
        with jax.ensure_compile_time_eval():
            numbers = [
                jnp.asarray(np.arange(a, b, dtype=np.int32).reshape(v.shape))
                for v, a, b in zip(values, starts[:-1], starts[1:], strict=True)
            ]
            places = [np.asarray(p) for p in evaluate(eqn, [*numbers, *operands[moved:]])]
        return [self.gathered(values, starts, place) for place in places]

    def gathered(self, values: list[Traced], starts: np.ndarray, place: np.ndarray) -> Traced:
        """An array of which each element is one of several arrays'."""
        flat, parts = place.reshape(-1), []
        if not flat.size:
            return self.take(values[0], flat, place.shape)
        for value, start, stop in zip(values, starts[:-1], starts[1:], strict=True):
            inside = (flat >= start) & (flat < stop)
            if inside.any():
                index = np.where(inside, flat - start, -1)
                parts.append(self.take(value, index, place.shape))
        result = parts[0]
        for part in parts[1:]:
            result = self.plus(result, part)
        return result

    def take(self, x: Traced, index: np.ndarray, shape: Any) -> Traced:
        """Other units of a value; zero where the index is -1."""
        safe, missing = np.where(index < 0, 0, index), index < 0

        def rows(values: Any) -> Any:
            found = values[safe]
            if not missing.any():
                return found
            shown = missing.reshape(-1, *[1] * (found.ndim - 1))
            return space(found).where(shown, space(found).zeros_like(found), found)

        terms = []
        for term in x.terms:
            if term.left is None and term.weights.constant:
                right = term.weights.coefficients[:, None] * term.right
                one = polynomials.constant(self.number(np.ones(len(index))))
                terms.append(term._replace(weights=one, right=rows(right)))
            elif term.left is None:
                weights = term.weights.take(index)
                terms.append(term._replace(weights=weights, right=rows(term.right)))
            else:
                terms.append(term._replace(left=rows(term.left)))
        if not self.tracing:
            # What came from elsewhere in a longer array has no rows here.
            terms = [t for t in terms if (t.right if t.left is None else t.left).any()]
        value = None if x.value is None else x.value.take(index)
        rest = None if x.rest is None else (rows(x.rest[0]), rows(x.rest[1]))
        return Traced(tuple(shape), rows(x.lower), rows(x.upper), value, tuple(terms), rest)

    def linear(self, eqn: Any, operands: list[Any]) -> Traced:
        """An operation that is linear in its one traced operand: as a matrix."""
        (which,) = [i for i, v in enumerate(operands) if isinstance(v, Traced)]
        x, shape = operands[which], eqn.outvars[0].aval.shape
        if eqn.primitive.name == "dot_general" and len(x.shape) == 1:
            other: Any = operands[1 - which]
            if np.ndim(other) == 2:  # the usual product; the way below does it, too, only slower
                contracted = eqn.params["dimension_numbers"][0][1 - which][0]
                return self.through(x, self.number(other if contracted else other.T), shape)
        others = [jnp.asarray(v) if i != which else v for i, v in enumerate(operands)]
        dtype = eqn.invars[which].aval.dtype

        def column(unit: Any) -> Any:
            given = list(others)
            given[which] = unit.reshape(x.shape)
            return evaluate(eqn, given)[0].reshape(-1)

        matrix = jax.vmap(column, out_axes=1)(jnp.eye(x.units, dtype=dtype))
        return self.through(x, self.number(matrix if self.tracing else np.asarray(matrix)), shape)

    def through(self, x: Traced, matrix: Any, shape: Any) -> Traced:
        """The product of a matrix with a value."""
        if x.value is None:
            positive, negative = matrix.clip(0), matrix.clip(None, 0)
            lower = zero_times(positive, x.lower) + zero_times(negative, x.upper)
            upper = zero_times(positive, x.upper) + zero_times(negative, x.lower)
            lower, upper = lower.sum(axis=1), upper.sum(axis=1)
            made = Traced(tuple(shape), lower, upper, None)
        else:
            lower, upper = mixed_bounds(matrix, (x.lower, x.upper))
            if x.value.constant:
                made = Traced(tuple(shape), lower, upper, polynomials.constant(lower))
            else:
                made = self.fresh(shape, lower, upper, True)
        one = polynomials.constant(self.number(np.ones(matrix.shape[0])))
        terms, rest = [], None
        for term in x.terms:
            if term.left is not None:
                terms.append(term._replace(left=matrix @ term.left))
            elif term.weights.constant:
                right = matrix @ (term.weights.coefficients[:, None] * term.right)
                terms.append(term._replace(weights=one, right=right))
            else:
                terms.append(term._replace(left=matrix))
        if x.rest is not None:
            rest = mixed_bounds(matrix, x.rest)
        return made._replace(terms=tuple(terms), rest=rest)


def _identity(eqn: Any, operands: list[Any]) -> Any:
    """What is the same for the same operation on the same operands: its symbols are then, too."""
    names = tuple(
        repr(v.val) if isinstance(v, Literal) else id(value)
        for v, value in zip(eqn.invars, operands, strict=True)
    )
    try:
        parameters = tuple(sorted(eqn.params.items()))
        hash(parameters)
    except TypeError:
        return id(eqn), names
    return eqn.primitive, names, parameters


def _plain(value: Any) -> Any:
    """A NumPy array where the value is an array of numbers."""
    return value if jnp.issubdtype(value.dtype, jax.dtypes.extended) else np.asarray(value)
