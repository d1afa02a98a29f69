"""Layers: a cell repeated over a sequence."""

import abc
import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ._cell import Cell
from ._results import InputError, require
from ._typing import Array, ArrayLike, Bool, Float, Inexact, Int, PyTree, State
from ._unroll import AbstractUnroll, Adjoint, Reversible


class _Inputs(NamedTuple):
    """What one step takes; None where it is not needed."""

    value: Any  # the input, then the drive
    elapsed: Any  # time before the step, in input steps
    interval: Any  # length of the step, in input steps
    valid: Any  # whether the step is taken


class _Step(eqx.Module):
    cell: Cell
    phase: Literal["any", "first", "later"] = eqx.field(static=True, default="any")

    def __call__(self, y: State, v: _Inputs) -> State:
        clock = {"elapsed": v.elapsed, "interval": v.interval}
        return _where(v.valid, self.cell.step(y, v.value, **clock, phase=self.phase), y)

    def inverse(self, y: State, v: _Inputs) -> State:
        before = self.cell.inverse(y, v.value, elapsed=v.elapsed, interval=v.interval)
        return _where(v.valid, before, y)


class _Prepare(eqx.Module):
    cell: Cell

    def __call__(self, inputs: _Inputs) -> _Inputs:
        return inputs._replace(value=jax.vmap(self.cell.drive)(inputs.value, inputs.interval))


def _where(valid: Any, new: State, old: State) -> State:
    if valid is None:
        return new
    return jax.tree.map(lambda a, b: jnp.where(valid, a, b), new, old)


class AbstractLayer(eqx.Module):
    """From a sequence of inputs to a sequence of hidden states and the final state."""

    input_size: eqx.AbstractVar[int]
    hidden_size: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(
        self, xs: Inexact[Array, "time input"], *, initial_state: Any = None, **options: Any
    ) -> tuple[Inexact[Array, "time hidden"], PyTree]:
        """Return the outputs at all times and the state after the last step."""


