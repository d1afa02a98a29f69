"""Which method reaches a given error at the least cost? One problem that is not stiff, one that is.

    python benchmarks/work_precision.py [--turns 5]

16 sequences at once, states of 32 numbers, float64. The cost is the time of the whole run in units
of one Euler step of the same field, measured in the same process; all runs take turns, medians.
Draws docs/images/work-precision.svg.
"""

# Fields as users write them.
# ruff: noqa: D102, RUF012

import argparse
import io
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import threadpoolctl
from _machine import IMAGES, describe, store, table

import odernn

jax.config.update("jax_enable_x64", True)

BATCH, SIZE = 16, 32


class Oscillators(odernn.AbstractPartitionedField, odernn.AbstractSemilinearField):
    """q'' = -q - W^T tanh(W q + V x) - friction q': Hamiltonian where there is no friction."""

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    friction: float = eqx.field(static=True)
    weight: jax.Array
    input_weight: jax.Array

    blocks = ("q", "p")
    update_order = ("p", "q")
    depths = {"q": 0, "p": 1}
    order = 2

    def __init__(self, input_size: int, hidden_size: int, *, friction: float = 0.0, key):
        a, b = jax.random.split(key)
        self.input_size, self.hidden_size, self.friction = input_size, hidden_size, friction
        self.weight = jax.random.normal(a, (hidden_size, hidden_size)) * hidden_size**-0.5
        self.input_weight = jax.random.normal(b, (input_size, hidden_size)) * input_size**-0.5

    def drive(self, x):
        return x @ self.input_weight

    def rate(self, block, time, y, frozen):
        if block == "q":
            return y["p"]
        force = -y["q"] + self._pull(y, frozen)
        return force - self.friction * y["p"] if self.friction else force

    def linear(self):
        matrix = [[0.0, 1.0], [-1.0, -self.friction]]
        return odernn.Blocks(jnp.asarray(matrix, self.dtype), self.blocks)

    def rest(self, time, y, u):
        return {"q": jnp.zeros_like(y["q"]), "p": self._pull(y, u)}

    def _pull(self, y, u):
        return -jnp.tanh(y["q"] @ self.weight + u) @ self.weight.T


class Diffusion(odernn.AbstractSemilinearField):
    """h' = L h + tanh(W h + cos(s + phase)), L symmetric with eigenvalues from -1 to -fastest."""

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    matrix: jax.Array
    weight: jax.Array
    phase: jax.Array

    def __init__(self, size: int, fastest: float = 1000.0, *, key):
        a, b, c = jax.random.split(key, 3)
        self.input_size, self.hidden_size = 1, size
        modes, _ = jnp.linalg.qr(jax.random.normal(a, (size, size)))
        self.matrix = -(modes * jnp.geomspace(1.0, fastest, size)) @ modes.T
        self.weight = jax.random.normal(b, (size, size)) * size**-0.5
        self.phase = jax.random.uniform(c, (size,), maxval=6.28)

    def linear(self):
        return odernn.Dense(self.matrix)

    def rest(self, time, y, u):
        return jnp.tanh(y @ self.weight + jnp.cos(time + self.phase))

    def __call__(self, time, y, u):
        return y @ self.matrix + self.rest(time, y, u)


# Colours by kind of method, safe for the colour-blind (Okabe, Ito).
COLOURS = {
    "explicit": "#0072B2",
    "multistep": "#56B4E9",
    "stabilised": "#E69F00",
    "symplectic": "#009E73",
    "implicit": "#D55E00",
    "exponential, IMEX": "#CC79A7",
    "adaptive": "#000000",
}
MARKERS = "osD^v<>"
COARSE, FINE = (20, 40, 80, 160, 320), (2000, 4000, 8000)
TOLERANCES = (1e-3, 1e-5, 1e-7, 1e-9)


class Problem(NamedTuple):
    """A field, the span of time, a reference step small enough for all, and (kind, steps) lists."""

    title: str
    field: odernn.AbstractField
    span: float
    reference: int
    candidates: list[tuple[str, odernn.AbstractMethod, tuple[int, ...]]]


