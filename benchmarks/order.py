"""How does the error of each method shrink with the step? All methods of the registry.

    python benchmarks/order.py

The error at the end of a span of 4 against the number of steps, float64; the slope is fitted to the
last points before rounding. A method is shown on the first problem that it fits: a driven pendulum,
a relaxation, a rotation in space. Draws docs/images/order.svg.
"""

# Fields as users write them.
# ruff: noqa: D102, RUF012

import sys
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from _machine import IMAGES, describe, store, table
from work_precision import MARKERS, save

import odernn

jax.config.update("jax_enable_x64", True)

SPAN, STEPS = 4.0, tuple(4 * 2**k for k in range(9))
ROUNDING = 1e-11
TOLERANCES = tuple(10.0**-k for k in range(2, 12))
FAMILIES = {
    "_explicit": "explicit Runge-Kutta",
    "_chebyshev": "stabilised",
    "_implicit": "implicit",
    "_rosenbrock": "implicit",
    "_multistep": "multistep",
    "_partitioned": "partitioned, symplectic",
    "_imex": "IMEX, exponential",
    "_exponential": "IMEX, exponential",
    "_splitting": "splitting",
    "_lie": "Lie group",
    "_wrappers": "made of another method",
}
# By order, from 1; safe for the colour-blind (Okabe, Ito).
COLOURS = ("#000000", "#E69F00", "#009E73", "#0072B2", "#CC79A7", "#D55E00")


class Pendulum(odernn.AbstractPartitionedField, odernn.AbstractSemilinearField):
    """q'' = -sin q + 0.3 cos s, of which -q is the linear part."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=3)

    blocks = ("q", "p")
    update_order = ("p", "q")
    depths = {"q": 0, "p": 1}
    order = 2

    def rate(self, block, time, y, frozen):
        return y["p"] if block == "q" else -jnp.sin(y["q"]) + 0.3 * jnp.cos(time)

    def linear(self):
        return odernn.Blocks(jnp.array([[0.0, 1.0], [-1.0, 0.0]]), self.blocks)

    def rest(self, time, y, u):
        pull = y["q"] - jnp.sin(y["q"]) + 0.3 * jnp.cos(time)
        return {"q": jnp.zeros_like(pull), "p": pull}


class Relaxation(odernn.AbstractRelaxationField):
    """h' = (1 + h^2) (cos s - h)."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=3)

    def relaxation(self, time, y, u):
        return 1 + y**2, (1 + y**2) * jnp.cos(time)

    def __call__(self, time, y, u):
        return (1 + y**2) * (jnp.cos(time) - y)


