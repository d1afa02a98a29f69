"""In which layout does a QUNN's step take the least time? How does it grow? Is the norm kept?

    python benchmarks/qunn_layouts.py [--repeats 7] [--qubits 10] [--batch 32]

A step is a rotation ``exp(-i sum x_i X_i)``, whose angles are parameters, and phases
``exp(-i (sum z_i Z_i + c_i Z_i Z_{i+1}))``, where z is another one for each example and step: 64
steps in a scan, float32, ``jax.vmap`` over the batch, forward and forward + backward (gradients of
x, z, c and of the data). Each layout of one of the two flows is measured with the other flow as the
package has it. Layouts agree to rounding before anything is timed, and take turns in an order that
changes; ratios are medians of the ratios within a turn, of processor time of all threads, so that
other programs on the machine do not count.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _machine import describe, store, table
from jax import lax

import odernn
from odernn import _pauli as pauli

STEPS = 64
IN_USE = "in use"
einsum = partial(jnp.einsum, precision=lax.Precision.HIGHEST)
Program = Callable[[], Any]


# Rotations


def signs(qubits: int) -> np.ndarray:
    """Diagonals of Z_0, ..., Z_{m-1}, (m, d)."""
    return 1 - 2 * (np.arange(2**qubits) >> np.arange(qubits)[::-1, None] & 1)


def quarter(psi, direction: int, parts: Callable):
    """Powers of i by the bits that are set, the parts of the state taken in some way."""
    count = np.bitwise_count(np.arange(psi.shape[-1])).astype(int) * direction % 4
    real = jnp.asarray(np.array([1, 0, -1, 0])[count], psi.dtype)
    imaginary = jnp.asarray(np.array([0, 1, 0, -1])[count], psi.dtype)
    return parts(psi, real, imaginary)


def split(psi, real, imaginary):
    a, b = lax.split(psi, (1, 1))
    return jnp.concatenate([a * real - b * imaginary, a * imaginary + b * real])


def indexed(psi, real, imaginary):
    return jnp.stack([psi[0] * real - psi[1] * imaginary, psi[0] * imaginary + psi[1] * real])


def reversed_(psi, real, imaginary):
    return psi * real + jnp.flip(psi, 0) * jnp.stack([-imaginary, imaginary])


def around(core: Callable, parts: Callable = split) -> Callable:
    """A rotation by real matrices between two quarter turns."""
    return lambda psi, x: quarter(core(quarter(psi, 1, parts), x), -1, parts)


def grouped(psi, x, spelling: str = "cprq,sr->cpsq"):
    """Groups of qubits by matrix products, without a rule of derivatives."""
    start = 0
    for size in pauli.groups(len(x)):
        matrix = pauli._rotation(x[start : start + size])
        psi = einsum(spelling, psi.reshape(2, 2**start, 2**size, -1), matrix).reshape(psi.shape)
        start += size
    return psi


def along_groups(psi, x):
    """As in use, but JAX differentiates."""
    start = 0
    for size in pauli.groups(len(x)):
        psi = pauli._on_group(psi, pauli._rotation(x[start : start + size]), start)
        start += size
    return psi


def last_axis(psi, x):
    """Contract the last axis and bring it to the front."""
    sizes = pauli.groups(len(x))
    stop = len(x)
    for size in reversed(sizes):
        matrix = pauli._rotation(x[stop - size : stop])
        psi = einsum("cpr,sr->cps", psi.reshape(2, -1, 2**size), matrix)
        psi, stop = jnp.swapaxes(psi, 1, 2).reshape(2, -1), stop - size
    return psi


def matrix_first(psi, x):
    """The matrix on the left: the batch becomes the last axis."""
    sizes, stop = pauli.groups(len(x)), len(x)
    for size in reversed(sizes):
        matrix = pauli._rotation(x[stop - size : stop])
        psi = lax.dot_general(matrix, psi.reshape(2, -1, 2**size), (((1,), (2,)), ((), ())))
        psi, stop = jnp.moveaxis(psi, 1, 0).reshape(2, -1), stop - size
    return psi


def passes(psi, x):
    """A rotation of the plane for each qubit."""
    for i, (cosine, sine) in enumerate(zip(jnp.cos(x), jnp.sin(x), strict=True)):
        a, b = lax.split(psi.reshape(2, 2**i, 2, -1), (1, 1), 2)
        psi = jnp.concatenate([cosine * a - sine * b, sine * a + cosine * b], 2).reshape(psi.shape)
    return psi


def hadamard(psi):
    """Walsh and Hadamard's transform by groups of qubits."""
    start, qubits = 0, pauli.qubits_of(psi)
    for size in pauli.groups(qubits):
        index = np.arange(2**size)
        matrix = (-1.0) ** np.bitwise_count(index[:, None] & index).astype(int) * 2 ** (-size / 2)
        psi, start = pauli._on_group(psi, jnp.asarray(matrix, psi.dtype), start), start + size
    return psi


