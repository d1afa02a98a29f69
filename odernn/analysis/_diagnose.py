"""What a recurrent network does with gradients: measured along its trajectories."""

import dataclasses
import math
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._cell import Cell
from .._layer import AbstractLayer, Bidirectional, Layer, Stack
from .._model import Model
from .._results import InputError
from .._typing import Array, PyTree
from ._advice import Advice, advise
from ._diagnosis import Diagnosis
from ._fixed_points import LARGEST_SOLVED, FixedPoint
from ._fixed_points import fixed_points as fixed_points_from
from ._growth import acts_on_eigenvalues
from ._initialise import PROBES, check_kappa, check_wanted
from ._lyapunov import dense_exponents, exponents
from ._measure import (
    DENSE,
    Progress,
    Recurrence,
    Run,
    against_lag,
    all_backward,
    all_saturation,
    backward,
    check_inputs,
    check_step,
    dense_backward,
    directions,
    field_jacobians,
    has_real_field,
    horizon_of,
    jacobians,
    run,
    saturation,
    take,
    trajectories,
)

_BLOCK = 4
"""Vectors of the subspace iteration for the norms of large Jacobians."""
_EIGENVALUE_WORK = 6e7
"""Cubes of sizes: what may be spent on eigenvalues, about a second."""


def diagnose(
    step: Any,
    xs: Any,
    *,
    y: PyTree = None,
    horizon: int | None = None,
    kappa: float = 10.0,
    key: Any = None,
    advice: bool = True,
    fixed_points: bool = True,
    sequences: int = 8,
    steps: int = 1000,
    progress: Progress | None = None,
) -> Diagnosis | dict[str, Diagnosis]:
    """Measure what a recurrent network does with gradients, on the inputs given.

    **Arguments**: ``step``, a ``Cell`` or ``Layer``, a ``Model``, ``Stack`` or ``Bidirectional``, a
    ``GRUCell`` or ``LSTMCell`` of Equinox, or any function ``(y, x) -> y`` or
    ``(y, x) -> (y, output)``; a PyTorch module through ``odernn.interop.from_torch``. ``xs`` of
    shape (time, input) or (batch, time, input), of which the first ``sequences`` and ``steps`` are
    used; ``y``, the state to start from, which only a function needs; ``horizon``, the lag that the
    gradient is wanted to reach, by default all steps; ``kappa``, the factor that it may lose or
    gain; ``key``, for random directions; ``advice``, whether to look for changes that help (see
    ``advise``); ``fixed_points``, whether to look for these (up to 256 states); ``sequences`` and
    ``steps``; ``progress``, called with what is done next and the share that is done.

    Returns a ``Diagnosis``; of a model, stack or bidirectional layer a dict of them by the path of
    each layer ("layers.0", "layers.1.forward"), each fed with what the layers below put out.
    A step that gives NaN or infinity is no error: ``finite`` says so. Raises ``InputError`` for
    what is no step and for inputs that do not fit.

    >>> import jax, odernn
    >>> from odernn.analysis._diagnose import diagnose
    >>> cell = odernn.zoo.RNN(3, 8, key=jax.random.key(0))
    >>> found = diagnose(cell, jax.random.normal(jax.random.key(1), (50, 3)), advice=False)
    >>> found.horizon < 50 and not found.horizon_is_bound
    True
    """
    check_kappa(kappa)
    for name, value in (("sequences", sequences), ("steps", steps)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} = {value!r}: give a whole number of at least 1.")
    key = jax.random.key(0) if key is None else key
    options = _Options(horizon, kappa, key, advice, fixed_points, progress)
    if isinstance(step, Model | AbstractLayer) and not isinstance(step, Layer):
        xs = _outer(step, xs)[:sequences, :steps]
        if y is not None:
            raise InputError("y: of a model or several layers each starts from its own state.")
        found: dict[str, Diagnosis] = {}
        _through(step, "", xs, options, found)
        return found
    if y is not None and isinstance(step, Cell | Layer):
        # What is advised starts from the same state.
        layer = step if isinstance(step, Layer) else Layer(step)
        step, y = Layer(layer.cell, None, y, layer.reverse), None
    recurrence, start = take(step, y)
    xs = check_inputs(recurrence, xs)[:sequences, :steps]
    check_step(recurrence, start, jax.tree.map(lambda a: a[0, 0], xs))
    return _one(step, recurrence, start, xs, recurrence.name, options)[0]


