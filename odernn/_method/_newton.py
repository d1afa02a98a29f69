"""Newton's method, by Optimistix."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optimistix as optx

from .._typing import Array, Bool, Int, PyTree, Scalar


def find_root(
    function: Callable[[PyTree], PyTree],
    guess: PyTree,
    scale: Scalar,
    tolerance: float,
    max_steps: int,
) -> tuple[PyTree, Bool[Array, ""], Int[Array, ""]]:
    """Return the root z of a function, whether it was found, and the iterations of Newton's method.

    It ends when an update is smaller than ``tolerance (scale + max |z|)``; the error left is of the
    order of its square. Derivatives are those of the implicit function.
    """
    solution = optx.root_find(
        lambda z, _: function(z),
        _Newton(tolerance),
        guess,
        options={"scale": jax.lax.stop_gradient(scale)},
        max_steps=max_steps,
        throw=False,
    )
    found = solution.result == optx.RESULTS.successful
    return solution.value, found, jnp.asarray(solution.stats["num_steps"])


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
