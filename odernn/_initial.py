"""Sizes and initial weights of what has parameters."""

import jax
import jax.numpy as jnp

from ._results import InputError
from ._typing import Array, Float, PRNGKeyArray


def uniform(key: PRNGKeyArray, shape: tuple[int, ...], bound: float) -> Float[Array, "..."]:
    """Draw weights from U(-bound, bound)."""
    return jax.random.uniform(key, shape, jnp.result_type(float), -bound, bound)


def check_sizes(**sizes: int) -> None:
    """Raise ``InputError`` unless every size is a whole number of at least one."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"{name} = {size!r}: give a whole number of at least 1.")
