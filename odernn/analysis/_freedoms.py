"""What is free at the start of a cell: time scales, spectrum, damping, step size, method."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._cell import Cell, TrainedStep
from .._field import (
    AbstractCertifiedField,
    AbstractField,
    AbstractRelaxationField,
    AbstractSemilinearField,
    example_drive,
)
from .._initial import orthogonal
from .._method import RK4, ImplicitMidpoint
from .._operator import Diagonal
from .._typing import Array, Float
from ._measure import layout

Kind = Literal["dt", "method", "damping", "initialisation", "time scale"]
Module = TypeVar("Module", bound=eqx.Module)

NUMBERS: dict[str, tuple[Kind, float, float]] = {
    "epsilon": ("damping", 1e-4, math.inf),
    "gamma": ("damping", 0.0, math.inf),
    "damping": ("damping", 0.0, math.inf),
    "alpha": ("time scale", 0.0, 1.0),
    "mu": ("time scale", 0.0, 1.0),
    "theta": ("time scale", 1e-4, math.inf),
}
"""Fixed numbers of a field that say how fast it forgets, and between what values they do so.

A damping is a rate, alpha and mu are the share that is kept, theta is a length in steps. An epsilon
below its range keeps code from dividing by zero.
"""
STAGES = 24
"""Pieces of the path along which biases are moved."""


class Freedom(NamedTuple):
    """One number x that a cell can be changed by; ``points`` are its values to try first.

    They begin at the smallest change. ``words`` says what the change is.
    """

    kind: Kind
    points: tuple[float, ...]
    change: Callable[[float], Cell]
    words: Callable[[float, Cell], str]


def freedoms(cell: Cell, own: float, wanted: int, key: Any) -> Iterator[Freedom]:
    """Yield what is free in a cell, in the order of how little of the network it changes.

    ``own`` is the logarithm of the gradient at the wanted lag: its sign says where to go.
    """
    if own < 0:
        yield from _time_scales(cell, wanted)
    yield from _spectrum(cell, own, wanted, key)
    yield from _numbers(cell, own, wanted)
    yield _step_size(cell)
    if own > 0:
        for name, method in (("rk4", RK4()), ("implicitmidpoint", ImplicitMidpoint())):
            if method.fits(cell.field) and type(method) is not type(cell.method):
                changed = Cell(cell.field, method, cell.dt, cell.interpolation)
                text = f"method = {name}"
                yield Freedom("method", (0.0,), lambda x, c=changed: c, lambda x, c, t=text: t)


def with_values(module: Module, values: dict[str, Any]) -> Module:
    """Return a field or cell with other values, of arrays or of fixed numbers."""
    changed = object.__new__(type(module))
    for entry in dataclasses.fields(module):
        value = values.get(entry.name, getattr(module, entry.name))
        # A module is frozen, and its constructor would draw all weights anew.
        object.__setattr__(changed, entry.name, value)
    return changed


def numbers(field: AbstractField) -> dict[str, float]:
    """Return the fixed numbers of a field that are free, by name.

    Those of a certified field are the certificate's.
    """
    if isinstance(field, AbstractCertifiedField):
        return {}
    names = {entry.name for entry in dataclasses.fields(field)} & NUMBERS.keys()
    values = {name: getattr(field, name) for name in sorted(names)}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, float) and NUMBERS[name][1] <= value < NUMBERS[name][2]
    }


def _with_field(cell: Cell, values: dict[str, Any]) -> Cell:
    return Cell(with_values(cell.field, values), cell.method, cell.dt, cell.interpolation)


# --- Time scales ---------------------------------------------------------------------------------


def _time_scales(cell: Cell, wanted: int) -> Iterator[Freedom]:
    """Parameters by which units are slowed down one by one: the biases of gates, time constants.

    They are found by the derivatives of the rates at which units relax. The factors are spread
    evenly in the logarithm over the units: chrono initialisation without chance.
    """
    field, vectors = cell.field, _vectors(cell.field)
    if not vectors:
        return
    none = dict.fromkeys(vectors, 0.0)
    # Rates that a relaxation does not show are those of the field itself.
    for relaxing in (True, False)[not isinstance(field, AbstractRelaxationField) :]:
        found = _slowed(field, vectors, none, relaxing)
        sizes = {name: float(jnp.max(jnp.abs(slope))) for name, slope in found.slopes.items()}
        names = sorted((n for n in vectors if sizes[n] > 0.05), key=lambda n: -sizes[n])
        if names:
            break
    else:
        return
    points = tuple(math.log(max(1.0, wanted / 8) * 2**k) for k in range(1, 10))
    for name in names:

        def slowed(x: float, name: str = name) -> Slowed:
            return _slowed(field, vectors, none | {name: x}, relaxing)

        def words(x: float, changed: Cell, name: str = name) -> str:
            slow = 1 / (float(slowed(x, name).slowest) * float(cell.step_size))
            return f"{name} for time constants up to {slow:.3g} steps"

        yield Freedom(
            "time scale",
            points,
            lambda x, name=name: _with_field(cell, {name: slowed(x, name).values[name]}),
            words,
        )


def _vectors(field: AbstractField) -> dict[str, Array]:
    """Trained parameters that may belong to single units, by name."""
    values = {
        entry.name: getattr(field, entry.name)
        for entry in dataclasses.fields(field)
        if entry.name not in field.fixed and not re.search("input|encoder", entry.name)
    }
    return {n: a for n, a in values.items() if eqx.is_array(a) and a.ndim < 2 and _is_real(a)}


def _is_real(array: Array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)


class Slowed(NamedTuple):
    """Parameters on the way; what rates depended on, at its start; the slowest rate at its end."""

    values: dict[str, Array]
    slopes: dict[str, Array]
    slowest: Array


def _slowed(
    field: AbstractField, start: dict[str, Array], lengths: dict[str, float], relaxing: bool
) -> Slowed:
    # Arrays, so that another length is no other program.
    return _path(field, start, {n: jnp.asarray(x) for n, x in lengths.items()}, relaxing)


@eqx.filter_jit
def _path(
    field: AbstractField, start: dict[str, Array], lengths: dict[str, Array], relaxing: bool
) -> Slowed:
    """Move parameters until the rates have fallen by factors ``exp(length q)``, q in (0, 1].

    By small pieces: the rates may be any functions of the parameters.
    """

    def logs(values: dict[str, Array]) -> Array:
        rates = _rates(with_values(field, values), relaxing)
        return jnp.log(jnp.where(rates > 0, rates, 1))

    def slopes(values: dict[str, Array]) -> dict[str, Array]:
        return jax.grad(lambda v: jnp.sum(logs(v)))(values)

    first, pieces = slopes(start), {}
    for name, value in start.items():
        moved = jnp.abs(first[name]) > 0.1 * jnp.max(jnp.abs(first[name]))
        # Several rates may depend on one number.
        along = {n: jnp.zeros_like(a) for n, a in start.items()} | {name: jnp.sign(first[name])}
        depend = jnp.count_nonzero(jax.jvp(logs, (start,), (along,))[1])
        each = (depend / jnp.maximum(jnp.count_nonzero(moved), 1)).astype(value.dtype)
        width = field.hidden_size if value.size % field.hidden_size == 0 else value.size
        spread = (np.arange(value.size) % width + 1) / width
        piece = lengths[name].astype(value.dtype) / STAGES * each
        pieces[name] = jnp.where(moved, piece * spread.reshape(value.shape).astype(value.dtype), 0)

    def turn(i: Any, values: dict[str, Array]) -> dict[str, Array]:
        def move(value: Array, slope: Array, piece: Array) -> Array:
            usable = (jnp.abs(slope) > 1e-6) & (piece != 0)
            return value - jnp.where(usable, piece / jnp.where(usable, slope, 1), 0)

        return jax.tree.map(move, values, slopes(values), pieces)

    values = lax.fori_loop(0, STAGES, turn, start)
    return Slowed(values, first, jnp.exp(jnp.min(logs(values))))


def _rates(field: AbstractField, relaxing: bool) -> Float[Array, " states"]:
    """Return how fast the components of the start state relax, without input and connections."""
    y, u = field.initial_state(), example_drive(field)
    form = layout(y)
    if relaxing and isinstance(field, AbstractRelaxationField):
        return form.split(field.relaxation(0.0, y, u)[0])[0]
    if isinstance(field, AbstractSemilinearField):
        operator = field.linear()
        if isinstance(operator, Diagonal) and jnp.ndim(operator.values):
            return -jnp.real(operator.values).ravel()
    alone = {
        entry.name: jnp.zeros_like(value)
        for entry in dataclasses.fields(field)
        if eqx.is_array(value := getattr(field, entry.name))
        and value.ndim == 2
        and "input" not in entry.name
    }
    field = with_values(field, alone)
    vector, rest = form.split(y)
    slope = jax.jacfwd(lambda v: form.split(field(0.0, form.join(v, rest), u))[0])(vector)
    return -jnp.diagonal(slope)


# --- Spectrum ------------------------------------------------------------------------------------


def _spectrum(cell: Cell, own: float, wanted: int, key: Any) -> Iterator[Freedom]:
    """The recurrent matrices: orthogonal ones, or its own, times a number."""
    field: Any = cell.field
    names = _recurrent(field)
    if not names:
        return
    drawn = {
        name: orthogonal(k, getattr(field, name).shape, field).astype(getattr(field, name).dtype)
        for k, name in zip(jax.random.split(key, len(names)), names, strict=True)
    }
    sign = -math.copysign(1.0, own)
    steps = tuple(sign * step for step in (0.1, 0.2, 0.4, 0.8, 1.2))

    def scaled(x: float, matrices: dict[str, Array]) -> Cell:
        return _with_field(
            cell, {n: a * jnp.asarray(math.exp(x), a.dtype) for n, a in matrices.items()}
        )

    yield Freedom(
        "initialisation",
        (0.0, *steps),
        lambda x: scaled(x, drawn),
        lambda x, c: "orthogonal recurrent weights" + (f" x {math.exp(x):.3g}" if x else ""),
    )
    kept = {name: getattr(field, name) for name in names}
    yield Freedom(
        "initialisation",
        steps,
        lambda x: scaled(x, kept),
        lambda x, c: f"recurrent weights x {math.exp(x):.3g}",
    )


def _recurrent(field: AbstractField) -> list[str]:
    """Trained matrices from hidden units to as many or more: units, packed gates, a layer."""
    found = []
    for entry in dataclasses.fields(field):
        value = getattr(field, entry.name)
        if entry.name in field.fixed or not eqx.is_array(value) or value.ndim != 2:
            continue
        if re.search("input|encoder|output", entry.name) or not _is_real(value):
            continue
        if value.shape[0] == field.hidden_size <= value.shape[1]:
            found.append(entry.name)
    return found


# --- Fixed numbers, step size --------------------------------------------------------------------


def _numbers(cell: Cell, own: float, wanted: int) -> Iterator[Freedom]:
    """Damping, the share that is kept, the length of a window."""
    # The growth per unit of time: what a damping has to make up for, if all is proportional to it.
    rate = min(max(own / wanted, -700.0), 700.0) / float(cell.step_size)
    for name, value in numbers(cell.field).items():
        kind, _, highest = NUMBERS[name]
        if kind == "damping" and own < 0:
            points = [value * (1 - part) for part in (0.25, 0.5, 0.75, 1) if value]
        elif kind == "damping":
            points = [value + rate * part for part in (0.5, 1, 2, 4, 8)]
        else:
            factors = [2.0 ** math.copysign(k, own) for k in range(1, 11)]
            points = [1 - (1 - value) * f if highest == 1 else value / f for f in factors]
            points = [point for point in points if 0 <= point < highest]
        if points:
            yield Freedom(
                kind,
                tuple(points),
                lambda x, name=name: _with_field(cell, {name: float(f"{x:.6g}")}),
                lambda x, c, name=name: f"{name} = {x:.6g}",
            )


def _step_size(cell: Cell) -> Freedom:
    dt = float(cell.step_size)

    def change(x: float) -> Cell:
        new = float(f"{dt * math.exp(x):.3g}")
        kept = TrainedStep(new) if isinstance(cell.dt, TrainedStep) else new
        return Cell(cell.field, cell.method, kept, cell.interpolation)

    points = tuple(-k * math.log(2) for k in range(1, 15))
    return Freedom("dt", points, change, lambda x, c: f"dt = {float(c.step_size):.3g}")
