"""How far are certified rates from the largest and smallest ones that a search finds?

    python benchmarks/tightness.py [--cells lstm gru ...] [--hidden 8] [--starts 48] [--updates 150]

Every network of the zoo with its initial weights, and fields with other methods: the rates that
`certify` gives on a region against those of the step Jacobians found there, in the same norm, by
gradient ascent from random states and inputs (float64). A search can miss the worst point, so the
ratios bound from above how much a certificate gives away. It fails if a rate is found outside of a
certificate.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _machine import describe, store, table
from rich.console import Console
from rich.progress import track

import odernn
from odernn import fields, zoo
from odernn.analysis import Certificate, Norm, Region, certify, reachable
from odernn.analysis._measure import Recurrence, take

jax.config.update("jax_enable_x64", True)

CONSERVATIVE = 1.2
"""A ratio above which a certificate is named as conservative."""
INPUTS, SMALL, DT = 3, 4, 0.2
FIELDS = {
    "Leaky": fields.Leaky,
    "Antisymmetric": fields.Antisymmetric,
    "Oscillator": fields.Oscillator,
    "Gated": fields.Gated,
    "LSTM": fields.LSTM,
    "LEM": fields.LEM,
}
METHODS = (
    *("euler", "heun", "rk4", "ssprk33", "backwardeuler", "implicitmidpoint"),
    *("gaussseideleuler", "symplecticeuler", "stormerverlet", "etd1", "imexeuler"),
)


class Case(NamedTuple):
    """A cell, and the largest absolute input that is allowed; infinite: any region."""

    name: str
    cell: odernn.Cell
    inputs: float


class Row(NamedTuple):
    """A certificate and the rates that were found."""

    case: Case
    certificate: Certificate
    lower: float
    upper: float

    @property
    def ratio(self) -> float:
        """Certified over found, from above."""
        return self.certificate.upper / self.upper if self.upper > 0 else math.inf

    @property
    def excess(self) -> float:
        """The same of the parts above one; NaN where they are no more than rounding."""
        both = min(self.certificate.upper, self.upper) > 1 + 1e-4
        return (self.certificate.upper - 1) / (self.upper - 1) if both else math.nan

    @property
    def violated(self) -> bool:
        """Whether a rate was found outside of what is certified."""
        above = self.upper > self.certificate.upper * (1 + 1e-8) + 1e-10
        return above or self.lower < self.certificate.lower * (1 - 1e-8) - 1e-10


def cases(names: list[str], hidden: int) -> Iterator[Case]:
    """All networks on all inputs and on inputs in [-1, 1], then fields with other methods."""
    for name in names:
        cell = zoo.CELLS[name](INPUTS, hidden, key=jax.random.key(0))
        yield Case(zoo.CELLS[name].name, cell, math.inf)
        yield Case(zoo.CELLS[name].name, cell, 1.0)
    if names != list(zoo.CELLS):
        return
    for field_name, make in FIELDS.items():
        field = make(INPUTS, SMALL, key=jax.random.key(0))
        for method_name in METHODS:
            method = odernn.METHODS[method_name]
            if method.fits(field):
                name = f"{field_name} + {type(method).__name__}"
                yield Case(name, odernn.Cell(field, method, DT), math.inf)


def measured(case: Case, options: argparse.Namespace) -> Row | None:
    """Certify and search; None if there is no certificate."""
    unbounded = math.isinf(case.inputs)
    found = certify(case.cell) if unbounded else None
    if found is not None and "within reach" not in found.region:
        region = odernn.analysis.everywhere(case.cell)
    else:
        region = reachable(case.cell, inputs=case.inputs)
    certificate = certify(case.cell, region) if found is None else found
    # The region on which it was proved is the one that is searched.
    assert certificate.region == region.text, (certificate.region, region.text)
    if not certificate or (certificate.lower == 0 and math.isinf(certificate.upper)):
        return None
    lower, upper = search(case.cell, region, certificate.norm, options)
    return Row(case, certificate, lower, upper)


def _repeats(first: Row, second: Row) -> bool:
    """Whether bounded inputs give the same rates as all inputs."""
    if first.case.name != second.case.name or second.violated:
        return False
    a, b = first.certificate, second.certificate
    return bool(np.allclose([a.lower, a.upper], [b.lower, b.upper], rtol=1e-9, atol=0))


# --- Search --------------------------------------------------------------------------------------


def search(
    cell: odernn.Cell, region: Region, norm: Norm, options: argparse.Namespace
) -> tuple[float, float]:
    """Return the smallest and the largest rate found on a region."""
    recurrence, start = take(cell)
    size = recurrence.layout.size
    scale = np.eye(size) if norm.scale is None else np.asarray(norm.scale)
    scale = np.diag(scale) if scale.ndim == 1 else scale
    samples = cell.interpolation.samples
    bounds = [
        np.concatenate([np.ravel(state)[:size], np.tile(np.ravel(inputs), samples)])
        for state, inputs in (
            (region.state_lower, region.input_lower),
            (region.state_upper, region.input_upper),
        )
    ]
    rng = np.random.default_rng(0)
    count = 2 * options.starts
    # From near the middle, where activations are steepest, to far out, where they saturate; a few
    # at the very middle, where some have a peak that no step of a search would hit.
    peaks = min(8, options.starts // 2)
    near = np.geomspace(1e-7, 1e-2, peaks), np.geomspace(0.02, 4.0, options.starts - peaks)
    widths = np.tile(np.concatenate(near), 2)[:, None]
    points = rng.normal(size=(count, len(bounds[0]))) * widths
    times = rng.integers(0, 100, count).astype(float)
    up = np.arange(count) < options.starts
    lower, upper = _ascend(
        recurrence,
        recurrence.layout.split(start)[1],
        (points, times, up),
        bounds,
        (scale, np.linalg.inv(scale)),
        (norm.kind, options.updates),
    )
    return float(lower), float(upper)


@eqx.filter_jit
def _ascend(
    recurrence: Recurrence, rest: Any, starts: Any, bounds: Any, scales: Any, settings: Any
) -> tuple[Any, Any]:
    """Climb with Adam from all starts, half of them to large rates and half to small ones."""
    (points, times, up), (low, high), (scale, inverse) = starts, bounds, scales
    kind, updates = settings
    size, cell = recurrence.layout.size, recurrence.step
    optimiser = optax.adam(optax.cosine_decay_schedule(0.2, updates, 0.01))

    def jacobian(point: Any, elapsed: Any) -> Any:
        """The Jacobian of a step in the norm's coordinates."""
        values = _inside(point, low, high)
        x = values[size:]
        if cell.interpolation.samples > 1:
            x = x.reshape(cell.interpolation.samples, -1)
        item = x, cell.drive(x), elapsed
        j = jax.jacfwd(lambda v: recurrence(v, rest, item)[0])(values[:size])
        return scale @ j @ inverse

    def slope(point: Any, elapsed: Any, up: Any) -> tuple[Any, Any]:
        j, pull = jax.vjp(lambda p: jacobian(p, elapsed), point)
        value, direction = _rate(kind, j, up)
        (gradient,) = pull(direction)
        return value, gradient

    def step(carry: Any, _: Any) -> tuple[Any, Any]:
        points, state = carry
        values, gradients = jax.vmap(slope)(points, times, up)
        # Where a rate is zero or two are equal, there may be no gradient: stay.
        gradients = jnp.where(jnp.isfinite(gradients), gradients, 0.0)
        change, state = optimiser.update(-gradients, state)
        return (optax.apply_updates(points, change), state), values

    start = points, optimiser.init(points)
    _, values = jax.lax.scan(step, start, None, length=updates)
    lowest = jnp.min(jnp.where(up, jnp.inf, values))
    return lowest, jnp.max(jnp.where(up, values, -jnp.inf))