class Turning(odernn.AbstractLieField):
    """A rotation in space whose axis depends on time and state."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=3)

    def generator(self, time, y, u):
        a, b, c = y[0] + jnp.cos(time), y[1] / 2, jnp.sin(y[2])
        return jnp.array([[0.0, -c, b], [c, 0.0, -a], [-b, a, 0.0]])

    def exponential(self, element, y):
        return jax.scipy.linalg.expm(element) @ y

    def product(self, element, y):
        return element @ y


START = jnp.array([0.3, 0.8, -0.52])
PROBLEMS = (
    (Pendulum(), {"q": jnp.array([0.1, 0.5, 1.0]), "p": jnp.array([0.3, -0.2, 0.4])}),
    (Relaxation(), START),
    (Turning(), START),
)


class Curve(NamedTuple):
    """Errors of a method, and their slope; for Adaptive against its tolerance."""

    name: str
    family: str
    order: int
    problem: str
    errors: np.ndarray
    slope: float | None


def solve(field, method, start):
    """Return a function from the number of steps to the state at the end; compiled once."""

    @jax.jit
    def end(count):
        dt = SPAN / count
        u = jnp.zeros(1)

        def step(k, state):
            return method.step(field, k * dt, state, u, dt)

        return method.current(jax.lax.fori_loop(0, count, step, method.start(field, start)))

    def flat(count: int) -> np.ndarray:
        return np.concatenate([np.ravel(a) for a in jax.tree.leaves(end(jnp.asarray(count)))])

    return flat


def family_of(method) -> str:
    """Return the title of the panel; for a module without one, what it says that it is for."""
    module = type(method).__module__
    text = sys.modules[module].__doc__ or module
    return FAMILIES.get(module.rpartition(".")[2], text.partition(":")[0].partition(".")[0])


def slope_of(errors: np.ndarray) -> float | None:
    """Fit a line through the last points that rounding has not reached."""
    clear = np.flatnonzero((errors > ROUNDING) & (errors < 0.3))
    # Up to the first that rounding has: what comes back up is rounding, too.
    reached = np.flatnonzero(errors <= ROUNDING)
    clear = clear[clear < reached[0]] if len(reached) else clear
    chosen = clear[-3:]
    if len(chosen) < 2:
        return None
    steps = np.log(np.array(STEPS)[chosen])
    return float(-np.polyfit(steps, np.log(errors[chosen]), 1)[0])


def measure() -> list[Curve]:
    exact = [solve(field, odernn.DormandPrince5(), start)(20_000) for field, start in PROBLEMS]
    curves = []
    for name, method in odernn.METHODS.items():
        fitting = [i for i, (field, _) in enumerate(PROBLEMS) if method.fits(field)]
        if not fitting:
            curves.append(Curve(name, family_of(method), method.order, "none", np.array([]), None))
            continue
        (field, start), wanted = PROBLEMS[fitting[0]], exact[fitting[0]]
        if isinstance(method, odernn.Adaptive):
            family, slope = "Adaptive: error against tolerance", None
            made = [odernn.Adaptive(rtol=r, atol=r / 1e3) for r in TOLERANCES]
            ends = [solve(field, each, start)(STEPS[0]) for each in made]
        else:
            end = solve(field, method, start)
            family, ends = family_of(method), [end(count) for count in STEPS]
        errors = np.array([np.sqrt(np.mean((end - wanted) ** 2)) for end in ends])
        slope = None if isinstance(method, odernn.Adaptive) else slope_of(errors)
        curves.append(Curve(name, family, method.order, type(field).__name__, errors, slope))
        print(name, slope, flush=True)
    return curves


def draw_family(axis, family: str, curves: list[Curve]) -> None:
    adaptive = family.startswith("Adaptive")
    sizes = np.array(TOLERANCES if adaptive else [SPAN / count for count in STEPS])
    axis.set(xscale="log", yscale="log", ylim=(1e-14, 9))
    axis.set_yticks([10.0**-k for k in range(0, 13, 4)])
    axis.minorticks_off()
    axis.set_title(family, loc="left", fontsize=11, fontweight="bold")
    axis.set_xlabel("tolerance, relative" if adaptive else "dt", labelpad=1)
    axis.set_ylabel("error")
    axis.spines[["top", "right"]].set_visible(False)
    if adaptive:
        axis.plot(sizes, sizes, color="#bbbbbb", linewidth=0.7)
        axis.text(1e-7, 4e-7, "error = tolerance", color="#777777", fontsize=8, ha="right")
    else:
        for power in range(1, 7):
            axis.plot(sizes, 3 * sizes**power, color="#cccccc", linewidth=0.7, zorder=0)
            end = max(0.8 * sizes[-1], (3e-14 / 3) ** (1 / power))
            place = {"color": "#777777", "fontsize": 8, "ha": "right", "va": "center"}
            axis.text(end, 3 * end**power, str(power), **place)
        axis.set_xlim(0.55 * sizes[-1], 1.4)
    # In the order in which the lines end, so that the list can be read beside them.
    for number, curve in enumerate(sorted(curves, key=lambda c: (c.order, -c.errors[-1]))):
        label = curve.name if curve.slope is None else f"{curve.name}  {curve.slope:.2f}"
        axis.plot(
            sizes,
            np.maximum(curve.errors, 1e-16),
            color=COLOURS[min(curve.order, len(COLOURS)) - 1],
            marker=MARKERS[number % len(MARKERS)],
            markersize=3.5,
            markerfacecolor="white" if number >= len(MARKERS) else None,
            linewidth=1.1,
            label=label,
        )
    if adaptive:
        return
    axis.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9, labelspacing=0.25
    )


def draw(curves: list[Curve], path) -> None:
    plt.rcParams.update({"font.size": 9, "svg.hashsalt": "odernn", "svg.fonttype": "path"})
    shown = [curve for curve in curves if len(curve.errors)]
    families = list(dict.fromkeys(FAMILIES.values()))
    found = list(dict.fromkeys(curve.family for curve in shown))
    families = [f for f in families if f in found] + [f for f in found if f not in families]
    rows = -(-len(families) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(10.5, 3.1 * rows), layout="constrained")
    for axis, family in zip(axes.flat, families, strict=False):
        draw_family(axis, family, [curve for curve in shown if curve.family == family])
    for axis in axes.flat[len(families) :]:
        axis.set_visible(False)
    orders = sorted({min(curve.order, len(COLOURS)) for curve in shown})
    lines = [plt.Line2D([], [], color=COLOURS[p - 1], linewidth=2.5, label=p) for p in orders]
    figure.legend(
        handles=lines, loc="outside upper center", ncols=len(lines), frameon=False, title="order"
    )
    save(figure, path)


def main() -> None:
    curves = measure()
    draw(curves, IMAGES / "order.svg")
    rows = []
    for curve in curves:
        slope = "-" if curve.slope is None else f"{curve.slope:.2f}"
        smallest = f"{curve.errors.min():.0e}" if len(curve.errors) else "-"
        rows.append(
            [f"`{curve.name}`", curve.family, curve.problem, str(curve.order), slope, smallest]
        )
    header = ["method", "family", "problem", "order", "measured slope", "smallest error"]
    store("order", f"{describe('jax', 'odernn')}\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
