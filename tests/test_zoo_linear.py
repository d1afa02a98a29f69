"""Known facts about linear state spaces and memories of history."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import legendre

import odernn
from odernn.fields._history import LMU, HiPPOLegS
from odernn.fields._state_space import LRU, S4D, S5, LinOSS
from odernn.zoo import _linear as zoo

from .references.linear import as_numpy, damped, delay, matrices
from .references.weights import random_cell

NETWORKS = {network.name: network for network in zoo.NETWORKS}
STATE_SPACES = [zoo.LinOSSIM, zoo.LinOSSIMEX, zoo.LRU, zoo.S4D, zoo.S5]


def oscillator_steps(network, rng):
    """The step of each oscillator as a 2x2 matrix on (h, v), and dt^2 A."""
    cell = random_cell(network, 3, 200, rng)
    cell = eqx.tree_at(lambda c: c.field.stiffness, cell, cell.field.stiffness * 40)
    rest = jax.tree.map(jnp.zeros_like, cell.initial_state())
    none = jnp.zeros(200, rest["h"].dtype)
    columns = []
    for block in ("h", "v"):
        y = cell.step({**rest, block: none + 1}, none)
        columns.append(np.stack([y["h"], y["v"]], axis=-1).real)
    field = cell.field
    square = np.asarray(field.gain() ** 2 * jax.nn.relu(field.stiffness))
    assert square.min() == 0
    assert square.max() > 5
    return np.stack(columns, axis=-1), square


def test_linoss_im_contracts(rng):
    matrix, square = oscillator_steps(zoo.LinOSSIM, rng)
    moduli = np.abs(np.linalg.eigvals(matrix))
    # A double eigenvalue of a matrix that is no multiple of one is only found to 1e-8.
    np.testing.assert_allclose(moduli**2, 1 / (1 + square)[:, None] + 0 * moduli, atol=1e-7)
    np.testing.assert_allclose(np.linalg.det(matrix), 1 / (1 + square), rtol=1e-12)


def test_linoss_imex_keeps_areas_and_is_stable_up_to_its_bound(rng):
    matrix, square = oscillator_steps(zoo.LinOSSIMEX, rng)
    np.testing.assert_allclose(np.linalg.det(matrix), 1, rtol=1e-12)
    largest = np.abs(np.linalg.eigvals(matrix)).max(axis=-1)
    inside = square <= 4
    assert 0 < inside.sum() < 200
    np.testing.assert_allclose(largest[inside], 1, atol=1e-7)
    assert (largest[~inside] > 1).all()


def test_linoss_imex_can_be_undone(key, rng):
    layer = odernn.Layer(zoo.LinOSSIMEX(3, 5, key=key), odernn.Reversible())
    xs = rng.normal(size=(50, 3))
    assert layer.drift(xs) < 1e-13
    assert not zoo.LinOSSIMEX(3, 5, key=key).n


def test_lru_eigenvalues_are_inside_the_unit_disc_for_any_weights(rng):
    cell = random_cell(zoo.LRU, 3, 200, rng)
    start = cell.initial_state() + 1
    factor = cell.step(start, jnp.zeros_like(start))
    assert jnp.iscomplexobj(factor)
    assert (np.abs(factor) < 1).all()
    np.testing.assert_allclose(np.abs(factor), np.exp(-np.exp(cell.field.nu)), rtol=1e-12)


def test_lru_starts_on_a_ring(key):
    field = LRU(3, 500, r_min=0.6, r_max=0.9, max_phase=0.5, key=key)
    values = np.exp(field.eigenvalues())
    radii, phases = np.abs(values), np.angle(values)
    assert radii.min() > 0.6
    assert radii.max() < 0.9
    assert phases.min() > 0
    assert phases.max() < 0.5
    # Uniform on the ring: the squared radii are uniform.
    assert abs((radii**2).mean() - (0.6**2 + 0.9**2) / 2) < 0.02
    # White noise makes states of variance one.
    np.testing.assert_allclose(field.gain() ** 2, 1 - radii**2, rtol=1e-10)


@pytest.mark.parametrize("method", [odernn.ETD1(), odernn.ImplicitMidpoint()], ids=repr)
def test_s5_by_either_discretisation_of_its_authors(method, rng):
    cell = random_cell(zoo.S5, 3, 5, rng, method=method)
    cell = eqx.tree_at(lambda c: c.field, cell, damped(cell.field))
    xs = rng.normal(size=(40, 3))
    hs, _ = odernn.Layer(cell, odernn.Scan())(xs)
    f = as_numpy(cell.field)
    (b, c), eigenvalues, step = matrices(f), f.real + 1j * f.imaginary, np.exp(f.log_step)
    if isinstance(method, odernn.ETD1):
        factor = np.exp(eigenvalues * step)
        gain = (factor - 1) / eigenvalues
    else:
        inverse = 1 / (1 - step / 2 * eigenvalues)
        factor, gain = inverse * (1 + step / 2 * eigenvalues), inverse * step
    h = np.zeros(5, complex)
    for x, found in zip(xs, hs, strict=True):
        u = x @ f.encoder + f.encoder_bias
        h = factor * h + gain * (b @ u)
        expected = 2 * (c @ h).real + f.feedthrough_weight * u
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_s5_starts_from_hippo(key):
    size = 12
    n = np.arange(2 * size)
    root = np.sqrt(2 * n + 1)
    hippo = -np.where(n[:, None] > n, np.outer(root, root), np.diag(n + 1))
    normal = hippo + np.outer(root, root) / 2
    assert np.abs(normal @ normal.T - normal.T @ normal).max() < 1e-9
    values, vectors = np.linalg.eig(normal)
    values = values[np.argsort(values.imag)][:size]
    field = S5(3, size, key=key)
    np.testing.assert_allclose(field.real, values.real, rtol=1e-9)
    np.testing.assert_allclose(field.imaginary, values.imag, rtol=1e-9)
    # V is unitary, so that V^-1 B has the distribution that the weights are drawn from.
    np.testing.assert_allclose(vectors.conj().T @ vectors, np.eye(2 * size), atol=1e-9)


def test_s4d_answers_an_impulse_with_its_kernel(key):
    cell = zoo.S4D(1, 1, state_size=8, key=key)
    impulse = jnp.zeros((30, 1)).at[0].set(1.0)
    hs, state = odernn.Layer(cell)(impulse)
    f = as_numpy(cell.field)
    assert f.encoder is None
    a = -0.5 + 1j * np.pi * np.arange(4)
    step, (real, imaginary) = np.exp(f.log_step[0]), f.output_weight[:, 0]
    gain = (real + 1j * imaginary) * (np.exp(step * a) - 1) / a
    kernel = [2 * (gain * np.exp(step * a * k)).sum().real for k in range(30)]
    kernel[0] += f.feedthrough_weight[0]
    np.testing.assert_allclose(hs[:, 0], kernel, atol=1e-13)
    assert state.shape == (1, 4)
    assert cell.t == 4


def smooth(s):
    return np.sin(2 * np.pi * s / 90) + 0.5 * np.cos(2 * np.pi * s / 51 + 1)


@pytest.mark.parametrize(("delayed", "bound"), [(0, 5e-3), (20, 1e-4), (40, 1e-3)])
def test_lmu_reads_a_delayed_signal_off_its_memory(delayed, bound, key):
    cell = zoo.LMU(1, 2, memory_size=12, theta=40.0, key=key)
    # The memory alone: nothing is fed back.
    cell = eqx.tree_at(
        lambda c: (c.field.input_encoder, c.field.hidden_encoder),
        cell,
        (jnp.ones(1), jnp.zeros(2)),
    )
    assert not cell.field.memory_encoder.any()
    # An input is held over the step that ends with it: its middle is half a step earlier.
    xs = smooth(np.arange(1, 201) - 0.5)[:, None]
    _, state = odernn.Layer(cell)(xs)
    found = legendre.legval(2 * delayed / 40 - 1, state["m"])
    assert abs(found - smooth(200 - delayed)) < bound


def test_lmu_by_gauss_seidel_is_its_authors_euler_discretisation(rng):
    cell = random_cell(zoo.LMU, 3, 5, rng, theta=20.0, method=odernn.GaussSeidelEuler())
    f = cell.field
    xs = rng.normal(size=(10, 3))
    hs, _ = odernn.Layer(cell, odernn.Scan())(xs)
    a, b = delay(5, 20.0)
    h, m = np.zeros(5), np.zeros(5)
    for x, found in zip(xs, hs, strict=True):
        u = f.input_encoder @ x + f.hidden_encoder @ h + f.memory_encoder @ m
        m = m + a @ m + b[:, 0] * u
        h = np.tanh(f.input_weight.T @ x + f.weight.T @ h + f.memory_weight.T @ m)
        np.testing.assert_allclose(found, h, rtol=0, atol=1e-12)


def test_the_flow_of_the_lmu_memory_solves_its_ode_while_u_is_held(rng):
    field = random_cell(zoo.LMU, 3, 5, rng, theta=20.0).field
    field = eqx.tree_at(lambda f: f.memory_encoder, field, jnp.zeros(5))
    y = {"h": jnp.asarray(rng.normal(size=5)), "m": jnp.asarray(rng.normal(size=5))}
    u = field.drive(jnp.asarray(rng.normal(size=3)))
    exact, many = field.flow("memory", 0.0, y, u, 1.0), y
    for _ in range(50):
        stages = [field.part("memory", 0.0, many, u)]
        for share in (0.01, 0.01, 0.02):
            inner = jax.tree.map(lambda a, k, s=share: a + s * k, many, stages[-1])
            stages.append(field.part("memory", 0.0, inner, u))
        many = jax.tree.map(
            lambda a, p, q, r, s: a + 0.02 / 6 * (p + 2 * q + 2 * r + s), many, *stages
        )
    for block in y:
        np.testing.assert_allclose(exact[block], many[block], rtol=1e-7)
    assert field.flow("hidden", 0.0, y, u, 1.0) is None


@pytest.mark.parametrize("steps", [100, 400])
def test_hippo_keeps_the_whole_history(steps, key):
    cell = zoo.HiPPOLegS(1, 24, key=key)
    # As much happens whatever the number of steps: the memory has no length of its own.
    s = (np.arange(steps) + 0.5) * 200 / steps
    coefficients, _ = odernn.Layer(cell)(smooth(s)[:, None])
    norms = np.sqrt(2 * np.arange(24) + 1)
    found = legendre.legval(2 * s / 200 - 1, coefficients[-1] * norms)
    # The bilinear update is of first order in the step; polynomials are worst at the ends.
    middle = slice(steps // 20, -steps // 20)
    error = np.abs(found - smooth(s))[middle].max()
    assert error < 10 / steps


def test_hippo_is_solved_as_a_linear_equation(key):
    field, y = HiPPOLegS(1, 6, key=key), jnp.linspace(-1, 1, 6)
    _, solution = odernn.ImplicitMidpoint().attempt(field, 3.0, y, jnp.asarray(0.7), 1.0)
    assert solution.converged
    assert solution.iterations == 1
    assert solution.residual < 1e-14


@pytest.mark.parametrize("network", STATE_SPACES, ids=repr)
def test_an_encoder_is_there_where_sizes_differ(network, key):
    assert network(4, 4, key=key).field.encoder is None
    field = network(3, 4, key=key).field
    assert field.encoder.shape == (3, 4)
    assert field.encoder_bias.shape == (4,)
    x = jnp.arange(3.0)
    expected = field.feedthrough_weight * (x @ field.encoder + field.encoder_bias)
    np.testing.assert_allclose(field.feedthrough(x), expected)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_in_both_precisions(name, dtype, key, rng):
    cell = NETWORKS[name](3, 4, key=key)
    cell = jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, cell)
    xs = jnp.asarray(rng.normal(size=(12, 3)), dtype)

    def loss(cell, unroll):
        return jnp.sum(jnp.sin(odernn.Layer(cell, unroll)(xs)[0]))

    by_scan = eqx.filter_grad(loss)(cell, odernn.Scan())
    by_adjoint = eqx.filter_grad(loss)(cell, odernn.Adjoint(block=5))
    tolerance = 1e-10 if dtype == jnp.float64 else 1e-3
    for a, b in zip(jax.tree.leaves(by_scan), jax.tree.leaves(by_adjoint), strict=True):
        assert a.dtype == b.dtype == dtype
        assert jnp.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


class Spiral(odernn.AbstractField):
    """``z' = (i - |z|^2) z``: not differentiable as a function of a complex number."""

    input_size: int = 1
    hidden_size: int = 2

    def __call__(self, time, y, u):
        return 1j * y - y * (y * y.conj())

    def initial_state(self):
        return jnp.asarray([0.5 + 0.5j, -1.0 + 0.2j])