class Layer(AbstractLayer):
    """A cell repeated over one sequence; a batch is ``jax.vmap`` of it.

    **Arguments**: ``cell``; ``unroll``, how the steps are repeated and differentiated;
    ``initial_state``, a state to start from that is trained with the other parameters
    (``cell.initial_state()`` say), or None for zeros; ``reverse``, go through the sequence from its
    end.

    ``layer(xs)`` takes ``xs`` of shape (time, input) and returns ``(hs, state)``: the outputs of
    shape (time, hidden), in the order of the inputs, and the state after the last step. Options:

    - ``times``, time stamps in input steps, strictly increasing. Of shape (time,): step k spans the
      interval since the stamp before (the first one takes the length of the second, or 1); of
      shape (time + 1,): step k spans times[k] to times[k + 1]. Each step is scaled by its interval.
    - ``mask`` of shape (time,): where it is false the state is held and the input not read, as if
      the step were not there; ``hs`` repeats the held state.
    - ``length``: the steps from there on are padding, masked likewise.
    - ``initial_state``: a state to start from, in place of the layer's own: one that a call has
      returned, or a state of the field.
    - ``past``: the inputs before the first, for a cell that interpolates s samples: of shape
      (s - 1, input), one step apart. Without it the first input stands for them.

    >>> import jax, jax.numpy as jnp, odernn
    >>> layer = odernn.Layer(odernn.zoo.GRU(3, 8, key=jax.random.key(0)))
    >>> hs, state = layer(jnp.ones((20, 3)))
    >>> hs.shape, state.shape
    ((20, 8), (8,))

    Raises ``InputError`` for shapes that do not fit and for times that do not increase (under
    ``jit`` an error at run time).
    """

    cell: Cell
    unroll: AbstractUnroll
    initial_state: State | None
    reverse: bool = eqx.field(static=True)

    def __init__(
        self,
        cell: Cell,
        unroll: AbstractUnroll | None = None,
        initial_state: State | None = None,
        reverse: bool = False,
    ):
        if not isinstance(cell, Cell):
            raise InputError(f"cell = {cell!r}: a layer takes a Cell, zoo.LSTM(...) say.")
        unroll = Adjoint() if unroll is None else unroll
        if not isinstance(unroll, AbstractUnroll):
            raise InputError(f"unroll = {unroll!r}: give Adjoint(), Scan() or Reversible().")
        if isinstance(unroll, Reversible):
            cell.check_inverse()
        if initial_state is not None:
            initial_state = _check_state(cell, initial_state)
        self.cell, self.unroll = cell, unroll
        self.initial_state, self.reverse = initial_state, bool(reverse)

    @property
    def input_size(self) -> int:
        """Number of input channels."""
        return self.cell.input_size

    @property
    def hidden_size(self) -> int:
        """Number of output channels."""
        return self.cell.hidden_size

    def __call__(
        self,
        xs: Inexact[Array, "time input"],
        *,
        times: Float[ArrayLike, " stamps"] | None = None,
        mask: Bool[ArrayLike, " time"] | None = None,
        length: Int[ArrayLike, ""] | None = None,
        initial_state: State | None = None,
        past: Inexact[ArrayLike, "past input"] | None = None,
    ) -> tuple[Inexact[Array, "time hidden"], State]:
        """Return the outputs at all times and the state after the last step."""
        return _run(self, *self._checked(xs, times, mask, length, initial_state, past))

    def drift(self, xs: Inexact[Array, "time input"], **options: Any) -> Float[Array, ""]:
        """Return by how much the start is missed when all steps are taken and then undone.

        Relative to 1 + the largest component of the state; ``options`` are those of the call. It is
        what ``Reversible()`` goes wrong by without anchors. Raises ``InputError`` if a step has no
        inverse.
        """
        self.cell.check_inverse()
        return _drift(self, *self._checked(xs, **options)[:-1])

    def _checked(
        self,
        xs: Any,
        times: Any = None,
        mask: Any = None,
        length: Any = None,
        initial_state: State | None = None,
        past: Any = None,
    ) -> tuple[Array, Array | None, Array | None, State, Array | None, bool]:
        """The arguments of ``_run`` after the layer."""
        xs = jnp.asarray(xs)
        count = _check_sequence(xs, self.input_size)
        y0, fresh = self._start(initial_state)
        past = None if past is None else self.cell.check_past(past)
        # The inputs follow the parameters' precision.
        xs = xs.astype(jnp.result_type(self.cell.field.dtype))
        valid = valid_steps(mask, length, count)
        if valid is not None:
            # What stands in a masked step (NaN, say) must not reach the gradient either.
            xs = jnp.where(valid[:, None], xs, jnp.zeros_like(xs))
        if not isinstance(xs, Tracer):
            _check_finite(xs)
        if times is not None:
            times = _check_times(times, count, valid)
        # Only where no first step can be left out is it known which steps are the first.
        fresh = fresh and (valid is None or (mask is None and not self.reverse))
        return xs, times, valid, y0, past, fresh

    def _start(self, initial_state: State | None) -> tuple[State, bool]:
        """The state to start from, and whether no step has been taken to get there."""
        chosen = self.initial_state if initial_state is None else initial_state
        if chosen is None:
            return self.cell.initial_state(), True
        state = _check_state(self.cell, chosen)
        if _alike(state, eqx.filter_eval_shape(self.cell.field.initial_state)):
            return self.cell.start(self.cell.field.check_state(state)), True
        return state, False


