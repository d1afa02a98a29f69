"""A chain of qubits as the field of a recurrent network."""

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .. import _pauli as pauli
from .._field import (
    AbstractCertifiedField,
    AbstractLieField,
    AbstractSplitField,
    DelayedDrive,
    StructuralBounds,
)
from .._initial import Rule, between, by_variance, check_sizes, normal, zeros
from .._results import InputError, require, unknown_name
from .._typing import Array, Drive, Float, Inexact, PRNGKeyArray, Scalar, State
from ._base import AbstractDeclaredField, times

SHARINGS = ("global", "site")
ENCODINGS = ("fixed", "trained", "linear")
OBSERVABLES = ("local", "probabilities", "amplitudes")

LINEAR = 0.05
"""Phase for a unit of x W in a linear encoding. Adam's steps are as large as its rate, whatever the
gradient: by this factor the phases, which turn round, change more slowly than the read-out."""

# Suzuki's composition of five Strang steps.
_S = 1 / (4 - 4 ** (1 / 3))
_STRANG = (("x", 0.5), ("z", 1.0), ("x", 0.5))
_SUZUKI = (
    *(("x", _S / 2), ("z", _S), ("x", _S), ("z", _S), ("x", (1 - 3 * _S) / 2)),
    ("z", 1 - 4 * _S),
    *(("x", (1 - 3 * _S) / 2), ("z", _S), ("x", _S), ("z", _S), ("x", _S / 2)),
)
SPLITTINGS = {2: _STRANG, 4: _SUZUKI}
"""Flows of the exponential of X and diagonal terms together, by their order."""


