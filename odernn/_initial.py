"""Sizes and initial weights of what has parameters."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ._results import InputError
from ._typing import Array, Float, PRNGKeyArray

Rule: TypeAlias = Callable[[PRNGKeyArray, tuple[int, ...], Any], Float[Array, "..."]]
"""``rule(key, shape, field)`` draws a parameter of a field; matrices are input-major."""


def uniform(key: PRNGKeyArray, shape: tuple[int, ...], bound: float) -> Float[Array, "..."]:
    """Draw weights from U(-bound, bound)."""
    return jax.random.uniform(key, shape, jnp.result_type(float), -bound, bound)


def between(low: float, high: float) -> Rule:
    """Draw from U(low, high)."""
    return lambda key, shape, field: jax.random.uniform(
        key, shape, jnp.result_type(float), low, high
    )


def constant(value: float) -> Rule:
    """Fill with a value."""
    return lambda key, shape, field: jnp.full(shape, value, jnp.result_type(float))


zeros, ones = constant(0.0), constant(1.0)


def normal(deviation: float) -> Rule:
    """Draw from N(0, deviation^2)."""
    return lambda key, shape, field: (
        deviation * jax.random.normal(key, shape, jnp.result_type(float))
    )


def by_hidden(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Float[Array, "..."]:
    """Draw from U(-b, b) with b = 1/sqrt(hidden size)."""
    return uniform(key, shape, field.hidden_size**-0.5)


def by_variance(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Float[Array, "..."]:
    """Draw from N(0, 1/rows)."""
    return normal(shape[0] ** -0.5)(key, shape, field)


def by_inputs(scale: float = 1.0) -> Rule:
    """Draw from U(-b, b) with b = scale/sqrt(number of rows of the matrix)."""
    return lambda key, shape, field: uniform(key, shape, scale * shape[0] ** -0.5)


def by_input_size(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Float[Array, "..."]:
    """Draw from U(-b, b) with b = 1/sqrt(input size), PyTorch's rule for weight and bias."""
    return uniform(key, shape, field.input_size**-0.5)


def glorot(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Float[Array, "..."]:
    """Draw from U(-b, b) with b = sqrt(6/(rows + columns)); of packed gates, all columns."""
    return uniform(key, shape, math.sqrt(6 / sum(shape[-2:])))


def glorot_blocks(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Float[Array, "..."]:
    """Draw as ``glorot`` does each block of hidden size by itself."""
    return uniform(key, shape, math.sqrt(6 / (shape[0] + field.hidden_size)))


def by_block(*values: float) -> Rule:
    """Fill each block of hidden size with a value of its own."""
    return lambda key, shape, field: jnp.repeat(
        jnp.array(values, jnp.result_type(float)), field.hidden_size
    )


def orthogonal(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Float[Array, "..."]:
    """Draw square blocks that are orthogonal; a matrix (n, k n) is k of them side by side."""
    rows, columns = shape
    if columns % rows:
        return jax.random.orthogonal(key, max(shape), dtype=jnp.result_type(float))[:rows, :columns]
    keys = jax.random.split(key, columns // rows)
    blocks = [jax.random.orthogonal(k, rows, dtype=jnp.result_type(float)) for k in keys]
    return jnp.concatenate(blocks, axis=1)


def check_sizes(**sizes: int) -> None:
    """Raise ``InputError`` unless every size is a whole number of at least one."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"{name} = {size!r}: give a whole number of at least 1.")
