"""The best certificate that some theorem gives for a cell."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._cell import Cell
from .._enclosure import MatrixSet, Norm, NotEnclosed
from .._field import AbstractSemilinearField
from .._layer import AbstractLayer, Layer
from .._method import Euler
from .._method._solve import depends
from .._model import Model, replace
from .._results import InputError
from .._typing import Array
from ._certificate import TOLERANCE, Certificate, Rates, together
from ._conditions import rates_of_field
from ._jacobians import box_of_data, field_set, reachable, step_set
from ._region import Region, everywhere, state_size
from ._special import special_rates
from ._structural import structural_rates, unproven

ENCLOSURE = "enclosure of all step Jacobians by interval arithmetic (Moore 1966) in Bernstein form"
_WORST_CONDITION = 1e6
"""Metrics that distort more than this say too little in the usual norm."""


def certify(
    cell: Cell | Layer,
    region: "Region | str | Array | None" = None,
    norm: Norm | str | None = None,
) -> Certificate:
    """Return the best certificate that a theorem gives for the steps of a cell.

    Every theorem of the documentation that fits the cell's field and method is tried: what the
    structure of its field says of all parameter values, the conditions for known networks, bounds
    of the field's Jacobian with the method's radii, and an enclosure of the step's own Jacobian.
    Rates of several theorems in one norm are put together. It is about steps of the length ``dt``.

    **Arguments**: ``cell``, or a ``Layer`` with one; ``region``: "all" states and inputs,
    "reachable" from the initial state by any inputs, a ``Region`` (``box``, ``reachable``), or data
    of shape (time, input) or (batch, time, input) for the box that their states fill; by default
    "all", and "reachable" where that gives nothing better. ``norm``: "1", "2", "inf", a ``Norm``,
    or None for the one that gives most, weights and metrics included.

    Returns a ``Certificate``, which is false if no theorem applies. Best are those with ``upper <=
    1``, of these isometries, then those for all parameter values, then those with the longest
    ``horizon()``.

    >>> import jax, odernn
    >>> cell = odernn.zoo.coRNN(3, 8, key=jax.random.key(0))
    >>> small = jax.tree.map(lambda a: 0.1 * a, cell)
    >>> odernn.analysis.certify(small).upper < 1
    True

    Raises ``InputError`` for what is no cell, and for regions and norms that do not fit.
    """
    moved = isinstance(cell, Layer) and cell.initial_state is not None
    cell = _cell(cell)
    wanted = _wanted(norm)
    if moved and not isinstance(region, Region | None) and region != "all":
        raise InputError(
            "region: the layer starts from a state of its own, and reachable states and those on "
            "data are those from the cell's: give 'all', a box, or layer.cell."
        )
    if region is None:
        first = _best(cell, everywhere(cell), wanted)
        if moved or first.upper <= 1 + TOLERANCE:
            return first
        second = _best(cell, reachable(cell), wanted)
        return second if merit(second) > merit(first) else first
    return _best(cell, _region(cell, region), wanted)


def all_rates(cell: Cell, region: Region, norm: Norm | None = None) -> list[Rates]:
    """Return what each theorem says, in each norm that is tried; empty if none applies."""
    return list(_rates(cell, region, norm, []))


def _best(cell: Cell, region: Region, norm: Norm | None) -> Certificate:
    reasons: list[str] = []
    found = [r for r in _rates(cell, region, norm, reasons) if r.lower > 0 or r.upper < math.inf]
    certificates = [certificate_of(cell, region, rates) for rates in _combined(found)]
    if not certificates:
        final = unproven(cell)
        why = final or "; ".join(dict.fromkeys(reasons))
        why = why or "the Jacobian is unbounded on this region"
        helps = not final and not region.bounded_inputs
        hint = " Try a box of states and inputs, or data." if helps else ""
        return Certificate(
            0.0,
            math.inf,
            norm or Norm("2"),
            "none",
            (f"no theorem applies: {why}.{hint}",),
            region.text,
            False,
            float(cell.step_size),
        )
    best = max(certificates, key=merit)
    if best.dt_max is None and best.upper <= 1 + TOLERANCE and best.theorem.startswith(ENCLOSURE):
        best = dataclasses.replace(best, dt_max=_largest_step(cell, region, best.norm))
    return best


def merit(certificate: Certificate) -> tuple[Any, ...]:
    """Return what makes one certificate better than another, in the order of its weight."""
    if not certificate:
        return (False, False, False, -math.inf)
    return (
        certificate.upper <= 1 + TOLERANCE,
        certificate.horizon() == math.inf,
        certificate.upper <= 1 + TOLERANCE and certificate.structural,
        certificate.horizon(),
        -round(certificate.upper, 6),
        certificate.norm.scale is None,
        certificate.lower,
    )


def certificate_of(cell: Cell, region: Region, rates: Rates) -> Certificate:
    """Return what a theorem says, as the certificate of a cell on a region."""
    return Certificate(
        lower=rates.lower,
        upper=rates.upper,
        norm=rates.norm,
        theorem=rates.theorem,
        assumptions=rates.assumptions,
        region=region.text,
        structural=rates.structural,
        dt=float(cell.step_size),
        dt_max=rates.dt_max,
    )


def _combined(rates: Iterable[Rates]) -> Iterator[Rates]:
    """The single statements, and for each norm the best two ends together."""
    groups: dict[Any, list[Rates]] = {}
    for each in rates:
        yield each
        scale = None if each.norm.scale is None else each.norm.scale.tobytes()
        groups.setdefault((each.norm.kind, scale), []).append(each)
    for group in groups.values():
        upper, lower = min(group, key=lambda r: r.upper), max(group, key=lambda r: r.lower)
        if lower.lower > upper.lower:
            yield together(upper, lower)


# --- theorems ----------------------------------------------------------------------------------


def _rates(cell: Cell, region: Region, norm: Norm | None, reasons: list[str]) -> Iterator[Rates]:
    named = [*structural_rates(cell, region, float(cell.step_size)), *special_rates(cell, region)]
    yield from (rates for rates in named if norm is None or rates.norm.same(norm))
    yield from _field_rates(cell, region, norm, reasons)
    yield from _step_rates(cell, region, norm, reasons)


def _field_rates(
    cell: Cell, region: Region, norm: Norm | None, reasons: list[str]
) -> Iterator[Rates]:
    """Bounds of the field's Jacobian with the radii of the method.

    Euler's method asks the field at the state itself, others at stages that may lie outside of the
    region's states: their bounds are those for all states.
    """
    if not isinstance(cell.method, Euler):
        everything = everywhere(cell)
        region = dataclasses.replace(
            region, state_lower=everything.state_lower, state_upper=everything.state_upper
        )
    try:
        matrices = field_set(cell, region)
    except NotEnclosed as error:
        reasons.append(str(error))
        return
    norms = [Norm("2"), Norm("inf"), Norm("1")] if norm is None else [norm]
    linear, dt = _is_linear(cell.field), float(cell.step_size)
    for each in norms:
        for rates in rates_of_field(matrices, cell.method, dt, each, linear=linear):
            if norm is None or rates.norm.same(norm):
                yield rates


def _is_linear(field: Any) -> bool:
    """Whether the field is its constant linear part and inputs."""
    if not isinstance(field, AbstractSemilinearField):
        return False
    u = eqx.filter_eval_shape(field.drive, jax.ShapeDtypeStruct((field.input_size,), field.dtype))
    y = eqx.filter_eval_shape(field.initial_state)
    return not depends(lambda y, u: field.rest(0.0, y, u), y, u)


def _step_rates(
    cell: Cell, region: Region, norm: Norm | None, reasons: list[str]
) -> Iterator[Rates]:
    """The enclosure of the step's own Jacobian."""
    try:
        matrices = step_set(cell, region)
    except NotEnclosed as error:
        reasons.append(str(error))
        return
    for each in [norm] if norm is not None else _norms(matrices):
        upper, lower = matrices.norm(each), matrices.lowest(each)
        if upper == math.inf and lower == 0:
            continue
        assumptions = ("derivatives where the step has them",)
        yield Rates(each, ENCLOSURE, lower, upper, assumptions)