def _inside(point: Any, low: Any, high: Any) -> Any:
    """A point of the region, of free coordinates."""
    boxed = jnp.isfinite(low) & jnp.isfinite(high)
    floor, ceiling = jnp.where(jnp.isfinite(low), low, 0.0), jnp.where(jnp.isfinite(high), high, 0)
    between = (floor + ceiling) / 2 + (ceiling - floor) / 2 * jnp.sin(point)
    # The search goes as far as sinh(20), about 2e8.
    free = jnp.sinh(jnp.clip(point, -20, 20))
    above, below = floor + free**2, ceiling - free**2
    one = jnp.where(jnp.isfinite(low), above, jnp.where(jnp.isfinite(high), below, free))
    return jnp.where(boxed, between, one)


def _rate(kind: str, j: Any, up: Any) -> tuple[Any, Any]:
    """A rate of a matrix and the gradient of its logarithm, for small ones of minus it."""
    if kind == "2":
        u, s, v = jnp.linalg.svd(j)
        large = s[0], jnp.outer(u[:, 0], v[0]) / s[0]
        small = s[-1], -jnp.outer(u[:, -1], v[-1]) / s[-1]
    else:
        large = _operator_norm(kind, j)
        inverse = jnp.linalg.inv(j)
        size, direction = _operator_norm(kind, inverse)
        # A singular matrix has no finite inverse: its smallest rate is 0.
        size = jnp.where(jnp.isfinite(size), size, jnp.inf)
        small = 1 / size, -inverse.T @ direction @ inverse.T
    return jax.tree.map(partial(jnp.where, up), large, small)


