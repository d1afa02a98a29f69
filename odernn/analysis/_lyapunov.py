"""Lyapunov exponents of a step along a trajectory."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._cell import Cell
from .._results import InputError
from .._typing import Array, PyTree
from ._measure import Recurrence, check_inputs, check_step, take


def lyapunov_spectrum(
    step: Any,
    y: PyTree = None,
    xs: Any = None,
    *,
    steps: int | None = None,
    count: int | None = None,
    warmup: int = 0,
    every: int = 1,
) -> np.ndarray:
    """Return the finite-time Lyapunov exponents per step, the largest first: a measurement.

    With the step Jacobians ``J_k`` along the trajectory and ``J_k Q_k = Q_{k+1} R_k`` (QR), the
    exponents are the means of ``log |diag R_k|`` over the steps. Divided by dt they are per unit of
    the ODE's time.

    **Arguments**: ``step``, a ``Cell`` or ``Layer``, a ``GRUCell`` or ``LSTMCell`` of Equinox, or
    any function ``(y, x) -> y`` or ``(y, x) -> (y, output)``; ``y``, the state to start from, which
    only a function needs; ``xs``, the inputs of shape (time, input), or None, with the number of
    ``steps``, for inputs of zero (for a function: no input, ``x`` is None); ``count``, how many of
    the largest exponents, by default all m of them; ``warmup``, steps that are taken first and not
    counted; ``every``, steps between two QR decompositions: with more of them it is faster, until
    the columns become too parallel for the precision. Of a complex state the exponents are those of
    its real and imaginary parts.

    Returns an array of shape (count,). Raises ``InputError`` for numbers that do not fit each
    other; a trajectory that is not finite gives NaN.

    >>> import jax.numpy as jnp
    >>> from odernn.analysis._lyapunov import lyapunov_spectrum
    >>> step = lambda y, x: jnp.array([2.0, 0.5]) * y
    >>> found = lyapunov_spectrum(step, jnp.zeros(2), steps=60, warmup=30)
    >>> [round(float(exponent), 3) for exponent in found]
    [0.693, -0.693]

    Reference: Benettin et al., Meccanica 15 (1980); Engelken, Wolf, Abbott, "Lyapunov spectra of
    chaotic recurrent neural networks", arXiv:2006.02427.
    """
    recurrence, y = take(step, y)
    size = recurrence.layout.size
    count = size if count is None else _whole("count", count, 1)
    warmup, every = _whole("warmup", warmup, 0), _whole("every", every, 1)
    if count > size:
        raise InputError(f"count = {count}: the state has {size} numbers, so many exponents.")
    if (xs is None) == (steps is None):
        raise InputError(
            "xs and steps: give the inputs xs of shape (time, input), or the number of steps alone."
        )
    if steps is not None:
        total = _whole("steps", steps, 1)
        is_cell = isinstance(recurrence.step, Cell)
        xs = jnp.zeros((total, recurrence.step.input_size)) if is_cell else None
    else:
        xs = check_inputs(recurrence, xs)
        if len(xs) > 1:
            raise InputError(f"xs has the shape {xs.shape}: give one sequence, (time, input).")
        xs = xs[0]
        total = len(xs)
    if total <= warmup:
        raise InputError(f"warmup = {warmup}: it must be below the number of steps, {total}.")
    check_step(recurrence, y, None if xs is None else jax.tree.map(lambda a: a[0], xs))
    start = np.linalg.qr(np.random.default_rng(0).normal(size=(size, count)))[0]
    start = jnp.asarray(start, recurrence.layout.dtype)
    logs = _spectrum(recurrence, y, xs, start, total, warmup, every)
    return np.sort(np.asarray(logs))[::-1]


@eqx.filter_jit
def _spectrum(
    recurrence: Recurrence, y: PyTree, xs: Any, q: Array, total: int, warmup: int, every: int
) -> Array:
    items = None if xs is None else recurrence.items(xs)
    vector, rest = recurrence.layout.split(y)
    return exponents(recurrence, vector, rest, items, q, total=total, warmup=warmup, every=every)


def exponents(
    recurrence: Recurrence,
    vector: Array,
    rest: tuple,
    items: Any,
    q: Array,
    *,
    total: int,
    warmup: int = 0,
    every: int = 1,
) -> Array:
    """Return the exponents in the order of the columns of ``q`` (states, count); to be traced."""

    def one(carry: Any, item: Any) -> tuple[Any, None]:
        vector, rest, q = carry

        def take_step(v: Array) -> tuple[Array, tuple]:
            after, carried, _ = recurrence(v, rest, item)
            return after, carried

        push = lambda v: jax.jvp(take_step, (vector,), (v,), has_aux=True)  # noqa: E731
        after, q, carried = jax.vmap(push, in_axes=1, out_axes=(None, 1, None))(q)
        return (after, carried, q), None

    def several(carry: Any, items: Any, length: int) -> tuple[Any, Array]:
        carry, _ = lax.scan(one, carry, items, length)
        vector, rest, q = carry
        q, r = jnp.linalg.qr(q)
        return (vector, rest, q), jnp.log(jnp.abs(jnp.diagonal(r)))

    def stretch(carry: Any, first: int, length: int) -> tuple[Any, Array]:
        """Take some steps, in blocks; return the sum of what they give."""
        blocks, left = divmod(length, every)
        whole = jax.tree.map(
            lambda a: a[first : first + blocks * every].reshape(blocks, every, *a.shape[1:]), items
        )
        logs = jnp.zeros(q.shape[1], q.dtype)
        if blocks:
            carry, each = lax.scan(lambda c, i: several(c, i, every), carry, whole, blocks)
            logs = logs + jnp.sum(each, axis=0)
        if left:
            end = first + length
            carry, each = several(carry, jax.tree.map(lambda a: a[end - left : end], items), left)
            logs = logs + each
        return carry, logs

    carry = (vector, rest, q)
    if warmup:
        carry, _ = stretch(carry, 0, warmup)
    _, logs = stretch(carry, warmup, total - warmup)
    return logs / (total - warmup)


def dense_exponents(matrices: np.ndarray) -> np.ndarray:
    """Return the exponents of all sequences, largest first, from Jacobians (batch, time, m, m)."""
    batch, time, size, _ = matrices.shape
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))[0]
    q, total = np.broadcast_to(q, (batch, size, size)), np.zeros((batch, size))
    for k in range(time):
        q, r = np.linalg.qr(matrices[:, k] @ q)
        with np.errstate(divide="ignore"):
            total += np.log(np.abs(np.diagonal(r, axis1=1, axis2=2)))
    return np.sort(total / time, axis=1)[:, ::-1]


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} = {value!r}: give a whole number of at least {least}.")
    return int(value)