def problems() -> list[Problem]:
    o, key = odernn, jax.random.key(0)
    smooth = [
        ("explicit", o.Euler(), (320, 640, 1280, 2560)),
        ("explicit", o.Heun(), COARSE),
        ("explicit", o.RK4(), COARSE),
        ("explicit", o.Tsit5(), COARSE),
        ("multistep", o.AdamsBashforth(4), COARSE),
        ("multistep", o.Leapfrog(), COARSE),
        ("symplectic", o.SymplecticEuler(), COARSE),
        ("symplectic", o.StormerVerlet(), COARSE),
        ("symplectic", o.Yoshida4(), COARSE),
        ("implicit", o.ImplicitMidpoint(), COARSE),
        ("exponential, IMEX", o.ETDRK4(), COARSE),
        ("adaptive", o.Adaptive(), (20,)),
    ]
    stiff = [
        ("explicit", o.Euler(), FINE),
        ("explicit", o.RK4(), FINE),
        ("stabilised", o.RungeKuttaChebyshev(10), COARSE),
        ("multistep", o.BDF(2), COARSE),
        ("implicit", o.BackwardEuler(), COARSE),
        ("implicit", o.LinearlyImplicitEuler(), COARSE),
        ("implicit", o.SDIRK2(), COARSE),
        ("implicit", o.RadauIIA(3), COARSE[:4]),
        ("exponential, IMEX", o.IMEXEuler(), COARSE),
        ("exponential, IMEX", o.ARS222(), COARSE),
        ("exponential, IMEX", o.ETDRK2(), COARSE),
        ("exponential, IMEX", o.ETDRK4(), COARSE),
        ("adaptive", o.Adaptive(), (20,)),
    ]
    oscillators = Oscillators(1, SIZE // 2, key=key)
    return [
        Problem("not stiff: 16 coupled oscillators", oscillators, 10.0, 4000, smooth),
        Problem("stiff: rates from 1 to 1000", Diffusion(SIZE, key=key), 2.0, 8000, stiff),
    ]


def run(field, method, dt: float, steps: int, unroll=None) -> Callable:
    """Return a compiled function from starts, (batch, ...), to the outputs, (batch, time, size)."""
    layer = odernn.Layer(odernn.Cell(field, method, dt), unroll or odernn.Scan())
    xs = jnp.zeros((steps, field.input_size), field.dtype)
    return jax.jit(jax.vmap(lambda start: layer(xs, initial_state=start)[0]))


def starts(field):
    """Return random states of the field, one for each sequence."""
    leaves, tree = jax.tree.flatten(field.initial_state())
    keys = jax.random.split(jax.random.key(7), len(leaves))
    pairs = zip(keys, leaves, strict=True)
    drawn = [jax.random.normal(k, (BATCH, *a.shape), a.dtype) for k, a in pairs]
    return jax.tree.unflatten(tree, drawn)


def take_turns(runs: dict[str, Callable], turns: int) -> dict[str, np.ndarray]:
    """Return the seconds of each run in each turn, the best of three calls in a row.

    A slow spell of the machine meets all of them. LAPACK has one thread: with more, its small
    matrices are slower and wait for whoever else uses the machine.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with threadpoolctl.threadpool_limits(1):
        for turn in range(turns + 1):
            for name, call in runs.items():
                best = min(_seconds(call) for _ in range(3 if turn else 1))
                if turn:  # the first turn compiles
                    seconds[name].append(best)
    return {name: np.array(taken) for name, taken in seconds.items()}


def _seconds(call: Callable) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - begin


def rms(values) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(values, np.float64)))))


def name_of(method) -> str:
    """Return the method as one writes it, its numbers included: BDF(2)."""
    numbers = [str(v) for k, v in vars(method).items() if k in ("stages", "steps", "order")]
    return f"{type(method).__name__}({', '.join(numbers[:1])})"


def measure(problem: Problem, turns: int) -> list[tuple[str, str, dict[str, tuple]]]:
    """Return (kind, name, {steps or tolerance: (cost, error)}) of each candidate."""
    field, span = problem.field, problem.span
    begin = starts(field)
    exact = run(field, odernn.DormandPrince5(), span / problem.reference, problem.reference)(begin)
    exact = np.asarray(exact[:, -1])
    unit = COARSE[-1]
    runs = {"unit": partial(run(field, odernn.Euler(), span / unit / 1e3, unit), begin)}
    errors = {}
    for _, method, counts in problem.candidates:
        for level, chosen, steps in _levels(method, counts):
            call = partial(run(field, chosen, span / steps, steps), begin)
            error = rms(call()[:, -1] - exact) / rms(exact)
            if error < 1:
                label = f"{name_of(method)} {level}"
                runs[label], errors[label] = call, error
    seconds = take_turns(runs, turns)
    results = []
    for kind, method, counts in problem.candidates:
        points = {}
        for level, _, _ in _levels(method, counts):
            label = f"{name_of(method)} {level}"
            if label in errors:
                cost = unit * float(np.median(seconds[label] / seconds["unit"]))
                points[level] = (cost, errors[label])
        results.append((kind, name_of(method), points))
    return results


def _levels(method, counts: tuple[int, ...]) -> list[tuple[str, odernn.AbstractMethod, int]]:
    """Return (level, method, steps): ever smaller steps, or ever smaller tolerances."""
    if isinstance(method, odernn.Adaptive):
        made = [odernn.Adaptive(rtol=r, atol=r / 1e3) for r in TOLERANCES]
        return [(f"{m.rtol:g}", m, counts[0]) for m in made]
    return [(str(count), method, count) for count in counts]


def spread(positions: list[float], gap: float) -> list[float]:
    """Move sorted positions apart until neighbours are at least ``gap`` from each other."""
    moved = np.array(positions, float)
    for _ in range(1000):
        short = np.maximum(gap - np.diff(moved), 0.0)
        if short.max(initial=0.0) < 1e-3 * gap:
            break
        moved[:-1] -= short / 2
        moved[1:] += short / 2
    return moved.tolist()


def draw(measured: dict[str, list], path: Path) -> None:
    plt.rcParams.update({"font.size": 10, "svg.hashsalt": "odernn", "svg.fonttype": "path"})
    figure, axes = plt.subplots(len(measured), 1, figsize=(9, 9.5), layout="constrained")
    for axis, (title, results) in zip(axes, measured.items(), strict=True):
        axis.set(xscale="log", yscale="log", ylabel="relative error at the end")
        axis.set_title(title, loc="left", fontweight="bold")
        axis.set_xlabel("cost, in Euler steps")
        axis.grid(True, which="major", color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        seen: dict[str, int] = {}
        ends = []
        for kind, name, points in results:
            costs, errors = zip(*points.values(), strict=True)
            number = seen[kind] = seen.get(kind, -1) + 1
            style = {"color": COLOURS[kind], "marker": MARKERS[number], "markersize": 4.5}
            axis.plot(costs, errors, linewidth=1.4, **style)
            ends.append((np.log10(errors[-1]), costs[-1], name, COLOURS[kind]))
        low, high = np.log10(axis.get_ylim())
        ends.sort()
        places = spread([end[0] for end in ends], 0.042 * (high - low))
        for place, (height, cost, name, colour) in zip(places, ends, strict=True):
            axis.annotate(
                name,
                (cost, 10**height),
                (1.02, (place - low) / (high - low)),
                textcoords="axes fraction",
                va="center",
                color=colour,
                arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "relpos": (0, 0.5)},
            )
    present = dict.fromkeys(kind for results in measured.values() for kind, *_ in results)
    lines = [plt.Line2D([], [], color=COLOURS[kind], linewidth=2.5, label=kind) for kind in present]
    figure.legend(handles=lines, loc="outside lower center", ncols=4, frameon=False)
    save(figure, path)


def save(figure, path: Path) -> None:
    """Write a picture, its coordinates to a hundredth of a point, for a smaller file."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})

    def shorten(attribute: re.Match) -> str:
        return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", attribute[0])

    text = re.sub(r' (d|x|y)="[^"]*"|translate\([^)]*\)', shorten, buffer.getvalue())
    text = re.sub(r"<!--.*?-->", "", text)
    lines = filter(None, map(str.strip, text.splitlines()))
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    measured = {problem.title: measure(problem, turns) for problem in problems()}
    draw(measured, IMAGES / "work-precision.svg")
    text = describe("jax", "odernn") + "\n\nsteps (of Adaptive: tolerance): error (cost)\n"
    for title, results in measured.items():
        rows = [
            [kind, f"`{name}`", *(f"{k}: {e:.1e} ({c:,.0f})" for k, (c, e) in points.items())]
            for kind, name, points in results
        ]
        width = max(map(len, rows))
        header = ["kind", "method", *[f"{i + 1}" for i in range(width - 2)]]
        text += f"\n## {title[0].upper()}{title[1:]}\n\n"
        text += table(header, [row + [""] * (width - len(row)) for row in rows]) + "\n"
    store("work_precision", text.rstrip())


if __name__ == "__main__":
    main()
