"""Pauli strings on a state vector, against dense matrices of Kronecker products."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from jax.test_util import check_grads
from scipy.linalg import expm

from odernn import _pauli as pauli
from odernn.fields._pauli_hamiltonian import SPLITTINGS

X, Z = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])
QUBITS = range(1, 7)
ANGLES = ("random", "uniform")


def string(qubits, **places):
    """A Pauli string, by the letters of its places: string(3, X=[1]) is 1 (x) X (x) 1."""
    letters = {i: m for name, m in (("X", X), ("Z", Z)) for i in places.get(name, ())}
    factors = [letters.get(i, np.eye(2)) for i in range(qubits)]
    return functools.reduce(np.kron, factors)


def strings(qubits):
    """All X_i, all Z_i and all Z_i Z_{i+1}."""
    bonds = [string(qubits, Z=[i, i + 1]) for i in range(qubits - 1)]
    x = [string(qubits, X=[i]) for i in range(qubits)]
    z = [string(qubits, Z=[i]) for i in range(qubits)]
    return np.stack(x), np.stack(z), np.array(bonds).reshape(-1, 2**qubits, 2**qubits)


def drawn(qubits, angles, rng):
    """A state and the coefficients x, z, c."""
    psi = rng.normal(size=(2, 2**qubits))
    sizes = (qubits, qubits, qubits - 1)
    if angles == "uniform":
        return psi / np.linalg.norm(psi), *(np.full(n, rng.normal()) for n in sizes)
    return psi / np.linalg.norm(psi), *(rng.normal(size=n) for n in sizes)


def hamiltonian(x, z, coupling):
    return sum(
        np.tensordot(a, b, 1) for a, b in zip((x, z, coupling), strings(len(x)), strict=True)
    )


def as_pair(v):
    return np.stack([v.real, v.imag])


def flowed(psi, x, z, coupling):
    """exp(-i H) psi, as a pair."""
    return as_pair(expm(-1j * hamiltonian(x, z, coupling)) @ (psi[0] + 1j * psi[1]))


def exact(psi, x, z, coupling):
    """What all functions return, by dense matrices: name -> value."""
    v = psi[0] + 1j * psi[1]
    h = hamiltonian(x, z, coupling)
    diagonal = hamiltonian(0 * x, z, coupling)
    means = [[(v.conj() @ s @ v).real for s in group] for group in strings(len(x))]
    return {
        "rotate": flowed(psi, x, 0 * z, 0 * coupling),
        "phase": flowed(psi, 0 * x, z, coupling),
        "energies": np.diag(diagonal),
        "product": as_pair(-1j * (h @ v)),
        "probabilities": np.abs(v) ** 2,
        "magnetization": np.array(means[1]),
        "local_expectations": np.concatenate(means),
    }


@jax.jit
def ours(psi, x, z, coupling):
    return {
        "rotate": pauli.rotate(psi, x),
        "phase": pauli.phase(psi, z, coupling),
        "energies": pauli.energies(z, coupling),
        "product": pauli.product(psi, x, z, coupling),
        "probabilities": pauli.probabilities(psi),
        "magnetization": pauli.magnetization(psi),
        "local_expectations": pauli.local_expectations(psi),
    }


@pytest.mark.parametrize("angles", ANGLES)
@pytest.mark.parametrize("qubits", QUBITS)
def test_every_function_is_that_of_the_dense_matrices(qubits, angles, rng):
    arguments = drawn(qubits, angles, rng)
    found = ours(*arguments)
    for name, wanted in exact(*arguments).items():
        assert found[name].dtype == jnp.float64
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("qubits", [1, 2, 5, 6])
def test_single_precision_stays_single_and_is_accurate(qubits, rng):
    arguments = [a.astype(np.float32) for a in drawn(qubits, "random", rng)]
    wanted = exact(*(a.astype(float) for a in arguments))
    for name, found in ours(*arguments).items():
        assert found.dtype == jnp.float32
        # Of the largest value: the energies of six qubits are not of size one.
        scale = 1e-6 * max(1, np.abs(wanted[name]).max())
        np.testing.assert_allclose(found, wanted[name], rtol=0, atol=scale, err_msg=name)


@pytest.mark.parametrize("order", SPLITTINGS)
def test_an_exponential_is_the_product_of_its_flows(order, rng):
    psi, *coefficients = drawn(3, "random", rng)
    wanted = psi
    for part, share in SPLITTINGS[order]:
        kept = [float(share) * a * ((i == 0) == (part == "x")) for i, a in enumerate(coefficients)]
        wanted = flowed(wanted, *kept)
    found = pauli.exponential(*map(jnp.asarray, (psi, *coefficients)), SPLITTINGS[order])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_groups_are_even_and_of_all_qubits():
    for qubits in range(1, 30):
        sizes = pauli.groups(qubits)
        assert sum(sizes) == qubits
        assert len(sizes) == math.ceil(qubits / pauli.GROUP)
        assert max(sizes) - min(sizes) <= 1


def dense_step(psi, x, z, coupling):
    """All ``exp(-i a P) = cos a - i sin a P`` as matrices, without any rule of derivatives."""
    v = jax.lax.complex(psi[0], psi[1])
    for angles, group in zip((x, z, coupling), strings(len(x)), strict=True):
        for angle, matrix in zip(angles, group, strict=True):
            part = jax.lax.complex(jnp.cos(angle), jnp.zeros(())) * v
            v = part + jax.lax.complex(jnp.zeros(()), -jnp.sin(angle)) * (
                matrix.astype(complex) @ v
            )
    return jnp.stack([v.real, v.imag])


def step(psi, x, z, coupling):
    return pauli.phase(pauli.rotate(psi, x), z, coupling)


@pytest.mark.parametrize("qubits", [1, 2, 3, 6])
def test_derivatives_are_those_of_the_dense_step(qubits, rng):
    arguments = [*map(jnp.asarray, drawn(qubits, "random", rng))]
    weights = jnp.asarray(rng.normal(size=(2, 2**qubits)))

    def forward(f):
        tangents = [jnp.cos(jnp.arange(a.size, dtype=float)).reshape(a.shape) for a in arguments]
        return jax.jit(lambda *a: jax.jvp(f, a, tuple(tangents))[1])(*arguments)

    def backward(f):
        return jax.jit(jax.grad(lambda *a: jnp.sum(weights * jnp.sin(f(*a))), (0, 1, 2, 3)))

    np.testing.assert_allclose(forward(step), forward(dense_step), rtol=0, atol=1e-12)
    pairs = zip(backward(step)(*arguments), backward(dense_step)(*arguments), strict=True)
    for found, wanted in pairs:
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_second_derivatives_and_those_of_expectations_agree_with_finite_differences(rng):
    arguments = [*map(jnp.asarray, drawn(3, "random", rng))]

    def observed(psi, x, z, coupling):
        after = step(psi, x, z, coupling)
        means = pauli.local_expectations(after) * jnp.arange(1.0, 9.0)
        return jnp.sum(means**2) + jnp.sum(pauli.product(after, x, z, coupling) ** 3)

    check_grads(observed, arguments, order=2, atol=1e-6, rtol=1e-6)


def test_a_batch_is_every_example_on_its_own(rng):
    examples = [drawn(4, "random", rng) for _ in range(3)]
    batch = [jnp.stack([jnp.asarray(a) for a in group]) for group in zip(*examples, strict=True)]
    # The states and the data's phases differ, the other angles are shared.
    mapped = jax.vmap(step, (0, None, 0, None))(batch[0], batch[1][0], batch[2], batch[3][0])
    for k in range(3):
        alone = step(batch[0][k], batch[1][0], batch[2][k], batch[3][0])
        np.testing.assert_allclose(mapped[k], alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("angles", ANGLES)
@pytest.mark.parametrize("qubits", [2, 5, 8])
def test_ten_thousand_equal_steps_keep_the_norm(qubits, angles, rng):
    psi, x, z, coupling = map(jnp.asarray, drawn(qubits, angles, rng))

    @jax.jit
    def run(psi):
        return jax.lax.scan(lambda y, _: (step(y, x, z, coupling), None), psi, length=10_000)[0]

    assert abs(float(jnp.linalg.norm(run(psi))) - 1) < 1e-12


@pytest.mark.parametrize("angle", [0.3, 1.1, 2.5])
def test_what_rounding_adds_to_a_rotation_is_known_to_twice_the_precision(angle):
    matrix = pauli._rotation(jnp.full(3, angle))
    squares = sum(Fraction(float(a)) ** 2 for a in np.ravel(matrix))
    wanted = float((squares / len(matrix) - 1) / 2)
    assert abs(wanted) > 1e-18
    assert float(pauli._excess(matrix)) == pytest.approx(wanted, rel=1e-6)


def sizes(jaxpr):
    """Number of values of every array of a program, constants included."""
    for v in (*jaxpr.invars, *jaxpr.constvars):
        yield math.prod(v.aval.shape)
    for eqn in jaxpr.eqns:
        yield from (math.prod(v.aval.shape) for v in (*eqn.invars, *eqn.outvars))
        for inner in jaxprs_in_params(eqn.params):
            yield from sizes(getattr(inner, "jaxpr", inner))


def test_no_array_is_larger_than_a_few_states(rng):
    psi, *coefficients = map(jnp.asarray, drawn(10, "random", rng))

    def everything(psi, x, z, coupling):
        after = pauli.exponential(psi, x, z, coupling, SPLITTINGS[4])
        seen = (pauli.local_expectations(after), pauli.magnetization(after))
        return sum(map(jnp.sum, (*seen, pauli.product(after, x, z, coupling))))

    for f in (everything, jax.grad(everything, (0, 1, 2, 3))):
        largest = max(sizes(jax.make_jaxpr(f)(psi, *coefficients).jaxpr))
        # The largest are the matrices X_i of a group of qubits, GROUP 4^GROUP numbers.
        assert largest <= max(4 * 2**10, pauli.GROUP * 4**pauli.GROUP)
