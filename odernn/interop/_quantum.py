"""Networks of qubits as circuits: a quantum function of PennyLane, a text in OpenQASM 3."""

import itertools
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._cell import Cell
from .._layer import Layer, _ordered
from .._method import (
    CommutatorFree,
    CrouchGrossman,
    Delayed,
    LieTrotter,
    Splitting,
    Strang,
    Substeps,
)
from .._results import InputError
from .._typing import Array, ArrayLike, Drive, Float, Inexact, Scalar, State
from ..fields import PauliHamiltonian
from ..fields._pauli_hamiltonian import SPLITTINGS, Hamiltonian

Gate = tuple[str, tuple[int, ...], float]
"""A gate's name ("rx", "rz" or "rzz"), its qubits, its angle."""


class _Circuit(NamedTuple):
    qubits: int
    start: np.ndarray | float
    """Amplitudes to prepare, or b: every qubit is in the state (|0> + exp(i b) |1>)/sqrt(2)."""
    steps: tuple[tuple[Gate, ...], ...]
    feedback: bool


class QuantumFunction:
    """A network of qubits as a quantum function of PennyLane, for a QNode on any device.

    Calling it applies its gates; ``to_pennylane`` makes it. ``qubits`` is m. ``steps`` has the
    gates of each step as plain data, (name, qubits, angle) with the names "rx", "rz" and "rzz": a
    rotation by ``angle`` is ``exp(-i angle/2 P)``, P = X_i, Z_i or Z_i Z_{i+1}. ``wires``, where
    it is given, names the m wires of the device, the first one is qubit 0.
    """

    qubits: int
    steps: tuple[tuple[Gate, ...], ...]

    def __init__(self, circuit: _Circuit, prepare: bool):
        self.qubits, self.steps = circuit.qubits, circuit.steps
        self._start, self._prepare = circuit.start, prepare

    def __call__(self, wires: Sequence[Any] | None = None) -> None:
        """Apply the gates; raise ``InputError`` if there are not as many wires as qubits."""
        qml, wires = _pennylane(), self._wires(wires)
        if self._prepare and isinstance(self._start, float):
            for wire in wires:
                qml.Hadamard(wire)
                qml.PhaseShift(self._start, wire)
        elif self._prepare:
            qml.StatePrep(self._start, wires, normalize=True)
        kinds = {"rx": qml.RX, "rz": qml.RZ, "rzz": qml.IsingZZ}
        for step in self.steps:
            for name, sites, angle in step:
                kinds[name](angle, [wires[site] for site in sites])

    def observables(self, wires: Sequence[Any] | None = None) -> list[Any]:
        """Return X_i, Z_i and Z_i Z_{i+1}, whose expectations are what the next layer sees."""
        qml, wires = _pennylane(), self._wires(wires)
        one = [kind(wire) for kind in (qml.X, qml.Z) for wire in wires]
        return one + [qml.Z(a) @ qml.Z(b) for a, b in itertools.pairwise(wires)]

    def _wires(self, wires: Sequence[Any] | None) -> list[Any]:
        names = list(range(self.qubits) if wires is None else wires)
        if len(set(names)) != self.qubits or len(names) != self.qubits:
            raise InputError(
                f"wires = {wires!r}: give {self.qubits} different wires, one for each qubit."
            )
        return names


def to_pennylane(
    cell: Cell,
    xs: Inexact[ArrayLike, "time input"],
    *,
    times: Float[ArrayLike, " stamps"] | None = None,
    initial_state: State | None = None,
    past: Inexact[ArrayLike, "past input"] | None = None,
    prepare: bool = True,
) -> QuantumFunction:
    """Return a QUNN that reads a sequence as a circuit, a quantum function of PennyLane.

    It prepares the initial state, then follows a layer's steps gate by gate, ``exp(-i a P)`` as a
    rotation by 2a: RX(2 x_i), RZ(2 z_i) and IsingZZ(2 c_i). Qubit i is wire i, the most significant
    bit first in both libraries, and the amplitudes agree, without a phase between them. Angles are
    plain numbers, in the precision of the cell: a circuit is for running, not for training.

    Without feedback the circuit is the network. **With feedback** the angles depend on ``<Z_i>``
    of the states on the way, which no circuit knows before it is measured: they are taken from an
    exact simulation of this sequence from this initial state. The circuit agrees with the network
    for those only, and does not feel a device's noise in its angles.

    **Arguments**: ``cell``, a ``fields.PauliHamiltonian`` with ``LieTrotter``, ``Strang``,
    ``Splitting``, ``CrouchGrossman`` or ``CommutatorFree`` (or ``Substeps`` of these); ``xs``, one
    row for a single step; ``times``, ``initial_state`` and ``past`` as of a ``Layer``; ``prepare``,
    False: the steps alone, for qubits that hold the initial state already. To see the network's
    output at another time, give the inputs until then.

    >>> import jax, jax.numpy as jnp, odernn, pennylane
    >>> from odernn import interop
    >>> cell = odernn.zoo.QUNN(3, 4, memory=2, key=jax.random.key(0))
    >>> circuit = interop.to_pennylane(cell, jnp.ones((5, 3)))
    >>> @pennylane.qnode(pennylane.device("default.qubit", wires=4))
    ... def local_expectations():
    ...     circuit()
    ...     return [pennylane.expval(observable) for observable in circuit.observables()]
    >>> hs, _ = odernn.Layer(cell)(jnp.ones((5, 3)))
    >>> bool(jnp.allclose(jnp.stack(local_expectations()), hs[-1], atol=1e-5))
    True

    Raises ``InputError`` for other fields and methods, inputs that do not fit, and if PennyLane is
    not installed.
    """
    _pennylane()
    return QuantumFunction(_circuit(cell, xs, times, initial_state, past), prepare)


