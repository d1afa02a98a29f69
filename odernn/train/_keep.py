"""Training that keeps a certificate: after every update the weights are put back where it holds."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._cell import Cell, TrainedStep
from .._enclosure import Norm, NotEnclosed
from .._layer import Bidirectional, Layer, Stack
from .._method import Euler, GaussSeidelEuler
from .._model import Model, trained
from .._results import InputError
from ..analysis._certificate import TOLERANCE, Certificate
from ..analysis._certify import ENCLOSURE
from ..analysis._jacobians import step_rate
from ..analysis._region import box as region_of
from ..fields import LEM, LSTM, Antisymmetric, Gated, Leaky, Oscillator
from ._rule import Box, Rule, margin_of
from ._rules_gated import gated, lem, lstm
from ._rules_spectral import antisymmetric, leaky, oscillator

KAPPA = 10.0
"""Growth over a whole sequence that is granted where a rate of one would forbid too much."""

TWO_NORM = Norm("2")
_HALVINGS = 20


def keep_certified(
    model: Any,
    *,
    inputs: Any = math.inf,
    bound: float | Callable[[Cell], float] = 1.0,
    rate: Callable[[Cell], Any] | None = None,
    norm: Norm = TWO_NORM,
) -> optax.GradientTransformation:
    """Return an update that keeps ``||J v|| <= bound ||v||`` at every step of every cell.

    Put it last in ``optax.chain``: it replaces the new weights ``w + u`` by ``P(w + u)``, where P
    changes only what offends. P clips singular values (``Leaky``, ``Oscillator``, and
    ``Antisymmetric`` with a bound above 1), or shrinks the recurrent weights of single units
    (``Gated``, ``LSTM``, ``LEM``), so that the theorem of that cell holds. Of any other cell all
    recurrent weights are scaled by one factor, and where that is not enough, the other weights too;
    its rate is ``rate``, or without it ``analysis.step_rate`` on all states, in the maximum norm.

    **Arguments**: ``model``, a model, layer or cell, whose weights are those of
    ``eqx.partition(model, odernn.trained(model))``; ``inputs``, the box of its inputs for which the
    statement holds: b for [-b, b] or a pair (lower, upper), of numbers or arrays of shape
    (input,); an LSTM needs one, layers above the first have the box of what they are fed;
    ``bound``, the largest rate per step, a number or a function of the cell; ``rate(cell)``, an
    upper bound of ``||J v|| / ||v||`` in the norm ``norm`` that can be traced, in place of the
    theorems known here. Masked steps change nothing, and steps are taken to have the length dt.

    Raises ``InputError`` if there is no cell, no rate of one of them, or if the bound does not hold
    even with all weights zero.

    >>> import equinox as eqx, jax, odernn, optax
    >>> cell = odernn.zoo.RNN(3, 8, key=jax.random.key(0))
    >>> weights, rest = eqx.partition(cell, odernn.trained(cell))
    >>> optimiser = optax.chain(optax.sgd(0.1), keep_certified(cell))
    >>> state = optimiser.init(weights)
    >>> updates, state = optimiser.update(weights, state, weights)
    >>> found = optax.apply_updates(weights, updates).field.weight
    >>> bool(jax.numpy.linalg.norm(found, 2) <= 1)
    True
    """
    keeper = Keeper(model, inputs=inputs, bound=bound, rate=rate, norm=norm)
    return keeper.transformation()


def for_training(model: Any, inputs: Any, steps: int) -> "Keeper":
    """Return what `odernn train --keep-certified` keeps: a rate of one where a cell can have it.

    Others are granted a growth of `KAPPA` over a sequence of so many steps: antisymmetric cells,
    which would have next to no weights at a rate of one, and cells that have none even without
    weights.
    """
    budget = KAPPA ** (1 / steps)

    def bound(cell: Cell) -> float:
        return budget if isinstance(cell.field, Antisymmetric) else 1.0

    return Keeper(model, inputs=inputs, bound=bound, budget=budget)


def _rule_of(cell: Cell, box: Box, bound: float) -> Rule | str:
    """The rule of a cell, in closed form for known ones, or why there is none."""
    kinds: dict[type, tuple[type, Callable[[Cell, Box, float], Rule | str]]] = {
        Leaky: (Euler, leaky),
        Gated: (Euler, gated),
        LSTM: (GaussSeidelEuler, lstm),
        LEM: (GaussSeidelEuler, lem),
        Oscillator: (GaussSeidelEuler, oscillator),
        Antisymmetric: (Euler, antisymmetric),
    }
    name, method = type(cell.field).__name__, type(cell.method)
    if type(cell.field) not in kinds:
        return _enclosed(cell, box, f"no closed form is known for {name}")
    wanted, make = kinds[type(cell.field)]
    if method is not wanted or getattr(cell.method, "update_order", None) is not None:
        why = f"the closed form for {name} is about {wanted.__name__}(), not {method.__name__}"
        # On all states the Jacobian of a gated unit is unbounded.
        return why if make in (gated, lstm, lem) else _enclosed(cell, box, why)
    return make(cell, box, bound)


def _enclosed(cell: Cell, feed: Box, why: str) -> Rule | str:
    """Return a rule by interval arithmetic, for all states; or why there is none."""
    region = region_of(cell, inputs=(feed.lower, feed.upper))

    def upper(cell: Cell) -> Any:
        return step_rate(cell, region)

    try:
        # With zero weights it may be bounded, but then only with those.
        with jax.enable_x64(True):
            now = float(eqx.filter_jit(upper)(_double(cell)))
    except NotEnclosed as error:
        return f"{why}, and {error}"
    if not math.isfinite(now):
        return f"{why}, and its Jacobian is unbounded on all states"
    return Rule(upper, lambda cell: cell, Norm("inf"), ENCLOSURE, general=True)


class Kept(NamedTuple):
    """One cell of a model: its name, what certifies it, the box of its inputs, the bound."""

    place: str
    rule: Rule
    box: Box
    bound: float
    least: float
    """The rate with all weights zero."""


class Keeper:
    """What keeps the cells of one model certified; arguments as of `keep_certified`."""

    def __init__(
        self,
        model: Any,
        *,
        inputs: Any = math.inf,
        bound: float | Callable[[Cell], float] = 1.0,
        rate: Callable[[Cell], Any] | None = None,
        norm: Norm = TWO_NORM,
        budget: float | None = None,
    ):
        def keep(place: str, cell: Cell, box: Box) -> Kept:
            most = _check_bound(bound(cell) if callable(bound) else bound)
            if rate is not None:
                rule: Rule | str = Rule(
                    rate, lambda cell: cell, norm, "a bound given as rate=", general=True
                )
            else:
                rule = _rule_of(cell, box, most)
            if isinstance(rule, str):
                raise InputError(
                    f"{place} of the model cannot be kept certified: {rule}; give rate=, or take "
                    "RNN, GRU, LSTM, LEM, coRNN or AntisymmetricRNN with its own method."
                )
            if rule.general and isinstance(cell.dt, TrainedStep):
                raise InputError(
                    f"{place} of the model has a trained dt, which its rate is not about; give a "
                    "number."
                )
            least = _least(cell, rule.upper)
            if budget is not None and rule.general and least > most + TOLERANCE:
                most = budget
            if not least <= most + TOLERANCE:
                raise InputError(
                    f"bound = {most:.6g}: the rate of {place} is {least:.6g} even with all trained "
                    "weights zero; give a larger bound, or another step size or method."
                )
            return Kept(place, rule, box, most, least)

        _, self._static = eqx.partition(model, trained(model))
        self.kept, _ = _collect(model, "", _box(model, inputs), keep)
        if not self.kept:
            raise InputError(
                f"model = {type(model).__name__}: there is no cell inside to keep certified; give "
                "a cell, a layer or a model."
            )
        self._uppers = [eqx.filter_jit(kept.rule.upper) for kept in self.kept]

    def transformation(self) -> optax.GradientTransformation:
        """Return the projection as the last link of an Optax chain."""

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            if params is None:
                raise InputError(
                    "params = None: the projection needs the weights; call "
                    "optimiser.update(gradient, state, weights)."
                )
            new = self.weights(optax.apply_updates(params, updates))
            return jax.tree.map(lambda a, b: a - b, new, params), state

        return optax.GradientTransformation(lambda params: optax.EmptyState(), update)

    def weights(self, weights: Any) -> Any:
        """Return the nearby trained weights for which all certificates hold; can be traced."""
        model = self.project(eqx.combine(weights, self._static))
        return eqx.filter(model, trained(model))

    def project(self, model: Any) -> Any:
        """Return the model with certified weights; can be traced."""
        kept = iter(self.kept)

        def put(node: Any) -> Any:
            if isinstance(node, Cell):
                return _projected(node, next(kept))
            if not isinstance(node, Layer):
                return node
            one = next(kept)
            node = eqx.tree_at(lambda layer: layer.cell, node, _projected(node.cell, one))
            start, states, seen = node.initial_state, one.rule.states, one.rule.seen
            if start is None or (states is None and math.isinf(seen)):
                return node
            # A trained start must lie in the region, too.
            bounds = jax.tree.map(lambda y: seen, start) if states is None else states(node.cell)
            boxed = jax.tree.map(lambda y, b: jnp.clip(y, -b, b), start, bounds)
            return eqx.tree_at(lambda layer: layer.initial_state, node, boxed)

        return jax.tree.map(put, model, is_leaf=_has_cell)

    def certificates(self, model: Any) -> dict[str, Certificate]:
        """Return what holds for a model, by the place of the cell, computed in double precision."""
        cells = [n.cell if isinstance(n, Layer) else n for n in _nodes(model)]
        found = {}
        with jax.enable_x64(True):
            for kept, upper, cell in zip(self.kept, self._uppers, cells, strict=True):
                found[kept.place] = _certificate(kept, cell, float(upper(_double(cell))))
        return found

    def upper(self, model: Any) -> float:
        """Return the largest rate per step of all cells."""
        return max(certificate.upper for certificate in self.certificates(model).values())


def _certificate(kept: Kept, cell: Cell, upper: float) -> Certificate:
    rule = kept.rule
    states = "all states" if rule.states is None else "the invariant box of states"
    known = math.isfinite(upper)
    return Certificate(
        lower=0.0,
        upper=upper if known else math.inf,
        norm=rule.norm,
        theorem=rule.theorem if known else "none",
        assumptions=rule.assumptions if known else ("The weights are not finite.",),
        region=f"{states} and {kept.box}",
        structural=False,
        dt=float(cell.step_size),
    )


# --- Projection --------------------------------------------------------------------------------


def _projected(cell: Cell, kept: Kept) -> Cell:
    """The rule's own projection; where it is not enough, all weights on a line towards zero."""
    rule, bound = kept.rule, kept.bound
    cell = rule.project(cell)
    arrays, rest = eqx.partition(cell, eqx.is_array)
    upper = rule.upper(cell)
    eps = float(jnp.finfo(upper.dtype).eps)
    fits, target = bound + 8 * eps * max(bound, 1.0), bound
    if rule.general:  # what rounding adds must not exceed the bound, unless the bound is the least
        margin, least = margin_of(upper.dtype), kept.least * (1 + 4 * eps)
        fits, target = max(bound * (1 - margin / 2), least), max(bound * (1 - margin), least)

    def shrink(arrays: Any) -> Any:
        return eqx.filter(_shrunk(eqx.combine(arrays, rest), rule.upper, target), eqx.is_array)

    arrays = jax.lax.cond(upper <= fits, lambda a: a, shrink, arrays)
    return eqx.combine(arrays, rest)