class Bidirectional(AbstractLayer):
    """Two layers side by side, the second in reverse; their outputs are concatenated.

    **Arguments**: ``forward`` and ``backward``, two layers with the same input size; the backward
    one is run in reverse whatever its ``reverse`` says. Returns (hs of shape (time, both hidden
    sizes), (forward's state, backward's state)); takes the options of ``Layer``, ``initial_state``
    as a pair.

    Reference: Schuster and Paliwal, IEEE Trans. Signal Process. 45 (1997).
    """

    forward: Layer
    backward: Layer

    def __init__(self, forward: Layer, backward: Layer):
        for name, layer in (("forward", forward), ("backward", backward)):
            if not isinstance(layer, Layer):
                raise InputError(f"{name} = {layer!r}: Bidirectional takes two Layers.")
        if forward.input_size != backward.input_size:
            raise InputError(
                f"forward takes {forward.input_size} channels and backward {backward.input_size}: "
                "both read the same sequence."
            )
        if forward.reverse:
            raise InputError("forward has reverse=True: give the reversed layer second.")
        self.forward = forward
        self.backward = Layer(backward.cell, backward.unroll, backward.initial_state, reverse=True)

    @property
    def input_size(self) -> int:
        """Number of input channels."""
        return self.forward.input_size

    @property
    def hidden_size(self) -> int:
        """Number of output channels, of both layers together."""
        return self.forward.hidden_size + self.backward.hidden_size

    def __call__(
        self, xs: Inexact[Array, "time input"], *, initial_state: Any = None, **options: Any
    ) -> tuple[Inexact[Array, "time hidden"], PyTree]:
        """Return the outputs of both layers side by side and the pair of final states."""
        starts = (None, None) if initial_state is None else initial_state
        hs, first = self.forward(xs, initial_state=starts[0], **options)
        back, second = self.backward(xs, initial_state=starts[1], **options)
        return jnp.concatenate([hs, back], axis=-1), (first, second)


class Stack(AbstractLayer):
    """Layers one after the other as one layer.

    **Arguments**: ``layers``, each taking what the one before puts out. Returns (hs of the last
    layer, tuple of all final states); takes the options of ``Layer``, ``initial_state`` as such a
    tuple. Raises ``InputError`` if sizes do not fit.
    """

    layers: tuple[AbstractLayer, ...]

    def __init__(self, layers: Sequence[AbstractLayer]):
        if not layers:
            raise InputError("layers is empty: a stack needs at least one layer.")
        check_sizes_fit(layers)
        self.layers = tuple(layers)

    @property
    def input_size(self) -> int:
        """Number of input channels."""
        return self.layers[0].input_size

    @property
    def hidden_size(self) -> int:
        """Number of output channels."""
        return self.layers[-1].hidden_size

    def __call__(
        self, xs: Inexact[Array, "time input"], *, initial_state: Any = None, **options: Any
    ) -> tuple[Inexact[Array, "time hidden"], PyTree]:
        """Return the outputs of the last layer and the final states of all."""
        starts = [None] * len(self.layers) if initial_state is None else initial_state
        states = []
        hs = jnp.asarray(xs)
        for layer, start in zip(self.layers, starts, strict=True):
            hs, state = layer(hs, initial_state=start, **options)
            states.append(state)
        return hs, tuple(states)


def check_sizes_fit(layers: Sequence[Any], last: str | None = None) -> None:
    """Raise ``InputError`` unless each takes what the one before puts out.

    ``last`` names the last one in the message, where it is no layer.
    """
    for number, (before, after) in enumerate(itertools.pairwise(layers), start=1):
        if after.input_size != before.hidden_size:
            name = last if last and number == len(layers) - 1 else f"layer {number}"
            raise InputError(
                f"{name} takes {after.input_size} channels but the layer before it puts out "
                f"{before.hidden_size}."
            )


@eqx.filter_jit
def _run(
    layer: Layer,
    xs: Array,
    times: Array | None,
    valid: Array | None,
    y0: State,
    past: Array | None,
    fresh: bool,
) -> tuple[Array, State]:
    """Run a layer on checked arguments; compiled once for each shape, outside ``jit`` too."""
    cell = layer.cell
    inputs = _ordered(layer, xs, times, valid, past)
    first = min(cell.method.starting_steps, len(xs))
    if first == 0 or not fresh:
        phase = "later" if first == 0 else "any"
        states, last = layer.unroll(_Step(cell, phase), _Prepare(cell), y0, inputs)
    else:
        head = jax.tree.map(lambda a: a[:first], inputs)
        states, last = layer.unroll(_Step(cell, "first"), _Prepare(cell), y0, head)
        if first < len(xs):
            tail = jax.tree.map(lambda a: a[first:], inputs)
            more, last = layer.unroll(_Step(cell, "later"), _Prepare(cell), last, tail)
            states = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), states, more)
    hs = jax.vmap(cell.output)(states)
    if layer.reverse:
        hs = hs[::-1]
    direct = jax.vmap(cell.field.feedthrough)(xs)
    return (hs if direct is None else hs + direct), last


