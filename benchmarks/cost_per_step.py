"""What does a step cost over a loop written by hand? And in Diffrax and torchdiffeq?

    python benchmarks/cost_per_step.py [--repeats 15]

The Leaky field, batch 32, 200 steps, 8 inputs, 128 units, float32; the input is held within a step.
Forward, and forward with the gradients of all parameters of mean(sin(hs)). All candidates have the
same weights, and their trajectories and gradients agree to rounding before anything is timed. They
take turns, in an order that changes, so that a slow spell of the machine meets all of them; ratios
are medians of the ratios within a turn.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchdiffeq
from _machine import describe, store, table

import odernn

BATCH, STEPS, INPUTS, HIDDEN, DT = 32, 200, 8, 128, 0.25
KEY = jax.random.key(0)
XS = np.random.default_rng(0).normal(size=(BATCH, STEPS, INPUTS)).astype("float32")
METHODS = (
    odernn.Euler(),
    odernn.Midpoint(),
    odernn.Heun(),
    odernn.RK4(),
    odernn.RK38(),
    odernn.DormandPrince5(),
)
BY_HAND = "scan by hand"
Weights = dict[str, jax.Array]
Trajectory = Callable[[Any, jax.Array], jax.Array]


def weights() -> Weights:
    """The parameters of the field, by name."""
    field = odernn.fields.Leaky(INPUTS, HIDDEN, key=KEY)
    return {name: getattr(field, name) for name in ("weight", "input_weight", "bias")}


def rate(p: Weights, y, u):
    return jnp.tanh(y @ p["weight"] + u) - y


def ours(method, unroll) -> Trajectory:
    cell = odernn.Cell(odernn.fields.Leaky(INPUTS, HIDDEN, key=KEY), method, DT)
    layer = odernn.Layer(cell, unroll)

    def trajectory(p, xs):
        def where(a):
            field = a.cell.field
            return [field.weight, field.input_weight, field.bias]

        own = eqx.tree_at(where, layer, [p["weight"], p["input_weight"], p["bias"]])
        return jax.vmap(lambda x: own(x)[0])(xs)

    return trajectory


def formula(method) -> Callable:
    """The step of an autonomous field f as its textbook has it."""

    def euler(f, y):
        return y + DT * f(y)

    def midpoint(f, y):
        return y + DT * f(y + DT / 2 * f(y))

    def heun(f, y):
        k1 = f(y)
        return y + DT / 2 * (k1 + f(y + DT * k1))

    def rk4(f, y):
        k1 = f(y)
        k2 = f(y + DT / 2 * k1)
        k3 = f(y + DT / 2 * k2)
        return y + DT / 6 * (k1 + 2 * (k2 + k3) + f(y + DT * k3))

    def rk38(f, y):
        k1 = f(y)
        k2 = f(y + DT / 3 * k1)
        k3 = f(y + DT * (k2 - k1 / 3))
        return y + DT / 8 * (k1 + 3 * (k2 + k3) + f(y + DT * (k1 - k2 + k3)))

    def dormandprince5(f, y):
        k1 = f(y)
        k2 = f(y + DT * (1 / 5 * k1))
        k3 = f(y + DT * (3 / 40 * k1 + 9 / 40 * k2))
        k4 = f(y + DT * (44 / 45 * k1 - 56 / 15 * k2 + 32 / 9 * k3))
        k5 = f(
            y + DT * (19372 / 6561 * k1 - 25360 / 2187 * k2 + 64448 / 6561 * k3 - 212 / 729 * k4)
        )
        k6 = f(
            y
            + DT
            * (
                9017 / 3168 * k1
                - 355 / 33 * k2
                + 46732 / 5247 * k3
                + 49 / 176 * k4
                - 5103 / 18656 * k5
            )
        )
        return y + DT * (
            35 / 384 * k1 + 500 / 1113 * k3 + 125 / 192 * k4 - 2187 / 6784 * k5 + 11 / 84 * k6
        )

    found = (euler, midpoint, heun, rk4, rk38, dormandprince5)
    return {f.__name__: f for f in found}[type(method).__name__.lower()]


def by_hand(method) -> Trajectory:
    """Of one sequence, mapped over the batch, the input's product outside the loop: as ours."""
    step = formula(method)

    def one(p, xs):
        def body(y, u):
            y = step(lambda y: rate(p, y, u), y)
            return y, y

        drive = xs @ p["input_weight"] + p["bias"]
        return jax.lax.scan(body, jnp.zeros(HIDDEN), drive)[1]

    return lambda p, xs: jax.vmap(one, (None, 0))(p, xs)