@dataclasses.dataclass(frozen=True)
class _Options:
    horizon: int | None
    kappa: float
    key: Any
    advice: bool
    fixed_points: bool
    progress: Progress | None

    def report(self, name: str, what: str, share: float) -> None:
        if self.progress is not None:
            self.progress(f"{name}: {what}", share)


def _outer(model: Any, xs: Any) -> Array:
    """The inputs of a model, of shape (batch, time, input)."""
    xs = jnp.asarray(xs)
    if xs.ndim not in (2, 3) or xs.shape[-1] != model.input_size or 0 in xs.shape[:-1]:
        raise InputError(
            f"xs has the shape {xs.shape}: give inputs of shape (time, {model.input_size}) or "
            f"(batch, time, {model.input_size}), with at least one step."
        )
    return xs[None] if xs.ndim == 2 else xs


def _inner_layers(part: Any) -> dict[str, Any] | None:
    """The layers of a model, stack or bidirectional layer by their names; None of a layer."""
    if isinstance(part, Model | Stack):
        return {f"layers.{i}": layer for i, layer in enumerate(part.layers)}
    if isinstance(part, Bidirectional):
        return {"forward": part.forward, "backward": part.backward}
    if isinstance(part, Layer):
        return None
    raise InputError(f"a {type(part).__name__} cannot be taken apart: give its cells one by one.")


def _through(
    part: Any, path: str, xs: Array, options: _Options, found: dict[str, Diagnosis]
) -> Array:
    """Diagnose every layer inside; return what the last one puts out."""
    inner = _inner_layers(part)
    if inner is None:
        recurrence, start = take(part)
        found[path], seen = _one(part, recurrence, start, xs, path, options)
        return seen
    outputs = []
    for name, layer in inner.items():
        outputs.append(_through(layer, f"{path}.{name}".strip("."), xs, options, found))
        if not isinstance(part, Bidirectional):
            xs = outputs[-1]
    return jnp.concatenate(outputs, axis=-1) if isinstance(part, Bidirectional) else outputs[-1]


def _one(
    step: Any, recurrence: Recurrence, start: PyTree, xs: Array, name: str, options: _Options
) -> tuple[Diagnosis, Array]:
    """Diagnose one step; return also what it puts out, in the order of the inputs."""
    wanted = check_wanted(options.horizon, xs.shape[1])
    options.report(name, "trajectory", 0.0)
    whole = trajectories(recurrence, start, xs)
    seen = whole.seen[:, ::-1] if recurrence.reverse else whole.seen
    good = np.isfinite(np.asarray(whole.after)).all(axis=-1)
    good &= np.isfinite(np.asarray(whole.seen)).all(axis=-1)
    broken = np.flatnonzero(~good.all(axis=0))
    length = int(broken[0]) if broken.size else xs.shape[1]
    cut = jax.tree.map(lambda a: a[:, :length], whole)
    gathered = _measured(recurrence, start, xs[:, :length], cut, name, options)
    logs = gathered.pop("log_gradients")
    log_gradient = logs.mean(axis=0)
    with np.errstate(over="ignore", under="ignore"):
        low, high = np.exp(logs.min(axis=0)), np.exp(logs.max(axis=0))
        means = np.exp(log_gradient)
    far = horizon_of(log_gradient, options.kappa)
    advice: tuple[Advice, ...] = ()
    if options.advice and isinstance(step, Cell | Layer):
        options.report(name, "advice", 0.7)
        advice = advise(step, xs, wanted, options.kappa, key=options.key)
    options.report(name, "done", 1.0)
    diagnosis = Diagnosis(
        name=name if name == recurrence.name else f"{name} ({recurrence.name})",
        steps=length,
        size=recurrence.layout.size,
        lags=np.arange(1, length + 1),
        gradient=means,
        gradient_low=low,
        gradient_high=high,
        log_gradient=log_gradient,
        horizon=float(far),
        horizon_is_bound=far == length > 0 and not broken.size,
        wanted=wanted,
        kappa=float(options.kappa),
        trajectory=np.asarray(seen),
        finite=not broken.size,
        broken_at=length if broken.size else None,
        advice=advice,
        **gathered,
    )
    return diagnosis, seen


