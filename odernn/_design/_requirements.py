"""What a task needs of a network."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal, get_args

from .._results import InputError, unknown_name

if TYPE_CHECKING:
    from ..tasks import Task

Property = Literal[
    "certified",
    "contracting",
    "irregular",
    "oscillating",
    "parallel",
    "reversible",
    "streaming",
    "unitary",
]
PROPERTIES: tuple[Property, ...] = get_args(Property)
WORDS: dict[Property, str] = {
    "certified": "no gradient grows, by a theorem, for all parameter values",
    "contracting": "two states come together, by a theorem, for all parameter values",
    "irregular": "steps of the lengths in the data leave the state bounded, gates do not overshoot",
    "oscillating": "a mode of the linearised step turns further than it decays",
    "parallel": "a step is affine in the state (n = 0): whole sequences in logarithmic depth",
    "reversible": "a step can be undone: training memory does not grow with time",
    "streaming": "one input at a time, with a state of fixed size",
    "unitary": "a rotation carries the state: the step or its linear part, for all parameters",
}
"""What each property means here, and is checked as."""


@dataclasses.dataclass(frozen=True)
class Requirements:
    """What a task needs; `design` looks for cells that have it.

    Times (`horizon`, `fastest`, `slowest`, `intervals`) are in the unit of which one input step is
    `step`; with `step = 1`, in input steps.

    Arguments:
        input_size: channels of the inputs.
        output_size: numbers, or classes, of an output.
        horizon: how far back gradients have to reach, at least.
        step: time between two inputs.
        length: inputs of a sequence; by default as many as the horizon has.
        fastest: shortest period of the data that matters; None: not known.
        slowest: longest one.
        intervals: shortest and longest time between two inputs; None: always `step`.
        parameters: trained numbers of cell and read-out, at most.
        operations: multiplications with additions of a step, at most.
        state: real numbers carried from step to step, at most.
        must: properties that it must have, a set of names (`PROPERTIES`).
        n: nonlinearities nested in a step, exactly.
        t: blocks of hidden size in the state.
        use: "batch" compares what a sequence costs in training, "latency" what a step costs alone.
        per_step: an output at every step, not one at the end.

    Raises:
        InputError: a number out of range, or an unknown property (with the nearest).

    >>> Requirements(input_size=2, horizon=500, must={"certified"}).steps
    500
    """

    input_size: int
    output_size: int = 1
    horizon: float = 100.0
    step: float = 1.0
    length: int | None = None
    fastest: float | None = None
    slowest: float | None = None
    intervals: tuple[float, float] | None = None
    parameters: int = 10_000
    operations: int | None = None
    state: int | None = None
    must: frozenset[Property] = frozenset()
    n: int | None = None
    t: int | None = None
    use: Literal["batch", "latency"] = "batch"
    per_step: bool = False

    def __post_init__(self):
        for name in ("input_size", "output_size", "parameters"):
            _whole(name, getattr(self, name), 1)
        for name, least in (("length", 1), ("operations", 1), ("state", 1), ("n", 0), ("t", 1)):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), least)
        for name in ("horizon", "step", "fastest", "slowest"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _positive(name, value))
        if self.use not in ("batch", "latency"):
            raise unknown_name("use", str(self.use), ("batch", "latency"))
        object.__setattr__(self, "must", _properties(self.must))
        if self.intervals is not None:
            object.__setattr__(self, "intervals", _pair(self.intervals))
        self._check_times()

    @classmethod
    def of_task(cls, task: "Task", **given: Any) -> "Requirements":
        """What a task needs, as its training data say; what is `given` comes first.

        The horizon is the length of a sequence that has one label or value; of targets at every
        step the longer one of the period and three correlation times of the inputs.

        >>> from odernn import tasks
        >>> Requirements.of_task(tasks.get("digits"), parameters=5000).steps
        64
        """
        from ._scales import required

        return required(task, **given)

    @property
    def steps(self) -> int:
        """The horizon in input steps."""
        return max(1, math.ceil(self.horizon / self.step - 1e-9))

    @property
    def sequence(self) -> int:
        """Inputs of a sequence, at least as many as the horizon has."""
        return max(self.steps, self.length or 0)

    @property
    def longest_interval(self) -> float:
        """The longest time between two inputs, in input steps."""
        return 1.0 if self.intervals is None else self.intervals[1] / self.step

    def conditions(self) -> dict[str, str]:
        """What is asked for, in words, by a short name of each."""
        found = {"parameters": f"at most {self.parameters:,} parameters"}
        if self.operations is not None:
            found["operations"] = f"at most {self.operations:,} multiply-adds a step"
        if self.state is not None:
            found["state"] = f"at most {self.state:,} numbers in the state"
        for name in ("n", "t"):
            if getattr(self, name) is not None:
                found[name] = f"{name} = {getattr(self, name)}"
        return found | {name: name for name in sorted(self.must)}

    def _check_times(self) -> None:
        if self.fastest is not None and self.fastest < 2 * self.step:
            raise InputError(
                f"fastest = {self.fastest:g} conflicts with step = {self.step:g}: a period shorter "
                f"than two steps is not seen; sample every {self.fastest / 2:g} at most, or ask "
                f"for {2 * self.step:g}."
            )
        if self.fastest is not None and self.slowest is not None and self.fastest > self.slowest:
            raise InputError(
                f"fastest = {self.fastest:g} conflicts with slowest = {self.slowest:g}: the "
                "fastest period is the shorter one; exchange them."
            )
        if self.length is not None and self.steps > self.length:
            raise InputError(
                f"horizon = {self.horizon:g} ({self.steps} steps) conflicts with length = "
                f"{self.length}: no gradient reaches further than a sequence; take horizon = "
                f"{self.length * self.step:g}, or longer sequences."
            )
        if self.slowest is not None and self.slowest > self.horizon:
            raise InputError(
                f"slowest = {self.slowest:g} conflicts with horizon = {self.horizon:g}: a period "
                f"longer than the horizon is not learnt; take horizon = {self.slowest:g}."
            )


def check_channels(requirements: Requirements, task: "Task") -> None:
    """Refuse data that a design cannot read.

    Raises:
        InputError: says both numbers of channels.
    """
    if task.input_size != requirements.input_size:
        raise InputError(
            f"task {task.name} has {task.input_size} inputs, the design is for "
            f"{requirements.input_size}: design for this task."
        )


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} = {value!r}: give a whole number of at least {least}.")


def _positive(name: str, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf:
        raise InputError(f"{name} = {value!r}: give a positive, finite number.")
    return float(value)


def _pair(intervals: Any) -> tuple[float, float]:
    try:
        low, high = intervals
    except (TypeError, ValueError):
        raise InputError(
            f"intervals = {intervals!r}: give the shortest and the longest time between inputs."
        ) from None
    low, high = _positive("intervals", low), _positive("intervals", high)
    if low > high:
        raise InputError(f"intervals = {intervals!r}: give the shortest first.")
    return low, high


def _properties(must: Any) -> frozenset[Property]:
    names = {must} if isinstance(must, str) else set(must)
    for name in names - set(PROPERTIES):
        raise unknown_name("property", str(name), PROPERTIES)
    return frozenset(known for known in PROPERTIES if known in names)
