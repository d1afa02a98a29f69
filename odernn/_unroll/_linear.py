"""Linear programs: the transposed derivative of one step, reduced to few operations.

The pullback of a step is a linear map whose coefficients depend on the state. JAX's program for it
is a long chain of elementwise products. Here each value of that program is kept as a sum of
``coefficient * base`` as long as only elementwise operations meet it, so that chains fold into one
coefficient each. The coefficients of all steps are then computed in one batched call, and what is
left for the sequential loop is one product per coefficient and the matrix products.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal


@dataclass(frozen=True)
class _Sum:
    """A linear value: the sum of ``coefficient * base``; the coefficient None is one."""

    terms: dict[int, Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Pieces:
    """A linear value made by concatenation: coefficients are pushed into the pieces."""

    parts: tuple["_Linear", ...]
    axis: int
    shape: tuple[int, ...]


_Linear = _Sum | _Pieces


@dataclass
class Program:
    """What is left of a linear map when its coefficients are known.

    Values are numbered: first the arguments, then the result of each instruction in turn.
    """

    arguments: int
    instructions: list[Callable] = field(default_factory=list)
    results: list[int | None] = field(default_factory=list)
    shapes: list[tuple[tuple[int, ...], Any]] = field(default_factory=list)

    def __call__(self, coefficients: list, arguments: list) -> list:
        """Evaluate the map: one result for each, zeros where a result depends on nothing."""
        values = list(arguments)
        for instruction in self.instructions:
            values.extend(instruction(coefficients, values))
        return [
            jnp.zeros(*shape) if i is None else values[i]
            for i, shape in zip(self.results, self.shapes, strict=True)
        ]


def fold(linear: ClosedJaxpr) -> tuple[list, Program]:
    """Reduce a linear program; return its coefficients (traced values) and what is left."""
    folding = _Folding(len(linear.jaxpr.invars))
    arguments = [_Sum({i: None}, v.aval.shape) for i, v in enumerate(linear.jaxpr.invars)]
    results = folding.run(linear.jaxpr, linear.consts, arguments)
    for value, var in zip(results, linear.jaxpr.outvars, strict=True):
        index = folding.materialise(value) if _is_linear(value) else None
        folding.program.results.append(index)
        folding.program.shapes.append((var.aval.shape, var.aval.dtype))
    return folding.coefficients, folding.program


def evaluate(eqn: JaxprEqn, values: list) -> list:
    """Evaluate one equation of a program."""
    results = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    return list(results) if eqn.primitive.multiple_results else [results]


_CALLS = {
    **dict.fromkeys(("jit", "pjit", "checkpoint", "remat", "remat2"), "jaxpr"),
    **dict.fromkeys(
        ("closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"
    ),
}
"""Operations that stand for a program, and the parameter that has it."""


def program_of_call(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """Return the program that a call stands for; None of other operations."""
    found = eqn.params.get(_CALLS.get(eqn.primitive.name, ""))
    return ClosedJaxpr(found, ()) if isinstance(found, Jaxpr) else found


def turned(eqn: JaxprEqn, position: int, *, along: int) -> JaxprEqn | None:
    """Return the same product with its matrix transposed; None if it is another operation.

    The matrix is the operand at ``position``, contracted along the given one of its axes.
    """
    if eqn.primitive.name != "dot_general":
        return None
    contracted, batch = eqn.params["dimension_numbers"]
    axes: Any = eqn.invars[position].aval
    if axes.ndim != 2 or tuple(contracted[position]) != (along,) or any(batch):
        return None
    sides = list(contracted)
    sides[position] = (1 - along,)
    return eqn.replace(params={**eqn.params, "dimension_numbers": (tuple(sides), batch)})


def inner_program(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """Return the program of a nested ``jit``, which can be read in place of the call."""
    return eqn.params["jaxpr"] if eqn.primitive.name in ("jit", "pjit") else None


class _Folding:
    """One pass over a linear program."""

    def __init__(self, arguments: int):
        self.program = Program(arguments)
        self.coefficients: list = []
        self.values = arguments

    def run(self, jaxpr: Jaxpr, consts: list, arguments: list) -> list:
        environment = dict(
            zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True)
        )
        uses = _uses(jaxpr)

        def get(var):
            return var.val if isinstance(var, Literal) else environment[var]

        for eqn in jaxpr.eqns:
            values = [get(v) for v in eqn.invars]
            inner = inner_program(eqn)
            if inner is not None:
                results = self.run(inner.jaxpr, inner.consts, values)
            elif any(map(_is_linear, values)):
                results = self.apply(eqn, values)
            else:
                results = evaluate(eqn, values)
            for var, value in zip(eqn.outvars, results, strict=True):
                # A sum that is used more than once is cheaper as a value of its own.
                shared = _is_linear(value) and uses.get(var, 0) > 1
                environment[var] = self.share(value) if shared else value
        return [get(v) for v in jaxpr.outvars]

    def apply(self, eqn: JaxprEqn, values: list) -> list:
        """Apply an operation with a linear operand, symbolically where that is possible."""
        rule = _RULES.get(eqn.primitive.name)
        result = rule(eqn, values) if rule else None
        if result is not None:
            return [result]
        for i, value in enumerate(values):
            # A sequential loop multiplies faster with a matrix that is contracted along its rows.
            product = None if _is_linear(value) else turned(eqn, i, along=1)
            if product is not None:
                eqn, values = product, [*values[:i], value.T, *values[i + 1 :]]
        operands = [
            (True, self.materialise(v)) if _is_linear(v) else (False, self.coefficient(v))
            for v in values
        ]

        def instruction(coefficients, bases):
            return evaluate(eqn, [(bases if lin else coefficients)[i] for lin, i in operands])

        first = self.emit(instruction, len(eqn.outvars))
        return [_Sum({first + i: None}, _result(eqn, i).shape) for i in range(len(eqn.outvars))]

    def share(self, value: _Linear) -> _Linear:
        if isinstance(value, _Pieces):
            return _Pieces(tuple(map(self.share, value.parts)), value.axis, value.shape)
        if len(value.terms) == 1:
            return value
        return _Sum({self.materialise(value): None}, value.shape)

    def materialise(self, value: _Linear) -> int:
        """Return the number of the value, with an instruction that computes it if need be."""
        if isinstance(value, _Pieces):
            parts, axis = [self.materialise(p) for p in value.parts], value.axis
            return self.emit(lambda _, v: [jnp.concatenate([v[i] for i in parts], axis)], 1)
        if len(value.terms) == 1 and next(iter(value.terms.values())) is None:
            return next(iter(value.terms))
        terms = [(b, None if c is None else self.coefficient(c)) for b, c in value.terms.items()]

        def instruction(coefficients, values):
            products = [values[b] if c is None else values[b] * coefficients[c] for b, c in terms]
            return [sum(products[1:], products[0])]

        return self.emit(instruction, 1)

    def coefficient(self, value: Any) -> int:
        self.coefficients.append(jnp.asarray(value))
        return len(self.coefficients) - 1

    def emit(self, instruction: Callable, results: int) -> int:
        self.program.instructions.append(instruction)
        self.values += results
        return self.values - results


def _is_linear(value: Any) -> bool:
    return isinstance(value, _Sum | _Pieces)


def _result(eqn: JaxprEqn, i: int = 0) -> Any:
    """Shape and dtype of a result."""
    return eqn.outvars[i].aval


def _uses(jaxpr: Jaxpr) -> dict:
    uses: dict = {}
    for var in [v for eqn in jaxpr.eqns for v in eqn.invars] + list(jaxpr.outvars):
        if not isinstance(var, Literal):
            uses[var] = uses.get(var, 0) + 1
    return uses


def _scale(value: _Linear, factor: Any) -> _Linear:
    if isinstance(value, _Sum):
        terms = {b: factor if c is None else c * factor for b, c in value.terms.items()}
        return _Sum(terms, value.shape)
    factors = [factor] * len(value.parts)
    # A factor may have one entry along the axis, for all pieces.
    if np.ndim(factor) and np.shape(factor)[value.axis] > 1:
        cuts = np.cumsum([part.shape[value.axis] for part in value.parts])[:-1]
        factors = jnp.split(factor, [int(cut) for cut in cuts], value.axis)
    parts = tuple(_scale(p, f) for p, f in zip(value.parts, factors, strict=True))
    return _Pieces(parts, value.axis, value.shape)


def _add(a: _Linear, b: _Linear) -> _Linear | None:
    if isinstance(a, _Sum) and isinstance(b, _Sum):
        terms = dict(a.terms)
        for base, c in b.terms.items():
            if base in terms:
                # Two plain occurrences of one base: 1 + 1.
                c = (1.0 if terms[base] is None else terms[base]) + (1.0 if c is None else c)
            terms[base] = c
        return _Sum(terms, a.shape)
    if not (isinstance(a, _Pieces) and isinstance(b, _Pieces) and a.axis == b.axis):
        return None
    if [p.shape for p in a.parts] != [p.shape for p in b.parts]:
        return None
    parts = [_add(p, q) for p, q in zip(a.parts, b.parts, strict=True)]
    known = tuple(p for p in parts if p is not None)
    return _Pieces(known, a.axis, a.shape) if len(known) == len(parts) else None


def _mul_rule(eqn: JaxprEqn, values: list) -> _Linear | None:
    value, factor = values if _is_linear(values[0]) else values[::-1]
    fits = not _is_linear(factor) and value.shape == _result(eqn).shape
    return _scale(value, factor) if fits else None


def _div_rule(eqn: JaxprEqn, values: list) -> _Linear | None:
    value, divisor = values
    fits = not _is_linear(divisor) and value.shape == _result(eqn).shape
    return _scale(value, 1 / divisor) if fits else None


def _neg_rule(eqn: JaxprEqn, values: list) -> _Linear:
    return _scale(values[0], np.array(-1, _result(eqn).dtype))


def _add_rule(eqn: JaxprEqn, values: list) -> _Linear | None:
    if not all(map(_is_linear, values)) or values[0].shape != values[1].shape:
        return None
    return _add(*values)


def _sub_rule(eqn: JaxprEqn, values: list) -> _Linear | None:
    if not all(map(_is_linear, values)) or values[0].shape != values[1].shape:
        return None
    return _add(values[0], _neg_rule(eqn, values[1:]))


def _select_rule(eqn: JaxprEqn, values: list) -> _Linear | None:
    """``where(p, a, b)`` is ``p.a + (1-p).b``; an operand that is not linear is zero."""
    which, *cases = values
    shape, dtype = _result(eqn).shape, _result(eqn).dtype
    if len(cases) != 2 or np.shape(which) not in ((), shape) or which.dtype != np.bool_:
        return None
    chosen = [jnp.asarray(~which, dtype), jnp.asarray(which, dtype)]
    scaled = [_scale(c, p) for c, p in zip(cases, chosen, strict=True) if _is_linear(c)]
    return scaled[0] if len(scaled) == 1 else _add(*scaled)


def _concatenate_rule(eqn: JaxprEqn, values: list) -> _Linear | None:
    if not all(map(_is_linear, values)):
        return None
    return _Pieces(tuple(values), eqn.params["dimension"], _result(eqn).shape)


_RULES: dict[str, Callable[[JaxprEqn, list], _Linear | None]] = {
    "mul": _mul_rule,
    "div": _div_rule,
    "neg": _neg_rule,
    "add": _add_rule,
    "add_any": _add_rule,
    "sub": _sub_rule,
    "select_n": _select_rule,
    "concatenate": _concatenate_rule,
}
