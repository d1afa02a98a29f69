"""Lyapunov exponents against published and known values."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import odernn
from odernn import InputError
from odernn.analysis._lyapunov import dense_exponents, lyapunov_spectrum
from odernn.analysis._measure import jacobians, take, trajectories


class Lorenz(odernn.AbstractField):
    """Lorenz's three equations of 1963."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=3)

    def __call__(self, time, y, u):
        a, b, c = y
        return jnp.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c])


def henon(y, _):
    return jnp.stack([1 - 1.4 * y[0] ** 2 + y[1], 0.3 * y[0]])


def test_the_lorenz_system_has_its_published_exponents():
    cell = odernn.Cell(Lorenz(), odernn.RK4(), 0.01)
    found = lyapunov_spectrum(cell, jnp.ones(3), steps=60_000, warmup=2_000, every=10) / 0.01
    # Sprott, Chaos and Time-Series Analysis (2003): 0.9056, 0, -14.5723.
    np.testing.assert_allclose(found, [0.9056, 0, -14.5723], atol=0.015)
    # The trace of the Jacobian is constant.
    assert found.sum() == pytest.approx(-(10 + 1 + 8 / 3), abs=1e-3)


def test_the_henon_map_has_its_published_exponents():
    found = lyapunov_spectrum(henon, jnp.array([0.1, 0.1]), steps=50_000, warmup=100)
    np.testing.assert_allclose(found, [0.4192, -1.6229], atol=0.003)
    # The determinant of the Jacobian is constant, -0.3.
    assert found.sum() == pytest.approx(np.log(0.3), abs=1e-9)


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("count", [2, 5])
def test_of_a_linear_step_they_are_the_logarithms_of_the_eigenvalues(rng, every, count):
    basis = rng.normal(size=(5, 5))
    values = np.array([1.5, -1.1, 0.8, 0.5, -0.1])
    matrix = jnp.asarray(basis @ np.diag(values) @ np.linalg.inv(basis))
    found = lyapunov_spectrum(
        lambda y, x: matrix @ y, jnp.zeros(5), steps=400, warmup=201, every=every, count=count
    )
    np.testing.assert_allclose(found, np.log(np.abs(values))[:count], atol=1e-6)


def test_a_cell_and_the_function_that_it_is_agree_with_products_of_jacobians(key, rng):
    cell = odernn.zoo.LSTM(2, 3, key=key)
    xs = rng.normal(size=(62, 2))
    found = lyapunov_spectrum(cell, None, xs, every=3)
    as_function = lyapunov_spectrum(lambda y, x: (cell(y, x), y["h"]), cell.initial_state(), xs)
    np.testing.assert_allclose(found, as_function, atol=1e-9)
    recurrence, start = take(cell)
    steps = trajectories(recurrence, start, jnp.asarray(xs)[None])
    flat = jax.tree.map(lambda a: a[0], (steps.vectors, steps.rests, steps.items))
    matrices = np.asarray(jacobians(recurrence, *flat))
    np.testing.assert_allclose(found, dense_exponents(matrices[None])[0], atol=1e-9)
    # Their sum is the mean logarithm of the determinants, whatever the algorithm.
    assert found.sum() == pytest.approx(np.linalg.slogdet(matrices)[1].mean())


def test_a_trajectory_that_breaks_gives_nan():
    found = lyapunov_spectrum(lambda y, x: 1e200 * y**3, jnp.full(1, 2.0), steps=9)
    assert not np.isfinite(found).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps = 0: give a whole number of at least 1"),
        ({}, "xs and steps: give the inputs xs"),
        ({"xs": np.zeros((3, 1)), "steps": 3}, "xs and steps: give the inputs xs"),
        ({"steps": 5, "warmup": 5}, "warmup = 5: it must be below the number of steps, 5"),
        ({"steps": 5, "count": 3}, "count = 3: the state has 2 numbers"),
        ({"steps": 5, "every": 1.5}, "every = 1.5: give a whole number of at least 1"),
        ({"xs": np.zeros((2, 3, 1))}, r"xs has the shape \(2, 3, 1\): give one sequence"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        lyapunov_spectrum(henon, jnp.zeros(2), **arguments)


def test_a_step_without_a_state_and_a_state_without_numbers_are_refused():
    with pytest.raises(InputError, match="y is missing: a function is measured from an example"):
        lyapunov_spectrum(henon, steps=3)
    with pytest.raises(InputError, match="y has no floating-point numbers"):
        lyapunov_spectrum(henon, jnp.zeros(2, jnp.int32), steps=3)
    with pytest.raises(InputError, match="there is no state like the one it takes"):
        lyapunov_spectrum(lambda y, x: y[:1], jnp.zeros(2), steps=3)