def _measured(
    recurrence: Recurrence, start: PyTree, xs: Array, steps: Run, name: str, options: _Options
) -> dict[str, Any]:
    """What is measured along the finite part of the trajectories."""
    vectors: Array = steps.vectors
    batch, length, size = vectors.shape
    if length == 0:
        empty = np.zeros((batch, 0))
        field = np.zeros(0, complex) if has_real_field(recurrence) else None
        return {
            "log_gradients": empty,
            "norms": empty,
            "lyapunov": np.zeros(0),
            "eigenvalues": np.zeros(0, complex),
            "field_eigenvalues": field,
            "outside": None,
            "saturation": {},
            "fixed_points": (),
        }
    dtype = recurrence.layout.dtype
    probes = directions(options.key, (batch, min(PROBES, size), size), dtype)
    options.report(name, "gradients", 0.1)
    flat = jax.tree.map(
        lambda a: a.reshape(batch * length, *a.shape[2:]), (steps.vectors, steps.rests, steps.items)
    )
    some = _sampled(batch * length, size)
    sample = jax.tree.map(lambda a: a[some], flat)
    if size <= DENSE:
        matrices = np.asarray(jacobians(recurrence, *flat), np.float64)
        sampled = matrices[some]
        matrices = matrices.reshape(batch, length, size, size)
        logs = dense_backward(matrices, np.asarray(probes, np.float64))
        norms = np.linalg.norm(matrices, 2, axis=(2, 3))
        options.report(name, "Lyapunov exponents", 0.3)
        lyapunov = dense_exponents(matrices).mean(axis=0)
    else:
        block = directions(jax.random.key(1), (_BLOCK, size), dtype)
        logs, norms = (np.asarray(a) for a in all_backward(recurrence, steps, probes, block))
        options.report(name, "Lyapunov exponents", 0.3)
        lyapunov = _few_exponents(recurrence, start, xs)
        sampled = np.asarray(jacobians(recurrence, *sample), np.float64)
    options.report(name, "eigenvalues", 0.5)
    field_eigenvalues, outside = _field_eigenvalues(recurrence, sample)
    shares = all_saturation(recurrence, *sample)
    options.report(name, "fixed points", 0.6)
    return {
        "log_gradients": against_lag(logs),
        "norms": np.asarray(norms, np.float64),
        "lyapunov": lyapunov,
        "eigenvalues": _eigenvalues(sampled),
        "field_eigenvalues": field_eigenvalues,
        "outside": outside,
        "saturation": {kind: float(share) for kind, share in sorted(shares.items())},
        "fixed_points": _held(recurrence, xs, flat) if options.fixed_points else (),
    }


def _sampled(total: int, size: int) -> np.ndarray:
    """Numbers of steps, evenly spread, whose eigenvalues are computed."""
    count = min(total, max(2, min(128, int(_EIGENVALUE_WORK / size**3))))
    return np.unique(np.linspace(0, total - 1, count).round().astype(int))


def _eigenvalues(matrices: np.ndarray) -> np.ndarray:
    finite = np.isfinite(matrices).all(axis=(1, 2))
    return np.linalg.eigvals(matrices[finite]).astype(complex).ravel()


def _field_eigenvalues(
    recurrence: Recurrence, sample: Any
) -> tuple[np.ndarray | None, float | None]:
    """Eigenvalues of ``dt dF/dy``, and the share of steps with one outside the region."""
    if not has_real_field(recurrence):
        return None, None
    matrices = np.asarray(field_jacobians(recurrence, *sample), np.float64)
    matrices = matrices[np.isfinite(matrices).all(axis=(1, 2))]
    if not len(matrices):
        return np.zeros(0, complex), None
    values = np.linalg.eigvals(matrices).astype(complex)
    if not acts_on_eigenvalues(recurrence.step.method):
        return values.ravel(), None
    with jax.enable_x64(True):
        growth = np.abs(np.asarray(recurrence.step.method.stability_function(jnp.asarray(values))))
    # An eigenvalue on the boundary is as exact as the precision of the Jacobian allows.
    precision = float(jnp.finfo(recurrence.layout.dtype).eps)
    tolerance = max(1e-6, 10 * precision * max(1.0, float(np.abs(values).max())))
    outside = ~(growth <= 1 + tolerance)
    return values.ravel(), float(outside.any(axis=1).mean())


@eqx.filter_jit
def _spectra(recurrence: Recurrence, y: PyTree, xs: Array, q: Array) -> Array:
    vector, rest = recurrence.layout.split(y)
    length = xs.shape[1]

    def one(x: Array) -> Array:
        return exponents(recurrence, vector, rest, recurrence.items(x), q, total=length)

    return jax.vmap(one)(xs)


def _few_exponents(recurrence: Recurrence, start: PyTree, xs: Array) -> np.ndarray:
    size = recurrence.layout.size
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(size, min(8, size))))[0]
    values = _spectra(recurrence, start, xs, jnp.asarray(q, recurrence.layout.dtype))
    return np.sort(np.asarray(values, np.float64), axis=1)[:, ::-1].mean(axis=0)


