"""Random weights, and equations as references."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


def sigma(x):
    return 1 / (1 + np.exp(-x))


def random_cell(network, input_size, hidden_size, rng, **options):
    """Return a cell of the network; every parameter is drawn anew, biases and scales too."""
    key = jax.random.key(int(rng.integers(2**31)))
    cell = network(input_size, hidden_size, key=key, **options)

    def draw(a):
        return jnp.asarray(0.5 * rng.normal(size=a.shape), a.dtype)

    return jax.tree.map(lambda a: draw(a) if eqx.is_inexact_array(a) else a, cell)


def equation(network, outputs, **options):
    """A reference from the equations: ``outputs(field, xs, dt)`` yields the output of each step.

    Of the field it reads the parameters, as NumPy arrays, and nothing else.
    """

    def reference(input_size, hidden_size, rng):
        cell = random_cell(network, input_size, hidden_size, rng, **options)
        field = jax.tree.map(lambda a: np.asarray(a) if eqx.is_array(a) else a, cell.field)
        return cell, lambda xs: np.array(list(outputs(field, xs, cell.dt)))

    return reference