def by_hadamard(psi, x):
    return hadamard(pauli.phase(hadamard(psi), x, jnp.zeros_like(x[1:])))


def complex_matrices(psi, x):
    """Complex numbers and complex matrices."""
    v, start = lax.complex(psi[0], psi[1]), 0
    for size in pauli.groups(len(x)):
        matrix = jnp.ones((1, 1), v.dtype)
        for a in x[start : start + size]:
            c, s = lax.complex(jnp.cos(a), 0 * a), lax.complex(0 * a, -jnp.sin(a))
            matrix = jnp.kron(matrix, jnp.stack([jnp.stack([c, s]), jnp.stack([s, c])]))
        v = einsum("prq,sr->psq", v.reshape(2**start, 2**size, -1), matrix).reshape(v.shape)
        start += size
    return jnp.stack([v.real, v.imag])


ROTATIONS: dict[str, Callable] = {
    IN_USE: pauli.rotate,
    "derivatives by JAX": around(along_groups),
    "the same, all groups by one einsum": around(grouped),
    "the same, parts of the state by index": around(grouped, indexed),
    "the same, parts reversed": around(grouped, reversed_),
    "last axis and transposes": around(last_axis),
    "matrix on the left": around(matrix_first),
    "a pass for each qubit": around(passes),
    "Hadamard, phases, Hadamard": by_hadamard,
    "complex64 matrices": complex_matrices,
}


# Phases


def multiplied(psi, cosine, sine):
    return split(psi, cosine, -sine)


def of_all(psi, z, c):
    """Cosines and sines of all d energies, by a table of signs (m, d)."""
    t = signs(len(z))
    energy = z @ t.astype(z.dtype) + c @ (t[:-1] * t[1:]).astype(c.dtype)
    return indexed(psi, jnp.cos(energy), -jnp.sin(energy))


def of_all_by_halves(psi, z, c):
    """Cosines and sines of all d energies, which are outer sums."""
    energy = pauli.energies(z, c)
    return multiplied(psi, jnp.cos(energy), jnp.sin(energy))


def by_matrix_product(psi, z, c):
    """As in use, but JAX differentiates."""
    return pauli._phased(psi, *pauli._phase_tables(z, c))


def outer(psi, z, c):
    """The product of the two tables elementwise."""
    (a, b), (e, f) = pauli._phase_tables(z, c)
    a, b = a[..., None], b[..., None]
    shaped = psi.reshape(2, *(a * e).shape)
    return multiplied(shaped, a * e - b * f, a * f + b * e).reshape(psi.shape)


def sites(psi, z, c):
    """A table (d) of what the parameters alone decide, times one-site phases of the data."""
    bonds = pauli.energies(jnp.zeros_like(z), c)
    cosine, sine = jnp.ones(1, z.dtype), jnp.zeros(1, z.dtype)
    for a, b in zip(jnp.cos(z), jnp.sin(z), strict=True):
        e, f = jnp.stack([a, a]), jnp.stack([b, -b])
        cosine, sine = (
            (cosine[:, None] * e - sine[:, None] * f).ravel(),
            (cosine[:, None] * f + sine[:, None] * e).ravel(),
        )
    return multiplied(multiplied(psi, jnp.cos(bonds), jnp.sin(bonds)), cosine, sine)


PHASES: dict[str, Callable] = {
    IN_USE: pauli.phase,
    "derivatives by JAX": by_matrix_product,
    "product of the tables elementwise": outer,
    "table of couplings, one-site phases": sites,
    "all energies, by outer sums": of_all_by_halves,
    "all energies, by a table (m, d)": of_all,
}


# Programs


def arguments(qubits: int, batch: int, dtype: Any = "float32") -> tuple[dict, jax.Array]:
    rng = np.random.default_rng(0)
    psi = rng.normal(size=(2, 2**qubits))
    drawn = {
        "psi": psi / np.linalg.norm(psi),
        **{name: rng.normal(size=n) for name, n in (("x", qubits), ("z", qubits))},
        "c": rng.normal(size=qubits - 1),
    }
    data = rng.normal(size=(batch, STEPS, qubits))
    return {k: jnp.asarray(v, dtype) for k, v in drawn.items()}, jnp.asarray(data, dtype)


