"""Networks of qubits as circuits: PennyLane's simulator, and a small one that reads the text."""

import itertools
import re
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
import pytest

import odernn
from odernn import interop

STEPS, INPUTS = 4, 2
STRANG_LIKE = odernn.Splitting([(0, "1/2"), (1, "1/2"), (1, "1/2"), (0, "1/2")])
# Every number of qubits and lags, sharing, feedback and method; "spans" are irregular intervals.
CASES = {
    "2-1": {"qubits": 2},
    "2-3-site-spans": {"qubits": 2, "memory": 3, "spans": True},
    "3-2-global-feedback": {"qubits": 3, "memory": 2, "sharing": "global", "feedback": True},
    "5-3-feedback-spans": {"qubits": 5, "memory": 3, "feedback": True, "spans": True},
    "4-2-strang-global-spans": {
        **{"qubits": 4, "memory": 2, "sharing": "global", "spans": True},
        "method": odernn.Strang(),
    },
    "3-1-splitting-feedback": {"qubits": 3, "feedback": True, "method": STRANG_LIKE},
    "3-2-crouchgrossman-feedback-spans": {
        **{"qubits": 3, "memory": 2, "feedback": True, "spans": True, "splitting": 2},
        "method": odernn.CrouchGrossman(3),
    },
    "4-1-commutatorfree-feedback": {
        **{"qubits": 4, "feedback": True, "encoding": "fixed"},
        "method": odernn.CommutatorFree(4),
    },
    "2-2-substeps-real": {
        **{"qubits": 2, "memory": 2, "real": True, "feedback": True},
        "method": odernn.Substeps(odernn.Strang(), 2),
    },
}


def make(key, *, qubits=3, observables="local", **options):
    """A cell with large angles, so that no order of gates can be mistaken for another."""
    cell = odernn.zoo.QUNN(INPUTS, qubits, observables=observables, dt=0.7, key=key, **options)
    field = cell.field
    trained = ("theta", "encoder")
    names = [n for n, a in vars(field).items() if n.startswith(trained) and a is not None]
    keys = jax.random.split(key, len(names))
    shapes = [getattr(field, name).shape for name in names]
    drawn = [jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)]
    return eqx.tree_at(lambda c: [getattr(c.field, n) for n in names], cell, drawn)


def stamps(rng):
    return np.concatenate([[0.0], np.cumsum(rng.uniform(0.3, 2, STEPS))])


def output(cell, xs, **options):
    """The network's output after the last step, and its state."""
    hs, state = odernn.Layer(cell, odernn.Scan())(xs, **options)
    psi = np.asarray(cell.method.current(state))
    return hs[-1], psi[0] + 1j * psi[1] if cell.field.real else psi


def simulate(circuit, *, amplitudes=False):
    """The local expectations after the circuit by PennyLane's simulator, or the amplitudes."""

    @qml.qnode(qml.device("default.qubit", wires=circuit.qubits))
    def node():
        circuit()
        return qml.state() if amplitudes else [qml.expval(o) for o in circuit.observables()]

    return np.array(node())


GATES = {
    "h": lambda: np.array([[1, 1], [1, -1]]) / np.sqrt(2),
    "p": lambda t: np.diag([1, np.exp(1j * t)]),
    "rx": lambda t: np.cos(t / 2) * np.eye(2) - 1j * np.sin(t / 2) * np.array([[0, 1], [1, 0]]),
    "rz": lambda t: np.diag(np.exp([-0.5j * t, 0.5j * t])),
    "cx": lambda: np.eye(4)[[0, 1, 3, 2]],
}


def read(text):
    """Qubits and statements (gate, angles, qubits) of a program in OpenQASM 3."""
    version, include, *lines = (line for line in text.splitlines() if not line.startswith("//"))
    assert (version, include) == ("OPENQASM 3.0;", 'include "stdgates.inc";')
    qubits = int(re.fullmatch(r"qubit\[(\d+)\] q;", lines[0])[1])
    statements = []
    for line in lines[1:]:
        number = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
        name, angle, sites = re.fullmatch(rf"(\w+)(?:\(({number})\))? (.*);", line).groups()
        sites = [int(re.fullmatch(r"q\[(\d+)\]", site)[1]) for site in sites.split(", ")]
        statements.append((name, () if angle is None else (float(angle),), sites))
    return qubits, statements


