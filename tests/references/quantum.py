"""Quantum-inspired networks: the Hamiltonians of the paper as dense matrices."""

import functools
import itertools

import equinox as eqx
import numpy as np
from scipy.linalg import expm

from odernn.zoo import _quantum as zoo

from .linear import reference

_X, _Z = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])
VARIANTS = tuple(
    {"memory": memory, "feedback": feedback, "sharing": sharing, "encoding": encoding}
    for memory, feedback, sharing, encoding in itertools.product(
        (1, 3), (False, True), ("global", "site"), ("fixed", "trained")
    )
) + tuple(
    {"memory": memory, "feedback": feedback, "sharing": sharing, "encoding": "linear"}
    for memory, feedback, sharing in ((1, False, "site"), (3, True, "global"))
)
FORMS = tuple(
    {"observables": observables, "real": real}
    for observables, real in itertools.product(
        ("local", "probabilities", "amplitudes"), (False, True)
    )
)
"""What is put out, and how the state is kept."""


def paulis(qubits):
    """Return all X_i, all Z_i and all Z_i Z_{i+1}, each as an array of matrices."""

    def everywhere(p):
        sites = range(qubits)
        return np.array(
            [np.kron(np.kron(np.eye(2**i), p), np.eye(2 ** (qubits - 1 - i))) for i in sites]
        )

    x, z = everywhere(_X), everywhere(_Z)
    return x, z, z[:-1] @ z[1:]


def expectations(psi, operators):
    """Return <psi|P|psi> of every operator."""
    return np.einsum("i,pij,j->p", psi.conj(), operators, psi).real


def phases(f, x):
    """Return phi(x)."""
    if f.encoding == "fixed":
        return x @ f.spread
    if f.encoding == "linear":
        return x @ f.encoder_weight / 20
    w, v = np.split(f.encoder_weight, 2, axis=1)
    b, c = np.split(f.encoder_bias, 2)
    return ((x @ w + b) * (x @ v + c)) @ f.spread


def observed(f, psi, operators):
    """Return what the next layer sees."""
    if f.observables == "local":
        return expectations(psi, np.concatenate(operators))
    if f.observables == "probabilities":
        return np.abs(psi) ** 2
    return np.concatenate([psi.real, psi.imag])


def qunn(f, xs, dt):
    """One Lie-Trotter step for each input: of each lag, the oldest first, X and then Z."""
    operators = x_i, z_i, zz_i = paulis(f.qubits)
    fields, bonds = (1.0, 1.0) if f.sharing == "site" else (f.disorder, f.bond_disorder)
    past = [np.zeros(f.input_size)] * f.memory
    psi = functools.reduce(np.kron, [np.array([1, np.exp(1j * np.pi / 4)]) / np.sqrt(2)] * f.qubits)
    magnetizations = [expectations(psi, z_i)] * f.memory
    ones = np.ones(f.qubits)
    for x in xs:
        past = [*past[1:], x]
        magnetizations = [*magnetizations[1:], expectations(psi, z_i)]
        for j in reversed(range(f.memory)):
            psi = expm(-1j * dt * np.tensordot(f.theta_x[j] * ones, x_i, 1)) @ psi
            local = f.theta_z[j] * fields + f.theta_data[j] * phases(f, past[-1 - j])
            if f.feedback:
                # That of the present state is the only one that the step itself changes.
                seen = magnetizations[-1 - j] if j else expectations(psi, z_i)
                local = local + f.theta_feedback[j] * seen
            h = np.tensordot(local, z_i, 1) + np.tensordot(f.theta_zz[j] * bonds, zz_i, 1)
            psi = expm(-1j * dt * h) @ psi
        yield observed(f, psi, operators)


def weak_feedback(f):
    """Return the field with a feedback that does not make rounding errors grow."""
    if not f.feedback:
        return f
    return eqx.tree_at(lambda f: f.theta_feedback, f, 0.2 * f.theta_feedback)


def of_variant(**options):
    """Return the reference of a network with these arguments."""
    return reference(zoo.QUNN, qunn, weak_feedback, dt=0.7, **options)


def any_variant(input_size, qubits, rng):
    """Draw which variant it is, too."""
    variant, form = (choices[rng.integers(len(choices))] for choices in (VARIANTS, FORMS))
    return of_variant(**variant, **form)(input_size, qubits, rng)


REFERENCES = {"qunn": any_variant}