def _norms(matrices: MatrixSet) -> Iterator[Norm]:
    """Norms worth trying: the usual ones, weighted ones and metrics fitted to the set."""
    yield from (Norm("2"), Norm("inf"), Norm("1"))
    magnitudes = matrices.magnitudes
    if not np.isfinite(magnitudes).all():
        return
    columns = _weights(matrices)
    yield Norm("inf", 1 / columns)
    rows = _perron(magnitudes.T)
    yield Norm("1", rows)
    yield Norm("2", np.sqrt(rows / columns))
    metric = _metric(matrices.center)
    if metric is not None:
        yield Norm("2", metric)


def _weights(matrices: MatrixSet) -> np.ndarray:
    """Weights of the maximum norm for which the largest row is small: a nonlinear Perron vector.

    The row sums are a monotone, homogeneous function of the weights, of which this is the power
    method; the best weights seen are kept.
    """
    columns = _perron(matrices.magnitudes)
    best, kept = math.inf, columns
    for _ in range(12):
        rows = matrices.row_sums(columns)
        rate = float((rows / columns).max())
        if rate < best:
            best, kept = rate, columns
        columns = np.sqrt(columns * np.maximum(rows, 1e-9 * rows.max()))
        columns = columns / columns.max()
        if columns.min() < 1 / _WORST_CONDITION:
            break
    return kept