def _encoder_weight(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Draw W from N(0, 1/input); V is zero, where there is one."""
    if field.form == "linear":
        return by_variance(key, shape, field)
    first, second = jnp.split(by_variance(key, shape, field), 2, axis=1)
    return jnp.concatenate([first, jnp.zeros_like(second)], axis=1)


def _present(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Return ones for the present input, zeros for those before it."""
    return jnp.zeros(shape, jnp.result_type(float)).at[0].set(1.0)


def _transverse(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Draw from N(0, 0.01^2), for the present input around evenly spaced angles."""
    drawn = normal(0.01)(key, shape, field)
    return drawn.at[0].add(jnp.linspace(0, field.precession, shape[1], dtype=drawn.dtype))


def _disorder(key: PRNGKeyArray, shape: tuple[int, ...], field: Any) -> Array:
    """Draw signs, and sizes from U(0.5, 1.5), as qubits that are alike cannot be told apart."""
    size, sign = jax.random.split(key)
    sizes = between(0.5, 1.5)(size, shape, field)
    return jnp.where(jax.random.bernoulli(sign, shape=shape), sizes, -sizes)


class Hamiltonian(NamedTuple):
    """``sum_i x_i X_i + z_i Z_i + coupling_i Z_i Z_{i+1}``."""

    x: Float[Array, " qubits"]
    z: Float[Array, " qubits"]
    coupling: Float[Array, " bonds"]


class PauliHamiltonian(
    AbstractDeclaredField, AbstractSplitField, AbstractLieField, AbstractCertifiedField
):
    """Qubits that the inputs turn: ``psi' = -i H psi``, psi in C^d, d = 2^m, of norm 1.

    ``H_k = sum_{j<t} theta_X,j G_X + theta_Z,j G_Z + theta_ZZ,j G_ZZ + theta_D,j G_data(x_{k-j})
    + theta_F,j G_feedback(psi_{k-j})`` with ``G_X = sum X_i``, ``G_Z = sum a_i Z_i``, ``G_ZZ = sum
    J_i Z_i Z_{i+1}``, ``G_data(x) = sum phi_i(x) Z_i`` and ``G_feedback(psi) = sum <psi|Z_i|psi>
    Z_i``: an Ising chain in a transverse field. It has 2t parts, "transverse j" and "diagonal j"
    for each lag j, the oldest first; all their flows are exact, that of the feedback, too, as the
    diagonal flow does not change ``<Z_i>``. A splitting is a circuit of t layers, each with its own
    angles; a Lie-group method takes the exponential of the sum, by a splitting of its own. Both
    keep the norm to rounding, at any dt. No matrix of size d is formed: a step takes O(d log d)
    operations. Every qubit starts in the state ``(|0> + exp(i pi/4) |1>)/sqrt(2)``, from which
    ``<X>`` and, by theta_X, ``<Z>`` change with a small data phase in first order.

    Without feedback the step is unitary: linear in the state (n = 0), gradients through time
    neither grow nor vanish, it can be undone. With feedback only the norm of the state is kept.
    Order t, depth 0, with feedback 1.

    **Arguments**: ``input_size``; ``qubits`` m, at least 2; ``memory`` t, the number of inputs that
    a step reads; ``sharing``, "global" (5 trained numbers a lag, or 4 without feedback; a and J are
    drawn once and fixed) or "site" (a number for each Pauli term: 5 m - 1 or 4 m - 1 a lag, a and
    J are 1); ``feedback``; ``encoding`` phi:

    - "fixed": ``phi(x) = x E``, E (input, m) drawn once, entries from N(0, 1/input);
    - "trained": ``phi(x) = ((x W + b).(x V + c)) E``, ``features`` products of two affine forms,
      2 features (input + 1) trained numbers; E (features, m) is fixed. V, b and c start
      as zero, so that inputs are seen only as far as it helps;
    - "linear": ``phi(x) = x W/20``, input m trained numbers, W from N(0, 1/input);
    - a function from x (input,) to the m phases; arrays in an ``equinox.Module`` are trained.

    ``features``; ``precession``, with per-site angles the initial theta_X of the last qubit, in
    radians per unit of dt, those of the others lying evenly between it and 0: a qubit at rest adds
    up its phases, one that precesses adds up a frequency of them, and so tells *when* an input
    came; ``observables``, what the next layer sees: "local", ``<X_i>``, ``<Z_i>``, ``<Z_i
    Z_{i+1}>`` (3m - 1 numbers), "probabilities" (d) or "amplitudes" (2d, real parts first);
    ``real``, keep the state as real and imaginary parts (2, d) in place of d complex numbers: the
    step is the same, an orthogonal matrix; ``splitting``, the order of the splitting inside an
    exponential, 2 or 4; ``init``; ``key``, from which E, a and J are drawn, too.

    **Parameters**: ``theta_x``, ``theta_z``, ``theta_data``, ``theta_feedback`` (t, 1 or m),
    ``theta_zz`` (t, 1 or m - 1), in radians per unit of dt; ``encoder_weight`` (input, 2 features),
    of a linear encoding (input, m), and ``encoder_bias`` (2 features,); fixed: ``spread`` E,
    ``disorder`` a (m,) and ``bond_disorder`` J (m - 1,), of random signs and sizes from U(0.5,
    1.5).

    Raises ``InputError`` for sizes that are out of range, more amplitudes than the memory of this
    machine holds, and encodings that do not give m phases.

    Reference: Niu, Horesh, Chuang, arXiv:1904.12933.
    """

    qubits: int = eqx.field(static=True)
    memory: int = eqx.field(static=True)
    sharing: str = eqx.field(static=True)
    feedback: bool = eqx.field(static=True)
    features: int = eqx.field(static=True)
    precession: float = eqx.field(static=True)
    observables: str = eqx.field(static=True)
    real: bool = eqx.field(static=True)
    splitting: int = eqx.field(static=True)
    form: str = eqx.field(static=True)
    function: Callable[[Array], Array] | None
    theta_x: Float[Array, "memory sites"]
    theta_z: Float[Array, "memory sites"]
    theta_zz: Float[Array, "memory bonds"]
    theta_data: Float[Array, "memory sites"]
    theta_feedback: Float[Array, "memory sites"] | None
    encoder_weight: Float[Array, "input encoded"] | None
    encoder_bias: Float[Array, "2*features"] | None
    spread: Float[Array, "channels qubits"] | None
    disorder: Float[Array, " qubits"] | None
    bond_disorder: Float[Array, " pairs"] | None

    fixed: ClassVar[tuple[str, ...]] = ("spread", "disorder", "bond_disorder")
    rules: ClassVar[Mapping[str, Rule]] = {
        "theta_x": _transverse,
        "theta_z": normal(0.01),
        "theta_zz": normal(0.01),
        "theta_data": _present,
        "theta_feedback": normal(0.01),
        "encoder_weight": _encoder_weight,
        "encoder_bias": zeros,
        "spread": by_variance,
        "disorder": _disorder,
        "bond_disorder": _disorder,
    }

    def __init__(
        self,
        input_size: int,
        qubits: int,
        *,
        memory: int = 1,
        sharing: str = "site",
        feedback: bool = False,
        encoding: str | Callable[[Array], Array] = "trained",
        features: int = 4,
        precession: float = 0.0,
        observables: str = "local",
        real: bool = False,
        splitting: int = 4,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        check_sizes(qubits=qubits, memory=memory, features=features)
        _check_qubits(qubits)
        for name, value, known in (
            ("sharing", sharing, SHARINGS),
            ("observables", observables, OBSERVABLES),
            ("encoding", encoding, ENCODINGS),
        ):
            if not callable(value) and value not in known:
                raise unknown_name(name, str(value), known)
        if splitting not in SPLITTINGS or isinstance(splitting, bool):
            raise InputError(f"splitting = {splitting!r}: its order is 2 or 4.")
        self.precession = _precession(precession, sharing)
        self.qubits, self.memory, self.sharing = qubits, memory, sharing
        self.feedback, self.features = bool(feedback), features
        self.function = encoding if callable(encoding) else None
        self.form = "function" if callable(encoding) else encoding
        self.observables, self.real, self.splitting = observables, bool(real), splitting
        absent = () if feedback else ("theta_feedback",)
        if self.form != "trained":
            absent += ("encoder_bias",)
        if self.form not in ("trained", "linear"):
            absent += ("encoder_weight",)
        if self.form not in ("trained", "fixed"):
            absent += ("spread",)
        if sharing == "site":
            absent += ("disorder", "bond_disorder")
        self._draw(input_size, self._seen_size(), init, key, absent=absent)
        if self.function is not None:
            self._check_encoding(self.function)

    @property
    def encoding(self) -> str | Callable[[Array], Array]:
        """How inputs become phases: a name or a function."""
        return self.form if self.function is None else self.function

    @property
    def samples(self) -> int:
        """Number of inputs that a step reads."""
        return self.memory

    @property
    def order(self) -> int:
        """Temporal memory t."""
        return self.memory

    @property
    def depth(self) -> int:
        """Nested nonlinearities of ``-i H psi``: none, or the feedback's products."""
        return int(self.feedback)

    @property
    def delays(self) -> int:
        """Number of past states whose feedback a step reads."""
        return self.memory - 1 if self.feedback else 0

    @property
    def parts(self) -> tuple[str, ...]:
        """Two parts for each lag, the oldest first."""
        lags = reversed(range(self.memory))
        return tuple(f"{part} {lag}" for lag in lags for part in ("transverse", "diagonal"))

    @property
    def part_depths(self) -> Mapping[str, int]:
        """Of the diagonal flow with feedback: a product, and the phase of it."""
        return {part: 2 if self.feedback and part == "diagonal 0" else 0 for part in self.parts}

    @property
    def certified(self) -> StructuralBounds:
        """An isometry, unless there is feedback."""
        source = "unitary: the Hamiltonian does not depend on the state"
        if self.feedback:
            source = (
                "with feedback only the norm of the state is kept, not the distance of two states"
            )
        return StructuralBounds(
            growth=None if self.feedback else 0.0,
            size=None,
            circle=None,
            isometry=not self.feedback,
            source=source,
        )

    @property
    def block_size(self) -> int:
        """Number of entries of the state, which is one block."""
        return 2 ** (self.qubits + self.real)

    def drive(self, x: Float[Array, " input"]) -> Float[Array, " qubits"]:
        """Return the phases phi(x)."""
        if self.function is not None:
            return self.function(x)
        if self.encoder_weight is not None:
            x = x @ self.encoder_weight
            if self.encoder_bias is None:
                return LINEAR * x
            first, second = jnp.split(x + self.encoder_bias, 2)
            x = first * second
        spread: Any = self.spread
        return x @ lax.stop_gradient(spread)

    def initial_state(self) -> Inexact[Array, "..."]:
        return self._state(jnp.asarray(_magic(self.qubits), self.dtype))

    def check_state(self, y: State) -> State:
        """Return the state; raise ``InputError``, or fail at run time, if its norm is not 1."""
        norm = jnp.linalg.norm(y.ravel())
        wrong = ~(jnp.abs(norm - 1) <= 1e-2)
        message = "initial_state: a quantum state has norm 1, divide it by its norm"
        return require(y, wrong, message, norm)

    def output(self, y: State) -> Float[Array, " hidden"]:
        psi = self._pair(y)
        if self.observables == "local":
            return pauli.local_expectations(psi)
        return pauli.probabilities(psi) if self.observables == "probabilities" else psi.ravel()

    def record(self, y: State) -> Float[Array, " qubits"]:
        """Return what later steps see of this state."""
        return pauli.magnetization(self._pair(y))

    def part(self, name: str, time: Scalar, y: State, u: Drive) -> State:
        return self.product(self._of_part(name, y, u), y)

    def flow(self, name: str, time: Scalar, y: State, u: Drive, dt: Scalar) -> State:
        x, z, coupling = jax.tree.map(lambda a: times(dt, a), self._of_part(name, y, u))
        psi = self._pair(y)
        if name.startswith("transverse"):
            return self._state(pauli.rotate(psi, x))
        return self._state(pauli.phase(psi, z, coupling))

    def generator(self, time: Scalar, y: State, u: Drive) -> Hamiltonian:
        parts = [self._of_part(name, y, u) for name in self.parts]
        return jax.tree.map(lambda *terms: sum(terms[1:], start=terms[0]), *parts)

    def exponential(self, element: Hamiltonian, y: State) -> State:
        flows = SPLITTINGS[self.splitting]
        return self._state(pauli.exponential(self._pair(y), *element, flows))

    def product(self, element: Hamiltonian, y: State) -> State:
        return self._state(pauli.product(self._pair(y), *element))

    def exponential_nesting(self, stages: int) -> int:
        # The products <Z> of the state before the first stage, and the phases of each stage.
        return stages + 1 if self.feedback else 0

    def hamiltonian(self, lag: int, drive: Array, seen: Array | None = None) -> Hamiltonian:
        """Return the terms of one lag, of the input's phases and the ``<Z_i>`` of that time."""
        a, j = self._of_disorder()
        x, z, coupling, data = (
            theta[lag] for theta in (self.theta_x, self.theta_z, self.theta_zz, self.theta_data)
        )
        total = z * a + data * drive
        if self.theta_feedback is not None and seen is not None:
            total = total + self.theta_feedback[lag] * seen
        return Hamiltonian(jnp.broadcast_to(x, total.shape), total, coupling * j)

    def _of_part(self, name: str, y: State, u: Drive) -> Hamiltonian:
        """The Hamiltonian of one part, zero in the terms of others."""
        part, number = name.split()
        lag = int(number)
        past: Any = None
        if isinstance(u, DelayedDrive):
            u, past = u
        drive = u[-1 - lag] if isinstance(u, tuple) else u
        seen = None
        if self.feedback:
            seen = self.record(y) if lag == 0 else past[lag - 1]
        x, z, coupling = self.hamiltonian(lag, drive, seen)
        if part == "transverse":
            return Hamiltonian(x, jnp.zeros_like(z), jnp.zeros_like(coupling))
        return Hamiltonian(jnp.zeros_like(x), z, coupling)

    def _of_disorder(self) -> tuple[Array, Array]:
        if self.disorder is None or self.bond_disorder is None:
            ones = jnp.ones(self.qubits, self.dtype)
            return ones, ones[1:]
        return lax.stop_gradient(self.disorder), lax.stop_gradient(self.bond_disorder)

    def _pair(self, y: State) -> pauli.Pair:
        return y if self.real else jnp.stack([y.real, y.imag])

    def _state(self, psi: pauli.Pair) -> State:
        return psi if self.real else lax.complex(psi[0], psi[1])

    def _seen_size(self) -> int:
        sizes = {"local": 3 * self.qubits - 1, "probabilities": 2**self.qubits}
        return sizes.get(self.observables, 2 ** (self.qubits + 1))

    def _check_encoding(self, function: Callable[[Array], Array]) -> None:
        x = jax.ShapeDtypeStruct((self.input_size,), self.dtype)
        try:
            given = eqx.filter_eval_shape(function, x).shape
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"encoding = {getattr(function, '__name__', function)} fails on an input of shape "
                f"({self.input_size},): {reason}"
            ) from error
        if given != (self.qubits,):
            raise InputError(
                f"encoding gives the shape {given} for an input of shape ({self.input_size},): it "
                f"must give one phase for each of the {self.qubits} qubits, ({self.qubits},)."
            )

    @property
    def memory_size(self) -> int:
        """Number of lags."""
        return self.memory

    @property
    def features_size(self) -> int:
        """Number of products in the trained encoding."""
        return self.features

    @property
    def encoded_size(self) -> int:
        """Number of columns of the trained encoder."""
        return self.qubits if self.form == "linear" else 2 * self.features

    @property
    def qubits_size(self) -> int:
        """Number of qubits."""
        return self.qubits

    @property
    def pairs_size(self) -> int:
        """Number of neighbours."""
        return self.qubits - 1

    @property
    def sites_size(self) -> int:
        """Number of coefficients of a one-site term."""
        return self.qubits if self.sharing == "site" else 1

    @property
    def bonds_size(self) -> int:
        """Number of coefficients of the coupling."""
        return self.qubits - 1 if self.sharing == "site" else 1

    @property
    def channels_size(self) -> int:
        """Number of numbers that are spread over the qubits."""
        return self.features if self.form == "trained" else self.input_size


def _magic(qubits: int) -> Any:
    """Return the product of the states (|0> + exp(i pi/4) |1>)/sqrt(2), as a pair."""
    angle = np.pi / 4 * np.bitwise_count(np.arange(2**qubits))
    return np.stack([np.cos(angle), np.sin(angle)]) * 2 ** (-qubits / 2)


def _precession(value: Any, sharing: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"precession = {value!r}: give a finite number, radians per unit of dt.")
    if value and sharing != "site":
        raise InputError(
            f"precession = {value!r} needs an angle for each qubit: give sharing='site'."
        )
    return float(value)


def _check_qubits(qubits: int) -> None:
    if qubits < 2:
        raise InputError(f"qubits = {qubits}: give at least 2, neighbours are coupled.")
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = (there // 8).bit_length() - 1
    if qubits > most:
        raise InputError(
            f"qubits = {qubits}: a state has 2^{qubits} amplitudes, {_size(qubits)} in single "
            f"precision, and this machine has {there / 2**30:.0f} GiB; give at most {most}, and "
            "fewer for training."
        )


def _size(qubits: int) -> str:
    power, units = qubits + 3, ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    step = min(power // 10, len(units) - 1)
    return f"{2 ** (power - 10 * step)} {units[step]}"
