"""The trajectory rebuilt backwards, so that none of it is stored."""

from functools import partial
from typing import Any

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax import lax

from .._results import InputError
from .._typing import Array, Float, PyTree, State
from ._adjoint import LocalStep, block_size, loop, run_block
from ._base import AbstractUnroll, Prepare, Step, in_parts, read, steps, together, write

_SECOND_ORDER = (
    "Reversible() gives first derivatives in reverse mode only: take Scan() for higher derivatives."
)


class Reversible(AbstractUnroll):
    """Undo the steps one by one on the way back, in place of storing the states.

    The forward pass keeps the last state. The backward pass rebuilds the states of a block of steps
    from the state behind it by ``step.inverse`` and takes the gradient of the block as ``Adjoint``
    does. Beside inputs, outputs and parameters the memory is that of one block, whatever the number
    of steps; each step is computed three times. A loss that reads the final state alone
    (``layer(xs)[1]``, or a ``Model`` with ``LastStep``) needs no outputs; one that reads ``hs[-1]``
    has them all stored.

    Rounding errors of the inverse grow where the flow contracts. ``anchor`` steps apart, states are
    stored and rebuilding begins anew: more memory, less drift. The drift is measured where a
    stretch begins, against the state that the forward pass began with; more than ``tolerance``
    (relative to 1 + the largest component) is an error at run time.

    **Arguments**: ``anchor``, the number of steps between stored states, None for none;
    ``tolerance``; ``block``, the number of steps rebuilt at once, about. Raises ``InputError`` for
    values out of range, and when a layer is built on a cell whose step has no inverse. Reverse mode
    and first derivatives only.

    Reference: Gomez, Ren, Urtasun, Grosse, arXiv:1707.04585; McCallum, Foster, arXiv:2410.11648.
    """

    anchor: int | None = eqx.field(static=True, default=None)
    tolerance: float = eqx.field(static=True, default=1e-3)
    block: int = eqx.field(static=True, default=32)

    def __check_init__(self):
        for name, value in (("anchor", self.anchor), ("block", self.block)):
            if value is None and name == "anchor":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(
                    f"{name} = {value!r}: give a whole number of steps. (The method that makes an "
                    "explicit Runge-Kutta method reversible is AlgebraicallyReversible.)"
                )
        if not self.tolerance > 0:
            raise InputError(f"tolerance = {self.tolerance!r}: give a positive number.")

    def __call__(
        self, step: Step, prepare: Prepare, y0: State, inputs: PyTree
    ) -> tuple[State, State]:
        _check(step)
        parameters, static = eqx.partition((step, prepare), eqx.is_array)
        run = partial(_stretch(static, self.block, self.tolerance), parameters)
        length = steps(inputs)
        return in_parts(run, y0, inputs, min(self.anchor or length, length))

    def drift(self, step: Step, prepare: Prepare, y0: State, inputs: PyTree) -> Float[Array, ""]:
        """Return the drift of the start when all steps are taken and undone, without anchors."""
        _check(step)
        last, _ = _forward(step, prepare, block_size(steps(inputs), self.block), y0, inputs)
        prepared = prepare(inputs)

        def back(y, v):
            return step.inverse(y, v), None  # pyright: ignore[reportFunctionMemberAccess]

        rebuilt, _ = lax.scan(back, last, prepared, reverse=True)
        return _drift(rebuilt, y0)


def _check(step: Step) -> None:
    if not callable(getattr(step, "inverse", None)):
        raise InputError(
            "Reversible() rebuilds states by `step.inverse(y, v)`, which this step does not have: "
            "give it one, or take Adjoint()."
        )


def _drift(rebuilt: State, known: State) -> Array:
    """Largest deviation of any component, relative to 1 + the largest component."""
    pairs = zip(jax.tree.leaves(rebuilt), jax.tree.leaves(known), strict=True)
    deviations = [jnp.max(jnp.abs(a - b)) / (1 + jnp.max(jnp.abs(b))) for a, b in pairs]
    return jnp.max(jnp.stack(deviations))


def _forward(
    step: Step, prepare: Prepare, size: int, y: State, inputs: PyTree
) -> tuple[State, State]:
    """Run all steps, the inputs of a block being prepared at a time; (last state, states)."""
    length = steps(inputs)
    count = length // size
    whole = count * size
    tree = jax.tree.structure(y)
    local = LocalStep(step, y, eqx.filter_eval_shape(prepare, inputs))

    def run(y, inputs):
        v = jax.tree.leaves(prepare(inputs))
        states = loop(local, local.constants, jax.tree.leaves(y), v, steps(inputs))
        return jax.tree.unflatten(tree, [a[-1] for a in states]), jax.tree.unflatten(tree, states)

    # Slices by index: a reshaped copy of the inputs would need their memory once more.
    y, states = lax.scan(lambda y, k: run(y, _part(inputs, k * size, size)), y, jnp.arange(count))
    states = jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), states)
    if whole < length:
        y, rest = run(y, jax.tree.map(lambda a: a[whole:], inputs))
        states = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), states, rest)
    return y, states