def programs(rotate: Callable, phase: Callable, qubits: int, batch: int) -> dict[str, Program]:
    """The mean of sin of the last states' components; that and its gradient."""
    p, data = arguments(qubits, batch)

    def last(p, us):
        def body(psi, u):
            return phase(rotate(psi, p["x"]), p["z"] + u, p["c"]), None

        return lax.scan(body, p["psi"], us)[0]

    return ready(lambda p, d: jnp.sum(jnp.sin(jax.vmap(partial(last, p))(d))), p, data)


def ready(loss: Callable, *values: Any) -> dict[str, Program]:
    both = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*values).compile()
    forward = jax.jit(loss).lower(*values).compile()
    return {
        "forward": lambda: jax.block_until_ready(forward(*values)),
        "both": lambda: jax.block_until_ready(both(*values)),
    }


def dense(qubits: int, batch: int) -> dict[str, Program]:
    """A dense complex unitary matrix in place of the rotation, and as many phases."""
    p, data = arguments(qubits, batch)
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(2**qubits, 2**qubits)) + 1j * rng.normal(size=(2**qubits,) * 2)
    p["matrix"] = jnp.asarray(np.linalg.qr(matrix)[0], "complex64")

    def last(p, us):
        def body(v, u):
            return (p["matrix"] @ v) * jnp.exp(1j * jnp.resize(u, v.shape)), None

        return lax.scan(body, lax.complex(*p["psi"]), us)[0]

    return ready(lambda p, d: jnp.sum(jnp.sin(jax.vmap(partial(last, p))(d).real)), p, data)


def layer(unroll: Any, real: bool, qubits: int, batch: int) -> dict[str, Program]:
    """The network itself in a layer."""
    options = {"sharing": "site", "feedback": False, "encoding": "fixed", "real": real}
    cell = odernn.zoo.QUNN(4, qubits, **options, key=jax.random.key(0))
    parameters, static = eqx.partition(odernn.Layer(cell, unroll), eqx.is_inexact_array)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(batch, STEPS, 4)), "float32")

    def loss(parameters, xs):
        network = eqx.combine(parameters, static)
        states = jax.vmap(lambda x: network(x)[1])(xs)
        return jnp.sum(jnp.sin(states.real + states.imag if not real else states))

    return ready(loss, parameters, xs)


# Measurement


def measure(found: dict[str, dict[str, Program]], repeats: int) -> dict[tuple[str, str], Any]:
    """Seconds (processor, wall) of every program, in turns."""
    runs = {(name, what): run for name, both in found.items() for what, run in both.items()}
    taken: dict[tuple[str, str], list] = {key: [] for key in runs}
    order = np.random.default_rng(0)
    for _ in range(repeats):
        for key in map(tuple, order.permutation(np.array(list(runs), dtype=object))):
            runs[key]()
            start = time.process_time(), time.perf_counter()
            runs[key]()
            taken[key].append((time.process_time() - start[0], time.perf_counter() - start[1]))
    return {key: np.array(value) / STEPS for key, value in taken.items()}


def rows(found: dict[str, dict[str, Program]], repeats: int, base: str) -> list[list[str]]:
    taken = measure(found, repeats)
    lines = []
    for name in found:
        line = [name]
        for what in ("forward", "both"):
            seconds, own = taken[name, what], taken[base, what]
            line += [
                f"{1e6 * np.median(seconds[:, 0]):.0f} ({1e6 * seconds[:, 1].min():.0f})",
                f"{np.median(seconds[:, 0] / own[:, 0]):.2f}",
            ]
        lines.append(line)
    return lines


def header(first: str, base: str) -> list[str]:
    unit = "microseconds a step, processor (fastest by the clock)"
    ratio = f"times {base}"
    return [first, f"forward: {unit}", ratio, f"forward + backward: {unit}", ratio]


def check(found: dict[str, dict[str, Program]]) -> None:
    """All gradients agree to 1e-4 of the largest: 64 steps in single precision."""
    _, wanted = found[IN_USE]["both"]()
    for name, candidate in found.items():
        for a, b in zip(
            jax.tree.leaves(candidate["both"]()[1]), jax.tree.leaves(wanted), strict=True
        ):
            scale = 1e-4 * float(jnp.abs(b).max())
            np.testing.assert_allclose(a, b, rtol=0, atol=scale, err_msg=name)


@contextmanager
def group_of(size: int) -> Iterator[None]:
    """As many qubits to a matrix, at most."""
    before, pauli.GROUP = pauli.GROUP, size
    jax.clear_caches()
    try:
        yield
    finally:
        pauli.GROUP = before
        jax.clear_caches()


