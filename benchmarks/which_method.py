"""Which method for which network? Six situations, each with the alternatives that lose.

    python benchmarks/which_method.py [long-memory stiff oscillating irregular memory unitary]

Every experiment prints a table; a run of all six keeps them. Costs are ratios of times measured in
the same process, the candidates taking turns, medians; float64 unless the table says otherwise.
"""

# Fields as users write them.
# ruff: noqa: D102, RUF012

import argparse
from collections.abc import Callable
from functools import partial
from math import isqrt

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _machine import describe, store, table
from jax.flatten_util import ravel_pytree
from scipy.special import ellipk
from work_precision import SIZE, Diffusion, Oscillators, name_of, rms, run, starts, take_turns

import odernn
from odernn import fields, zoo

jax.config.update("jax_enable_x64", True)

KEY = jax.random.key(0)
TURNS = 3


class TimeScales(odernn.AbstractSemilinearField, odernn.AbstractRelaxationField):
    """h' = a.(tanh(W h + cos(s + phase)) - h) with rates a from 1 to 1000: stiff in both parts."""

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    rates: jax.Array
    weight: jax.Array
    phase: jax.Array

    def __init__(self, size: int, *, key):
        a, b = jax.random.split(key)
        self.input_size, self.hidden_size = 1, size
        self.rates = jnp.geomspace(1.0, 1000.0, size)
        # Units inhibit themselves: tanh(W h) changes faster with h than h itself.
        self.weight = 0.5 * jax.random.normal(a, (size, size)) * size**-0.5 - 2 * jnp.eye(size)
        self.phase = jax.random.uniform(b, (size,), maxval=6.28)

    def linear(self):
        return odernn.Diagonal(-self.rates)

    def rest(self, time, y, u):
        return self.rates * jnp.tanh(y @ self.weight + jnp.cos(time + self.phase))

    def relaxation(self, time, y, u):
        return self.rates, self.rest(time, y, u)

    def __call__(self, time, y, u):
        return self.rest(time, y, u) - self.rates * y


class Rotation(odernn.AbstractSemilinearField):
    """y' = y (M - M^T) + V x: linear, its flow a rotation."""

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    matrix: jax.Array
    input_weight: jax.Array

    depth = 0

    def __init__(self, input_size: int, hidden_size: int, *, key):
        a, b = jax.random.split(key)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.matrix = jax.random.normal(a, (hidden_size, hidden_size)) * hidden_size**-0.5
        self.input_weight = jax.random.normal(b, (input_size, hidden_size)) * input_size**-0.5

    def drive(self, x):
        return x @ self.input_weight

    def linear(self):
        return odernn.Skew(self.matrix)

    def rest(self, time, y, u):
        return u

    def __call__(self, time, y, u):
        return self.linear().apply(y) + u


class Sphere(odernn.AbstractLieField):
    """y' = y (m - m^T), m = M + y^T tanh(W y): a rotation that depends on the state."""

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    matrix: jax.Array
    weight: jax.Array

    def __init__(self, size: int, *, key):
        a, b = jax.random.split(key)
        self.input_size, self.hidden_size = 1, size
        self.matrix = jax.random.normal(a, (size, size)) * size**-0.5
        self.weight = jax.random.normal(b, (size, size))

    def generator(self, time, y, u):
        return self.matrix + jnp.outer(y, jnp.tanh(y @ self.weight))

    def exponential(self, element, y):
        return odernn.Skew(element).exponential(1.0).apply(y)

    def product(self, element, y):
        return odernn.Skew(element).apply(y)


class Driven(odernn.AbstractField):
    """A field that reads its input from a function of time: what samples only approximate."""

    field: odernn.AbstractField
    input_size: int = eqx.field(static=True, default=1)

    @property
    def hidden_size(self):
        return self.field.hidden_size

    def __call__(self, time, y, u):
        return self.field(time, y, self.field.drive(signal(time)[None]))