def _perron(matrix: np.ndarray) -> np.ndarray:
    """A positive vector v with ``matrix v`` about ``rho v``."""
    size = len(matrix)
    shifted = matrix + 1e-4 * (matrix.sum() / size**2 + 1e-12) + 1e-3 * np.eye(size) * matrix.max()
    vector = np.ones(size)
    for _ in range(300):
        vector = shifted @ vector
        vector = vector / vector.max()
    return np.maximum(vector, 1e-5)


def _metric(center: np.ndarray) -> np.ndarray | None:
    """T with ``||T C T^-1|| < 1`` for the matrix in the middle, if it is stable (Lyapunov)."""
    from scipy.linalg import solve_discrete_lyapunov

    radius = float(abs(np.linalg.eigvals(center)).max())
    if not 0 < radius < 1 - 1e-9:
        return None
    # Between its spectral radius and one: the closer to the radius, the worse the condition.
    scaled = center / math.sqrt(radius)
    try:
        solution = solve_discrete_lyapunov(scaled.T, np.eye(len(center)))
        metric = np.linalg.cholesky((solution + solution.T) / 2).T
    except (np.linalg.LinAlgError, ValueError):
        return None
    return metric if np.linalg.cond(metric) < _WORST_CONDITION else None


def _largest_step(cell: Cell, region: Region, norm: Norm) -> float:
    """The largest step size for which the enclosure stays at most one in this norm."""

    def holds(dt: float) -> bool:
        try:
            return step_set(replace(cell, dt=dt), region).norm(norm) <= 1 + TOLERANCE
        except NotEnclosed:
            return False

    low = float(cell.step_size)
    high = 2 * low
    while holds(high):
        low, high = high, 2 * high
        if high > 1e6 * float(cell.step_size):
            return math.inf
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


# --- arguments ---------------------------------------------------------------------------------


def _cell(cell: Any) -> Cell:
    cell = cell.cell if isinstance(cell, Layer) else cell
    if isinstance(cell, Cell):
        return cell
    kind = type(cell).__name__
    if isinstance(cell, Model | AbstractLayer):
        raise InputError(
            f"cell is a {kind}: each layer in it has a certificate of its own; take one of them, "
            "model.layers[0].cell say."
        )
    raise InputError(f"cell is a {kind}: give a Cell, or a Layer with one.")


def _wanted(norm: Norm | str | None) -> Norm | None:
    if norm is None:
        return None
    if isinstance(norm, Norm) and norm.kind in ("1", "2", "inf"):
        if norm.kind != "2" and norm.scale is not None and norm.scale.ndim != 1:
            raise InputError(f"norm: a {norm.kind}-norm takes weights, a matrix only the 2-norm.")
        return norm
    if norm in ("1", "2", "inf"):
        return Norm(norm)  # type: ignore[arg-type]
    raise InputError(f"norm = {norm!r}: give '1', '2', 'inf', a Norm, or None for the best.")


def _region(cell: Cell, region: Any) -> Region:
    if isinstance(region, Region):
        size = state_size(cell)
        if len(region.state_lower) != size or len(region.input_lower) != cell.input_size:
            raise InputError(
                f"region has {len(region.state_lower)} states and {len(region.input_lower)} inputs,"
                f" the cell {size} and {cell.input_size}: make it of this cell."
            )
        return region
    if isinstance(region, str):
        made: dict[str, Callable[[Cell], Region]] = {"all": everywhere, "reachable": reachable}
        if region in made:
            return made[region](cell)
        raise InputError(f"region = {region!r}: give 'all', 'reachable', a Region or data.")
    if hasattr(region, "shape") or isinstance(region, list | tuple):
        return box_of_data(cell, np.asarray(region))
    raise InputError(f"region = {region!r}: give 'all', 'reachable', a Region or data.")