def run(text, start=None):
    """The amplitudes after a program, q[0] the most significant bit; from |0...0> if not given."""
    qubits, statements = read(text)
    psi = np.eye(2**qubits)[0] if start is None else np.asarray(start)
    psi = psi.reshape((2,) * qubits)
    for name, angles, sites in statements:
        size = len(sites)
        gate = GATES[name](*angles).reshape((2,) * (2 * size))
        psi = np.tensordot(gate, psi, (range(size, 2 * size), sites))
        psi = np.moveaxis(psi, range(size), sites)
    return psi.ravel()


@pytest.mark.parametrize("name", CASES)
def test_a_circuit_computes_what_the_network_does(name, key, rng):
    options = dict(CASES[name])
    given = {"times": stamps(rng)} if options.pop("spans", False) else {}
    cell, xs = make(key, **options), rng.normal(size=(STEPS, INPUTS))
    h, psi = output(cell, xs, **given)
    circuit = interop.to_pennylane(cell, xs, **given)
    np.testing.assert_allclose(simulate(circuit), h, rtol=0, atol=1e-10)
    # Not even a phase lies between them.
    np.testing.assert_allclose(simulate(circuit, amplitudes=True), psi, rtol=0, atol=1e-10)
    text = interop.to_openqasm(cell, xs, **given)
    np.testing.assert_allclose(run(text), psi, rtol=0, atol=1e-10)


def test_the_gates_are_the_terms_of_the_hamiltonian(key, rng):
    cell, xs = make(key, sharing="global", feedback=True, encoding="fixed"), rng.normal(size=(1, 2))
    f = cell.field
    start = rng.normal(size=8) + 1j * rng.normal(size=8)
    start /= np.linalg.norm(start)
    (step,) = interop.to_pennylane(cell, xs, initial_state=start).steps
    # The transverse flow comes first, and with it other expectations than those at the start.
    turned = start.reshape(2, 2, 2)
    for _ in range(3):
        turned = np.tensordot(GATES["rx"](2 * 0.7 * float(f.theta_x[0, 0])), turned, (1, 2))
    p = np.abs(turned) ** 2
    seen = [p.take(0, axis=i).sum() - p.take(1, axis=i).sum() for i in range(3)]
    z = f.theta_z[0] * f.disorder + f.theta_data[0] * (xs[0] @ f.spread)
    z = z + f.theta_feedback[0] * jnp.array(seen)
    expected = [("rx", (i,), 1.4 * f.theta_x[0, 0]) for i in range(3)]
    expected += [("rz", (i,), 1.4 * z[i]) for i in range(3)]
    expected += [("rzz", (i, i + 1), 1.4 * f.theta_zz[0, 0] * f.bond_disorder[i]) for i in range(2)]
    assert [gate[:2] for gate in step] == [gate[:2] for gate in expected]
    np.testing.assert_allclose([g[2] for g in step], [g[2] for g in expected], rtol=0, atol=1e-12)


def test_the_text_has_the_gates_of_the_circuit(key, rng):
    cell, xs = make(key, memory=2, feedback=True), 1e-6 * rng.normal(size=(STEPS, INPUTS))
    text = interop.to_openqasm(cell, xs)
    _, statements = read(text)
    expected = [gate for i in range(3) for gate in (("h", (), [i]), ("p", (np.pi / 4,), [i]))]
    for name, sites, angle in itertools.chain(*interop.to_pennylane(cell, xs).steps):
        ends = [("cx", (), list(sites))] if name == "rzz" else []
        expected += [*ends, ("rz" if ends else name, (angle,), [sites[-1]]), *ends]
    assert statements == expected  # to the last digit
    comments = [line for line in text.splitlines() if line.startswith("//")]
    assert comments[0].startswith("// QUNN: 3 qubits, 4 steps.") and "Feedback" in comments[1]
    assert comments[2:] == [f"// step {k}" for k in range(STEPS)]