class Pendulums(odernn.AbstractPartitionedField):
    """q'' = -sin q."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=SIZE // 2)

    blocks = ("q", "p")
    update_order = ("p", "q")
    depths = {"q": 0, "p": 1}
    order = 2

    def rate(self, block, time, y, frozen):
        return y["p"] if block == "q" else -jnp.sin(y["q"])

    def output(self, y):
        return jnp.stack([y["q"][0], y["p"][0]])


def signal(time):
    return jnp.sin(time) + 0.5 * jnp.cos(2.3 * time)


def costs(runs: dict[str, Callable], base: str, turns: int = TURNS) -> dict[str, float]:
    """Return the time of each run, in units of the base: the median of the ratios in a turn."""
    seconds = take_turns(runs, turns)
    return {name: float(np.median(taken / seconds[base])) for name, taken in seconds.items()}


def number(value: float) -> str:
    if not value < 1000:
        return "blows up"
    return f"{value:.2g}" if value >= 1e-3 or value == 0 else f"{value:.0e}"


# --- Long memory --------------------------------------------------------------------------------


def singular_values(cell: odernn.Cell, xs) -> list[tuple[float, float]]:
    """Return log10 of the (largest, smallest) singular value of dy_T/dy_0, T = 100 and 1000."""
    zero, unravel = ravel_pytree(cell.initial_state())

    def step(y, x):
        return ravel_pytree(cell.step(unravel(y), cell.drive(x)))[0]

    def body(carry, x):
        y, products, logs = carry
        jacobian = jax.jacfwd(step)(y, x)
        # The smallest is one over the largest of the inverse.
        products = jnp.stack([jacobian @ products[0], products[1] @ jnp.linalg.inv(jacobian)])
        sizes = jnp.linalg.norm(products, axis=(1, 2))
        products, logs = products / sizes[:, None, None], logs + jnp.log10(sizes)
        return (step(y, x), products, logs), (products, logs)

    @jax.jit
    def grow(xs):
        begin = (zero, jnp.stack([jnp.eye(len(zero))] * 2), jnp.zeros(2))
        products, logs = jax.lax.scan(body, begin, xs)[1]
        chosen = jnp.array([99, 999])
        return logs[chosen] + jnp.log10(jnp.linalg.norm(products[chosen], 2, axis=(2, 3)))

    return [(float(largest), float(-inverse)) for largest, inverse in grow(xs)]


def long_memory() -> str:
    """How much of a change of the first state is left after 100 and 1000 steps, at the start."""
    o, half = odernn, SIZE // 2
    leaky = fields.Leaky(4, SIZE, key=KEY)
    skewed = fields.Antisymmetric(4, SIZE, gamma=0.0, key=KEY)
    undamped = fields.Oscillator(4, half, epsilon=0.0, key=KEY)
    hamiltonian = Oscillators(4, half, key=KEY)
    linear = Rotation(4, SIZE, key=KEY)
    cells = [
        ("Elman", leaky, o.Cell(leaky, o.Euler(), 1.0)),
        ("GRU", None, zoo.GRU(4, SIZE, key=KEY)),
        ("LSTM", None, zoo.LSTM(4, half, key=KEY)),
        ("coRNN", None, zoo.coRNN(4, half, key=KEY)),
        ("LEM", None, zoo.LEM(4, half, key=KEY)),
        ("Leaky", leaky, o.Cell(leaky, o.Euler(), 0.01)),
    ]
    chosen = [
        ("Antisymmetric, gamma = 0", skewed, (o.Euler(), o.RK4(), o.ImplicitMidpoint())),
        ("Oscillator, epsilon = 0", undamped, (o.GaussSeidelEuler(), o.ImplicitMidpoint())),
        (
            "Hamiltonian oscillators",
            hamiltonian,
            (o.Euler(), o.RK4(), o.SymplecticEuler(), o.StormerVerlet(), o.ImplicitMidpoint()),
        ),
        (
            "linear, skew",
            linear,
            (o.Euler(), o.RK4(), o.BackwardEuler(), o.ImplicitMidpoint(), o.ETD1()),
        ),
    ]
    for name, field, methods in chosen:
        cells += [(name, field, o.Cell(field, method, 0.2)) for method in methods]
    xs = jax.random.normal(jax.random.key(1), (1000, 4))
    runs, rows = {}, []
    for i, (name, field, cell) in enumerate(cells):
        begin = starts(cell.field)
        runs[str(i)] = partial(run(cell.field, cell.method, float(cell.dt), 100), begin)
        base = cell.field if field is None else field
        runs[f"euler {i}"] = partial(run(base, o.Euler(), float(cell.dt), 100), begin)
        (big, small), (bigger, smaller) = singular_values(cell, xs)
        texts = [_power(v) for v in (big, small, bigger, smaller)]
        rows.append([name, f"`{name_of(cell.method)}`", f"{cell.dt:g}", *texts])
    seconds = take_turns(runs, TURNS)
    for i, row in enumerate(rows):
        row.append(f"{np.median(seconds[str(i)] / seconds[f'euler {i}']):.1f}")
    header = ["field", "method", "dt", "largest, 100 steps", "smallest, 100"]
    header += ["largest, 1000 steps", "smallest, 1000", "cost / Euler"]
    return table(header, rows) + (
        "\n\nSingular values of dy_T/dy_0 at initialisation, inputs from N(0, 1), a state of "
        f"{SIZE} numbers. One: remembered as it is; far below: forgotten; far above: explodes."
    )


def _power(exponent: float) -> str:
    if abs(exponent) < 3:
        return f"{10**exponent:.3g}"
    return f"1e{exponent:+.0f}" if exponent > -300 else "< 1e-300"


# --- Stiff --------------------------------------------------------------------------------------


def stiff() -> str:
    """Rates from 1 to 1000, steps of 0.1: one tenth of the slowest time, 100 times the fastest."""
    o, steps = odernn, 50
    methods = [
        o.Euler(),
        o.RK4(),
        o.Substeps(o.Euler(), 160),
        o.RungeKuttaChebyshev(25),
        o.RungeKuttaChebyshev(13, order=1),
        o.BackwardEuler(),
        o.LinearlyImplicitEuler(),
        o.FusedEuler(),
        o.Trapezoid(),
        o.SDIRK2(),
        o.BDF(2),
        o.RadauIIA(2),
        o.IMEXEuler(),
        o.ARS222(),
        o.ETD1(),
        o.ETDRK2(),
        o.ETDRK4(),
        o.Adaptive(rtol=1e-4, atol=1e-6),
    ]
    columns = []
    for field in (Diffusion(SIZE, key=KEY), TimeScales(SIZE, key=KEY)):
        begin = starts(field)
        fine = run(field, o.DormandPrince5(), 0.1 / 200, 200 * steps)(begin)
        # From one slowest time on, when the first, fast changes are over.
        exact = np.asarray(fine[:, 199::200][:, 9:])
        runs = {"Euler()": partial(run(field, o.Euler(), 1e-4, steps), begin)}
        errors = {}
        for method in [m for m in methods if m.fits(field)]:
            name = _full_name(method)
            call = partial(run(field, method, 0.1, steps), begin)
            with np.errstate(over="ignore", invalid="ignore"):
                errors[name] = rms(call()[:, 9:] - exact) / rms(exact)
            if np.isfinite(errors[name]):
                runs[name] = call
        columns.append((errors, costs(runs, "Euler()")))
    rows = []
    for name in map(_full_name, methods):
        row = [f"`{name}`"]
        for errors, cost in columns:
            fitting = name in errors
            row.append(number(errors[name]) if fitting else "does not fit")
            row.append(f"{cost[name]:,.1f}" if fitting and name in cost else "")
        rows.append(row)
    header = ["method", "error, stiff linear part", "cost / Euler"]
    header += ["error, stiff in all parts", "cost / Euler"]
    return table(header, rows) + (
        "\n\nRelative error (root mean square) over the times 1 to 5. First: `h' = L h + tanh(W h "
        "+ cos(s + phase))` with a dense symmetric L; second: `h' = a.(tanh(W h + cos(s + phase)) "
        f"- h)`, units that inhibit themselves. {SIZE} units, 16 sequences at once. The step of "
        "Euler that costs are compared with is short enough not to blow up."
    )


def _full_name(method) -> str:
    if isinstance(method, odernn.Substeps):
        return f"Substeps({name_of(method.method)}, {method.steps})"
    if isinstance(method, odernn.RungeKuttaChebyshev) and method.order == 1:
        return f"{type(method).__name__}({method.stages}, order=1)"
    if isinstance(method, odernn.AlgebraicallyReversible):
        coupling = "" if method.coupling == 0.999 else f", {method.coupling:g}"
        return f"AlgebraicallyReversible({name_of(method.method)}{coupling})"
    return name_of(method)


# --- Oscillating --------------------------------------------------------------------------------


def oscillating() -> str:
    """A pendulum with an amplitude of 2 over 100 periods, at equal numbers of evaluations."""
    o, periods, amplitude = odernn, 100, 2.0
    period = 4 * float(ellipk(np.sin(amplitude / 2) ** 2))
    methods = [
        o.Euler(),
        o.Heun(),
        o.RK4(),
        o.Tsit5(),
        o.AdamsBashforth(4),
        o.GaussSeidelEuler(),
        o.SymplecticEuler(),
        o.StormerVerlet(),
        o.Yoshida4(),
        o.Leapfrog(),
        o.AlgebraicallyReversible(o.RK4()),
        o.ImplicitMidpoint(),
        o.Gauss(2),
    ]
    field = Pendulums()
    start = {"q": jnp.full(SIZE // 2, amplitude), "p": jnp.zeros(SIZE // 2)}
    around = _turns(*_path(field, o.DormandPrince5(), start, period, 4096))
    results, runs = {}, {}
    for method in methods:
        name = _full_name(method)
        steps = 96 // method.stages
        q, p = _path(field, method, start, period, steps, periods)
        off = np.abs(p**2 / 2 - np.cos(q) + np.cos(amplitude))
        turned = _turns(q, p)[-1]
        part = np.interp(turned % 1, around, np.arange(4097) / 4096)
        phase = abs(np.floor(turned) + part - periods)
        # With more energy than at rest upside down it goes over the top.
        over = off.max() > 1 + np.cos(amplitude)
        results[name] = [steps, off[:steps].max(), off.max(), np.nan if over else phase]
        runs[name] = partial(run(field, method, period / steps, 10 * steps), starts(field))
    cost = costs(runs, "Euler()")
    rows = [
        [f"`{k}`", *("lost" if np.isnan(v) else number(v) for v in row), f"{cost[k]:,.1f}"]
        for k, row in results.items()
    ]
    header = [
        "method",
        "steps a period",
        "energy, first period",
        "energy, all",
        "phase, in periods",
    ]
    return table([*header, "cost / Euler"], rows) + (
        "\n\nLargest error of the energy over the first and over all periods, and error of the "
        "phase at the end, with 96 evaluations of the field a period (stages times steps; the "
        "iterations of implicit methods come on top). Lost: it has gone over the top. The cost is "
        f"that of a period, {SIZE // 2} pendulums, 16 sequences at once."
    )


def _path(field, method, start, period: float, steps: int, periods: int = 1):
    """Return angle and speed of one pendulum at the start and after each step."""
    cell = odernn.Cell(field, method, period / steps)
    hs, _ = odernn.Layer(cell, odernn.Scan())(jnp.zeros((steps * periods, 1)), initial_state=start)
    q, p = np.concatenate([field.output(start)[None], hs]).T
    return q, p


def _turns(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return the turns in the plane of angle and speed since the start."""
    return np.unwrap(np.arctan2(-p, q)) / (2 * np.pi)


