"""What is certified of a step: two rates, a norm, and the theorem that gives them."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .._enclosure import Norm
from .._results import InputError

TOLERANCE = 1e-9
"""How far above one a rate may be by rounding and still count as one."""


class Rates(NamedTuple):
    """What one theorem says: ``lower <= ||J v|| / ||v|| <= upper`` for every step Jacobian J.

    ``lower`` is 0 and ``upper`` infinite where the theorem says nothing. ``dt_max``: the largest
    step size up to which ``upper <= 1`` stays true, None where that is not known. ``structural``:
    for all values of the parameters.
    """

    norm: Norm
    theorem: str
    lower: float = 0.0
    upper: float = math.inf
    assumptions: tuple[str, ...] = ()
    structural: bool = False
    dt_max: float | None = None


def together(above: Rates, below: Rates) -> Rates:
    """Return what two statements in one norm say together: one's upper, the other's lower rate."""
    if above is below:
        return above
    return above._replace(
        theorem=f"{above.theorem}; from below: {below.theorem}",
        lower=below.lower,
        assumptions=tuple(dict.fromkeys((*above.assumptions, *below.assumptions))),
        structural=above.structural and below.structural,
    )


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Two rates that hold for every state and input of a region, by a theorem.

    ``lower <= ||J v|| / ||v|| <= upper`` for the Jacobian J of a step, in the norm ``norm``. It is
    false in a condition (``if certificate``) where no theorem applies; ``theorem`` is then "none"
    and ``assumptions`` says why.

    Attributes: ``lower``, ``upper``, per step; ``norm``; ``theorem``, with its source;
    ``assumptions``; ``region``, in words; ``structural``, whether it holds for all values of the
    parameters; ``dt``; ``dt_max``, the largest step size (in input steps) up to which ``upper <=
    1`` stays true, infinite, or None where that is not known.
    """

    lower: float
    upper: float
    norm: Norm
    theorem: str
    assumptions: tuple[str, ...]
    region: str
    structural: bool
    dt: float
    dt_max: float | None = None

    def __bool__(self) -> bool:
        return self.theorem != "none"

    def corridor(self, steps: int) -> tuple[float, float]:
        """Return the bounds of the gradient's growth over so many steps, in ``norm``.

        >>> from odernn.analysis import Certificate, Norm
        >>> example = Certificate(0.5, 1.0, Norm("2"), "say so", (), "everywhere", False, 1.0)
        >>> example.corridor(3)
        (0.125, 1.0)
        """
        if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 0:
            raise InputError(f"steps = {steps!r}: give a number of steps of at least 0.")
        return _power(self.lower, steps), _power(self.upper, steps)

    def horizon(self, kappa: float = 10.0) -> float:
        """Return the largest number of steps whose corridor lies in [1/kappa, kappa].

        A whole number, or infinite for rates of one.
        """
        if not kappa >= 1:
            raise InputError(f"kappa = {kappa!r}: give a tolerance of at least 1, 10 say.")
        if not self or self.lower <= 0:
            return 0 if not self or self.upper > kappa or self.lower <= 0 else math.inf
        worst = max(-math.log(self.lower), math.log(self.upper))
        if worst <= TOLERANCE:
            return math.inf
        return math.floor(math.log(kappa) / worst + 1e-9)

    @property
    def kind(self) -> str:
        """Isometry, contractive for all parameters, conditional or none, as in the table."""
        if not self or self.upper > 1 + TOLERANCE:
            return "none"
        if self.structural:
            isometry = self.lower >= 1 - TOLERANCE
            return "isometry" if isometry else "contractive for all parameters"
        return "conditional"

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate as plain values, for JSON; infinite numbers become None."""

        def plain(value: float | None) -> float | None:
            return None if value is None or not math.isfinite(value) else float(value)

        return {
            "certified": bool(self),
            "lower": float(self.lower),
            "upper": plain(self.upper),
            "norm": str(self.norm),
            "theorem": self.theorem,
            "assumptions": list(self.assumptions),
            "region": self.region,
            "structural": self.structural,
            "dt": float(self.dt),
            "dt_max": plain(self.dt_max),
            "dt_max_is_infinite": self.dt_max == math.inf,
        }

    def __str__(self) -> str:
        return "\n".join(f"{name:<12} {text}" for name, text in self.described().items())

    def described(self, kappa: float = 10.0) -> Mapping[str, str]:
        """Return what is certified as lines of text, by their titles; kappa is the horizon's."""
        if not self:
            lines = {"certificate": "none", "region": self.region}
            return lines | {"why": " ".join(self.assumptions)}
        whose = "all parameter values" if self.structural else "these parameter values"
        stays = {
            None: "how large it may be is not known",
            math.inf: "upper <= 1 stays true for any other",
        }.get(self.dt_max, f"upper <= 1 stays true up to {self.dt_max or 0:.6g}")
        return {
            "certificate": f"{self.lower:.6g} <= |J v| / |v| <= {self.upper:.6g} at every step",
            "norm": str(self.norm),
            "region": self.region,
            "theorem": self.theorem,
            "assumptions": "; ".join(self.assumptions) or "none",
            "holds for": whose,
            "step size": f"{self.dt:g}; {stays}",
            "horizon": f"{self.horizon(kappa):g} steps within [1/{kappa:g}, {kappa:g}]",
        }


def _power(rate: float, steps: int) -> float:
    try:
        return float(rate**steps)
    except OverflowError:
        return math.inf
