"""Sums of Pauli operators on a chain of qubits, acting on a state vector.

A state of m qubits is its d = 2^m amplitudes as a pair of real arrays, ``psi`` of shape (2, d): the
real parts, then the imaginary ones. Qubit 0 is the most significant bit of the index. Hamiltonians
are ``H = sum_i x_i X_i + sum_i z_i Z_i + sum_i c_i Z_i Z_{i+1}``; no matrix of size d is ever
formed.
"""

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from ._typing import Array, Float

Pair = Float[Array, "2 amplitudes"]

GROUP = 5
"""Neighbouring qubits are rotated together, as many at a time: by a matrix of size 2^GROUP."""


def groups(qubits: int) -> tuple[int, ...]:
    """Return how many neighbouring qubits are treated together, as evenly as possible."""
    count = -(-qubits // GROUP)
    small, larger = divmod(qubits, count)
    return (small + 1,) * larger + (small,) * (count - larger)


def qubits_of(psi: Pair) -> int:
    """Return the number of qubits of a state."""
    return psi.shape[-1].bit_length() - 1


@functools.cache
def signs(qubits: int) -> np.ndarray:
    """Return the diagonals of Z_0, ..., Z_{m-1}, of shape (m, d): +1 and -1."""
    index = np.arange(2**qubits)
    return 1 - 2 * (index >> np.arange(qubits)[::-1, None] & 1)


def rotate(psi: Pair, angles: Float[Array, " qubits"]) -> Pair:
    """Return ``exp(-i sum_i angles_i X_i) psi``.

    With S = diag(1, i) on every qubit, ``S X S^-1 = Y``, and ``exp(-i a Y)`` is a real rotation:
    real and imaginary parts are turned by the same small matrices.
    """
    qubits = qubits_of(psi)
    turned = _quarter_turns(psi, 1)
    start = 0
    for size in groups(qubits):
        matrix = _rotation(angles[start : start + size])
        shaped = turned.reshape(2, 2**start, 2**size, -1)
        # Norms are kept to rounding on every device: no shortened products.
        shaped = jnp.einsum("cprq,sr->cpsq", shaped, matrix, precision=lax.Precision.HIGHEST)
        turned, start = shaped.reshape(psi.shape), start + size
    return _quarter_turns(turned, -1)


def phase(psi: Pair, z: Float[Array, " qubits"], coupling: Float[Array, " bonds"]) -> Pair:
    """Return ``exp(-i (sum_i z_i Z_i + sum_i c_i Z_i Z_{i+1})) psi``."""
    angle = energies(z, coupling)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    real, imaginary = psi
    return jnp.stack([real * cosine + imaginary * sine, imaginary * cosine - real * sine])


def energies(
    z: Float[Array, " qubits"], coupling: Float[Array, " bonds"]
) -> Float[Array, " amplitudes"]:
    """Return the diagonal of ``sum_i z_i Z_i + sum_i c_i Z_i Z_{i+1}``."""
    table = signs(len(z))
    bonds = table[:-1] * table[1:]
    return z @ table.astype(z.dtype) + coupling @ bonds.astype(coupling.dtype)


def product(
    psi: Pair,
    x: Float[Array, " qubits"],
    z: Float[Array, " qubits"],
    coupling: Float[Array, " bonds"],
) -> Pair:
    """Return ``-i H psi``."""
    total = energies(z, coupling) * psi
    for site in range(qubits_of(psi)):
        total = total + x[site] * _flipped(psi, site)
    return jnp.stack([total[1], -total[0]])


def exponential(
    psi: Pair,
    x: Float[Array, " qubits"],
    z: Float[Array, " qubits"],
    coupling: Float[Array, " bonds"],
    flows: Sequence[tuple[str, Fraction]],
) -> Pair:
    """Return ``exp(-i H) psi`` by a splitting: shares of the flows "x" and "z", in order.

    A product of rotations: the norm is kept to rounding, whatever the splitting's error.
    """
    for part, share in flows:
        a = float(share)
        psi = rotate(psi, a * x) if part == "x" else phase(psi, a * z, a * coupling)
    return psi


def probabilities(psi: Pair) -> Float[Array, " amplitudes"]:
    """Return the moduli squared of the amplitudes."""
    return jnp.sum(psi**2, axis=0)


def magnetization(psi: Pair) -> Float[Array, " qubits"]:
    """Return ``<Z_i>`` of every qubit."""
    p = probabilities(psi)
    return signs(qubits_of(psi)).astype(p.dtype) @ p


def local_expectations(psi: Pair) -> Float[Array, " observables"]:
    """Return ``<X_i>``, ``<Z_i>`` and ``<Z_i Z_{i+1}>``, 3m - 1 numbers in all."""
    qubits = qubits_of(psi)
    p, table = probabilities(psi), signs(qubits)
    flips = [jnp.sum(psi * _flipped(psi, site)) for site in range(qubits)]
    diagonals = np.concatenate([table, table[:-1] * table[1:]])
    return jnp.concatenate([jnp.stack(flips), diagonals.astype(p.dtype) @ p])


def _flipped(psi: Pair, site: int) -> Pair:
    """Return ``X_site psi``."""
    return psi.reshape(2, 2**site, 2, -1)[:, :, ::-1].reshape(psi.shape)


def _rotation(angles: Float[Array, " qubits"]) -> Float[Array, "size size"]:
    """Return the Kronecker product of ``exp(-i a Y)``, a rotation of the plane by each angle."""
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    blocks = jnp.stack([jnp.stack([cosine, -sine], -1), jnp.stack([sine, cosine], -1)], -2)
    matrix = blocks[0]
    for block in blocks[1:]:
        size = 2 * matrix.shape[0]
        matrix = (matrix[:, None, :, None] * block[None, :, None, :]).reshape(size, size)
    return matrix


def _quarter_turns(psi: Pair, direction: int) -> Pair:
    """Multiply every amplitude by i or -i as often as its index has bits that are set."""
    count = (signs(qubits_of(psi)) < 0).sum(axis=0) * direction % 4
    real: Any = np.array([1, 0, -1, 0])[count].astype(psi.dtype)
    imaginary: Any = np.array([0, 1, 0, -1])[count].astype(psi.dtype)
    return jnp.stack([psi[0] * real - psi[1] * imaginary, psi[0] * imaginary + psi[1] * real])