def _shrunk(cell: Cell, upper: Callable[[Cell], Any], bound: float) -> Cell:
    """The cell with its recurrent weights times the largest factor that fits, of a bisection.

    Where even zero does not fit, the other weights are scaled likewise.
    """
    one = jnp.ones((), cell.field.dtype)

    def fits(s: Any, t: Any) -> Any:
        return upper(_scaled(cell, s, t)) <= bound

    def largest(test: Callable[[Any], Any]) -> Any:
        def halve(_: Any, ends: tuple[Any, Any]) -> tuple[Any, Any]:
            middle = (ends[0] + ends[1]) / 2
            good = test(middle)
            return jnp.where(good, middle, ends[0]), jnp.where(good, ends[1], middle)

        return jax.lax.fori_loop(0, _HALVINGS, halve, (0 * one, one))[0]

    enough = fits(0 * one, one)
    s = jax.lax.cond(enough, lambda: largest(lambda s: fits(s, one)), lambda: 0 * one)
    t = jax.lax.cond(enough, lambda: one, lambda: largest(lambda t: fits(0 * one, t)))
    return _scaled(cell, s, t)


def _scaled(cell: Cell, recurrent: Any, other: Any) -> Cell:
    """The cell with its trained weights scaled: recurrent ones; biases and input weights."""
    marks = trained(cell)

    def scale(path: Any, leaf: Any, mark: bool) -> Any:
        name = jax.tree_util.keystr(path)
        if not mark or name.endswith("log_dt"):
            return leaf
        factor = other if "input" in name or "bias" in name else recurrent
        return leaf * jnp.asarray(factor, leaf.dtype)

    return jax.tree_util.tree_map_with_path(scale, cell, marks)


