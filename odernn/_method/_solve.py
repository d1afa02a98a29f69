"""The equations of implicit steps."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Literal
from jax.flatten_util import ravel_pytree

from .._field import AbstractField
from .._interpolation import drive_at
from .._results import InputError
from .._typing import Array, Bool, Drive, Float, Int, Scalar, State
from ._base import AbstractMethod, add_scaled


class Solution(eqx.Module):
    """How the equations of a step were solved.

    ``converged``: the last update was below the tolerance and all is finite; ``iterations`` of
    Newton's method, the most that an equation of the step needed; ``residual``: the largest
    component of what the equations leave.
    """

    converged: Bool[Array, ""]
    iterations: Int[Array, ""]
    residual: Float[Array, ""]


class AbstractSolving(AbstractMethod):
    """A method whose steps solve equations.

    By Newton's method; where an equation is affine in its unknown, which its program tells, by one
    linear solve. Derivatives are those of the implicit function: their memory does not depend on
    the number of iterations.

    **Arguments** of all of them, by name: ``tolerance`` of the last update of Newton's method,
    relative to 1 + the largest components of state and unknown (None: ``eps**0.6`` of the dtype,
    4e-10 in float64 and 7e-5 in float32; the error left is of the order of its square);
    ``max_steps``, iterations allowed; ``throw``: raise a run-time error where they do not suffice
    or a value is not finite, or else go on with the last iterate (``attempt`` tells). Raises
    ``InputError`` for values out of range.
    """

    tolerance: float | None = eqx.field(static=True, default=None, kw_only=True)
    max_steps: int = eqx.field(static=True, default=20, kw_only=True)
    throw: bool = eqx.field(static=True, default=True, kw_only=True)

    def __check_init__(self):
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise InputError(f"tolerance = {self.tolerance!r}: give a number in (0, 1), or None.")
        check_max_steps(self.max_steps)

    @abc.abstractmethod
    def attempt(
        self, field: AbstractField, time: Scalar, state: State, u: Drive, dt: Scalar
    ) -> tuple[State, Solution]:
        """Return what is carried one step later and how it was found, if it was."""

    def solve(
        self, function: Callable[[State], State], guess: State, like: State
    ) -> tuple[State, Solution]:
        """Solve ``function(z) = 0``; ``like`` is a value of the size of the state."""
        from ._newton import find_root

        if _is_affine(function, guess):
            return solve_affine(function, guess)
        equation, start = _real_equation(function, guess)
        scale = 1 + jnp.max(jnp.stack([jnp.max(jnp.abs(a)) for a in jax.tree.leaves(like)]))
        tolerance = self.tolerance or float(jnp.finfo(scale.dtype).eps) ** 0.6
        found, success, iterations = find_root(equation, start, scale, tolerance, self.max_steps)
        root = join_parts(found, guess)
        return root, Solution(success, iterations.astype(jnp.int32), _largest(function(root)))

    def require(self, attempted: tuple[State, Solution]) -> State:
        """Return the result of an attempt; an error at run time if it failed."""
        value, solution = attempted
        if not self.throw:
            return value
        return eqx.error_if(
            value,
            ~solution.converged,
            f"{type(self).__name__}: the equations of a step were not solved in {self.max_steps} "
            "iterations of Newton's method, or a value is not finite: take a smaller dt or a "
            "larger max_steps; throw=False goes on with the last iterate.",
        )


def solve_affine(function: Callable[[State], State], guess: State) -> tuple[State, Solution]:
    """Return the root of a function that is affine: one step of Newton's method.

    If it is not affine, this is the linearly implicit approximation. Derivatives go through it.
    (Not by Lineax, whose primitive ``jax.checkpoint``, and so ``Adjoint``, cannot take at this
    level: one of its parameters is called ``prim``.)
    """
    equation, start = _real_equation(function, guess)
    flat, unravel = ravel_pytree(start)

    def rest(z):
        return ravel_pytree(equation(unravel(z)))[0]

    found = unravel(flat - jnp.linalg.solve(jax.jacfwd(rest)(flat), rest(flat)))
    root = join_parts(found, guess)
    finite = jnp.stack([jnp.isfinite(a).all() for a in jax.tree.leaves(root)]).all()
    return root, Solution(finite, jnp.ones((), jnp.int32), _largest(function(root)))


def split_parts(state: State) -> State:
    """Return a state in real numbers: of a complex leaf its real and its imaginary part."""
    return jax.tree.map(lambda a: (a.real, a.imag) if jnp.iscomplexobj(a) else a, state)


def join_parts(parts: State, like: State) -> State:
    """Return the state of these parts, complex where ``like`` is."""
    return jax.tree.map(lambda w, p: lax.complex(*p) if jnp.iscomplexobj(w) else p, like, parts)


def summary(solutions: list[Solution]) -> Solution:
    """Return how all equations of a step were solved; a step without any needed no iteration."""
    if not solutions:
        zero = jnp.zeros((), jnp.result_type(float))
        return Solution(jnp.asarray(True), jnp.zeros((), jnp.int32), zero)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *solutions)
    return Solution(stacked.converged.all(), stacked.iterations.max(), stacked.residual.max())


def end_slope(
    field: AbstractField, time: Scalar, base: State, u: Drive, dt: Scalar, weight: Scalar
) -> Callable[[State], State]:
    """Return the equation ``D - weight F(s + dt, base + D) = 0`` of an increment."""
    at, drive = time + dt, drive_at(u, 1.0)

    def residual(increment: State) -> State:
        slope = field(at, add_scaled(base, (1, increment)), drive)
        return add_scaled(increment, (-weight, slope))

    return residual


def check_max_steps(max_steps: Any) -> None:
    """Raise ``InputError`` unless it is a whole number of at least one."""
    if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
        raise InputError(f"max_steps = {max_steps!r}: give a whole number of at least 1.")


def depends(function: Callable, argument: Any, *others: Any) -> bool:
    """Whether the result of ``function(argument, *others)`` depends on the argument at all."""
    jaxpr = jax.make_jaxpr(function)(argument, *others).jaxpr
    reached = set(jaxpr.invars[: len(jax.tree.leaves(argument))])
    for eqn in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in reached for v in eqn.invars):
            reached.update(eqn.outvars)
    return any(not isinstance(v, Literal) and v in reached for v in jaxpr.outvars)


def _real_equation(
    function: Callable[[State], State], guess: State
) -> tuple[Callable[[State], State], State]:
    """The same in real numbers: a function of a complex one need not have a derivative."""

    def equation(parts: State) -> State:
        return split_parts(function(join_parts(parts, guess)))

    return equation, split_parts(guess)


def _is_affine(function: Callable[[State], State], x: State) -> bool:
    """Whether the derivative is the same everywhere, which its program tells."""

    def derivative(x, v):
        return jax.jvp(function, (x,), (v,))[1]

    return not depends(derivative, x, x)


def _largest(value: State) -> Array:
    return jnp.max(jnp.stack([jnp.max(jnp.abs(a)) for a in jax.tree.leaves(value)]))
