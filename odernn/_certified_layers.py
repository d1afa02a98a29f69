"""Certificates of the cells of a model, each for what its layer is fed with."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._cell import Cell
from ._enclosure import Norm, NotEnclosed, enclose
from ._layer import Bidirectional, Layer, Stack
from ._model import Model
from ._results import InputError
from ._target import Sequences, in_order
from .analysis._certificate import TOLERANCE, Certificate, together
from .analysis._certify import all_rates, certificate_of, certify, merit
from .analysis._jacobians import box_of_data, reachable
from .analysis._region import Region, box, everywhere, state_size

Choice: TypeAlias = Literal["all", "reachable", "data"]
Fed: TypeAlias = tuple[np.ndarray, ...]
"""Bounds of what a layer is fed with, or the data themselves; channels are the last axis."""

_NUMBERS = 2**26
"""States of a data set that are looked at, as numbers: they are in memory at once."""


class Found(NamedTuple):
    """A cell of a model, its place, and its certificate on a region."""

    place: str
    cell: Cell
    region: Region
    certificate: Certificate


class Wanted(NamedTuple):
    """A number of steps, and the factor that gradients may lose or gain over them."""

    horizon: int
    kappa: float


class _Visit(Protocol):
    """Looks at a layer with what it is fed; returns what it puts out, if that is needed."""

    def __call__(self, layer: Layer, place: str, fed: Fed, needed: bool, /) -> Fed: ...


def certify_layers(
    model: Any,
    *,
    region: Choice | None = None,
    bound: float = math.inf,
    norm: Norm | None = None,
    data: Sequences | None = None,
    wanted: Wanted | None = None,
    report: Callable[[str, float], None] = lambda place, share: None,
) -> list[Found]:
    """Return a certificate for each cell of a model, layer or cell.

    Arguments:
        model: a `Model`, a layer, or a `Cell`.
        region: "all" states; those "reachable" by inputs within the bound, in a layer above the
            first by what the layer below puts out; the box that "data" fill; None: all, or
            reachable if that says more.
        bound: of the inputs of the first layer, [-bound, bound].
        norm: None for the one that gives most.
        data: what the first layer reads, for the region "data".
        wanted: a horizon for which any theorem will do, if the best certificate lacks it.
        report: called with the place and the share that is done.

    Raises:
        InputError: there is no cell; or a state to start from that was trained, from which nothing
            is said about what can be reached.
    """
    found: list[Found] = []
    model = Layer(model) if isinstance(model, Cell) else model
    size = getattr(model, "input_size", 1)
    given: Fed = (np.full(size, -bound), np.full(size, bound))

    def by_bounds(layer: Layer, place: str, fed: Fed, needed: bool) -> Fed:
        report(place, 0.0)
        if region == "reachable":
            _check_start(layer, region)
        certificate, where = _by_bounds(layer, region, fed, norm, wanted)
        if fed is not given and np.isfinite(fed).all():
            words = f"{where.text} (what the layer below puts out)"
            certificate = dataclasses.replace(certificate, region=words)
        found.append(Found(place, layer.cell, where, certificate))
        report(place, 1.0)
        known = needed and region != "all" and layer.initial_state is None
        return _put_out(layer.cell, fed) if known else _without_bounds(layer.hidden_size)

    if region != "data" or data is None:
        _through(model, given, False, by_bounds)
        return found
    inputs = _as_many_as_fit(model, data)
    words = f"{len(inputs)} sequences ({data.text})"
    for place, layer, xs in fed_with(model, inputs, data.lengths[: len(inputs)]):
        report(place, 0.0)
        _check_start(layer, "data")
        where = box_of_data(layer.cell, xs)
        where = dataclasses.replace(where, text=where.text.replace("these data", words, 1))
        found.append(Found(place, layer.cell, where, _certified(layer.cell, where, norm, wanted)))
        report(place, 1.0)
    return found


def fed_with(model: Any, inputs: Any, lengths: np.ndarray) -> list[tuple[str, Layer, np.ndarray]]:
    """Return the layers of a model by their places, and the sequences in the order they are read.

    Arguments:
        model: a `Model`, a layer, or a `Cell`.
        inputs: of shape (sequence, time, input).
        lengths: of the sequences; what follows is padding.

    Raises:
        InputError: there is no cell.
    """
    found: list[tuple[str, Layer, np.ndarray]] = []

    def visit(layer: Layer, place: str, fed: Fed, needed: bool) -> Fed:
        found.append((place, layer, in_order(fed[0], lengths, layer.reverse)))
        if not needed:
            return fed
        return (np.asarray(_outputs(layer, jnp.asarray(fed[0]), jnp.asarray(lengths))),)

    _through(Layer(model) if isinstance(model, Cell) else model, (inputs,), False, visit)
    return found


def _through(part: Any, fed: Fed, needed: bool, visit: _Visit, place: str = "") -> Fed:
    """Visit the layers in a model, each with what it is fed; return what the last puts out."""
    if isinstance(part, Model | Stack):
        for number, layer in enumerate(part.layers):
            more = needed or number + 1 < len(part.layers)
            fed = _through(layer, fed, more, visit, f"{place}layers.{number}.")
        return fed
    if isinstance(part, Bidirectional):
        forward = _through(part.forward, fed, needed, visit, f"{place}forward.")
        backward = _through(part.backward, fed, needed, visit, f"{place}backward.")
        return tuple(np.concatenate(pair, -1) for pair in zip(forward, backward, strict=True))
    if isinstance(part, Layer):
        return visit(part, place.removesuffix(".") or "cell", fed, needed)
    raise InputError(
        f"no cell is in what was given, of type {type(part).__name__}: give a Cell, a Layer or a "
        "Model."
    )


# --- bounds --------------------------------------------------------------------------------------


def _by_bounds(
    layer: Layer, region: Choice | None, fed: Fed, norm: Norm | None, wanted: Wanted | None
) -> tuple[Certificate, Region]:
    """The certificate on the region; without one, on the better of the two."""
    cell, (lower, upper) = layer.cell, fed
    if region == "reachable":
        where = reachable(cell, (lower, upper))
        return _certified(cell, where, norm, wanted), where
    bounded = np.isfinite(fed).any()
    where = box(cell, inputs=(lower, upper)) if bounded else everywhere(cell)
    if bounded:
        where = dataclasses.replace(where, text=f"all states; {where.text.split('; ')[-1]}")
    first = _certified(cell, where, norm, wanted)
    enough = first.upper <= 1 + TOLERANCE if wanted is None else _holds(first, wanted)
    if region == "all" or enough or layer.initial_state is not None:
        return first, where
    reached = reachable(cell, (lower, upper))
    second = _certified(cell, reached, norm, wanted)
    better = _merit(second, wanted) > _merit(first, wanted)
    return (second, reached) if better else (first, where)


def _merit(certificate: Certificate, wanted: Wanted | None) -> tuple[Any, ...]:
    holds = wanted is not None and _holds(certificate, wanted)
    return bool(certificate), holds, *merit(certificate)


def _holds(certificate: Certificate, wanted: Wanted) -> bool:
    return certificate.horizon(wanted.kappa) >= wanted.horizon


def _certified(cell: Cell, where: Region, norm: Norm | None, wanted: Wanted | None) -> Certificate:
    """The best certificate, or the one with the longest horizon if that is what is missing."""
    best = certify(cell, where, norm)
    if wanted is None or not best or _holds(best, wanted):
        return best
    rates = all_rates(cell, where, norm)
    same = [(a, b) for a in rates for b in rates if a.norm.same(b.norm)]
    # One theorem before two that say as much.
    same.sort(key=lambda pair: pair[0] is not pair[1])
    found = (best, *(certificate_of(cell, where, together(*pair)) for pair in same))
    return max(found, key=lambda each: each.horizon(wanted.kappa))


def _without_bounds(size: int) -> Fed:
    return np.full(size, -math.inf), np.full(size, math.inf)


def _put_out(cell: Cell, fed: Fed) -> Fed:
    """Bounds of what a layer puts out that is fed within bounds, from its initial state."""
    where = reachable(cell, fed)
    y = eqx.filter_eval_shape(cell.initial_state)
    if any(not jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(y)):
        return _without_bounds(cell.hidden_size)
    x = jax.ShapeDtypeStruct((cell.input_size,), jnp.finfo(cell.field.dtype).dtype)
    state, inputs = (where.state_lower, where.state_upper), (where.input_lower, where.input_upper)
    try:
        (seen,) = enclose(cell.output, y, x, state, inputs).outputs
    except NotEnclosed:
        return _without_bounds(cell.hidden_size)
    lower, upper = (np.ravel(np.asarray(end, np.float64)) for end in (seen.lower, seen.upper))
    # A bound that is not a number is none.
    return np.where(np.isnan(lower), -math.inf, lower), np.where(np.isnan(upper), math.inf, upper)


# --- data ----------------------------------------------------------------------------------------


def _as_many_as_fit(model: Any, data: Sequences) -> np.ndarray:
    cells = [leaf for leaf in jax.tree.leaves(model, is_leaf=_is_cell) if _is_cell(leaf)]
    width = max((state_size(cell) for cell in cells), default=1)
    return data.inputs[: max(1, _NUMBERS // (data.inputs.shape[1] * width))]


def _is_cell(node: Any) -> bool:
    return isinstance(node, Cell)


def _check_start(layer: Layer, region: str) -> None:
    if layer.initial_state is not None:
        raise InputError(
            f"--region {region}: a layer starts from a state of its own that was trained, and "
            "what is reached from there is not known; take --region all."
        )


@eqx.filter_jit
def _outputs(layer: Layer, inputs: Any, lengths: Any) -> Any:
    return jax.vmap(lambda xs, length: layer(xs, length=length)[0])(inputs, lengths)
