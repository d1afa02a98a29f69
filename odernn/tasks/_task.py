"""What a task is made of: data sets, the scaling of their channels, and how to score."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32

from .._results import InputError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Sequences side by side, padded to one length; `data[index]` selects some, as in NumPy.

    Where the true length, the mask or the times are the same for all sequences and nothing is
    left out, they are None.

    Arguments:
        inputs: one row a sequence, one number a step and channel.
        targets: class numbers, or values; one a sequence, or one a step.
        lengths: steps of each sequence that are data; the rest is padding with zeros.
        mask: false where a step was not observed; the network holds its state there.
        times: time stamps, in input steps, strictly increasing.
        target_mask: false where there is no target to compare with (missing, or it belongs to
            another part of the data); such steps count neither in a loss nor in a metric.

    Raises:
        InputError: shapes that do not fit together, or lengths out of range.

    >>> data = Dataset(np.zeros((3, 5, 2), np.float32), np.array([0, 1, 0], np.int32))
    >>> len(data), data[1:].targets.tolist(), len(data[0])
    (3, [1, 0], 1)
    """

    inputs: Float32[np.ndarray, "n time channels"]
    targets: (
        Int32[np.ndarray, " n"]
        | Int32[np.ndarray, "n time"]
        | Float32[np.ndarray, "n out"]
        | Float32[np.ndarray, "n time out"]
    )
    lengths: Int32[np.ndarray, " n"] | None = None
    mask: Bool[np.ndarray, "n time"] | None = None
    times: Float32[np.ndarray, "n time"] | None = None
    target_mask: Bool[np.ndarray, "n time"] | None = None

    def __post_init__(self):
        if self.inputs.ndim != 3:
            raise InputError(
                f"inputs have the shape {self.inputs.shape}: give (sequences, time, channels)."
            )
        count, time, _ = self.inputs.shape
        if time == 0:
            raise InputError("inputs have sequences of length 0: give at least one step.")
        expected = {
            "targets": (count,),
            "lengths": (count,),
            "mask": (count, time),
            "times": (count, time),
            "target_mask": (count, time),
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array is None:
                continue
            found = array.shape[:1] if name == "targets" else array.shape
            if found != shape:
                raise InputError(
                    f"{name} has the shape {array.shape}, but inputs of shape "
                    f"{self.inputs.shape} need {shape}{' first' if name == 'targets' else ''}."
                )
        if self.lengths is not None and count:
            low, high = int(self.lengths.min()), int(self.lengths.max())
            if low < 1 or high > time:
                raise InputError(
                    f"lengths go from {low} to {high}, they must be between 1 and {time}, the "
                    "steps of inputs."
                )

    def __len__(self) -> int:
        return self.inputs.shape[0]

    def __getitem__(self, index: Any) -> "Dataset":
        if isinstance(index, int | np.integer):
            # A data set of one sequence keeps its axis: everything downstream expects it.
            index = [index]
        return Dataset(*(_chosen(getattr(self, field.name), index) for field in fields(self)))


def _chosen(array: Any, index: Any) -> Any:
    return None if array is None else array[index]


@dataclass(frozen=True)
class Scaling:
    """Subtracts a mean and divides by a standard deviation, channel by channel.

    Arguments:
        mean: one number a channel.
        std: one positive number a channel.

    Raises:
        InputError: different lengths, a number that is not finite, or std not positive.

    >>> scaling = Scaling.fit(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> scaling
    Scaling(mean=(2.0, 5.0), std=(1.0, 1.0))
    >>> scaling.undo(scaling.apply(np.array([4.0, 6.0]))).tolist()
    [4.0, 6.0]
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        for name in ("mean", "std"):
            try:
                values = tuple(float(value) for value in getattr(self, name))
            except (TypeError, ValueError):
                raise InputError(
                    f"{name} of a scaling must be a list of numbers, one a channel."
                ) from None
            # Python floats compare, hash and go into JSON as they are.
            object.__setattr__(self, name, values)
        if len(self.mean) != len(self.std) or not self.mean:
            raise InputError(
                f"a scaling has {len(self.mean)} means and {len(self.std)} standard deviations: "
                "give one of each a channel."
            )
        finite = all(math.isfinite(value) for value in self.mean + self.std)
        if not finite or min(self.std) <= 0:
            raise InputError("means must be finite, standard deviations finite and positive.")

    @classmethod
    def fit(
        cls, values: Float[np.ndarray, "rows channels"], names: Iterable[str] | None = None
    ) -> "Scaling":
        """Mean and standard deviation of each column, leaving NaN out.

        A channel that never changes is shifted only: its standard deviation counts as 1.

        Raises:
            InputError: a channel without any value, or values too large to square.
        """
        values = np.asarray(values, np.float64)
        labels = list(names or (f"channel {index + 1}" for index in range(values.shape[1])))
        mean, std = [], []
        for label, column in zip(labels, values.T, strict=True):
            seen = column[~np.isnan(column)]
            if not seen.size:
                raise InputError(f"{label} has no value in the training part: leave it out.")
            with np.errstate(over="ignore", invalid="ignore"):
                middle, spread = float(seen.mean()), float(seen.std())
            if not (math.isfinite(middle) and math.isfinite(spread)):
                raise InputError(
                    f"{label} has values up to {np.abs(seen).max():.3g}, too large to scale: "
                    "change its unit."
                )
            # The mean of equal numbers is off by rounding, which is no spread.
            constant = spread <= 1e-12 * abs(middle)
            mean.append(middle)
            std.append(1.0 if constant else spread)
        return cls(tuple(mean), tuple(std))

    def apply(self, values: Float[np.ndarray, "*shape channels"]) -> np.ndarray:
        """Scaled values, in the precision given (float64 for whole numbers)."""
        values = self._checked(values)
        scaled = (values.astype(np.float64) - self.mean) / self.std
        return scaled.astype(values.dtype)

    def undo(self, values: Float[np.ndarray, "*shape channels"]) -> np.ndarray:
        """Values in their original units, in the precision given."""
        values = self._checked(values)
        return (values.astype(np.float64) * self.std + self.mean).astype(values.dtype)

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists, for JSON."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Scaling":
        """The scaling that `to_dict` wrote.

        Raises:
            InputError: not such a dict, or numbers that no scaling can have.
        """
        if not isinstance(values, dict) or set(values) != {"mean", "std"}:
            raise InputError("a stored scaling needs exactly the entries 'mean' and 'std'.")
        return cls(values["mean"], values["std"])

    def _checked(self, values: Any) -> np.ndarray:
        values = np.asarray(values)
        if not np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float64)
        if values.ndim == 0 or values.shape[-1] != len(self.mean):
            raise InputError(
                f"values of shape {values.shape} do not fit a scaling of {len(self.mean)} "
                "channel(s): the last axis is the channels."
            )
        return values


@dataclass(frozen=True, eq=False)
class Task:
    """Something to learn: three data sets that share no target, and how to score an answer.

    Arguments:
        name: what runs and tables call it.
        kind: whether the targets are classes or values.
        per_step: one target a step, else one a sequence.
        input_size: number of channels.
        output_size: number of classes, or of values.
        metric: share of right classes, or mean squared error (of scaled values).
        training: the data of an epoch; fixed data are the same in all, generated tasks draw
            new ones that depend on the seed and the epoch only.
        validation: decides when to stop and which model to keep.
        test: used once, at the end.
        channels: names of the inputs.
        classes: names of the classes; None for values.
        target_mask: the steps that the metric looks at, for all sequences alike; None: all. The
            loss is the mean over all steps (less those of `Dataset.target_mask`).
        scaling: what was done to the inputs, fitted on the training part only; None: nothing.
        target: the channel that is forecast, if it is one; targets are then differences from its
            present value.
        target_scaling: what was done to the targets; None: nothing.
        time_unit: what one input step is in the unit of the file's time stamps (seconds, if
            those are dates); None without time stamps.
        baseline: the metric of guessing, and what the guess is.
        loss_baseline: the loss of guessing where that is the usual yardstick, and its name.
        needed: of given data, the steps without which nobody could answer; None: there are none.
    """

    name: str
    kind: Literal["classification", "regression"]
    per_step: bool
    input_size: int
    output_size: int
    metric: Literal["accuracy", "mse"]
    training: Callable[[int], Dataset]
    validation: Dataset
    test: Dataset
    channels: tuple[str, ...]
    classes: tuple[str, ...] | None = None
    target_mask: Bool[np.ndarray, " time"] | None = None
    scaling: Scaling | None = None
    target: str | None = None
    target_scaling: Scaling | None = None
    time_unit: float | None = None
    baseline: tuple[float, str] | None = None
    loss_baseline: tuple[float, str] | None = None
    needed: Callable[[Dataset], Bool[np.ndarray, "n time"]] | None = None


def single(values: Float[np.ndarray, "*shape"], where: str) -> Float32[np.ndarray, "*shape"]:
    """Values in float32.

    Raises:
        InputError: a value that is too large, with `where` it is from.
    """
    with np.errstate(over="ignore"):
        cast = values.astype(np.float32)
    if not np.isfinite(cast).all():
        raise InputError(
            f"{where} has values more than 1e38 times the spread of the training part: remove them."
        )
    return cast


@dataclass(frozen=True)
class Always:
    """Training data that are the same in every epoch."""

    data: Dataset

    def __call__(self, epoch: int) -> Dataset:
        """The data, whatever the epoch."""
        return self.data


def most_common(training: Int[np.ndarray, " n"], test: Int[np.ndarray, " n"]) -> tuple[float, str]:
    """Accuracy on `test` of naming the most common class of `training`."""
    guess = np.bincount(training).argmax()
    return float(np.mean(test == guess)), "always the most common class"