def of_a_batch(method, *, outside: bool) -> Trajectory:
    """A batch at a time, time first; the input's product outside the loop or at every stage."""
    step = formula(method)

    def trajectory(p, xs):
        def drive(x):
            return x @ p["input_weight"] + p["bias"]

        def body(y, x):
            y = step(lambda y: rate(p, y, x if outside else drive(x)), y)
            return y, y

        xs = jnp.swapaxes(xs, 0, 1)
        xs = drive(xs) if outside else xs
        states = jax.lax.scan(body, jnp.zeros((BATCH, HIDDEN)), xs)[1]
        return jnp.swapaxes(states, 0, 1)

    return trajectory


class Held(diffrax.AbstractTerm):
    """A term whose control over a step is its length and the input held there."""

    p: Weights
    drive: jax.Array  # (steps, batch, hidden)

    def vf(self, t, y, args):
        """The state: the input is not known here."""
        return y

    def contr(self, t0, t1, **kwargs):
        """Length and input of a step."""
        return t1 - t0, self.drive[jnp.round(t0 / DT).astype(int)]

    def prod(self, vf, control):
        """The slope times the length."""
        dt, u = control
        return dt * rate(self.p, vf, u)


def solver(method) -> diffrax.AbstractSolver:
    """Diffrax's own, or its stepper on our tableau: no input that jumps fits a stage carried on."""
    name = type(method).__name__
    if name in ("Euler", "Midpoint", "Heun"):
        return getattr(diffrax, name)()
    a, b, c = (method.tableau.a, method.tableau.b, method.tableau.c)
    rows = tuple(np.array(row[: i + 1], float) for i, row in enumerate(a[1:]))
    weights, nodes = np.array(b, float), np.array(c[1:], float)

    class Solver(diffrax.AbstractERK):
        tableau: ClassVar = diffrax.ButcherTableau(
            c=nodes, b_sol=weights, b_error=0 * weights, a_lower=rows
        )
        interpolation_cls: ClassVar = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

        def order(self, terms):
            return method.order

    return Solver()


def by_diffrax(method) -> Trajectory:
    """One solve with constant steps; all states are kept for the gradient, as the scans keep them.

    With `SaveAt(ts=...)` and Diffrax 0.7.2's default number of checkpoints the gradient is off by
    one per cent (not with as many checkpoints as steps), and both directions take longer.
    """
    chosen = solver(method)

    def trajectory(p, xs):
        drive = jnp.swapaxes(xs, 0, 1) @ p["input_weight"] + p["bias"]
        solution = diffrax.diffeqsolve(
            Held(p, drive),
            chosen,
            t0=0.0,
            t1=STEPS * DT,
            dt0=DT,
            y0=jnp.zeros((BATCH, HIDDEN)),
            saveat=diffrax.SaveAt(steps=True),
            stepsize_controller=diffrax.ConstantStepSize(),
            adjoint=diffrax.RecursiveCheckpointAdjoint(checkpoints=STEPS),
            max_steps=STEPS,
        )
        return jnp.swapaxes(solution.ys, 0, 1)

    return trajectory


class TorchLeaky(torch.nn.Module):
    """The field in PyTorch; torchdiffeq tells it of every step, so that it takes the next input."""

    def __init__(self, p: Weights):
        super().__init__()
        for name, value in p.items():
            setattr(self, name, torch.nn.Parameter(torch.tensor(np.array(value))))

    def start(self, xs):
        """Take a batch of sequences."""
        self.drives, self.step = (xs @ self.input_weight + self.bias).unbind(1), -1

    def callback_step(self, t, y, dt):
        """Go on to the next input."""
        self.step += 1

    def forward(self, t, y):
        """The slope."""
        return torch.tanh(y @ self.weight + self.drives[self.step]) - y