def to_openqasm(
    cell: Cell,
    xs: Inexact[ArrayLike, "time input"],
    *,
    times: Float[ArrayLike, " stamps"] | None = None,
    initial_state: State | None = None,
    past: Inexact[ArrayLike, "past input"] | None = None,
    prepare: bool = True,
) -> str:
    """Return a QUNN that reads a sequence as a text in OpenQASM 3.

    The circuit of ``to_pennylane``, which says what it means and what the **arguments** are, in
    gates of ``stdgates.inc``: h, p, rx, rz, and cx rz cx in place of rzz; with all digits of the
    angles and a comment where a step begins. q[0] is the most significant bit: programs that print
    q[0] last, as Qiskit does, print the qubits in reverse. Nothing is measured; to read the
    qubits, append ``bit[m] c = measure q;``.

    >>> import jax, jax.numpy as jnp, odernn
    >>> from odernn import interop
    >>> cell = odernn.zoo.QUNN(3, 2, key=jax.random.key(0))
    >>> print(interop.to_openqasm(cell, jnp.ones((1, 3))))
    OPENQASM 3.0;
    include "stdgates.inc";
    // QUNN: 2 qubits, 1 step. q[0] is the most significant bit of an index.
    qubit[2] q;
    h q[0];
    p(...) q[0];
    h q[1];
    p(...) q[1];
    // step 0
    rx(...) q[0];
    rx(...) q[1];
    rz(...) q[0];
    rz(...) q[1];
    cx q[0], q[1];
    rz(...) q[1];
    cx q[0], q[1];
    <BLANKLINE>

    Raises ``InputError`` as ``to_pennylane`` does, and for an ``initial_state`` that the text
    should prepare: the standard gates have no single one for it.

    Reference: Cross et al., ACM Trans. Quantum Comput. 3 (2022).
    """
    circuit = _circuit(cell, xs, times, initial_state, past)
    if prepare and not isinstance(circuit.start, float):
        raise InputError(
            "initial_state is given: OpenQASM has no gate that prepares any amplitudes; write the "
            "steps alone (prepare=False), or use to_pennylane."
        )
    return "".join(f"{line}\n" for line in _lines(circuit, prepare))


def _lines(circuit: _Circuit, prepare: bool) -> Iterator[str]:
    qubits, count = circuit.qubits, len(circuit.steps)
    yield "OPENQASM 3.0;"
    yield 'include "stdgates.inc";'
    steps = f"{count} step{'s' if count > 1 else ''}"
    yield f"// QUNN: {qubits} qubits, {steps}. q[0] is the most significant bit of an index."
    if circuit.feedback:
        yield "// Feedback: the angles hold <Z_i> of an exact simulation of these inputs."
    yield f"qubit[{qubits}] q;"
    if prepare:
        for site in range(qubits):
            yield from (f"h q[{site}];", f"p({circuit.start!r}) q[{site}];")
    else:
        yield "// Nothing is prepared: q holds the initial state already."
    for number, step in enumerate(circuit.steps):
        yield f"// step {number}"
        for name, sites, angle in step:
            if name == "rzz":
                pair = ", ".join(f"q[{site}]" for site in sites)
                yield from (f"cx {pair};", f"rz({angle!r}) q[{sites[1]}];", f"cx {pair};")
            else:
                yield f"{name}({angle!r}) q[{sites[0]}];"


def _pennylane() -> ModuleType:
    try:
        import pennylane
    except ImportError as error:
        raise InputError(
            "PennyLane is not installed: pip install pennylane, or write OpenQASM (to_openqasm)."
        ) from error
    return pennylane