@eqx.filter_jit
def _drift(
    layer: Layer,
    xs: Array,
    times: Array | None,
    valid: Array | None,
    y0: State,
    past: Array | None,
) -> Array:
    cell, inputs = layer.cell, _ordered(layer, xs, times, valid, past)
    return Reversible().drift(_Step(cell), _Prepare(cell), y0, inputs)


def _ordered(
    layer: Layer, xs: Array, times: Array | None, valid: Array | None, past: Array | None
) -> _Inputs:
    """What the steps take, in the order in which they are taken."""
    if layer.reverse:
        xs = xs[::-1]
        valid = None if valid is None else valid[::-1]
        times = None if times is None else -times[::-1]
    inputs = _inputs(xs, times, valid, layer.cell.field.dtype)
    return _windows(inputs, layer.cell.interpolation.samples, past)


def _check_sequence(xs: Array, input_size: int) -> int:
    if xs.ndim != 2 or xs.shape[1] != input_size:
        raise InputError(
            f"xs has the shape {xs.shape}: the layer takes one sequence of shape "
            f"(time, {input_size}); for a batch use jax.vmap(layer)."
        )
    if xs.shape[0] == 0:
        raise InputError("xs has no steps: a sequence needs at least one.")
    return xs.shape[0]


def _check_finite(xs: Array) -> None:
    if len(wrong := np.argwhere(~np.isfinite(np.asarray(xs)))):
        step, channel = wrong[0]
        raise InputError(
            f"xs is not finite in {len(wrong)} places: {xs[step, channel]} at step {step}, channel "
            f"{channel}, is the first; mask such steps (mask=) or mend the data."
        )


def _check_state(cell: Cell, state: State) -> State:
    """Return a state of the cell, or of its field alone, in the cell's precision."""
    wanted = eqx.filter_eval_shape(cell.initial_state)
    for form in (eqx.filter_eval_shape(cell.field.initial_state), wanted):
        if _alike(state, form):
            return jax.tree.map(lambda a, w: jnp.asarray(a, w.dtype), state, form)
    raise InputError(
        f"initial_state has the structure {jax.tree.map(jnp.shape, state)}: this cell's state "
        f"is {jax.tree.map(lambda a: a.shape, wanted)}."
    )


def _alike(state: State, wanted: State) -> bool:
    return jax.tree.structure(state) == jax.tree.structure(wanted) and all(
        jnp.shape(a) == w.shape
        for a, w in zip(jax.tree.leaves(state), jax.tree.leaves(wanted), strict=True)
    )


def valid_steps(mask: Any, length: Any, count: int) -> Bool[Array, " time"] | None:
    """Return which steps count, of a mask and a length; None if all do."""
    if mask is not None:
        mask = jnp.asarray(mask)
        if mask.shape != (count,) or mask.dtype != jnp.bool_:
            raise InputError(
                f"mask is {mask.dtype} of shape {mask.shape}: give booleans of shape ({count},)."
            )
    if length is None:
        return mask
    length = jnp.asarray(length)
    if length.shape != () or not jnp.issubdtype(length.dtype, jnp.integer):
        raise InputError(
            f"length is {length.dtype} of shape {length.shape}: give one whole number; for a "
            "batch use jax.vmap over the layer and its lengths."
        )
    wrong = (length < 1) | (length > count)
    message = f"length must be between 1 and the number of steps, {count}"
    length = require(length, wrong, message)
    within = jnp.arange(count, dtype=length.dtype) < length
    return within if mask is None else mask & within