def _stretch(static: Any, wanted: int, tolerance: float):
    """Return ``stretch(parameters, y_in, inputs) -> (last state, states)``, its states rebuilt."""

    @jax.custom_vjp
    def stretch(parameters, y_in, inputs):
        step, prepare = eqx.combine(parameters, static)
        size = block_size(steps(inputs), wanted)
        return together(_forward(step, prepare, size, y_in, inputs))

    def forward(parameters, y_in, inputs):
        wanted = any(a.perturbed for a in jax.tree.leaves(inputs, is_leaf=_is_marked))
        parameters, y_in, inputs = jax.tree.map(
            lambda a: a.value, (parameters, y_in, inputs), is_leaf=_is_marked
        )
        last, states = stretch(parameters, y_in, inputs)
        # Whether the inputs need a gradient has to pass as structure: () or None.
        return (last, states), (parameters, y_in, inputs, last, () if wanted else None)

    def backward(saved, adjoints):
        eqxi.nondifferentiable(saved, msg=_SECOND_ORDER)
        parameters, y_in, inputs, last, inward = saved
        adjoint, direct = adjoints
        adjoint = jax.tree.map(_instantiate, adjoint, last, is_leaf=_is_zero)
        length = steps(inputs)
        size = block_size(length, wanted)
        whole = length // size * size

        def back(carry, start, count):
            y, adjoint, total = carry
            here = _part(inputs, start, count), _part(direct, start, count)
            y, adjoint, gradient, given = _back(static, parameters, y, adjoint, *here)
            given = None if inward is None else given
            return (y, adjoint, jax.tree.map(jnp.add, total, gradient)), given

        total = jax.tree.map(jnp.zeros_like, eqx.filter(parameters, eqx.is_inexact_array))
        carry, rest = (last, adjoint, total), None
        if whole < length:
            carry, rest = back(carry, whole, length - whole)
        (y, adjoint, total), given = lax.scan(
            lambda carry, k: back(carry, k * size, size),
            carry,
            jnp.arange(whole // size),
            reverse=True,
        )
        given = jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), given)
        if rest is not None:
            given = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), given, rest)
        # On all results: what nobody uses is not computed, and so not checked.
        total, adjoint, given = eqx.error_if(
            (total, adjoint, given),
            ~(_drift(y, y_in) <= tolerance),
            f"the states rebuilt by Reversible() have drifted by more than {tolerance:g}: store "
            "states in between (a smaller anchor), compute in float64, or take Adjoint().",
        )
        given = None if given is None else _fill(given, inputs)
        results = (_fill(total, parameters), adjoint, given)
        return eqxi.nondifferentiable(results, msg=_SECOND_ORDER)

    stretch.defvjp(forward, backward, symbolic_zeros=True)
    return stretch


def _back(
    static: Any, parameters: Any, y: State, adjoint: State, inputs: PyTree, direct: State
) -> tuple[State, State, PyTree, PyTree]:
    """Go back over a block that ends in ``y``.

    Returns the state before it, its adjoint, and the gradients of parameters and inputs.
    """
    step, prepare = eqx.combine(parameters, static)
    size = steps(inputs)
    prepared = prepare(inputs)
    after = y

    def undo(carry, k):
        y, buffer = carry
        buffer = write(buffer, y, k)
        return (step.inverse(y, read(prepared, k)), buffer), None

    buffer = jax.tree.map(lambda a: jnp.zeros((size, *a.shape), a.dtype), after)
    (y, states), _ = lax.scan(undo, (after, buffer), jnp.arange(size), reverse=True)

    varied, fixed = eqx.partition((parameters, inputs), eqx.is_inexact_array)

    def run(varied, y):
        parameters, inputs = eqx.combine(varied, fixed)
        step, prepare = eqx.combine(parameters, static)
        local = LocalStep(step, y, eqx.filter_eval_shape(prepare, inputs))
        return run_block(local, prepare, y, inputs, states)

    _, pull = jax.vjp(run, varied, y)
    direct = jax.tree.map(_instantiate, direct, states, is_leaf=_is_zero)
    (gradient, given), adjoint = pull((adjoint, direct))
    return y, adjoint, gradient, given


def _part(stack: PyTree, start: Any, count: int) -> PyTree:
    """Return some entries of a stack in a row; a zero that is not spelled out stays one."""
    return jax.tree.map(
        lambda a: None if _is_zero(a) else lax.dynamic_slice_in_dim(a, start, count),
        stack,
        is_leaf=_is_zero,
    )


def _is_marked(value: Any) -> bool:
    return isinstance(value, jax.custom_derivatives.CustomVJPPrimal)


def _is_zero(value: Any) -> bool:
    return value is None or isinstance(value, jax.custom_derivatives.SymbolicZero)


def _instantiate(adjoint: Any, like: Array) -> Array:
    return jnp.zeros_like(like) if _is_zero(adjoint) else adjoint


def _fill(gradient: PyTree, like: PyTree) -> PyTree:
    """Give what is not differentiated the derivative that JAX wants to see: None."""
    return jax.tree.map(
        lambda g, a: g if eqx.is_inexact_array(a) else None,
        gradient,
        like,
        is_leaf=lambda x: x is None,
    )
