"""The equations of implicit steps: Newton's method, with gradients of the solution."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from .._field import AbstractField
from .._interpolation import drive_at
from .._results import InputError
from .._typing import Drive, Scalar, State
from ._base import add_scaled

if TYPE_CHECKING:
    from ._newton import Solution


def solve(
    function: Callable[[State], State], guess: State, max_steps: int
) -> tuple[State, "Solution"]:
    """Solve ``function(x) = 0``; where the function is affine, by one linear solve.

    Derivatives are those of the solution, by the implicit function theorem, whatever the number of
    iterations.
    """
    from ._newton import find_affine_root, find_root

    if _is_affine(function, guess):
        return find_affine_root(lambda x, _: function(x), guess, None)
    scale = 1 + jnp.max(jnp.stack([jnp.max(jnp.abs(a)) for a in jax.tree.leaves(guess)]))
    tolerance = float(jnp.finfo(scale.dtype).eps) ** 0.6
    return find_root(lambda x, _: function(x), guess, None, scale, tolerance, max_steps)


def solve_stage(
    field: AbstractField,
    time: Scalar,
    base: State,
    u: Drive,
    dt: Scalar,
    node: float,
    weight: Scalar,
    max_steps: int,
) -> tuple[State, "Solution"]:
    """Solve ``K = F(s + node dt, base + weight K)``."""
    at = time + node * dt
    drive = drive_at(u, node)

    def residual(slope):
        wanted = field(at, add_scaled(base, (weight, slope)), drive)
        return jax.tree.map(jnp.subtract, slope, wanted)

    return solve(residual, field(at, base, drive), max_steps)


def require(value: State, solution: "Solution", method: Any) -> State:
    """Make it an error at run time if the equations were not solved."""
    return eqx.error_if(
        value,
        ~solution.converged,
        f"{type(method).__name__} did not solve the equations of a step in {method.max_steps} "
        "iterations: take a smaller dt, more max_steps, or throw=False for the last iterate.",
    )


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


def _is_affine(function: Callable[[State], State], x: State) -> bool:
    """Whether the derivative is the same everywhere, which its program tells."""

    def derivative(x, v):
        return jax.jvp(function, (x,), (v,))[1]

    return not depends(derivative, x, x)