def test_implicit_methods_solve_equations_in_complex_numbers():
    field, y = Spiral(), Spiral().initial_state()
    u, dt = jnp.zeros(1), 0.3
    after = odernn.BackwardEuler().step(field, 0.0, y, u, dt)
    np.testing.assert_allclose(after, y + dt * field(0.0, after, u), atol=1e-14)
    middle = odernn.ImplicitMidpoint().step(field, 0.0, y, u, dt)
    np.testing.assert_allclose(middle, y + dt * field(0.0, (y + middle) / 2, u), atol=1e-14)
    fine = y
    for _ in range(100):
        fine = odernn.RK4().step(field, 0.0, fine, u, dt / 100)
    adaptive = odernn.Adaptive(rtol=1e-10, atol=1e-12).step(field, 0.0, y, u, dt)
    np.testing.assert_allclose(adaptive, fine, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda key: S4D(3, 4, state_size=5, key=key), "state_size = 5: give an even number"),
        (lambda key: S5(3, 4, state_size=0, key=key), "state_size = 0: give a whole number"),
        (lambda key: LinOSS(3, -1, key=key), "hidden_size = -1: give a whole number"),
        (lambda key: LRU(3, 4, r_min=0.9, r_max=0.5, key=key), "r_min = 0.9, r_max = 0.5: give"),
        (lambda key: LRU(3, 4, max_phase=0.0, key=key), "max_phase = 0.0: give a positive angle"),
        (lambda key: LMU(3, 4, theta=0.0, key=key), "theta = 0.0: give a positive length"),
        (lambda key: LMU(3, 4, memory_size=1.5, key=key), "memory_size = 1.5: give a whole number"),
    ],
)
def test_wrong_arguments_are_refused(make, message, key):
    with pytest.raises(odernn.InputError, match=message):
        make(key)