def _circuit(cell: Any, xs: Any, times: Any, initial_state: Any, past: Any) -> _Circuit:
    """Run the cell over the sequence and note its gates."""
    _check_cell(cell)
    _check_numbers(cell, xs, times, initial_state, past)
    layer = Layer(cell)
    xs, times, valid, start, past, _ = layer._checked(
        xs, times, initial_state=initial_state, past=past
    )
    layers = _layers(cell, start, _ordered(layer, xs, times, valid, past))
    layers = jax.tree.map(np.asarray, layers)
    wrong = [~np.isfinite(a).all(axis=1) for a in jax.tree.leaves(layers)]
    if np.any(wrong):
        step = np.argmax(np.any(wrong, axis=0))
        raise InputError(
            f"the angles of step {step} are not finite: the parameters, the encoding or the "
            "inputs are too large, or not finite."
        )
    steps = tuple(tuple(_gates(layers, number)) for number in range(len(xs)))
    y = np.asarray(cell.method.current(start))
    psi = (y[0] + 1j * y[1] if cell.field.real else y).astype(np.complex128)
    # The field starts in a product of equal states of the qubits, both amplitudes of one size.
    prepared = float(np.angle(psi[1] / psi[0])) if initial_state is None else psi
    return _Circuit(cell.field.qubits, prepared, steps, cell.field.feedback)


def _check_cell(cell: Any) -> None:
    if not isinstance(cell, Cell):
        raise InputError(
            f"cell is a {type(cell).__name__}: a circuit is made of a Cell, zoo.QUNN(...) say."
        )
    if not isinstance(cell.field, PauliHamiltonian):
        raise InputError(
            f"a cell of {type(cell.field).__name__} is no circuit: its field is to be a "
            "fields.PauliHamiltonian, take zoo.QUNN(...)."
        )
    method: Any = cell.method
    while isinstance(method, Delayed | Substeps):
        method = method.method
    if not isinstance(method, LieTrotter | Strang | Splitting | CrouchGrossman | CommutatorFree):
        raise InputError(
            f"a step of {type(method).__name__} is no circuit, as it is no product of rotations: "
            "take a splitting or a Lie-group method, odernn.replace(cell, method=LieTrotter()) say."
        )


def _check_numbers(cell: Cell, xs: Any, *others: Any) -> None:
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((cell, xs, others))):
        raise InputError(
            "an argument is traced: a circuit is made of plain numbers, call to_pennylane and "
            "to_openqasm outside of jit, vmap and grad."
        )
    if count := int(jnp.sum(~jnp.isfinite(jnp.asarray(xs)))):
        raise InputError(
            f"xs has {count} values that are not finite: leave these steps out, or mend the data."
        )


def _gates(layers: Sequence[dict[str, np.ndarray]], step: int) -> Iterator[Gate]:
    for layer in layers:
        for name, angles in layer.items():
            size = 2 if name == "rzz" else 1
            for site, angle in enumerate(angles[step]):
                # exp(-i a P) is what everyone else calls a rotation by 2a.
                yield name, tuple(range(site, site + size)), 2 * float(angle)


class _Noted(NamedTuple):
    """A state with the layers of gates that have acted on it since the step began."""

    psi: State
    layers: tuple[dict[str, Array], ...] = ()


class _Noting(eqx.Module):
    """A field whose flows and exponentials are noted in the state that they act on.

    A method knows no difference. What it does with inner stages is noted in their states, so that
    the state after the step has the gates of the step alone.
    """

    field: PauliHamiltonian

    @property
    def parts(self) -> tuple[str, ...]:
        return self.field.parts

    def record(self, y: _Noted) -> Array:
        return self.field.record(y.psi)

    def generator(self, time: Scalar, y: _Noted, u: Drive) -> Hamiltonian:
        return self.field.generator(time, y.psi, u)

    def flow(self, name: str, time: Scalar, y: _Noted, u: Drive, dt: Scalar) -> _Noted:
        psi = self.field.flow(name, time, y.psi, u, dt)
        element = self.field._of_part(name, y.psi, u)
        part = "x" if name.startswith("transverse") else "z"
        return _Noted(psi, (*y.layers, _layer(element, part, dt)))

    def exponential(self, element: Hamiltonian, y: _Noted) -> _Noted:
        psi = self.field.exponential(element, y.psi)
        flows = SPLITTINGS[self.field.splitting]
        return _Noted(psi, y.layers + tuple(_layer(element, *flow) for flow in flows))


def _layer(element: Hamiltonian, part: str, share: Any) -> dict[str, Array]:
    """The gates of one flow, which commute: exponents by the name of the gate."""
    angles = {"rx": element.x} if part == "x" else {"rz": element.z, "rzz": element.coupling}
    return {name: jnp.asarray(share, a.dtype) * a for name, a in angles.items()}


@eqx.filter_jit
def _layers(cell: Cell, start: State, inputs: Any) -> tuple[dict[str, Array], ...]:
    """Return the layers of gates of a step, each with the exponents of all steps."""
    noting: Cell = eqx.tree_at(lambda c: c.field, cell, _Noting(cell.field))  # pyright: ignore
    current = cell.method.current

    def step(state: State, v: Any) -> tuple[State, Any]:
        u = cell.drive(v.value, v.interval)
        state = eqx.tree_at(current, state, _Noted(current(state)))
        after = noting.step(state, u, elapsed=v.elapsed, interval=v.interval)
        psi, layers = current(after)
        return eqx.tree_at(current, after, psi), layers

    return jax.lax.scan(step, start, inputs)[1]