def test_circuits_of_the_beginning_are_the_states_on_the_way(key, rng):
    cell, xs, times = make(key, memory=3, feedback=True), rng.normal(size=(STEPS, 2)), stamps(rng)
    hs, _ = odernn.Layer(cell, odernn.Scan())(xs, times=times)
    whole = interop.to_pennylane(cell, xs, times=times)
    for k in range(1, STEPS):
        circuit = interop.to_pennylane(cell, xs[:k], times=times[: k + 1])
        assert circuit.steps == whole.steps[:k]
        np.testing.assert_allclose(simulate(circuit), hs[k - 1], rtol=0, atol=1e-10)


def test_a_sequence_goes_on_from_a_state_and_the_inputs_before(key, rng):
    cell, xs = make(key, memory=3, feedback=True), rng.normal(size=(STEPS, INPUTS))
    h, psi = output(cell, xs)
    _, middle = odernn.Layer(cell, odernn.Scan())(xs[:2])
    before = jnp.concatenate([xs[:1], xs[:1], xs[:2]])[-2:]
    given = {"initial_state": middle, "past": before}
    circuit = interop.to_pennylane(cell, xs[2:], **given)
    np.testing.assert_allclose(simulate(circuit), h, rtol=0, atol=1e-10)
    text = interop.to_openqasm(cell, xs[2:], prepare=False, **given)
    assert "// Nothing is prepared" in text and "h q" not in text
    np.testing.assert_allclose(run(text, middle["y"]), psi, rtol=0, atol=1e-10)
    other = interop.to_pennylane(cell, xs[2:], initial_state=middle)  # the first input stands in
    assert np.abs(simulate(other) - h).max() > 1e-3


@pytest.mark.parametrize("real", [False, True])
def test_a_state_of_the_field_is_prepared(real, key, rng):
    cell, xs = make(key, real=real), rng.normal(size=(STEPS, INPUTS))
    pair = rng.normal(size=(2, 8))
    pair /= np.linalg.norm(pair)
    state = pair if real else pair[0] + 1j * pair[1]
    h, psi = output(cell, xs, initial_state=state)
    circuit = interop.to_pennylane(cell, xs, initial_state=state)
    np.testing.assert_allclose(simulate(circuit), h, rtol=0, atol=1e-10)
    np.testing.assert_allclose(simulate(circuit, amplitudes=True), psi, rtol=0, atol=1e-10)


def test_steps_alone_are_one_unitary_matrix(key, rng):
    cell, xs = make(key), rng.normal(size=(STEPS, INPUTS))
    circuit = interop.to_pennylane(cell, xs, prepare=False)
    matrix = qml.matrix(circuit, wire_order=range(3))()
    columns = [output(cell, xs, initial_state=column)[1] for column in np.eye(8, dtype=complex)]
    np.testing.assert_allclose(matrix, np.stack(columns, axis=1), rtol=0, atol=1e-10)


def test_wires_have_any_names(key, rng):
    cell, xs, names = make(key), rng.normal(size=(STEPS, INPUTS)), ["c", 7, "a"]
    circuit = interop.to_pennylane(cell, xs)

    @qml.qnode(qml.device("default.qubit", wires=["a", "b", "c", 7]))
    def node():
        circuit(names)
        return [qml.expval(o) for o in circuit.observables(names)]

    np.testing.assert_allclose(node(), output(cell, xs)[0], rtol=0, atol=1e-10)
    for wires in (range(2), [0, 1, 1], range(4)):
        for call in (circuit, circuit.observables):
            with pytest.raises(odernn.InputError, match="give 3 different wires"):
                call(wires)


def test_inputs_between_steps_are_interpolated(key, rng):
    cell, xs = make(key, method=odernn.Strang()), rng.normal(size=(STEPS, INPUTS))
    cell = odernn.Cell(cell.field, odernn.CommutatorFree(3), 0.7, odernn.LinearInput())
    np.testing.assert_allclose(
        run(interop.to_openqasm(cell, xs)), output(cell, xs)[1], rtol=0, atol=1e-10
    )


def test_single_precision(key, rng):
    cell, xs = make(key, memory=2, feedback=True), rng.normal(size=(STEPS, INPUTS))
    single = jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_array(a) else a, cell)
    np.testing.assert_allclose(
        simulate(interop.to_pennylane(single, xs.tolist())), output(cell, xs)[0], rtol=0, atol=1e-4
    )


