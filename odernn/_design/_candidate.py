"""What is measured of one kind of network, at the horizon that is asked for."""

import dataclasses
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._cell import Cell
from .._layer import Layer
from .._unroll import Scan
from ..analysis._certificate import Certificate
from ..analysis._certify import certify
from ..analysis._initialise import Initialised, initialise
from ..analysis._measure import jacobian, run, take
from ..analysis._recall import Recall, recall
from ..zoo._network import size_name
from ._explained import explained
from ._kinds import Kind, make

if TYPE_CHECKING:
    from ..tasks import Task
    from ..train import Config

KAPPA = 10.0
"""Gradients count as carried while they lie between 1/KAPPA and KAPPA times."""
FUNCTION = 8
"""Multiplications that one value of tanh or exp stands for in `work`."""
_DRAWS = 3
"""Times that weights are drawn: one draw can be lucky."""
_GROWS = 10.0
_TURNS = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A cell that has what was asked for, with what was measured of it before training.

    Attributes:
        kind: network, method and size.
        cell: the cell, initialised for the horizon.
        initial: what was changed for that, and the gradient at the horizon.
        recall: how much of past inputs its output holds.
        explained: the share of the targets' variance that a linear read-out of its output
            explains, in the validation part of the data; None without data.
    """

    kind: Kind
    cell: Cell
    initial: Initialised
    recall: Recall
    explained: float | None = None

    @property
    def name(self) -> str:
        """Network, and method if it is another than its own."""
        return self.kind.title

    @property
    def parameters(self) -> int:
        """Trained numbers, with the read-out."""
        return self.kind.parameters

    @property
    def work(self) -> int:
        """Multiplications a step, functions counted as eight: what a step costs, about."""
        return self.kind.cost.multiply_adds + FUNCTION * self.kind.cost.functions

    @property
    def in_band(self) -> bool:
        """Whether the gradient at the horizon is in [1/10, 10]."""
        return self.initial.solved

    @property
    def memory(self) -> float:
        """Numbers that are recalled from the far half of the horizon, 0 if a state broke."""
        return self.recall.numbers if math.isfinite(self.recall.numbers) else 0.0

    @cached_property
    def certificate(self) -> Certificate:
        """What a theorem says of the cell as it is initialised."""
        return certify(self.cell)

    @property
    def rank(self) -> tuple[Any, ...]:
        """What orders candidates, larger first."""
        linear = self.kind.shape.n == 0 and "parallel" not in self.kind.required.must
        cost = self.work * (self.kind.shape.n if self.kind.required.use == "latency" else 1)
        # Errors within about a decibel, a quarter, count as the same.
        error = max(1 - (self.explained or 0.0), 1e-9)
        told = round(-10 * math.log10(error))
        return (self.in_band, not linear, told, round(self.memory, 1), -cost)

    @property
    def network(self) -> dict[str, Any]:
        """What a configuration has to say for this cell."""
        sizes: dict[str, int | None] = {"hidden_size": None, "qubits": None}
        sizes[size_name(self.kind.network.field)] = self.kind.size
        horizon = self.kind.required.steps
        given = {"cell": self.kind.name, "method": self.kind.method, "initial_horizon": horizon}
        return given | sizes

    def config(self, **values: Any) -> "Config":
        """A configuration with which `odernn train` trains this cell.

        `values` are other fields: task, epochs, ...
        """
        from ..train import Config

        return Config(**{**self.network, **values})

    def reasons(self) -> list[str]:
        """Why it is here, in words, with the numbers."""
        wanted, cost, shape = self.kind.required, self.kind.cost, self.kind.shape
        changed = self.initial.change or "nothing changed"
        found = [
            f"gradient at {wanted.steps} steps: {self.initial.gradient:.3g} ({changed})"
            + ("" if self.in_band else ", outside [0.1, 10]"),
        ]
        if self.explained is not None:
            share = f"{100 * self.explained:.3g} % of the variance of the targets"
            found.append(f"untrained, its output explains {share} to a linear read-out")
        found += [
            f"a linear read-out recalls {self.memory:.1f} input values of the far half of "
            f"{wanted.steps} steps",
            f"class {shape.n}-{shape.t}: "
            + ("a step is affine in the state" if shape.n == 0 else f"{shape.n} nested")
            + (", a scan in logarithmic depth can take it" if shape.n == 0 else ""),
            f"{self.parameters:,} parameters of {wanted.parameters:,}, {cost.multiply_adds:,} "
            f"multiply-adds and {cost.functions:,} functions a step"
            + ("" if cost.exact else ", one iteration of a solver")
            + f", {cost.state:,} numbers of state",
        ]
        if self.kind.rates is not None:
            low = "keeps norms" if self.kind.rates.lower >= 1 - 1e-9 else "no gradient grows"
            found.append(f"{low}, for all parameter values: {self.kind.rates.theorem}")
        if self.kind.reversible:
            found.append("a step can be undone: train it with Reversible() in constant memory")
        return found


def measured(kind: Kind, key: Any, task: "Task | None" = None) -> Candidate:
    """Build a kind in its size, initialise it for the horizon and measure, on data too.

    Of several draws of its weights the one in the middle of the ranking stands for the kind.
    """
    drawn = [_measured(kind, one, task) for one in jax.random.split(key, _DRAWS)]
    return sorted(drawn, key=lambda candidate: candidate.rank)[_DRAWS // 2]


def _measured(kind: Kind, key: Any, task: "Task | None") -> Candidate:
    draw, search, noise = jax.random.split(key, 3)
    wanted = kind.required
    cell = make(kind.network, kind.method, wanted.input_size, kind.size, draw)
    found = initialise(cell, wanted.steps, kappa=KAPPA, key=search)
    share = None if task is None else explained(Layer(found.cell), task)
    return Candidate(kind, found.cell, found, recall(found.cell, wanted.steps, key=noise), share)


def has_measured(candidate: Candidate, condition: str) -> bool:
    """Whether a candidate has a property that only a measurement can show."""
    if condition == "irregular":
        return _stays_bounded(candidate)
    if condition == "oscillating":
        return _oscillates(candidate.cell)
    return True


def _stays_bounded(candidate: Candidate) -> bool:
    """Whether steps of different lengths leave the state where steps of one length have it."""
    wanted = candidate.kind.required
    low, high = wanted.intervals or (wanted.step, wanted.step)
    shape = (4, wanted.steps + 50)
    first, second = jax.random.split(jax.random.key(0))
    spans = jnp.exp(
        jax.random.uniform(
            first, shape, minval=math.log(low / wanted.step), maxval=math.log(high / wanted.step)
        )
    )
    xs = jax.random.normal(second, (*shape, wanted.input_size), candidate.cell.field.dtype)
    layer = Layer(candidate.cell, unroll=Scan())
    regular = np.abs(np.asarray(_outputs(layer, xs, jnp.ones_like(spans)))).max()
    irregular = np.abs(np.asarray(_outputs(layer, xs, spans))).max()
    return bool(np.isfinite(irregular) and irregular <= _GROWS * max(regular, 1e-6))


@eqx.filter_jit
def _outputs(layer: Layer, xs: Any, spans: Any) -> Any:
    times = jnp.cumsum(spans, axis=1).astype(xs.dtype)
    return jax.vmap(lambda x, t: layer(x, times=t)[0])(xs, times)


def _oscillates(cell: Cell) -> bool:
    """Whether an eigenvalue of a step's Jacobian turns further than it decays."""
    recurrence, y = take(cell)
    xs = jax.random.normal(jax.random.key(0), (_TURNS, cell.input_size), cell.field.dtype)
    values = np.linalg.eigvals(np.asarray(_last_jacobian(recurrence, y, xs), np.float64))
    logs = np.log(values[np.abs(values) > 0.5].astype(complex))
    turns, decays = np.abs(np.imag(logs)), np.abs(np.real(logs))
    # What changes its sign at each step is no oscillation of the differential equation.
    return bool(((turns > decays) & (turns > 1e-6) & (turns < 0.9 * np.pi)).any())


@eqx.filter_jit
def _last_jacobian(recurrence: Any, y: Any, xs: Any) -> Any:
    vector, rest = recurrence.layout.split(y)
    steps = run(recurrence, vector, rest, recurrence.items(xs))
    last = jax.tree.map(lambda a: a[-1], (steps.vectors, steps.rests, steps.items))
    return jacobian(recurrence, *last)
