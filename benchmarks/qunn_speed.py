"""What does a QUNN's step cost, in time and memory? Against dense unitary networks and PennyLane.

    python benchmarks/qunn_speed.py [--turns 3] [--every]

1. Time of one step, `jax.jit` of `cell(y, x)`, against the number of amplitudes d = 2^m.
2. Memory of the compiled gradient against the number of steps T: XLA's own count, beside arguments
   and results; for `Reversible()` also the drift of the start when all steps are undone.
3. Value and gradient of all parameters of a model: d = 1024, batch 32, 784 steps of 8 inputs,
   float32. The peers: a full-capacity unitary network of the same width, a dense complex matrix in
   a `jax.lax.scan` by hand, and the same circuit, gate by gate, on PennyLane's `default.qubit`; its
   values and gradients agree with ours before anything is timed. Peers that are slow run shorter
   sequences, all steps in one circuit so few that two lengths are needed to tell apart what they
   cost once and what a step costs; 784 steps are computed of these.

The candidates take turns, in an order that changes; ratios are medians of the ratios within a turn.
--every also times ways to run PennyLane that were slower where they were tried. Draws
docs/images/qunn_speed.svg.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _machine import IMAGES, describe, store, table

import odernn
from odernn.analysis._figure import BLUE, COLUMN, INK, LINE, RED, figure_into

BATCH, STEPS, INPUTS, QUBITS = 32, 784, 8, 10
SIZES = tuple(range(4, 17))
DENSE_SIZES = tuple(range(4, 12))
FROM = (0, 8, 12)
"""Powers are fitted from so many qubits on: a call has fixed costs, of tens of microseconds."""
LENGTHS = (10**2, 10**3, 10**4, 10**5)
MEMORY_QUBITS = 8
CHECKPOINTS = "Scan(checkpoint=28)"
UNROLLS: dict[str, Any] = {
    "Scan()": odernn.Scan(),
    CHECKPOINTS: odernn.Scan(checkpoint=28),
    "Adjoint()": odernn.Adjoint(),
    "Reversible()": odernn.Reversible(),
}
SHORT = 56
"""Steps of peers that are slow."""
KEY = jax.random.key(0)
XS = np.random.default_rng(0).normal(size=(BATCH, STEPS, INPUTS)).astype("float32")
BEGIN = time.perf_counter()
Run = Callable[[], Any]
Steps = dict[tuple[str, int], tuple[float, int, int]]
"""Seconds of a step, bytes of the state and of the step's program, by (network, qubits)."""


class Program(NamedTuple):
    """A compiled program with its arguments."""

    run: Run
    temporary: int
    """Bytes beside arguments and results."""


class Candidate(NamedTuple):
    """A network that is timed: programs by the number of steps."""

    name: str
    programs: dict[int, Program]


def say(text: str) -> None:
    print(f"[{time.perf_counter() - BEGIN:4.0f} s] {text}", flush=True)


def compiled(function: Callable, *arguments: Any) -> Program:
    ready = jax.jit(function).lower(*arguments).compile()
    temporary = ready.memory_analysis().temp_size_in_bytes
    return Program(lambda: jax.block_until_ready(ready(*arguments)), temporary)


def take_turns(runs: dict[Any, Run], turns: int, at_least: float = 0.0) -> dict[Any, np.ndarray]:
    """Seconds of each run in each turn; short ones are repeated for ``at_least`` so many."""
    counts = {}
    for key, run in runs.items():
        counts[key] = 1
        run()
        if at_least:
            begin = time.perf_counter()
            run()
            counts[key] = max(1, round(at_least / (time.perf_counter() - begin)))
    seconds: dict[Any, list[float]] = {key: [] for key in runs}
    keys, order = list(runs), np.random.default_rng(0)
    for _ in range(turns):
        for number in order.permutation(len(keys)):
            key = keys[number]
            begin = time.perf_counter()
            for _ in range(counts[key]):
                runs[key]()
            seconds[key].append((time.perf_counter() - begin) / counts[key])
    return {key: np.array(value) for key, value in seconds.items()}