def _held(recurrence: Recurrence, xs: Array, flat: Any) -> tuple[FixedPoint, ...]:
    """Fixed points under the mean input, from states of the trajectories."""
    if recurrence.layout.size > LARGEST_SOLVED:
        return ()
    mean = jnp.mean(xs.reshape(-1, xs.shape[-1]), axis=0)
    items = recurrence.items(mean[None])
    item = jax.tree.map(lambda a: a[0], items)
    vectors, rests, _ = flat
    some = np.unique(np.linspace(0, vectors.shape[0] - 1, 16).round().astype(int))
    starts, carried = jax.tree.map(lambda a: a[some], (vectors, rests))
    return fixed_points_from(recurrence, starts, carried, item)


# --- In training ---------------------------------------------------------------------------------

_Row: TypeAlias = tuple[Array, Array, dict[str, Array], Array]
"""Growths in time, the largest exponent, saturated shares, whether all is finite."""


def quick_diagnosis(model: Model, xs: Array) -> dict[str, float]:
    """Measure the least that tells whether training is healthy; a few gradients' worth of work.

    **Arguments**: ``model``; ``xs`` of shape (batch, time, input), of which the first two sequences
    are used.

    Returns, for the layer with the shortest horizon, ``"horizon"`` (the largest lag with a gradient
    in [1/10, 10]) and ``"gradient"`` (at the largest lag); and over all layers ``"lyapunov"``, the
    largest exponent per step, and ``"saturation"``, the largest share of saturated activations.
    NaN where a trajectory is not finite.
    """
    xs = _outer(model, xs)[:2]
    rows = []
    for logs, exponent, shares, all_finite in _quick(model, xs):
        growth = against_lag(np.asarray(logs)).mean(axis=0)
        finite = bool(all_finite)
        far = float(horizon_of(growth, 10.0)) if finite else math.nan
        with np.errstate(over="ignore", under="ignore"):
            gradient = float(np.exp(growth[-1])) if finite else math.nan
        share = max((float(v) for v in shares.values()), default=0.0)
        rows.append((far, gradient, float(exponent) if finite else math.nan, share))
    worst = min(rows, key=lambda row: (not math.isnan(row[0]), row[0]))
    values = np.array(rows)
    return {
        "horizon": worst[0],
        "gradient": worst[1],
        "lyapunov": float(values[:, 2].max()),
        "saturation": float(values[:, 3].max()),
    }


@eqx.filter_jit
def _quick(model: Model, xs: Array) -> list[_Row]:
    rows: list[_Row] = []

    def visit(part: Any, xs: Array) -> Array:
        inner = _inner_layers(part)
        if inner is None:
            row, seen = _quick_layer(part, xs)
            rows.append(row)
            return seen
        if isinstance(part, Bidirectional):
            return jnp.concatenate([visit(layer, xs) for layer in inner.values()], axis=-1)
        for layer in inner.values():
            xs = visit(layer, xs)
        return xs

    visit(model, xs)
    return rows


def _quick_layer(layer: Layer, xs: Array) -> tuple[_Row, Array]:
    recurrence, start = take(layer)
    size, dtype, length = recurrence.layout.size, recurrence.layout.dtype, xs.shape[1]
    vector, rest = recurrence.layout.split(start)
    probes = directions(jax.random.key(0), (2, size), dtype)
    some = np.unique(np.linspace(0, length - 1, 16).round().astype(int))

    def one(x: Array) -> Any:
        items = recurrence.items(x)
        steps = run(recurrence, vector, rest, items)
        logs, _ = backward(recurrence, steps, probes)
        exponent = exponents(recurrence, vector, rest, items, probes[:1].T, total=length)[0]
        sample = jax.tree.map(lambda a: a[some], (steps.vectors, steps.rests, steps.items))
        shares = jax.vmap(lambda *step: saturation(recurrence, *step))(*sample)
        seen = steps.seen[::-1] if recurrence.reverse else steps.seen
        finite = jnp.all(jnp.isfinite(steps.after))
        return (logs, exponent, {k: jnp.mean(v) for k, v in shares.items()}, finite), seen

    (logs, exponent, shares, finite), seen = jax.vmap(one)(xs)
    mean = {k: jnp.mean(v) for k, v in shares.items()}
    return (logs, jnp.mean(exponent), mean, jnp.all(finite)), seen
