"""Numerical methods."""

from ._base import AbstractMethod as AbstractMethod
from ._partitioned import GaussSeidelEuler as GaussSeidelEuler
from ._runge_kutta import RK4 as RK4
from ._runge_kutta import AbstractRungeKutta as AbstractRungeKutta
from ._runge_kutta import Euler as Euler
from ._runge_kutta import Heun as Heun
from ._runge_kutta import Midpoint as Midpoint
from ._runge_kutta import RungeKutta as RungeKutta

METHODS: dict[str, type[AbstractMethod]] = {
    method.__name__.lower(): method for method in (Euler, Midpoint, Heun, RK4, GaussSeidelEuler)
}
"""The methods that need no arguments, by lower-case name."""
