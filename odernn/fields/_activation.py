"""Activations, and gates that are packed in one call."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .._results import unknown_name
from .._typing import Array, Float, Inexact


def lecun_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``1.7159 tanh(0.666 x)``, whose variance is that of its argument."""
    return 1.7159 * jnp.tanh(0.666 * x)


ACTIVATIONS: dict[str, Callable] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "identity": lambda x: x,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "lecun_tanh": lecun_tanh,
}
"""Activations by name: a name can be stored in a file, a function can not."""
SLOPES: dict[str, float] = {
    "tanh": 1.0,
    "relu": 1.0,
    "identity": 1.0,
    "sigmoid": 0.25,
    "softplus": 1.0,
    "hard_sigmoid": 1 / 6,
    "lecun_tanh": 1.7159 * 0.666,
}
"""The largest slope of each; the smallest is 0, of the identity 1."""
SIZES: dict[str, float] = {"tanh": 1.0, "sigmoid": 1.0, "hard_sigmoid": 1.0, "lecun_tanh": 1.7159}
"""The largest absolute value of those that are bounded."""


def activation(name: str) -> Callable:
    """Return the activation with this name; raise ``InputError`` if there is none."""
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


def sigmoid(x: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
    """The logistic function as ``(1 + tanh(x/2))/2``: on a CPU tanh vectorises better than exp."""
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


@partial(jax.jit, static_argnames="epsilon")
def modrelu(
    z: Inexact[Array, " units"], bias: Float[Array, " units"], epsilon: float = 0.0
) -> Inexact[Array, " units"]:
    """``z relu(|z| + bias) / (|z| + epsilon)``: the modulus is shifted, the phase or sign kept.

    Without epsilon it is the flow of ``z' = bias z/|z|`` over the time 1, absorbed at the origin.
    The value and the gradient at z = 0 are zero.
    """
    zero = z == 0
    safe = jnp.where(zero, jnp.ones_like(z), z)
    modulus = jnp.abs(safe)
    factor = jax.nn.relu(modulus + bias) / (modulus + epsilon)
    return jnp.where(zero, jnp.zeros_like(z), safe * factor.astype(z.dtype))


def gates(z: Inexact[Array, " size"], kinds: str) -> list[Inexact[Array, " hidden"]]:
    """Split ``z`` into equal parts and apply to each the function that its letter names.

    ``"s"`` is the logistic function, ``"t"`` the hyperbolic tangent. One call of tanh serves all of
    them (see ``sigmoid``), which vectorises twice as well on a CPU as one call each.
    """
    width = z.shape[-1] // len(kinds)
    logistic = np.repeat([kind == "s" for kind in kinds], width)
    scale = np.where(logistic, 0.5, 1.0).astype(z.dtype)
    shift = np.where(logistic, 0.5, 0.0).astype(z.dtype)
    return jnp.split(jnp.tanh(z * scale) * scale + shift, len(kinds), axis=-1)
