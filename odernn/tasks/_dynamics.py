"""Tasks from differential equations: forecast what a system does next from what is seen of it."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64

from .._results import InputError
from ._options import refuse, whole_number
from ._task import Always, Dataset, Scaling, Task

_TOLERANCE = 1e-10
"""Of a step of the solver, absolute and relative: chaos makes it 10,000 times larger."""
_TEST_SIZE = 1024


def fhn(*, length: int | None = None, train_size: int | None = None) -> Task:
    """FitzHugh-Nagumo: read the voltage of a model neuron, forecast its next value.

        v' = v - v^3 / 3 - w + I,    w' = eps (v + a - b w)

    with a = 0.7, b = 0.8, I = 0.5, eps = 1 / 50, v(0) drawn from [-1, 1] and w(0) = 0: v is fast,
    w, which is not seen, slow. 1000 steps are 400 units of time; 128 sequences are for training,
    128 for validation, 1024 for testing. The set-up is that of T. K. Rusch, S. Mishra, N. B.
    Erichson, M. W. Mahoney, Long Expressive Memory for Sequence Modeling, ICLR 2022 (equation of
    R. FitzHugh, Biophys. J. 1, 1961). The error in that paper is the root of the one here, of
    solutions to 3 digits.

    Arguments:
        length: steps of a sequence, at least 2, 0.4 units of time each; 1000 by default.
        train_size: training sequences, at most 128, the default.

    Raises:
        InputError: an argument out of range.

    >>> task = fhn(length=50)
    >>> task.test.inputs.shape, task.test.targets.shape
    ((1024, 50, 1), (1024, 50, 1))
    """
    steps = _length(length, 1000)
    voltage = _fhn_paths(steps)[..., :1]
    return _forecast("fhn", voltage, 1, train_size, ("v",))


def lorenz(*, length: int | None = None, train_size: int | None = None, horizon: int = 5) -> Task:
    """Lorenz's chaotic weather: read x along a window, forecast it some steps ahead.

        x' = 10 (y - x),    y' = x (28 - z) - y,    z' = x y - 8 / 3 z

    A step is 0.04 units of time. Only x is seen, so that the state has to be made out from its
    past. Each sequence is a window of a path of its own, begun near the attractor and followed for
    5 units of time before the window begins. x is scaled by mean and standard deviation of the
    training part. 512 sequences are for training, 128 for validation, 1024 for testing. Errors
    grow by a factor e in about 1.1 units of time. Reference: E. N. Lorenz, Deterministic
    nonperiodic flow, J. Atmos. Sci. 20 (1963).

    Arguments:
        length: steps of a window, at least 2; 128 by default.
        train_size: training sequences, at most 512, the default.
        horizon: how many steps ahead to forecast.

    Raises:
        InputError: an argument out of range.

    >>> lorenz(length=20).baseline[1]
    'repeating the present value'
    """
    steps, horizon = _length(length, 128), whole_number("horizon", horizon, 1)
    seen = _lorenz_paths(steps + horizon)[..., :1]
    return _forecast("lorenz", seen, horizon, train_size, ("x",), scaled=True)


def pendulum(
    *, length: int | None = None, train_size: int | None = None, horizon: int = 10
) -> Task:
    """A damped pendulum: read its angle along a window, forecast it some steps ahead.

        angle'' = -sin(angle) - 0.1 angle'

    A step is 0.1 units of time; a small swing takes 2 pi. The angle is seen, and forecast, as sine
    and cosine, the angular velocity is not. It begins at an angle from [-3, 3] and at a velocity
    from [-2, 2]: some turn over at first. 512 sequences are for training, 128 for validation,
    1024 for testing. Reference: S. H. Strogatz, Nonlinear Dynamics and Chaos (1994), section 6.7.

    Arguments:
        length: steps of a window, at least 2; 128 by default.
        train_size: training sequences, at most 512, the default.
        horizon: how many steps ahead to forecast.

    Raises:
        InputError: an argument out of range.

    >>> pendulum(length=20).test.inputs.shape
    (1024, 20, 2)
    """
    steps, horizon = _length(length, 128), whole_number("horizon", horizon, 1)
    angle = _pendulum_paths(steps + horizon)[..., 0]
    seen = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    return _forecast("pendulum", seen, horizon, train_size, ("sine", "cosine"))


def dynamics_task(
    name: str, *, length: int | None, train_size: int | None, mask_missing: bool, **_: object
) -> Task:
    """The task of this name."""
    refuse(name, "lacks no value", mask_missing=mask_missing or None)
    made = {"fhn": fhn, "lorenz": lorenz, "pendulum": pendulum}[name]
    return made(length=length, train_size=train_size)


def _length(length: int | None, usual: int) -> int:
    return usual if length is None else whole_number("length", length, 2)


# --- Paths: solved once a process, the same on every machine to the tolerance --------------------


@cache
def _fhn_paths(steps: int) -> Float64[np.ndarray, "n stamps state"]:
    def rate(time, y, _):
        v, w = y
        return jnp.stack([v - v**3 / 3 - w + 0.5, (v + 0.7 - 0.8 * w) / 50])

    voltage = _random(128 + 128 + _TEST_SIZE).uniform(-1, 1, (128 + 128 + _TEST_SIZE, 1))
    starts = np.concatenate([voltage, np.zeros_like(voltage)], axis=1)
    return _solved(rate, starts, 0.4 * np.arange(steps + 1))


@cache
def _lorenz_paths(stamps: int) -> Float64[np.ndarray, "n stamps state"]:
    def rate(time, y, _):
        a, b, c = y
        return jnp.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c])

    count = 512 + 128 + _TEST_SIZE
    starts = _random(count).uniform([-15, -15, 10], [15, 15, 40], (count, 3))
    return _solved(rate, starts, 5 + 0.04 * np.arange(stamps))


@cache
def _pendulum_paths(stamps: int) -> Float64[np.ndarray, "n stamps state"]:
    def rate(time, y, _):
        angle, speed = y
        return jnp.stack([speed, -jnp.sin(angle) - 0.1 * speed])

    count = 512 + 128 + _TEST_SIZE
    starts = _random(count).uniform([-3, -2], [3, 2], (count, 2))
    return _solved(rate, starts, 0.1 * np.arange(stamps))


def _random(seed: int) -> np.random.RandomState:
    # RandomState's stream is promised not to change, Generator's is not.
    return np.random.RandomState(seed)


def _solved(
    rate: Callable[[Any, Any, Any], Any], starts: np.ndarray, times: np.ndarray
) -> Float64[np.ndarray, "n stamps state"]:
    """The paths from these states at time 0, at these times."""
    import diffrax

    # All sequences are one system, whose steps suit the hardest: a small program, soon compiled.
    controller = diffrax.PIDController(_TOLERANCE, _TOLERANCE, norm=lambda y: jnp.max(jnp.abs(y)))

    @jax.jit
    def paths(starts, times):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(rate), diffrax.Tsit5(), 0.0, times[-1], None, starts,
            saveat=diffrax.SaveAt(ts=times), stepsize_controller=controller, max_steps=None,
            adjoint=diffrax.ForwardMode(),
        ).ys  # fmt: skip

    # Double precision here alone: it is nobody else's setting.
    with jax.enable_x64(True):
        found = paths(starts.T, times)
    assert found is not None
    return np.asarray(found).transpose(2, 0, 1)


def _forecast(
    name: str,
    seen: np.ndarray,
    horizon: int,
    train_size: int | None,
    channels: tuple[str, ...],
    *,
    scaled: bool = False,
) -> Task:
    """Forecast what is seen `horizon` steps ahead; the last 1024 sequences are for testing."""
    count = len(seen) - 128 - _TEST_SIZE
    size = count if train_size is None else whole_number("train_size", train_size, 1)
    if size > count:
        raise InputError(
            f"train_size (--train-size) is {size}, but task {name} has {count} training sequences."
        )
    scaling = None
    if scaled:
        scaling = Scaling.fit(seen[:count, :-horizon].reshape(-1, seen.shape[-1]))
        seen = scaling.apply(seen)
    numbers = seen.astype(np.float32)
    data = Dataset(numbers[:, :-horizon], numbers[:, horizon:])
    test = data[-_TEST_SIZE:]
    return Task(
        name=name,
        kind="regression",
        per_step=True,
        input_size=len(channels),
        output_size=len(channels),
        metric="mse",
        training=Always(data[:size]),
        validation=data[count:-_TEST_SIZE],
        test=test,
        channels=channels,
        scaling=scaling,
        target_scaling=scaling,
        baseline=(
            float(np.mean((test.targets - test.inputs).astype(np.float64) ** 2)),
            "repeating the present value",
        ),
    )
