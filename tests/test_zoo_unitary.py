"""Unitary networks keep the norm, are PyTorch's with its gradients, and their parts are flows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import torch

import odernn
from odernn.fields import _stable as stable
from odernn.fields import _unitary as unitary
from odernn.fields._activation import modrelu
from odernn.zoo import _stable as zoo

from .references.weights import random_cell

FIELDS = {
    "exponential": (unitary.Orthogonal, {}),
    "cayley": (unitary.CayleyOrthogonal, {"negative": 3}),
    "full": (unitary.Unitary, {}),
    "factored": (unitary.FactoredUnitary, {}),
}
SIZE = 8


def _random(name, rng, size=SIZE):
    kind, options = FIELDS[name]
    field = kind(3, size, key=jax.random.key(0), **options)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), field)


def _state(field, rng):
    re, im = jnp.asarray(rng.normal(size=(2, field.units_size)))
    return re if isinstance(field, unitary.AbstractOrthogonalField) else jax.lax.complex(re, im)


def _matrix(field, dt=1.0):
    like = field.initial_state()
    one = jnp.eye(field.units_size, dtype=like.dtype)
    return np.asarray(jax.vmap(lambda y: field.rotate(y, dt))(one))


@pytest.mark.parametrize("dt", [1.0, 0.3])
@pytest.mark.parametrize("name", FIELDS)
def test_the_rotation_keeps_the_norm(name, dt, rng):
    field = _random(name, rng)
    y = _state(field, rng)
    norm = jnp.linalg.norm(y)
    last, norms = jax.lax.scan(
        lambda y, _: (field.rotate(y, dt), jnp.linalg.norm(y)), y, length=200
    )
    np.testing.assert_allclose(norms, norm, rtol=1e-12)
    assert not np.allclose(last, y)


@pytest.mark.parametrize("name", FIELDS)
def test_the_matrix_is_unitary(name, rng):
    w = _matrix(_random(name, rng))
    np.testing.assert_allclose(w @ w.conj().T, np.eye(len(w)), rtol=0, atol=1e-13)
    np.testing.assert_allclose(abs(np.linalg.eigvals(w)), 1, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["exponential", "full"])
def test_the_rotation_is_the_flow_of_its_rate(name, rng):
    field = _random(name, rng)
    y = _state(field, rng)
    there = field.rotate(field.rotate(y, 0.3), 0.7)
    np.testing.assert_allclose(there, field.rotate(y, 1.0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(field.rotate(there, -1.0), y, rtol=0, atol=1e-12)
    _, rate = jax.jvp(lambda dt: field.rotate(y, dt), (jnp.zeros(()),), (jnp.ones(()),))
    np.testing.assert_allclose(rate, field.part("rotation", 0.0, y, None), rtol=0, atol=1e-12)


def test_the_cayley_map_is_the_implicit_midpoint_rule(rng):
    field = unitary.CayleyOrthogonal(3, SIZE, key=jax.random.key(0))
    field = eqx.tree_at(lambda f: f.weight, field, jnp.asarray(rng.normal(size=(SIZE, SIZE))))
    y = _state(field, rng)
    there = field.rotate(y, 0.4)
    np.testing.assert_allclose(there - y, 0.4 * field.rotation((there + y) / 2), atol=1e-13)


def test_the_diagonal_of_the_cayley_network_brings_in_the_eigenvalue_minus_one(key):
    plain, scaled = (
        unitary.CayleyOrthogonal(3, SIZE, negative=negative, key=key) for negative in (0, 3)
    )
    signs = np.diag([1.0] * 5 + [-1.0] * 3)
    np.testing.assert_allclose(_matrix(scaled), _matrix(plain) @ signs, rtol=0, atol=1e-14)
    assert np.linalg.det(_matrix(scaled)) == pytest.approx(-1)


def test_the_factors_are_those_of_the_paper(rng):
    field = _random("factored", rng)
    n = field.units_size
    theta = np.asarray(field.phases).reshape(3, n)
    fourier = scipy.linalg.dft(n, scale="sqrtn")
    permutation = np.eye(n)[np.random.default_rng(field.seed).permutation(n)]
    d = [np.diag(np.exp(1j * t)) for t in theta]
    # The authors' inner product has no conjugate: the reflection is one by the conjugate vector.
    v = [np.conj(r[:n] + 1j * r[n:]) for r in np.asarray(field.reflections)]
    r = [np.eye(n) - 2 * np.outer(w, w.conj()) / np.vdot(w, w) for w in v]
    expected = d[2] @ r[1] @ fourier.conj().T @ d[1] @ permutation @ r[0] @ fourier @ d[0]
    np.testing.assert_allclose(_matrix(field).T, expected, rtol=0, atol=1e-13)


def test_the_permutation_follows_from_the_seed(key):
    first, again, other = (unitary.FactoredUnitary(3, 32, seed=s, key=key) for s in (1, 1, 2))
    assert np.array_equal(_matrix(first), _matrix(again))
    assert not np.allclose(_matrix(first), _matrix(other))


def test_the_first_matrix_of_full_capacity_is_any_unitary_matrix():
    fields = [unitary.Unitary(3, 12, key=jax.random.key(i)) for i in range(30)]
    matrices = [_matrix(field) for field in fields]
    for w in matrices:
        np.testing.assert_allclose(w @ w.conj().T, np.eye(6), rtol=0, atol=1e-13)
    # |trace|^2 of a uniform one is 1 on average, with deviation 1.
    assert 0.3 < np.mean([abs(np.trace(w)) ** 2 for w in matrices]) < 2
    angles = np.angle(np.concatenate([np.linalg.eigvals(w) for w in matrices]))
    assert abs(np.mean(np.exp(1j * angles))) < 0.2


@pytest.mark.parametrize("angles", ["henaff", "cayley"])
@pytest.mark.parametrize("kind", [unitary.Orthogonal, unitary.CayleyOrthogonal])
@pytest.mark.parametrize("size", [5, 6])
def test_pairs_of_units_turn_at_first(kind, angles, size, key):
    weight = np.asarray(kind(3, size, angles=angles, key=key).weight)
    pairs = weight[[0, 2], [1, 3]]
    assert np.count_nonzero(weight) == size // 2 and np.all(pairs)
    low, high = {"henaff": (-np.pi, np.pi), "cayley": (-1, 0)}[angles]
    assert np.all((low < pairs) & (pairs < high))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_modrelu_is_a_flow_that_is_absorbed_at_the_origin(dtype, rng):
    z = rng.normal(size=200)
    z = jnp.asarray(z if dtype == "float64" else z + 1j * rng.normal(size=200))
    bias = jnp.asarray(rng.normal(size=200))
    twice = modrelu(modrelu(z, 0.3 * bias), 0.7 * bias)
    np.testing.assert_allclose(twice, modrelu(z, bias), rtol=0, atol=1e-14)
    moved = modrelu(z, bias)
    np.testing.assert_allclose(abs(moved), np.maximum(abs(z) + bias, 0), rtol=0, atol=1e-14)
    alive = moved != 0
    np.testing.assert_allclose((moved / z)[alive].imag, 0, atol=1e-13)
    assert 0 < np.count_nonzero(~alive) < 200


@pytest.mark.parametrize("z", [0.0, 0j])
def test_modrelu_and_its_gradient_vanish_at_the_origin(z):
    for bias in (0.5, -0.5):
        value = modrelu(jnp.asarray([z]), jnp.asarray([bias]))
        assert value == 0
        slopes = jax.grad(lambda z, b: jnp.sum(modrelu(z, b).real), argnums=(0, 1))(
            jnp.asarray([z]), jnp.asarray([bias])
        )
        assert all(np.array_equal(s, [0]) for s in slopes)


@pytest.mark.parametrize("name", FIELDS)
def test_the_parts_add_up(name, rng):
    field = _random(name, rng)
    y, u = _state(field, rng), field.drive(jnp.asarray(rng.normal(size=3)))
    total = sum(field.part(part, 0.0, y, u) for part in field.parts)
    np.testing.assert_allclose(field(0.0, y, u), total, rtol=0, atol=1e-13)
    _, rate = jax.jvp(
        lambda dt: field.flow("shrink", 0.0, y, u, dt), (jnp.zeros(()),), (jnp.ones(()),)
    )
    np.testing.assert_allclose(rate, field.part("shrink", 0.0, y, u), rtol=0, atol=1e-4)


# --- Gradients against PyTorch ------------------------------------------------------------------


def _torch(array):
    return torch.tensor(np.asarray(array), requires_grad=True)


def _torch_exprnn(p, xs):
    upper = torch.triu(p["weight"], 1)
    w = torch.matrix_exp(upper - upper.T)
    h = torch.zeros(len(w), dtype=xs.dtype)
    for x in xs:
        v = x @ p["input_weight"] + h @ w
        h = torch.sign(v) * torch.relu(v.abs() + p["bias"])
        yield h


def _torch_urnn(p, xs, order):
    n = len(p["bias"])
    theta = torch.exp(1j * p["phases"].reshape(3, n))
    vectors = torch.complex(p["reflections"][:, :n], p["reflections"][:, n:])
    v = torch.complex(p["input_weight"][:, :n], p["input_weight"][:, n:])

    def reflect(x, w):
        return x - 2 * (x @ w) / (w.abs() ** 2).sum() * w.conj()

    h = torch.complex(p["start"][:n], p["start"][n:])
    for x in xs:
        z = reflect(torch.fft.fft(h * theta[0], norm="ortho"), vectors[0])[order]
        z = reflect(torch.fft.ifft(z * theta[1], norm="ortho"), vectors[1]) * theta[2]
        z = z + x.to(z.dtype) @ v
        h = z * torch.relu(z.abs() + p["bias"]) / (z.abs() + 1e-5)
        yield torch.cat([h.real, h.imag])


@pytest.mark.parametrize(
    "unroll", [odernn.Scan(), odernn.Adjoint(block=8)], ids=["scan", "adjoint"]
)
@pytest.mark.parametrize("name", ["expRNN", "uRNN"])
def test_torch_gives_the_same_gradients(name, unroll, rng):
    cell = random_cell(getattr(zoo, name), 3, SIZE, rng)
    xs, weights = rng.normal(size=(50, 3)), rng.normal(size=(50, SIZE))
    parameters = {k: _torch(v) for k, v in vars(cell.field).items() if eqx.is_array(v)}
    inputs = _torch(xs)
    if name == "expRNN":
        outputs = _torch_exprnn(parameters, inputs)
    else:
        order = np.random.default_rng(cell.field.seed).permutation(cell.field.units_size)
        outputs = _torch_urnn(parameters, inputs, order)
    expected = torch.stack(list(outputs))
    (expected * torch.tensor(weights)).sum().backward()

    def loss(both):
        hs, _ = odernn.Layer(both[0], unroll)(both[1])
        return jnp.sum(hs * weights), hs

    gradient, hs = eqx.filter_grad(loss, has_aux=True)((cell, jnp.asarray(xs)))
    np.testing.assert_allclose(hs, expected.detach(), rtol=0, atol=1e-12)
    pairs = [(getattr(gradient[0].field, k), v.grad) for k, v in parameters.items()]
    for ours, theirs in [*pairs, (gradient[1], inputs.grad)]:
        theirs = theirs.numpy()
        assert np.abs(theirs).max() > 0
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(theirs).max())


# --- The rest -----------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [zoo.uRNN, zoo.FullCapacityuRNN])
def test_the_state_before_the_first_step_is_trained(network, key):
    cell = network(3, SIZE, key=key)
    assert cell.initial_state().dtype == jnp.complex128
    assert jnp.linalg.norm(cell.initial_state()) > 0.1
    xs = jnp.ones((6, 3))
    gradient = eqx.filter_grad(lambda cell: jnp.sum(odernn.Layer(cell)(xs)[0]))(cell)
    assert np.all(gradient.field.start != 0)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda k: zoo.uRNN(3, 5, key=k), "hidden_size = 5: give an even number"),
        (lambda k: zoo.FullCapacityuRNN(3, 1, key=k), "hidden_size = 1: give an even number"),
        (lambda k: zoo.uRNN(3, 4, epsilon=-1.0, key=k), "epsilon = -1.0: give a number"),
        (lambda k: zoo.uRNN(3, 4, seed=-1, key=k), "seed = -1: give a whole number"),
        (lambda k: zoo.scoRNN(3, 4, negative=5, key=k), "negative = 5: give how many of the 4"),
        (lambda k: zoo.expRNN(3, 4, angles="haar", key=k), "unknown angles 'haar'"),
        (lambda k: zoo.scoRNN(3, 4, angles="haar", key=k), "unknown angles 'haar'"),
        (lambda k: zoo.IncrementalRNN(3, 4, steps=0, key=k), "steps = 0: give a whole number"),
        (lambda k: zoo.IncrementalRNN(3, 4, activation="no", key=k), "unknown activation 'no'"),
    ],
)
def test_bad_arguments(make, match, key):
    with pytest.raises(odernn.InputError, match=match):
        make(key)


@pytest.mark.parametrize("network", [zoo.ESN, zoo.EuSN])
def test_a_reservoir_is_not_trained(network, key):
    cell = network(3, 50, key=key)
    assert odernn.parameter_count(cell) == 0
    model = odernn.Model([odernn.Layer(cell)], odernn.LastStep(50, 2, key=key))
    assert odernn.parameter_count(model) == 102


def test_the_radius_of_a_reservoir_is_about_what_was_asked_for(key):
    field = stable.Reservoir(3, 300, radius=0.7, key=key)
    radius = np.abs(np.linalg.eigvals(np.asarray(field.weight))).max()
    assert radius == pytest.approx(0.7, rel=0.1)


@pytest.mark.parametrize("restart", [False, True])
def test_increments_mirror_the_state_at_the_equilibrium_of_the_input(restart, rng):
    cell = random_cell(
        zoo.IncrementalRNN, 3, 5, rng, steps=400, alpha=1.3, activation="tanh", restart=restart
    )
    cell = eqx.tree_at(
        lambda cell: (cell.field.steplengths, cell.field.weight),
        cell,
        (jnp.full(400, 0.1), 0.3 * cell.field.weight),
    )
    h, x = jnp.asarray(rng.normal(size=(2, 5))), jnp.asarray(rng.normal(size=3))
    total = jnp.stack([cell(state, x) + state for state in h])
    np.testing.assert_allclose(total[0], total[1], rtol=0, atol=1e-12)
    field = cell.field
    inner = jnp.tanh(total[0] @ field.weight + field.drive(x))
    np.testing.assert_allclose(inner, 1.3 * total[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(jax.jacobian(lambda h: cell(h, x))(h[0]), -jnp.eye(5), atol=1e-10)


def test_one_increment_from_zero_is_that_of_the_paper(rng):
    cell = random_cell(zoo.IncrementalRNN, 3, 5, rng, steps=1, alpha=0.7, restart=True)
    f = jax.tree.map(np.asarray, cell.field)
    h, x = rng.normal(size=5), rng.normal(size=3)
    slope = np.maximum(h @ f.weight + x @ f.input_weight + f.bias, 0) - 0.7 * h
    np.testing.assert_allclose(cell(jnp.asarray(h), jnp.asarray(x)), f.steplengths * slope)