def _operator_norm(kind: str, j: Any) -> tuple[Any, Any]:
    """The norm induced by the 1-norm or the maximum norm, and the gradient of its logarithm."""
    if kind == "1":
        value, gradient = _operator_norm("inf", j.T)
        return value, gradient.T
    sums = jnp.sum(jnp.abs(j), axis=1)
    row = jnp.argmax(sums)
    return sums[row], jnp.zeros_like(j).at[row].set(jnp.sign(j[row])) / sums[row]


# --- Table ---------------------------------------------------------------------------------------


def cells_of(row: Row) -> list[str]:
    """The columns of one row."""
    c = row.certificate
    region = "all" if "all states" in c.region else "reachable"
    region += "" if math.isinf(row.case.inputs) else ", inputs in [-1, 1]"
    short = c.theorem.split("; from below")[0].split(" (")[0]
    short += " (all parameters)" if c.structural else ""
    excess = "" if math.isnan(row.excess) else f"{row.excess:.3g}"
    quotient = f"{row.lower / c.lower:.3f}" if c.lower > 0 else ""
    below = f"{c.lower:.4g}", f"{row.lower:.4g}", quotient
    return [
        *(row.case.name, region, str(c.norm), short),
        *(f"{c.upper:.6g}", f"{row.upper:.6g}", f"{row.ratio:.3f}", excess),
        *below,
    ]


def said(rows: list[Row], missing: list[str], options: Any) -> str:
    """The result as text."""
    header = [
        *("network", "region", "norm", "theorem", "upper: certified", "found", "ratio"),
        *("above one: ratio", "lower: certified", "found", "found / certified"),
    ]
    worst: dict[str, float] = {}
    for row in rows:
        worst[row.case.name] = max(row.ratio, worst.get(row.case.name, 0.0))
    named = sorted((name for name in worst if worst[name] > CONSERVATIVE), key=lambda n: -worst[n])
    listed = ", ".join(f"{name} {worst[name]:.3g}" for name in named) or "none"
    ratios = np.array([r.ratio for r in rows])
    lines = [
        describe("jax", "odernn"),
        "",
        f"Networks: {options.hidden} units, {INPUTS} inputs, initial weights of key 0. Pairs of "
        f"field and method: {SMALL} units, dt = {DT}. {options.starts} starts and "
        f"{options.updates} steps of Adam for each of the two rates, in float64. What is found is "
        "a bound of the true rate from inside: no certificate is further from tight than its "
        "ratio says. The region that is searched is the certificate's own box, of which not all "
        "states need to be reached. A theorem about all parameters says what holds for any "
        "weights, and need not be tight at these.",
        "",
        "Where inputs in [-1, 1] give the same certificate as all inputs, there is one line.",
        "",
        f"{len(rows)} certificates; a rate outside of its certificate: "
        f"{sum(r.violated for r in rows)}. Certified / found: at most 1.01 in "
        f"{(ratios <= 1.01).mean():.0%}, at most {CONSERVATIVE} in "
        f"{(ratios <= CONSERVATIVE).mean():.0%}, the median is {np.median(ratios):.3f}.",
        "",
        f"Conservative, by the largest ratio of a network above {CONSERVATIVE}: {listed}.",
        "",
        f"Without a bound: {', '.join(missing) or 'none'}.",
        "",
        table(header, [cells_of(r) for r in rows]),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cells", nargs="+", default=list(zoo.CELLS))
    parser.add_argument("--hidden", type=int, default=8)
    parser.add_argument("--starts", type=int, default=48, help="random starts for each rate")
    parser.add_argument("--updates", type=int, default=150, help="steps from each start")
    options = parser.parse_args()
    rows, missing = [], []
    todo, began = list(cases(options.cells, options.hidden)), time.perf_counter()
    for case in track(todo, "networks", console=Console(stderr=True)):
        where = case.name if math.isinf(case.inputs) else f"{case.name} (inputs in [-1, 1])"
        row = measured(case, options)
        if row is None:
            missing.append(where)
            continue
        rows.append(row)
        if len(rows) > 1 and _repeats(rows[-2], row):
            # Bounded inputs change nothing: one line says it.
            rows.pop()
        if row.violated:
            print(f"VIOLATED: {where}: {cells_of(row)}", file=sys.stderr, flush=True)
    text = said(rows, missing, options)
    text += f"\n\nTook {time.perf_counter() - began:.0f} s."
    if options.cells == list(zoo.CELLS):
        store("tightness", text)
    else:
        print(text)
    if any(row.violated for row in rows):
        sys.exit("A rate was found outside of its certificate.")


if __name__ == "__main__":
    main()