def by_torchdiffeq(method) -> dict[str, Callable] | None:
    """Its `rk4` is the 3/8 rule; it has no other methods of fixed step here."""
    name = {"Euler": "euler", "Midpoint": "midpoint", "Heun": "heun2", "RK38": "rk4"}
    if type(method).__name__ not in name:
        return None
    field, xs = TorchLeaky(weights()), torch.tensor(XS)
    times, zero = DT * torch.arange(STEPS + 1), torch.zeros(BATCH, HIDDEN)

    def forward():
        field.start(xs)
        hs = torchdiffeq.odeint(field, zero, times, method=name[type(method).__name__])
        return hs[1:].transpose(0, 1)

    def forward_only():
        with torch.no_grad():
            return forward()

    def both():
        field.zero_grad()
        forward().sin().mean().backward()
        return {n: v.grad for n, v in field.named_parameters()}

    return {"forward": forward_only, "both": both}


def compiled(trajectory: Trajectory) -> dict[str, Callable]:
    """The trajectory and the gradients as programs without arguments."""
    p, xs = weights(), jnp.asarray(XS)
    gradient = jax.grad(lambda p, xs: jnp.mean(jnp.sin(trajectory(p, xs))))
    programs = {"forward": trajectory, "both": gradient}
    ready = {name: jax.jit(f).lower(p, xs).compile() for name, f in programs.items()}
    return {name: lambda run=run: jax.block_until_ready(run(p, xs)) for name, run in ready.items()}


def candidates(method) -> dict[str, dict[str, Callable]]:
    """Programs by name, of which one is compared with all others."""
    found = {
        BY_HAND: compiled(by_hand(method)),
        "scan by hand of a batch": compiled(of_a_batch(method, outside=True)),
        "scan by hand of a batch, inputs inside": compiled(of_a_batch(method, outside=False)),
        "Layer, Scan()": compiled(ours(method, odernn.Scan())),
        "Layer, Adjoint()": compiled(ours(method, odernn.Adjoint())),
        "Diffrax": compiled(by_diffrax(method)),
    }
    if (other := by_torchdiffeq(method)) is not None:
        found["torchdiffeq"] = other
    check(found)
    return found


def check(found: dict[str, dict[str, Callable]]) -> None:
    """All compute the same: states to 1e-5, gradients to 1e-4 of the largest."""
    wanted, slopes = found[BY_HAND]["forward"](), found[BY_HAND]["both"]()
    for name, programs in found.items():
        np.testing.assert_allclose(
            np.asarray(programs["forward"]()), wanted, rtol=0, atol=1e-5, err_msg=name
        )
        for part, slope in programs["both"]().items():
            scale = 1e-4 * float(jnp.abs(slopes[part]).max())
            got = np.asarray(slope)
            np.testing.assert_allclose(got, slopes[part], rtol=0, atol=scale, err_msg=name)


def measure(found: dict[str, dict[str, Callable]], repeats: int) -> dict[tuple[str, str], Any]:
    """Seconds of every program: they take turns in an order that changes, each once to warm up."""
    runs = {(w, name): run for name, both in found.items() for w, run in both.items()}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    order = np.random.default_rng(0)
    for _ in range(repeats):
        for key in order.permutation(np.array(list(runs), dtype=object)):
            run = runs[tuple(key)]
            run()
            start = time.perf_counter()
            run()
            seconds[tuple(key)].append(time.perf_counter() - start)
    return {key: np.array(value) for key, value in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    rows = []
    for method in METHODS:
        found = candidates(method)
        seconds = measure(found, repeats)
        for name in found:
            row = [f"{type(method).__name__}, {method.stages} stages", name]
            for what in ("forward", "both"):
                taken, base = seconds[what, name], seconds[what, BY_HAND]
                row.append(
                    f"{1e6 * np.median(taken) / STEPS:.0f} ({1e6 * taken.min() / STEPS:.0f})"
                )
                row.append(f"{np.median(taken / base):.2f}")
            rows.append(row)
    header = ["method", "candidate"]
    for what in ("forward", "forward + backward"):
        header += [f"{what}: microseconds a step, median (min)", "times the scan by hand"]
    packages = ("jax", "diffrax", "torch", "torchdiffeq", "odernn")
    store("cost_per_step", f"{describe(*packages)}\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