def layouts(qubits: int, batch: int, repeats: int) -> Iterator[str]:
    turns = {n: programs(f, pauli.phase, qubits, batch) for n, f in ROTATIONS.items()}
    own = pauli.groups(qubits)
    for size in (2, 3, 4, 6, 7):
        with group_of(size):
            if (sizes := pauli.groups(qubits)) != own:
                name = f"groups of {sizes} in place of {own} qubits"
                turns[name] = programs(pauli.rotate, pauli.phase, qubits, batch)
    check(turns)
    yield "## Rotations\n\n" + table(header("layout", IN_USE), rows(turns, repeats, IN_USE))
    turns = {n: programs(pauli.rotate, f, qubits, batch) for n, f in PHASES.items()}
    check(turns)
    yield "## Phases\n\n" + table(header("layout", IN_USE), rows(turns, repeats, IN_USE))
    first = programs(around(grouped, indexed), of_all, qubits, batch)
    whole = {IN_USE: turns[IN_USE], "rotation and phases by index and table (m, d)": first}
    whole["a dense complex unitary matrix and phases"] = dense(qubits, batch)
    whole = whole | {
        f"QUNN in a layer, {type(unroll).__name__}(), {'real' if real else 'complex'} state": layer(
            unroll, real, qubits, batch
        )
        for unroll in (odernn.Scan(), odernn.Adjoint(), odernn.Reversible())
        for real in (False, True)
    }
    yield "## Whole steps\n\n" + table(header("step", IN_USE), rows(whole, repeats, IN_USE))


def growth(repeats: int) -> str:
    """Time of a step against d."""
    sizes = (4, 6, 8, 10, 12, 14, 16)
    lines = []
    for batch in (1, 8):
        found = {f"2^{m}": programs(pauli.rotate, pauli.phase, m, batch) for m in sizes}
        taken = measure(found, repeats)
        for what in ("forward", "both"):
            micro = [1e6 * np.median(taken[f"2^{m}", what][:, 0]) for m in sizes]
            power = np.polyfit(np.array(sizes) * np.log(2), np.log(micro), 1)[0]
            large = np.polyfit(np.array(sizes[3:]) * np.log(2), np.log(micro[3:]), 1)[0]
            lines.append(
                [str(batch), what, *(f"{a:.0f}" for a in micro), f"{power:.2f}", f"{large:.2f}"]
            )
    names = [f"d = 2^{m}" for m in sizes]
    text = "Microseconds of a step, processor time, and the power of d that fits them.\n\n"
    head = ["batch", "", *names, "power", "power from 2^10 on"]
    return "## Growth\n\n" + text + table(head, lines)


def norms(draws: int = 4, steps: int = 10_000) -> str:
    """The largest error of the norm after equal steps in double precision."""
    lines = []
    excess = pauli._excess
    with jax.enable_x64(True):
        for kind in ("site", "global"):
            for name, found in (("taken back", excess), ("left", lambda m: jnp.zeros((), m.dtype))):
                pauli._excess = found
                jax.clear_caches()
                line = [kind, name]
                for qubits in range(2, 11):
                    line.append(
                        f"{max(norm_error(qubits, kind, s, steps) for s in range(draws)):.1e}"
                    )
                lines.append(line)
        pauli._excess = excess
        jax.clear_caches()
    text = (
        f"Largest deviation of the norm from 1 in {draws} runs of {steps} steps at fixed angles, "
        "in double precision. Rounded cosines and sines make every state longer or shorter alike.\n"
    )
    head = ["angles", "what rounding adds is", *(f"m = {m}" for m in range(2, 11))]
    return "## Norm\n\n" + text + "\n" + table(head, lines)


def norm_error(qubits: int, kind: str, seed: int, steps: int) -> float:
    rng = np.random.default_rng([qubits, seed])
    sizes = (qubits, qubits, qubits - 1)
    x, z, c = (np.broadcast_to(rng.normal(size=n if kind == "site" else 1), n) for n in sizes)
    psi = rng.normal(size=(2, 2**qubits))

    def body(y, _):
        return pauli.phase(pauli.rotate(y, jnp.asarray(x)), jnp.asarray(z), jnp.asarray(c)), None

    after = jax.jit(lambda y: lax.scan(body, y, length=steps)[0])(psi / np.linalg.norm(psi))
    return abs(float(np.linalg.norm(after)) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--qubits", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    title = f"d = 2^{given.qubits}, batch {given.batch}, {STEPS} steps, float32.\n"
    parts = [describe("jax", "odernn"), title]
    parts += layouts(given.qubits, given.batch, given.repeats)
    parts += [growth(given.repeats), norms()]
    store("qunn_layouts", "\n".join(part if part.endswith("\n") else part + "\n" for part in parts))


if __name__ == "__main__":
    main()