def power(x: list[float], y: list[float]) -> float:
    """Exponent of y against x by least squares of the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


# --- 1. One step ---------------------------------------------------------------------------------


def steps_of_cells(turns: int) -> Steps:
    programs, states = {}, {}
    for qubits in SIZES:
        for name, feedback in (("QUNN", False), ("QUNN, feedback", True)):
            options: Any = {"feedback": feedback, "encoding": "fixed"}
            cell = odernn.zoo.QUNN(INPUTS, qubits, key=KEY, **options)
            arrays, static = eqx.partition(cell, eqx.is_array)

            def step(arrays, y, x, static=static):
                return eqx.combine(arrays, static)(y, x)

            y = cell.initial_state()
            programs[name, qubits] = compiled(step, arrays, y, jnp.asarray(XS[0, 0]))
            states[name, qubits] = sum(a.nbytes for a in jax.tree.leaves(y))
    for qubits in DENSE_SIZES:
        matrix, inward = unitary(2**qubits)
        h = jnp.ones(2**qubits, matrix.dtype)
        x = jnp.asarray(XS[0, 0], matrix.dtype)
        key = "dense matrix", qubits
        programs[key] = compiled(lambda u, v, h, x: u @ h + v @ x, matrix, inward, h, x)
        states[key] = h.nbytes
    say(f"{len(programs)} steps are compiled")
    seconds = take_turns({key: p.run for key, p in programs.items()}, turns, at_least=4e-3)
    return {
        key: (float(np.median(seconds[key])), states[key], programs[key].temporary)
        for key in programs
    }


def unitary(size: int) -> tuple[jax.Array, jax.Array]:
    """A random unitary matrix and a matrix of the inputs."""
    rng = np.random.default_rng(0)
    matrix = np.linalg.qr(rng.normal(size=(size, size)) + 1j * rng.normal(size=(size, size)))[0]
    inward = rng.normal(size=(size, INPUTS)) / INPUTS
    return jnp.asarray(matrix, jnp.complex64), jnp.asarray(inward, jnp.complex64)


# --- 2. Memory of training -----------------------------------------------------------------------


def model_of(cell: odernn.Cell, unroll: Any, outputs: int = 1) -> odernn.Model:
    layer = odernn.Layer(cell, unroll)
    return odernn.Model([layer], odernn.LastStep(cell.hidden_size, outputs, key=KEY))


def parts_of(model: odernn.Model) -> tuple[Any, Callable]:
    """The trained arrays, and the loss as a function of them and a batch (batch, time, input)."""
    weights, static = eqx.partition(model, odernn.trained(model))

    def loss(weights, xs):
        return jnp.mean(jax.vmap(eqx.combine(weights, static))(xs) ** 2)

    return weights, loss


def memory_of_training() -> list[tuple[str, list[int], list[float] | None]]:
    """For each unroll: temporary bytes of the gradient of one sequence, and drifts, by length."""
    cell = odernn.zoo.QUNN(INPUTS, MEMORY_QUBITS, encoding="fixed", key=KEY)
    found = []
    for name, unroll in UNROLLS.items():
        if name == CHECKPOINTS:  # it may be as little as sqrt(T), with a part for every T
            continue
        weights, loss = parts_of(model_of(cell, unroll))
        needed = []
        for length in LENGTHS:
            xs = jax.ShapeDtypeStruct((1, length, INPUTS), jnp.float32)
            ready = jax.jit(jax.grad(loss)).lower(weights, xs).compile()
            needed.append(ready.memory_analysis().temp_size_in_bytes)
        drifts = None
        if isinstance(unroll, odernn.Reversible):
            layer = odernn.Layer(cell, unroll)
            normal = np.random.default_rng(1).normal
            drifts = [float(layer.drift(jnp.asarray(normal(size=(n, INPUTS)), jnp.float32)))
                      for n in LENGTHS]  # fmt: skip
        say(f"memory of {name}: {needed}")
        found.append((name, needed, drifts))
    return found


# --- 3. A sequence, forward and backward ---------------------------------------------------------


def gradient(loss: Callable, weights: Any, length: int) -> Program:
    return compiled(jax.value_and_grad(loss), weights, jnp.asarray(XS[:, :length]))


def ours() -> list[Candidate]:
    found = []
    for encoding in ("fixed", "trained"):
        cell = odernn.zoo.QUNN(INPUTS, QUBITS, encoding=encoding, key=KEY)
        for name, unroll in UNROLLS.items():
            if encoding == "trained" and name not in (CHECKPOINTS, "Adjoint()"):
                continue
            weights, loss = parts_of(model_of(cell, unroll))
            program = gradient(loss, weights, STEPS)
            found.append(Candidate(f"QUNN, {encoding} encoding, {name}", {STEPS: program}))
            say(f"{found[-1].name} is compiled")
    return found


def dense() -> list[Candidate]:
    """The full-capacity unitary network, and a matrix by hand: complex, and as one real matrix."""
    size = 2**QUBITS
    weights, loss = parts_of(model_of(odernn.zoo.FullCapacityuRNN(INPUTS, 2 * size, key=KEY), None))
    # It runs all steps: its exponential, taken once, would drown the difference of two lengths.
    network = {STEPS: gradient(loss, weights, STEPS)}
    matrix, inward = unitary(size)
    readout = jax.random.normal(KEY, (2 * size, 1))

    def by_hand(p, xs):
        u, v, w = p

        def body(h, drive):
            return h @ u.T + drive, None

        drive = jnp.swapaxes(xs, 0, 1).astype(v.dtype) @ v.T
        h = jax.lax.scan(body, jnp.zeros((BATCH, size), u.dtype), drive)[0]
        return jnp.mean((jnp.concatenate([h.real, h.imag], 1) @ w) ** 2)

    def as_real(p, xs):
        u, v, w = p
        real = jnp.block([[u.real, -u.imag], [u.imag, u.real]])

        def body(h, drive):
            return h @ real.T + drive, None

        drive = jnp.swapaxes(xs, 0, 1) @ jnp.concatenate([v.real, v.imag]).T
        h = jax.lax.scan(body, jnp.zeros((BATCH, 2 * size)), drive)[0]
        return jnp.mean((h @ w) ** 2)

    hands = {}
    for name, loss in (("complex", by_hand), ("as one real matrix", as_real)):
        p = (matrix, inward, readout)
        hands[name] = {SHORT: gradient(loss, p, SHORT)}
    check(hands["complex"][SHORT], hands["as one real matrix"][SHORT], "dense matrix by hand")
    say("the dense networks are compiled")
    return [
        Candidate("full-capacity uRNN, 1024 complex units", network),
        *(Candidate(f"dense matrix by hand, {name}", found) for name, found in hands.items()),
    ]


def check(one: Program, other: Program, name: str) -> None:
    """Value and gradients agree, to 1e-4 of the largest entry of each."""
    for got, wanted in zip(*map(jax.tree.leaves, (one.run(), other.run())), strict=True):
        scale = 1e-4 * float(jnp.abs(wanted).max())
        np.testing.assert_allclose(got, wanted, rtol=0, atol=scale, err_msg=name)


def gates(x: Any, z: Any, coupling: Any) -> None:
    """One step: ``exp(-i a P)`` is a rotation by 2 a."""
    import pennylane as qml

    for site in range(QUBITS):
        qml.RX(2 * x[..., site], site)
    for site in range(QUBITS):
        qml.RZ(2 * z[..., site], site)
    for site in range(QUBITS - 1):
        qml.IsingZZ(2 * coupling[..., site], [site, site + 1])


def prepare() -> None:
    import pennylane as qml

    for site in range(QUBITS):
        qml.Hadamard(site)
        qml.PhaseShift(np.pi / 4, site)


def expectations() -> list[Any]:
    import pennylane as qml

    one = [qml.expval(kind(site)) for kind in (qml.X, qml.Z) for site in range(QUBITS)]
    return one + [qml.expval(qml.Z(a) @ qml.Z(a + 1)) for a in range(QUBITS - 1)]


def angles(model: odernn.Model, xs: jax.Array) -> tuple[jax.Array, ...]:
    """Terms x and coupling, which no input changes, and z of each input (..., input)."""
    field: Any = model.layers[0].cell.field  # pyright: ignore
    one = field.hamiltonian(0, field.drive(xs.reshape(-1, INPUTS)[0]))
    drives = jax.vmap(field.drive)(xs.reshape(-1, INPUTS))
    z = jax.vmap(lambda drive: field.hamiltonian(0, drive).z)(drives)
    return one.x, z.reshape(*xs.shape[:-1], QUBITS), one.coupling


def as_one_circuit(model: odernn.Model, differentiate: str, by_vmap: bool) -> tuple[Any, Callable]:
    """All steps in one circuit; a batch by PennyLane's own broadcasting, or by `jax.vmap`."""
    import pennylane as qml

    device: Any = qml.device("default.qubit", wires=QUBITS)

    own = differentiate == "adjoint"  # the device multiplies by its Jacobian itself

    @qml.qnode(device, interface="jax", diff_method=differentiate, device_vjp=own)  # pyright: ignore
    def circuit(x, z, coupling):
        prepare()
        for step in range(z.shape[0]):
            gates(x, z[step], coupling)
        return expectations()

    def outputs(model, xs):
        x, z, coupling = angles(model, jnp.swapaxes(xs, 0, 1))
        if by_vmap:
            return jax.vmap(lambda z: jnp.stack(circuit(x, z, coupling)), 1)(z)
        return jnp.stack(circuit(x, z, coupling), -1)  # pyright: ignore

    return loss_of(model, outputs)