def _check_bound(bound: Any) -> float:
    number = bound if isinstance(bound, int | float | np.floating) else math.nan
    if isinstance(bound, bool) or not (math.isfinite(number) and number > 0):
        raise InputError(f"bound = {bound!r}: give the largest rate per step, a number above 0.")
    return float(number)


def _least(cell: Cell, upper: Callable[[Cell], Any]) -> float:
    """The rate with all trained weights zero."""
    with jax.enable_x64(True):
        return float(eqx.filter_jit(upper)(_double(_scaled(cell, 0.0, 0.0))))


def _double(cell: Cell) -> Cell:
    """The cell in double precision; needs x64 to be on."""

    def cast(leaf: Any) -> Any:
        if not eqx.is_inexact_array(leaf):
            return leaf
        wide = np.complex128 if jnp.iscomplexobj(leaf) else np.float64
        return jnp.asarray(np.asarray(leaf, wide))

    return jax.tree.map(cast, cell)


# --- Cells and what they are fed ---------------------------------------------------------------


def _has_cell(node: Any) -> bool:
    return isinstance(node, Layer | Cell)


def _nodes(model: Any) -> list[Any]:
    """The layers, and cells outside of layers, in the order of the model's leaves."""
    return [node for node in jax.tree.leaves(model, is_leaf=_has_cell) if _has_cell(node)]


