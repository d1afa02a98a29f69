"""Sums of Pauli operators on a chain of qubits, acting on a state vector.

A state of m qubits is its d = 2^m amplitudes as a pair of real arrays, ``psi`` of shape (2, d): the
real parts, then the imaginary ones. Qubit 0 is the most significant bit of the index. Hamiltonians
are ``H = sum_i x_i X_i + sum_i z_i Z_i + sum_i c_i Z_i Z_{i+1}``. A step takes O(d log d)
operations and O(d) memory: neighbouring qubits are rotated together by small matrices, and tables
of the diagonal have about sqrt(d) entries, for each half of the chain. The alternatives are
measured in ``benchmarks/qunn_layouts.py``.

Derivatives are those of the flows themselves: ``d exp(-i H) psi = exp(-i H) dpsi - i dH exp(-i H)
psi`` where the terms of H commute, so that the way back needs the result alone.
"""

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._typing import Array, Float

Pair = Float[Array, "2 amplitudes"]

GROUP = 5
"""Neighbouring qubits are treated together, as many at a time: by a matrix of size 2^GROUP."""

# Norms are kept to rounding on every device: no shortened products.
_einsum = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)


def groups(qubits: int) -> tuple[int, ...]:
    """Return how many neighbouring qubits are treated together, as evenly as possible."""
    count = -(-qubits // GROUP)
    small, larger = divmod(qubits, count)
    return (small + 1,) * larger + (small,) * (count - larger)


def qubits_of(psi: Pair) -> int:
    """Return the number of qubits of a state."""
    return psi.shape[-1].bit_length() - 1


@jax.custom_jvp
def rotate(psi: Pair, angles: Float[Array, " qubits"]) -> Pair:
    """Return ``exp(-i sum_i angles_i X_i) psi``.

    With S = diag(1, i) on every qubit, ``S X S^-1 = Y``, and ``exp(-i a Y)`` is a real rotation:
    real and imaginary parts are turned by the same small matrices.
    """
    return _rotated(psi, angles)


@rotate.defjvp
def _(primals, tangents):
    (psi, angles), (psi_dot, angles_dot) = primals, tangents
    after = _rotated(psi, angles)
    return after, _rotated(psi_dot, angles) + _by_minus_i(_transverse(after, angles_dot))


@jax.custom_jvp
def phase(psi: Pair, z: Float[Array, " qubits"], coupling: Float[Array, " bonds"]) -> Pair:
    """Return ``exp(-i (sum_i z_i Z_i + sum_i c_i Z_i Z_{i+1})) psi``."""
    return _phased(psi, *_phase_tables(z, coupling))


@phase.defjvp
def _(primals, tangents):
    (psi, z, coupling), (psi_dot, *rates) = primals, tangents
    tables = _phase_tables(z, coupling)
    after = _phased(psi, *tables)
    # Here the tables act one after the other: what the way back stores of a step are the tables.
    moved = psi_dot.reshape(2, -1, *tables[1].shape[1:])
    for real, imaginary in (tables[0][..., None], tables[1]):
        moved = _turned(moved, real, imaginary)
    return after, moved.reshape(psi.shape) + _by_minus_i(energies(*rates) * after)


def energies(
    z: Float[Array, " qubits"], coupling: Float[Array, " bonds"]
) -> Float[Array, " amplitudes"]:
    """Return the diagonal of ``sum_i z_i Z_i + sum_i c_i Z_i Z_{i+1}``."""
    half = len(z) // 2
    left, right = (_diagonals(n).astype(z.dtype) for n in (half, len(z) - half))
    # Coefficients of products of a diagonal of the left half with one of the right.
    weights = jnp.zeros((left.shape[1], right.shape[1]), z.dtype)
    weights = weights.at[0, 1:].set(jnp.concatenate([z[half:], coupling[half:]]))
    if half:
        inner = jnp.concatenate([z[:half], coupling[: half - 1]])
        weights = weights.at[1:, 0].set(inner).at[half, 1].set(coupling[half - 1])
    return _einsum("ra,ab,qb->rq", left, weights, right).ravel()


def product(
    psi: Pair,
    x: Float[Array, " qubits"],
    z: Float[Array, " qubits"],
    coupling: Float[Array, " bonds"],
) -> Pair:
    """Return ``-i H psi``."""
    return _by_minus_i(_transverse(psi, x) + energies(z, coupling) * psi)


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
    return _diagonal_expectations(psi)[: qubits_of(psi)]


def local_expectations(psi: Pair) -> Float[Array, " observables"]:
    """Return ``<X_i>``, ``<Z_i>`` and ``<Z_i Z_{i+1}>``, 3m - 1 numbers in all."""
    flips, start = [], 0
    for size in groups(qubits_of(psi)):
        shaped = psi.reshape(2 * 2**start, 2**size, -1)
        density = _einsum("prq,psq->rs", shaped, shaped)
        flips.append(_einsum("irs,rs->i", _flips(size).astype(psi.dtype), density))
        start += size
    return jnp.concatenate([*flips, _diagonal_expectations(psi)])


def _diagonal_expectations(psi: Pair) -> Float[Array, " observables"]:
    """Return ``<Z_i>`` and ``<Z_i Z_{i+1}>``."""
    qubits = qubits_of(psi)
    half = qubits // 2
    left, right = (_diagonals(n).astype(psi.dtype) for n in (half, qubits - half))
    p = probabilities(psi).reshape(2**half, -1)
    means = _einsum("ra,rq,qb->ab", left, p, right)
    inner, outer = means[1:, 0], means[0, 1:]
    bond = means[half : half + 1, 1] if half else outer[:0]
    split = qubits - half
    return jnp.concatenate([inner[:half], outer[:split], inner[half:], bond, outer[split:]])


def _transverse(psi: Pair, x: Float[Array, " qubits"]) -> Pair:
    """Return ``sum_i x_i X_i psi``."""
    terms, start = [], 0
    for size in groups(qubits_of(psi)):
        matrix = _einsum("i,irs->rs", x[start : start + size], _flips(size).astype(x.dtype))
        terms.append(_on_group(psi, matrix, start))
        start += size
    return sum(terms[1:], start=terms[0])


def _rotated(psi: Pair, angles: Float[Array, " qubits"]) -> Pair:
    quarter: Any = 1j ** np.arange(4)
    bits = np.bitwise_count(np.arange(psi.shape[-1]))
    # As arrays of JAX and not of NumPy, which no unroll takes for a coefficient.
    real, imaginary = (jnp.asarray(a[bits % 4], psi.dtype) for a in (quarter.real, quarter.imag))
    psi, start, excess = _turned(psi, real, -imaginary), 0, jnp.zeros((), psi.dtype)
    for size in groups(len(angles)):
        matrix = _rotation(angles[start : start + size])
        psi, start, excess = _on_group(psi, matrix, start), start + size, excess + _excess(matrix)
    # Rounded cosines and sines make every state longer or shorter alike, step by step. What is
    # taken back is less than the last digit: it changes the rounding of some amplitudes.
    return _turned(psi - excess * psi, real, imaginary)


def _on_group(psi: Pair, matrix: Float[Array, "size size"], start: int) -> Pair:
    """Multiply the axis of some neighbouring qubits, the first of them ``start``, by a matrix."""
    size = len(matrix)
    if 2**start * size == psi.shape[-1]:  # Along the last axis nothing is copied.
        return _einsum("cpr,sr->cps", psi.reshape(2, -1, size), matrix).reshape(psi.shape)
    shaped = psi.reshape(2, 2**start, size, -1)
    return _einsum("cprq,sr->cpsq", shaped, matrix).reshape(psi.shape)


def _rotation(angles: Float[Array, " qubits"]) -> Float[Array, "size size"]:
    """Return the Kronecker product of ``exp(-i a Y)``, a rotation of the plane by each angle."""
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    blocks = jnp.stack([jnp.stack([cosine, -sine], -1), jnp.stack([sine, cosine], -1)], -2)
    matrix = blocks[0]
    for block in blocks[1:]:
        size = 2 * matrix.shape[0]
        matrix = (matrix[:, None, :, None] * block[None, :, None, :]).reshape(size, size)
    return matrix


def _excess(matrix: Float[Array, "size size"]) -> Float[Array, ""]:
    """Return by how much a rounded orthogonal matrix makes vectors longer, on average.

    ``trace(matrix^T matrix) / size - 1 = 2 excess`` to twice the precision: products of leading
    halves of digits are exact.
    """
    steps = 2.0 ** (jnp.finfo(matrix.dtype).nmant // 2 - 2)
    high = jnp.round(matrix * steps) / steps
    low = matrix - high
    squares = jnp.sum(high * high, 0) - 1 + jnp.sum(2 * high * low, 0) + jnp.sum(low * low, 0)
    return jnp.mean(squares) / 2


def _phase_tables(
    z: Float[Array, " qubits"], coupling: Float[Array, " bonds"]
) -> tuple[Float[Array, "2 left 2"], Float[Array, "2 2 right"]]:
    """Return two tables of cosines and sines whose product is the diagonal of the phases.

    The first one belongs to the left half of the qubits and the first qubit of the right half, and
    has the coupling between the halves; the second one belongs to the right half.
    """
    half = len(z) // 2
    ends = jnp.concatenate([z[:half], jnp.zeros(1, z.dtype), coupling[:half]])
    left = _einsum("ra,a->r", _diagonals(half + 1)[:, 1:].astype(z.dtype), ends)
    rest = jnp.concatenate([z[half:], coupling[half:]])
    right = _einsum("ra,a->r", _diagonals(len(z) - half)[:, 1:].astype(z.dtype), rest)
    left, right = left.reshape(-1, 2), right.reshape(2, -1)
    return (
        jnp.stack([jnp.cos(left), jnp.sin(left)]),
        jnp.stack([jnp.cos(right), jnp.sin(right)]),
    )


def _phased(psi: Pair, left: Float[Array, "2 left 2"], right: Float[Array, "2 2 right"]) -> Pair:
    """Multiply by the phases.

    Their tables are multiplied by a matrix product: XLA would merge an outer product with the rest
    and compute all cosines and sines anew for every amplitude.
    """
    (cosine, sine), rest = left, right.shape[-1]
    rows = jnp.stack([jnp.concatenate([cosine, -sine], 1), jnp.concatenate([sine, cosine], 1)])
    # Block by block: the value of the first qubit on the right is that of the table on the left.
    columns = right[:, :, None, :] * jnp.eye(2, dtype=psi.dtype)[:, :, None]
    real, imaginary = _einsum("crk,kq->crq", rows, columns.reshape(4, 2 * rest)).reshape(psi.shape)
    return _turned(psi, real, imaginary)


def _turned(psi: Float[Array, "2 ..."], cosine: Array, sine: Array) -> Float[Array, "2 ..."]:
    """Multiply by ``cosine - i sine``."""
    real, imaginary = _parts(psi)
    return jnp.concatenate([real * cosine + imaginary * sine, imaginary * cosine - real * sine])


def _by_minus_i(psi: Pair) -> Pair:
    real, imaginary = _parts(psi)
    return jnp.concatenate([imaginary, -real])


def _parts(psi: Float[Array, "2 ..."]) -> Sequence[Float[Array, "1 ..."]]:
    """Return real and imaginary parts. What is indexed is padded on the way back: much slower."""
    return lax.split(psi, (1, 1))


@functools.cache
def _diagonals(qubits: int) -> np.ndarray:
    """Return the diagonals of 1, Z_0, ..., Z_{m-1}, Z_0 Z_1, ..., as columns: (d, 2m)."""
    index = np.arange(2**qubits)[:, None]
    table = 1 - 2 * (index >> np.arange(qubits)[::-1] & 1)
    return np.hstack([np.ones_like(index), table, table[:, :-1] * table[:, 1:]])


@functools.cache
def _flips(qubits: int) -> np.ndarray:
    """Return X_0, ..., X_{m-1} as matrices, (m, d, d)."""
    index = np.arange(2**qubits)
    bit = 2 ** np.arange(qubits)[::-1, None, None]
    return index[:, None] ^ bit == index
