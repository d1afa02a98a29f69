"""Newton's method on the equations of a step, by Optimistix."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax.flatten_util import ravel_pytree

from .._typing import Array, Bool, Float, Int, PyTree, Scalar


class Solution(eqx.Module):
    """How the equations of a step were solved.

    ``converged``: the last update was below the tolerance and all is finite; ``iterations`` of
    Newton's method, the most that an equation of the step needed; ``residual``: the largest
    component of what the equations leave.
    """

    converged: Bool[Array, ""]
    iterations: Int[Array, ""]
    residual: Float[Array, ""]


def find_root(
    function: Callable[[PyTree, PyTree], PyTree],
    guess: PyTree,
    args: PyTree,
    scale: Scalar,
    tolerance: float,
    max_steps: int,
) -> tuple[PyTree, Solution]:
    """Return the root z of ``function(z, args)`` and how it was found.

    Newton's method ends when an update is smaller than ``tolerance (scale + max |z|)``; the error
    left is of the order of its square. Derivatives are those of the implicit function.
    """
    solution = optx.root_find(
        function,
        _Newton(tolerance),
        guess,
        args,
        options={"scale": jax.lax.stop_gradient(scale)},
        max_steps=max_steps,
        throw=False,
    )
    root = solution.value
    converged = solution.result == optx.RESULTS.successful
    iterations = jnp.asarray(solution.stats["num_steps"])
    return root, Solution(converged, iterations, optx.max_norm(function(root, args)))


def find_affine_root(
    function: Callable[[PyTree, PyTree], PyTree], guess: PyTree, args: PyTree
) -> tuple[PyTree, Solution]:
    """Return the root of a function that is affine in z: one step of Newton's method.

    If it is not affine, this is the linearly implicit approximation. Derivatives go through it.
    (Not by Lineax, whose primitive ``jax.checkpoint``, and so ``Adjoint``, cannot take at this
    level: one of its parameters is called ``prim``.)
    """
    flat, unravel = ravel_pytree(guess)

    def rest(z):
        return ravel_pytree(function(unravel(z), args))[0]

    root = unravel(flat - jnp.linalg.solve(jax.jacfwd(rest)(flat), rest(flat)))
    finite = jnp.stack([jnp.isfinite(a).all() for a in jax.tree.leaves(root)]).all()
    return root, Solution(finite, jnp.asarray(1), optx.max_norm(function(root, args)))


class _Newton(optx.AbstractRootFinder):
    """Newton's method that ends when an update is small.

    Optimistix's own criterion also wants a small residual, which the rounding of a stiff field
    never allows: its error is ``dt L`` times that of the state, while the update stays that small.
    """

    tolerance: float
    newton: optx.Newton
    rtol: float
    atol: float
    norm: Callable[[PyTree], Scalar]

    def __init__(self, tolerance: float):
        self.tolerance = self.rtol = self.atol = tolerance
        self.norm = optx.max_norm
        self.newton = optx.Newton(tolerance, tolerance, cauchy_termination=False)

    def init(self, fn, y, args, options, f_struct, aux_struct, tags) -> Any:
        return self.newton.init(fn, y, args, {}, f_struct, aux_struct, tags)

    def step(self, fn, y, args, options, state, tags) -> Any:
        return self.newton.step(fn, y, args, {}, state, tags)

    def terminate(self, fn, y, args, options, state, tags) -> Any:
        scale = options["scale"] + self.norm(y)
        small = self.norm(state.diff) <= self.tolerance * scale
        return small, state.result

    def postprocess(self, fn, y, aux, args, options, state, tags, result) -> Any:
        return y, aux, {}