# --- Irregular times ----------------------------------------------------------------------------


def irregular() -> str:
    """A smooth input at random times; the error of the hidden states against continuous time."""
    o, span = odernn, 60.0
    field = fields.Leaky(1, SIZE // 2, key=KEY)
    truth = odernn.Cell(Driven(field), o.Adaptive(rtol=1e-10, atol=1e-12), 1.0)
    held, line, cubic = o.HeldInput(), o.LinearInput(), o.CubicInput()
    adaptive = o.Adaptive(rtol=1e-6, atol=1e-8)
    chosen = [(m, i) for m in (o.Euler(), o.Heun(), o.RK4()) for i in (held, line, cubic)]
    chosen += [(adaptive, i) for i in (held, line, cubic)]
    errors: dict[tuple, list[float]] = {}
    runs = {}
    for count in (120, 480):
        gaps = np.random.default_rng(0).uniform(0.2, 1.8, count)
        times = np.concatenate([[0.0], np.cumsum(gaps / gaps.sum() * span)])
        even = np.linspace(0, span, count + 1)
        xs = np.asarray(signal(times))
        resampled = np.interp(even, times, xs)
        late = slice(count // 4, None)  # when the start is forgotten
        exact, on_grid = (_hidden(truth, np.zeros(count), stamps)[late] for stamps in (times, even))
        for method, interpolation in chosen:
            cell = odernn.Cell(field, method, 1.0, interpolation)
            mean = odernn.Cell(field, method, span / count, interpolation)
            found = (
                rms(_hidden(mean, xs[1:], None)[late] - exact),
                rms(_hidden(cell, resampled[1:], even)[late] - on_grid),
                rms(_hidden(cell, xs[1:], times)[late] - exact),
            )
            key = (name_of(method), type(interpolation).__name__)
            errors[key] = errors.get(key, []) + [error / rms(exact) for error in found]
            layer = odernn.Layer(cell, odernn.Scan())
            batch = jnp.broadcast_to(xs[1:, None], (16, count, 1))
            call = jax.jit(jax.vmap(lambda x, c=layer, t=times: c(x, times=jnp.asarray(t))[0]))
            runs[" ".join(key)] = partial(call, batch)
    cost = costs(runs, "Euler() HeldInput")
    rows = [
        [f"`{a}`", f"`{b}()`", *map(number, row), f"{cost[f'{a} {b}']:,.1f}"]
        for (a, b), row in errors.items()
    ]
    header = ["method", "interpolation"]
    for count in (120, 480):
        header += [f"{how}, {count}" for how in ("stamps ignored", "resampled", "`times=`")]
    return table([*header, "cost / Euler, held"], rows) + (
        "\n\nRelative error of the hidden states for 120 and for 480 samples of an input with "
        "periods of 6.3 and 2.7 over a span of 60, at times whose gaps differ by up to a factor of "
        "nine. Stamps ignored: one step of the mean gap for each sample. Resampled: by straight "
        "lines to an even grid, and compared there."
    )


def _hidden(cell: odernn.Cell, xs: np.ndarray, times) -> np.ndarray:
    layer = odernn.Layer(cell, odernn.Scan())
    times = None if times is None else jnp.asarray(times)
    return np.asarray(layer(jnp.asarray(xs)[:, None], times=times)[0])


# --- Memory-bound -------------------------------------------------------------------------------


def memory() -> str:
    """What the compiled gradient of the last state needs beside arguments and results."""
    o, hidden = odernn, 64
    field = _single(Oscillators(4, hidden, key=KEY))
    lengths = (100, 1000, 10_000)
    reversible = o.AlgebraicallyReversible(o.RK4())
    # Each group begins with the plain loop that its times are compared with.
    groups = [
        [
            ("Scan()", o.RK4(), lambda steps: o.Scan()),
            ("Scan(checkpoint=sqrt T)", o.RK4(), lambda steps: o.Scan(checkpoint=isqrt(steps))),
            ("Adjoint()", o.RK4(), lambda steps: o.Adjoint()),
            ("Reversible()", reversible, lambda steps: o.Reversible()),
        ],
        [
            ("Scan()", o.StormerVerlet(), lambda steps: o.Scan()),
            ("Adjoint()", o.StormerVerlet(), lambda steps: o.Adjoint()),
            ("Reversible()", o.StormerVerlet(), lambda steps: o.Reversible()),
            (
                "Reversible(anchor=sqrt T)",
                o.StormerVerlet(),
                lambda steps: o.Reversible(anchor=isqrt(steps)),
            ),
        ],
        [
            ("Scan()", o.Leapfrog(), lambda steps: o.Scan()),
            ("Reversible()", o.Leapfrog(), lambda steps: o.Reversible()),
        ],
    ]
    rows: list[list[str]] = []
    runs, bases = {}, []
    for group in groups:
        base = str(len(rows))
        for name, method, unroll in group:
            needed = []
            for steps, reads in [*((n, "state") for n in lengths), (lengths[-1], "outputs")]:
                gradient = _gradient(odernn.Cell(field, method, 0.1), unroll(steps), reads)
                xs = jax.random.normal(KEY, (8, steps, 4), jnp.float32)
                compiled = gradient.lower(field, xs).compile()
                needed.append(compiled.memory_analysis().temp_size_in_bytes)
                if steps == 1000:
                    runs[str(len(rows))] = partial(compiled, field, xs)
            sizes = [f"{n / 2**20:.2f}" for n in needed]
            rows.append([f"`{_full_name(method)}`", f"`{name}`", *sizes])
            bases.append(base)
    seconds = take_turns(runs, TURNS)
    for i, (row, base) in enumerate(zip(rows, bases, strict=True)):
        row.append(f"{np.median(seconds[str(i)] / seconds[base]):.2f}")
    header = ["method", "unroll", *[f"MiB, {n:,} steps" for n in lengths]]
    header.append(f"MiB, {lengths[-1]:,}, by outputs")
    return table([*header, "time / Scan, 1,000 steps"], rows) + (
        f"\n\n{hidden} Hamiltonian oscillators, 8 sequences, float32; the gradient of the mean "
        "square of the last state, read from what `layer(xs)` returns as `state`; in the column "
        "`by outputs` from `hs[-1]`, for which the outputs of all steps are kept. Times are ratios "
        "to the `Scan()` above in the table.\n\n" + drift()
    )


def _single(tree):
    """Return a pytree in float32."""
    return jax.tree.map(lambda a: a.astype("float32") if eqx.is_inexact_array(a) else a, tree)


def _gradient(cell: odernn.Cell, unroll, reads: str = "state") -> Callable:
    """Return the compiled gradient of a batch's loss by the field."""

    def loss(field, xs):
        layer = odernn.Layer(odernn.Cell(field, cell.method, cell.dt), unroll)

        def last(x):
            hs, state = layer(x)
            return hs[-1] if reads == "outputs" else layer.cell.output(state)

        return jnp.mean(jax.vmap(last)(xs) ** 2)

    return jax.jit(jax.grad(loss))


def drift() -> str:
    """How far float32 gradients are from those of float64 if states are rebuilt, not stored."""
    o, steps = odernn, 2000
    xs = jax.random.normal(KEY, (1, steps, 4))
    unrolls = {"Scan()": o.Scan()}
    for anchor in (None, 100, 30):
        name = "Reversible()" if anchor is None else f"Reversible(anchor={anchor})"
        unrolls[name] = o.Reversible(anchor=anchor, tolerance=1e30)
    reversible = o.AlgebraicallyReversible(o.RK4())
    damped = o.AlgebraicallyReversible(o.RK4(), coupling=0.9)
    chosen = [(0.0, o.StormerVerlet()), (0.0, o.Leapfrog()), (0.0, reversible)]
    rows = []
    for friction, method in [*chosen, (1.0, reversible), (1.0, damped)]:
        field = Oscillators(4, SIZE // 2, friction=friction, key=KEY)
        cell = odernn.Cell(field, method, 0.1)
        exact = ravel_pytree(_gradient(cell, o.Scan())(field, xs))[0]
        row = [f"{friction:g}", f"`{_full_name(method)}`"]
        for unroll in unrolls.values():
            gradient = _gradient(_single(cell), unroll)
            try:
                found = ravel_pytree(gradient(_single(field), xs.astype("float32")))[0]
            except jax.errors.JaxRuntimeError:  # not finite: no tolerance allows that
                row.append("blows up")
            else:
                found = found.astype("float64")
                row.append(number(float(jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact))))
        rows.append(row)
    header = ["friction", "method", *[f"`{name}`" for name in unrolls]]
    return table(header, rows) + (
        f"\n\nRelative error of the gradient in float32 after {steps:,} steps of 0.1, against "
        "`Scan()` in float64 with the same method; the check of the drift is switched off."
    )


# --- Unitary ------------------------------------------------------------------------------------


def unitary() -> str:
    """How far the norm of the state is from where it began, after 10,000 steps of 0.1."""
    o = odernn
    linear = [o.Euler(), o.RK4(), o.Tsit5(), o.BackwardEuler(), o.ImplicitMidpoint(), o.Gauss(2)]
    lie = [o.Euler(), o.RK4(), o.ImplicitMidpoint(), o.CrouchGrossman(1), o.CrouchGrossman(2)]
    lie += [o.CrouchGrossman(3), o.CommutatorFree(2), o.CommutatorFree(4)]
    problems = [
        ("linear, skew", Rotation(1, SIZE, key=KEY), [*linear, o.ETD1()]),
        ("on the sphere", Sphere(SIZE // 2, key=KEY), lie),
    ]
    rows = []
    for title, field, methods in problems:
        start = jax.random.normal(KEY, (1, field.hidden_size))
        start = start / jnp.linalg.norm(start)
        fine = run(field, o.DormandPrince5(), 0.001, 2000)(start)[:, -1]
        runs = {}
        for method in methods:
            name = name_of(method)
            norms = []
            for each in (field, _single(field)):
                begin = start.astype(each.dtype)
                last = run(each, method, 0.1, 10_000)(begin)[:, -1]
                norms.append(abs(float(jnp.linalg.norm(last.astype("float64"))) - 1))
            error = rms(run(field, method, 0.1, 20)(start)[:, -1] - fine) / rms(fine)
            batch = starts(field)
            batch = batch / jnp.linalg.norm(batch, axis=1, keepdims=True)
            runs[name] = partial(run(field, method, 0.1, 100), batch)
            rows.append([title, f"`{name}`", *map(number, norms), number(error)])
        cost = costs(runs, "Euler()")
        for row in rows[-len(methods) :]:
            row.append(f"{cost[row[1].strip('`')]:,.1f}")
    header = ["field", "method", "norm, float64", "norm, float32", "error at time 2"]
    return table([*header, "cost / Euler"], rows) + (
        f"\n\nLinear: `y' = y (M - M^T)`, {SIZE} units, where ETD1 is the exact exponential and "
        "ImplicitMidpoint the Cayley transform. On the sphere: `y' = y (m - m^T)` with `m = M + "
        f"y^T tanh(W y)`, {SIZE // 2} units."
    )


EXPERIMENTS = {
    "long-memory": long_memory,
    "stiff": stiff,
    "oscillating": oscillating,
    "irregular": irregular,
    "memory": memory,
    "unitary": unitary,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EXPERIMENTS))
    names = parser.parse_args().names or list(EXPERIMENTS)
    if unknown := set(names) - set(EXPERIMENTS):
        parser.error(f"unknown {', '.join(sorted(unknown))}: take {', '.join(EXPERIMENTS)}")
    sections = [describe("jax", "odernn")]
    for name in names:
        title = name.capitalize().replace("-", " ")
        sections.append(f"## {title}\n\n{EXPERIMENTS[name].__doc__}\n\n{EXPERIMENTS[name]()}")
    text = "\n\n".join(sections)
    if len(names) == len(EXPERIMENTS):
        store("which_method", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