def test_layers_are_compiled_after_pennylane_is_imported(key):
    # PennyLane makes JAX's tracers hashable, which JAX takes for permission to compare them.
    layer = odernn.Layer(odernn.zoo.QUNN(INPUTS, 2, key=key))
    grad = eqx.filter_grad(lambda layer: jnp.sum(layer(jnp.ones((STEPS, INPUTS)))[0]))(layer)
    assert jnp.all(jnp.isfinite(grad.cell.field.theta_x))


def bad(cell, **given):
    return interop.to_openqasm(cell, given.pop("xs", jnp.ones((STEPS, INPUTS))), **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"xs": [[1.0, np.nan], [np.inf, 1.0]]}, "xs has 2 values that are not finite: leave"),
        ({"xs": jnp.ones(INPUTS)}, r"xs has the shape \(2,\): .* \(time, 2\)"),
        ({"xs": jnp.ones((2, STEPS, INPUTS))}, r"xs has the shape \(2, 4, 2\)"),
        ({"xs": jnp.ones((STEPS, 3))}, r"xs has the shape \(4, 3\)"),
        ({"xs": jnp.ones((0, INPUTS))}, "xs has no steps"),
        ({"times": [0.0, 2.0, 1.0, 3.0]}, "times must be finite and strictly increasing"),
        ({"times": [0.0, 1.0]}, r"times has the shape \(2,\)"),
        ({"past": jnp.ones((2, INPUTS))}, r"past has the shape \(2, 2\): .* reads 1 inputs"),
        ({"initial_state": np.ones(7)}, r"initial_state has the structure \(7,\)"),
        ({"initial_state": np.ones(8)}, "a quantum state has norm 1"),
        ({"initial_state": np.eye(8)[0]}, r"OpenQASM has no gate .* \(prepare=False\)"),
        ({"xs": jnp.full((STEPS, INPUTS), 1e200)}, "the angles of step 0 are not finite"),
    ],
    ids=str,
)
def test_bad_inputs_are_refused(given, message, key):
    with pytest.raises(odernn.InputError, match=message):
        bad(make(key, memory=2), **given)


def test_cells_that_are_no_circuits_are_refused(key):
    cell = make(key, memory=2, feedback=True)
    for wrong, message in (
        (None, r"cell is a NoneType: .* zoo.QUNN\(...\)"),
        (odernn.Layer(cell), "cell is a Layer: a circuit is made of a Cell"),
        (
            odernn.zoo.GRU(INPUTS, 3, key=key),
            "is no circuit: its field is to",
        ),
        (
            odernn.replace(cell, method=odernn.RK4()),
            "a step of RK4 is no circuit",
        ),
        (odernn.replace(cell, method=odernn.Substeps(odernn.Heun(), 2)), "a step of Heun is no"),
        (odernn.Cell(make(key).field, odernn.ImplicitMidpoint()), "a step of ImplicitMidpoint"),
    ):
        for export in (interop.to_pennylane, interop.to_openqasm):
            with pytest.raises(odernn.InputError, match=message):
                export(wrong, jnp.ones((STEPS, INPUTS)))


def test_traced_arguments_are_refused(key):
    cell, xs = make(key), jnp.ones((STEPS, INPUTS))
    with pytest.raises(odernn.InputError, match="an argument is traced: .* outside of jit"):
        eqx.filter_jit(interop.to_openqasm)(cell, xs)
    with pytest.raises(odernn.InputError, match="an argument is traced"):
        jax.vmap(lambda xs: len(interop.to_openqasm(cell, xs)))(xs[None])


def test_without_pennylane(key, monkeypatch):
    cell, xs = make(key), jnp.ones((STEPS, INPUTS))
    monkeypatch.setitem(sys.modules, "pennylane", None)
    with pytest.raises(odernn.InputError, match="PennyLane is not installed: pip install pennyl"):
        interop.to_pennylane(cell, xs)
    assert interop.to_openqasm(cell, xs).startswith("OPENQASM 3.0;\n")