def step_by_step(model: odernn.Model, by_vmap: bool) -> tuple[Any, Callable]:
    """A circuit for each step, from state to state, in a `jax.lax.scan`."""
    import pennylane as qml

    device: Any = qml.device("default.qubit", wires=QUBITS)
    node: Any = qml.qnode(device, interface="jax", diff_method="backprop")
    wires = range(QUBITS)

    @node
    def start():
        prepare()
        return qml.state()

    @node
    def step(psi, x, z, coupling):
        qml.StatePrep(psi, wires, validate_norm=False)
        gates(x, z, coupling)
        return qml.state()

    @node
    def read(psi):
        qml.StatePrep(psi, wires, validate_norm=False)
        return expectations()

    def scan(psi, x, z, coupling):
        def body(psi, z):
            return step(psi, x, z, coupling).astype(psi.dtype), None

        return jnp.stack(read(jax.lax.scan(body, psi, z)[0]), -1)

    def outputs(model, xs):
        x, z, coupling = angles(model, jnp.swapaxes(xs, 0, 1))
        psi = start().astype(jnp.complex64)
        if by_vmap:
            return jax.vmap(lambda z: scan(psi, x, z, coupling), 1)(z)
        return scan(jnp.broadcast_to(psi, (BATCH, *psi.shape)), x, z, coupling)

    return loss_of(model, outputs)


