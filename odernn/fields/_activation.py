"""Activations, and gates that are packed in one call."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from .._results import unknown_name
from .._typing import Array, Inexact

ACTIVATIONS: dict[str, Callable] = {"tanh": jnp.tanh, "relu": jax.nn.relu}
"""Activations by name: a name can be stored in a file, a function can not."""


def activation(name: str) -> Callable:
    """Return the activation with this name; raise ``InputError`` if there is none."""
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


def gates(z: Inexact[Array, " size"], kinds: str) -> list[Inexact[Array, " hidden"]]:
    """Split ``z`` into equal parts and apply to each the function that its letter names.

    ``"s"`` is the logistic function, ``"t"`` the hyperbolic tangent. As sigma(x) =
    (1 + tanh(x/2)) / 2, one call of tanh serves all of them, which vectorises twice as well on a
    CPU as one call each.
    """
    width = z.shape[-1] // len(kinds)
    logistic = np.repeat([kind == "s" for kind in kinds], width)
    scale = np.where(logistic, 0.5, 1.0).astype(z.dtype)
    shift = np.where(logistic, 0.5, 0.0).astype(z.dtype)
    return jnp.split(jnp.tanh(z * scale) * scale + shift, len(kinds), axis=-1)