def _collect(
    model: Any, place: str, box: Box, keep: Callable[[str, Cell, Box], Kept]
) -> tuple[list[Kept], float]:
    """What keeps each cell of a model that is fed from a box, and the bound of what it puts out."""
    if isinstance(model, Layer | Cell):
        one = keep(place or "the cell", model.cell if isinstance(model, Layer) else model, box)
        return [one], one.rule.seen
    if isinstance(model, Bidirectional):
        both = [
            _collect(part, f"{place or 'the layer'}, {name}", box, keep)
            for name, part in (("forward", model.forward), ("backward", model.backward))
        ]
        return [one for kept, _ in both for one in kept], max(seen for _, seen in both)
    if isinstance(model, Model | Stack):
        # In training, what dropout leaves is scaled up.
        scale = 1 / (1 - model.dropout) if isinstance(model, Model) else 1.0
        found, seen = [], math.inf
        for number, layer in enumerate(model.layers, start=1):
            name = f"{place}, layer {number}" if place else f"layer {number}"
            kept, seen = _collect(layer, name, box, keep)
            found += kept
            box = Box.around(seen * scale, layer.hidden_size)
        return found, seen
    cells = [node.cell if isinstance(node, Layer) else node for node in _nodes(model)]
    everything = [Box.around(math.inf, cell.input_size) for cell in cells]
    names = [f"cell {number}" for number in range(1, len(cells) + 1)]
    return [keep(*each) for each in zip(names, cells, everything, strict=True)], math.inf


def _box(model: Any, inputs: Any) -> Box:
    size = getattr(model, "input_size", 1)
    pair = inputs if isinstance(inputs, tuple) and len(inputs) == 2 else None
    try:
        pair = (-np.asarray(inputs, np.float64), inputs) if pair is None else pair
        lower, upper = (np.broadcast_to(np.asarray(v, np.float64), (size,)) for v in pair)
    except (TypeError, ValueError):
        raise InputError(
            f"inputs = {inputs!r}: give a bound b for [-b, b], or a pair (lower, upper), of "
            f"numbers or arrays of shape ({size},)."
        ) from None
    if not (lower <= upper).all():
        raise InputError(
            f"inputs = {inputs!r}: a lower bound is above its upper bound, or not a number; give "
            "b >= 0 or (lower, upper)."
        )
    return Box(lower, upper)