def loss_of(model: odernn.Model, outputs: Callable) -> tuple[Any, Callable]:
    """As ``parts_of``, of a function that gives the expectations at the end."""
    weights, static = eqx.partition(model, odernn.trained(model))

    def loss(weights, xs):
        model = eqx.combine(weights, static)
        readout = model.readout
        return jnp.mean((outputs(model, xs) @ readout.weight + readout.bias) ** 2)

    return weights, loss


def pennylane(every: bool) -> list[Candidate]:
    # PennyLane asks for complex128, which JAX has only where it is told so.
    warnings.filterwarnings("ignore", "Explicitly requested dtype complex128", UserWarning)
    cell = odernn.zoo.QUNN(INPUTS, QUBITS, encoding="fixed", key=KEY)
    model = model_of(cell, odernn.Scan())
    ways = {
        "one circuit, broadcast": (as_one_circuit(model, "backprop", False), (1, 4)),
        "a circuit a step, vmap": (step_by_step(model, True), (SHORT,)),
    }
    if every:
        ways["one circuit, vmap"] = as_one_circuit(model, "backprop", True), (1, 4)
        ways["a circuit a step, broadcast"] = step_by_step(model, False), (SHORT,)

    def reference(length):
        weights, loss = parts_of(model)
        return gradient(loss, weights, length)

    found = []
    for name, ((weights, loss), lengths) in ways.items():
        programs = {length: gradient(loss, weights, length) for length in lengths}
        check(programs[lengths[-1]], reference(lengths[-1]), name)
        found.append(Candidate(f"PennyLane, backprop, {name}", programs))
        say(f"{found[-1].name} is compiled; values and gradients agree")
    if every:
        weights, loss = as_one_circuit(model, "adjoint", False)
        run = jax.value_and_grad(loss)
        xs = jnp.asarray(XS[:, :1])
        # Compiled it needs more minutes and memory than there are.
        program = Program(lambda: jax.block_until_ready(run(weights, xs)), 0)
        check(program, reference(1), "adjoint")
        found.append(Candidate("PennyLane, adjoint, one circuit, not compiled", {1: program}))
    return found


