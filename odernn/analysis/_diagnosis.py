"""What is measured of a recurrent network, as a value."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ._advice import Advice
from ._fixed_points import LARGEST_SOLVED, FixedPoint


@dataclasses.dataclass(frozen=True, eq=False)
class Diagnosis:
    """What was measured of one step along some trajectories; no theorem, see ``Certificate``.

    Attributes, for S sequences, T steps and m real numbers in the state:

    - ``name``; ``steps`` T; ``size`` m.
    - ``lags`` (T,), 1 to T; ``gradient`` (T,), the geometric mean over the sequences of
      ``||v^T dy_T/dy_{T-lag}||`` for random unit vectors v; ``gradient_low``, ``gradient_high``
      (T,), the smallest and largest sequence; ``log_gradient`` (T,), its natural logarithm, where
      the gradient itself is too small or too large for a float.
    - ``norms`` (S, T), the 2-norms of the step Jacobians: exact up to 32 states; of larger
      ones by subspace iteration, which comes from below.
    - ``eigenvalues``, of step Jacobians on sampled steps; ``field_eigenvalues``, of ``dt dF/dy``
      there, or None where the step is no cell on a real state, or reads past states.
    - ``lyapunov``, exponents per step, largest first: all of them up to 32 states, else 8.
    - ``horizon``, the effective memory horizon: the largest lag with a gradient in [1/kappa,
      kappa]; ``horizon_is_bound``: that is the largest lag measured, so it may be longer;
      ``wanted``, the lag that was asked for; ``kappa``.
    - ``saturation``, the share of saturated activations by name ("tanh", "logistic": slope below
      0.05 of its maximum; "relu": zeros).
    - ``outside``, the share of sampled steps with an eigenvalue of ``dt dF/dy`` outside the
      method's stability region: a diagnostic, no certificate, whatever it is. None without a field,
      and for methods that treat blocks or parts of a field in different ways (splitting, IMEX,
      exponential, partitioned), whose growth is no function of these eigenvalues.
    - ``fixed_points`` under the mean input (up to 256 states); that none is there does not mean
      that there is none.
    - ``trajectory`` (S, T, hidden), what the next layer sees.
    - ``finite``: no NaN or infinity was seen; ``broken_at``, the first step that gave one. All else
      is then measured over the steps before it.
    - ``advice``: changes that were measured to help.
    """

    name: str
    steps: int
    size: int
    lags: np.ndarray
    gradient: np.ndarray
    gradient_low: np.ndarray
    gradient_high: np.ndarray
    log_gradient: np.ndarray
    norms: np.ndarray
    eigenvalues: np.ndarray
    field_eigenvalues: np.ndarray | None
    lyapunov: np.ndarray
    horizon: float
    horizon_is_bound: bool
    wanted: int
    kappa: float
    saturation: dict[str, float]
    outside: float | None
    fixed_points: tuple[FixedPoint, ...]
    trajectory: np.ndarray
    finite: bool
    broken_at: int | None
    advice: tuple[Advice, ...]

    @property
    def wanted_gradient(self) -> float:
        """The gradient at the wanted lag, NaN if the trajectory broke before."""
        return float(self.gradient[self.wanted - 1]) if self.wanted <= self.steps else math.nan

    def __str__(self) -> str:
        return "\n".join(f"{title:<18} {text}" for title, text in self.described().items())

    def described(self) -> Mapping[str, str]:
        """Return what was measured as lines of text, by their titles."""
        sequences = self.norms.shape[0]
        lines = {
            "measured": f"{self.name}: {self.size} states, {sequences} sequences x {self.steps} "
            "steps (a measurement, no certificate)"
        }
        if not self.finite:
            lines["not finite"] = f"NaN or infinity in step {self.broken_at}"
        if self.steps == 0:
            return lines
        least = "at least " if self.horizon_is_bound else ""
        lines["memory horizon"] = (
            f"{least}{self.horizon:g} steps (gradients between 1/{self.kappa:g} and "
            f"{self.kappa:g} times)"
        )
        if self.wanted <= self.steps:
            low, high = (g[self.wanted - 1] for g in (self.gradient_low, self.gradient_high))
            lines["gradient"] = (
                f"{self.wanted_gradient:.3g} over {self.wanted} steps ({low:.3g} to {high:.3g})"
            )
        radius = np.abs(self.eigenvalues).max(initial=0.0)
        lines["step Jacobians"] = (
            f"2-norm {np.median(self.norms):.4g} (median), {self.norms.max():.4g} (largest); "
            f"spectral radius {radius:.4g} (largest)"
        )
        lines["Lyapunov exponents"] = (
            f"{self.lyapunov[0]:.4g} to {self.lyapunov[-1]:.4g} per step ({len(self.lyapunov)})"
        )
        if self.outside is not None:
            lines["stability region"] = (
                f"{100 * self.outside:.0f}% of the sampled steps have an eigenvalue outside "
                "(a diagnostic, no certificate)"
            )
        shares = [f"{name} {100 * share:.0f}%" for name, share in self.saturation.items()]
        lines["saturated"] = ", ".join(shares) or "no activation seen"
        stable = sum(point.stable for point in self.fixed_points)
        found = f"{len(self.fixed_points)} found, {stable} stable"
        looked = self.size <= LARGEST_SOLVED
        lines["fixed points"] = found if looked else "not looked for: too many states"
        for number, advice in enumerate(self.advice, start=1):
            lines[f"advice {number}"] = str(advice)
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain values, for JSON; what is not finite becomes None.

        A complex number becomes a pair; the trajectory and the changed cells are left out.
        """
        skipped = ("trajectory", "fixed_points", "advice")
        names = [f.name for f in dataclasses.fields(self) if f.name not in skipped]
        values = {name: _plain(getattr(self, name)) for name in names}
        points = [
            {
                "spectral_radius": _plain(point.spectral_radius),
                "stable": point.stable,
                "residual": _plain(point.residual),
                "eigenvalues": _plain(point.eigenvalues),
            }
            for point in self.fixed_points
        ]
        kept = ("change", "kind", "gradient", "horizon", "solved")
        advice = [{name: _plain(getattr(a, name)) for name in kept} for a in self.advice]
        return values | {"fixed_points": points, "advice": advice}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if np.iscomplexobj(value):
            value = np.stack([value.real, value.imag], axis=-1)
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