def _check_times(times: Any, count: int, valid: Array | None) -> Array:
    times = jnp.asarray(times)
    if times.shape not in ((count,), (count + 1,)):
        raise InputError(
            f"times has the shape {times.shape}: give one stamp a step, ({count},), or the ends of "
            f"all steps, ({count + 1},)."
        )
    if not jnp.issubdtype(times.dtype, jnp.floating):
        times = times.astype(jnp.result_type(float))
    if valid is not None and times.shape == (count,):
        # A masked step's stamp is not read, whatever stands there; see _intervals.
        before = _last_valid(times, valid)
        wrong = valid & ~((times > before) & jnp.isfinite(times))
    else:
        wrong = ~(jnp.isfinite(times[1:]) & (times[1:] > times[:-1]))
        wrong = jnp.concatenate([~jnp.isfinite(times[:1]), wrong])
    return require(times, jnp.any(wrong), "times must be finite and strictly increasing")


def _last_valid(times: Array, valid: Array) -> Array:
    """Return for each step the stamp of the last valid step before it, -inf if there is none."""
    floor = jnp.asarray(-jnp.inf, times.dtype)
    seen = jax.lax.cummax(jnp.where(valid, times, floor))
    return jnp.concatenate([floor[None], seen[:-1]])


def _inputs(xs: Array, times: Array | None, valid: Array | None, dtype: Any) -> _Inputs:
    """Add to the inputs the time before each step and its length, both in input steps."""
    real = jnp.finfo(dtype).dtype
    if times is None:
        interval = None
        taken = jnp.ones(xs.shape[0], real) if valid is None else valid.astype(real)
    else:
        # Differences first, in the precision of the stamps: 32 bits can't tell large stamps apart.
        interval = _intervals(times, valid, xs.shape[0]).astype(real)
        taken = interval if valid is None else jnp.where(valid, interval, jnp.zeros_like(interval))
    elapsed = jnp.cumsum(taken) - taken
    return _Inputs(xs, elapsed, interval, valid)


def _intervals(times: Array, valid: Array | None, count: int) -> Array:
    if times.shape[0] == count + 1:
        return times[1:] - times[:-1]
    valid = jnp.ones(count, bool) if valid is None else valid
    known = valid & jnp.isfinite(_last_valid(times, valid))
    stamps = jnp.where(valid, times, jnp.zeros_like(times))
    interval = stamps - jnp.where(known, _last_valid(times, valid), stamps)
    one = jnp.ones((), times.dtype)
    second = jnp.where(jnp.any(known), interval[jnp.argmax(known)], one)
    # Steps that are not taken get a harmless length.
    return jnp.where(known, interval, second)


def _windows(inputs: _Inputs, samples: int, past: Array | None) -> _Inputs:
    """Give every step the last inputs that were read, and the lengths of their intervals."""
    if samples == 1:
        return inputs
    count = inputs.value.shape[0]
    if inputs.valid is None:
        steps, rank = jnp.arange(count), jnp.arange(count)
    else:
        # The numbers of the steps that count, and how many of them come before each step.
        steps = jnp.argsort(~inputs.valid, stable=True)
        rank = jnp.maximum(jnp.cumsum(inputs.valid) - 1, 0)
    values = inputs.value[steps]
    if past is None:
        past = jnp.broadcast_to(values[:1], (samples - 1, values.shape[1]))
    window = rank[:, None] + jnp.arange(samples)
    value = jnp.concatenate([past, values])[window]
    if inputs.interval is None or samples == 2:
        return inputs._replace(value=value)
    # The past is one step apart: its last interval is that of the first step.
    before = jnp.broadcast_to(inputs.interval[steps][:1], (samples - 2,))
    lengths = jnp.concatenate([before, inputs.interval[steps]])
    return inputs._replace(value=value, interval=lengths[window[:, :-1]])