def per_step(candidate: Candidate, seconds: dict[Any, np.ndarray]) -> np.ndarray:
    """Seconds of a step of a sequence of STEPS steps, in each turn."""
    *shorter, longest = candidate.programs
    total = seconds[candidate.name, longest]
    if not shorter:
        return total / longest
    slope = (total - seconds[candidate.name, shorter[0]]) / (longest - shorter[0])
    return (total + (STEPS - longest) * slope) / STEPS


def sequences(turns: int, every: bool) -> tuple[list[list[str]], str]:
    """Rows of the table, and what follows."""
    candidates = [*ours(), *dense(), *pennylane(every)]
    runs = {(c.name, n): p.run for c in candidates for n, p in c.programs.items()}
    seconds = take_turns(runs, turns)
    steps = {c.name: per_step(c, seconds) for c in candidates}
    own = [c.name for c in candidates if c.name.startswith("QUNN")]
    best = min((n for n in own if "fixed" in n), key=lambda name: np.median(steps[name]))
    rows = []
    for c in candidates:
        *_, longest = c.programs
        taken = steps[c.name]
        rows.append(
            [
                f"**{c.name}**" if c.name == best else c.name,
                ", ".join(map(str, c.programs)),
                f"{1e3 * np.median(taken):.2f} ({1e3 * taken.min():.2f})",
                f"{STEPS * np.median(taken):.1f}",
                f"{np.median(taken / steps[best]):.1f}",
                f"{c.programs[longest].temporary / 2**20:.0f}",
            ]
        )
    ratios = {}
    for kind in ("full", "dense", "PennyLane"):
        peers = [name for name in steps if name.startswith(kind)]
        peer = min(peers, key=lambda name: np.median(steps[name]))
        ratios[kind] = float(np.median(steps[peer] / steps[best]))
    verdict = (
        f"The fastest with a fixed encoding, {best.rsplit(', ')[-1]}, takes\n"
        f"- {ratios['full']:.1f} times less time than the full-capacity unitary network (goal: 10),"
        f"\n- {ratios['dense']:.1f} times less than the faster dense matrix by hand (goal: 10),\n"
        f"- {ratios['PennyLane']:.1f} times less than PennyLane's fastest way (goal: 50)."
    )
    return rows, verdict


# --- What is shown -------------------------------------------------------------------------------


def fit(steps: Steps, name: str, lowest: int) -> float | None:
    """Power of d from 2^lowest on; None where no three sizes are left."""
    sizes = [qubits for network, qubits in steps if network == name and qubits >= lowest]
    if len(sizes) < 3:
        return None
    return power([2.0**q for q in sizes], [steps[name, q][0] for q in sizes])


def draw(steps: Steps, path: Path) -> None:
    styles = (
        ("QUNN", BLUE, "o", "-"),
        ("QUNN, feedback", RED, "s", (0, (3, 1, 1, 1))),
        ("dense matrix", INK, "^", (0, (6, 1.5))),
    )
    with figure_into(path, COLUMN, 0.85 * COLUMN) as figure:
        axis = figure.subplots()
        for name, colour, marker, style in styles:
            d = np.array([2.0**qubits for network, qubits in steps if network == name])
            times = 1e6 * np.array(
                [steps[network, q][0] for network, q in steps if network == name]
            )
            lowest = max(lowest for lowest in FROM if fit(steps, name, lowest) is not None)
            slope = fit(steps, name, lowest)
            label = f"{name}: $d^{{\\,{slope:.2f}}}$ from $2^{{{lowest}}}$ on"
            axis.plot(d, times, color=colour, linestyle=style, marker=marker, ms=3, label=label)
        axis.set_xscale("log", base=2)
        axis.set(yscale="log", xlabel="amplitudes d", ylabel="time of a step, microseconds")
        axis.grid(color=LINE, alpha=0.4, linewidth=0.4)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, handlelength=3.5)


def text(steps: Steps, memory: list, rows: list[list[str]], verdict: str) -> str:
    names = ("QUNN", "QUNN, feedback", "dense matrix")
    times = []
    for qubits in SIZES:
        found = [steps.get((name, qubits)) for name in names]
        cells = ["" if one is None else f"{1e6 * one[0]:.1f}" for one in found]
        _, state, temporary = steps["QUNN", qubits]
        size = 2**qubits
        times.append([f"2^{qubits}", *cells, f"{state / size:.0f}", f"{temporary / size:.1f}"])
    for lowest in FROM:
        label = f"power from 2^{lowest} on" if lowest else "power over all d"
        powers = [fit(steps, name, lowest) for name in names]
        times.append([label, *("" if p is None else f"{p:.2f}" for p in powers), "", ""])
    kept = []
    for name, needed, _ in memory:
        slope = power(list(map(float, LENGTHS)), list(map(float, needed)))
        kept.append([name, *(f"{n / 2**20:.2f}" for n in needed), f"{slope:.2f}"])
    inputs = [f"{4 * INPUTS * n / 2**20:.2f}" for n in LENGTHS]
    kept.append(["inputs (not counted above)", *inputs, "1.00"])
    drifts = next(drifts for _, _, drifts in memory if drifts is not None)
    head = [f"T = {n:,}" for n in LENGTHS]
    columns = ["amplitudes d", *(f"{name}, microseconds" for name in names)]
    columns += ["state, bytes / d", "beside it, bytes / d"]
    candidate = ["value and gradient", "steps run", "ms a step, median (min)"]
    candidate += [f"s for {STEPS} steps", "times the fastest QUNN", "memory of the steps run, MiB"]
    return f"""{describe("jax", "pennylane", "odernn")}

## Time of one step

`jax.jit` of `cell(y, x)`, complex64, one state, {INPUTS} inputs, fixed encoding, numbers per site;
dense matrix: `U h + V x`. Goal: a power of at most 1.15.

{table(columns, times)}

![Time of a step](../../docs/images/qunn_speed.svg)

## Memory of training

MiB beside inputs, parameters and results, as XLA counts them for the compiled gradient of one
sequence with a loss that reads the final state, {MEMORY_QUBITS} qubits. Goal for `Reversible()`:
power 0.

{table(["unroll", *head, "power of T"], kept)}

Drift of the start when `Reversible()` undoes all steps in float32 (its tolerance is
{odernn.Reversible().tolerance:g}): {", ".join(f"{drift:.1e}" for drift in drifts)}.

## A sequence, forward and backward

d = {2**QUBITS}, batch {BATCH}, {INPUTS} inputs, float32; value and gradients of all parameters of
the mean square of a model's output after the last step. Peers that ran fewer steps: {STEPS} steps
are computed, where there are two lengths of what both cost once and of what a step costs. One
circuit of all steps compiles the longer, the more steps it has, and is no way to run {STEPS}.

{table(candidate, rows)}

{verdict}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--every", action="store_true")
    parser.add_argument("--picture", type=Path, default=IMAGES / "qunn_speed.svg")
    chosen = parser.parse_args()
    steps = steps_of_cells(5 * chosen.turns)
    say("steps are timed")
    memory = memory_of_training()
    rows, verdict = sequences(chosen.turns, chosen.every)
    say("sequences are timed")
    draw(steps, chosen.picture)
    store("qunn_speed", text(steps, memory, rows, verdict).rstrip())


if __name__ == "__main__":
    main()
