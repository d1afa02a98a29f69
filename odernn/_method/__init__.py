"""Numerical methods."""

from ._base import AbstractInvertible as AbstractInvertible
from ._base import AbstractMethod as AbstractMethod
from ._base import AbstractOneStep as AbstractOneStep
from ._base import AbstractSymmetric as AbstractSymmetric
from ._chebyshev import RungeKuttaChebyshev as RungeKuttaChebyshev
from ._explicit import RK4 as RK4
from ._explicit import RK38 as RK38
from ._explicit import SSPRK22 as SSPRK22
from ._explicit import SSPRK33 as SSPRK33
from ._explicit import SSPRK43 as SSPRK43
from ._explicit import SSPRK104 as SSPRK104
from ._explicit import BogackiShampine3 as BogackiShampine3
from ._explicit import DormandPrince5 as DormandPrince5
from ._explicit import Euler as Euler
from ._explicit import Heun as Heun
from ._explicit import Kutta3 as Kutta3
from ._explicit import Midpoint as Midpoint
from ._explicit import Ralston as Ralston
from ._explicit import Tsit5 as Tsit5
from ._exponential import ETD1 as ETD1
from ._exponential import ETDRK2 as ETDRK2
from ._exponential import ETDRK4 as ETDRK4
from ._exponential import Lawson4 as Lawson4
from ._imex import ARK3 as ARK3
from ._imex import ARS222 as ARS222
from ._imex import IMEXEuler as IMEXEuler
from ._implicit import SDIRK2 as SDIRK2
from ._implicit import BackwardEuler as BackwardEuler
from ._implicit import Gauss as Gauss
from ._implicit import ImplicitMidpoint as ImplicitMidpoint
from ._implicit import ImplicitRungeKutta as ImplicitRungeKutta
from ._implicit import RadauIIA as RadauIIA
from ._implicit import Trapezoid as Trapezoid
from ._lie import CommutatorFree as CommutatorFree
from ._lie import CrouchGrossman as CrouchGrossman
from ._multistep import BDF as BDF
from ._multistep import AdamsBashforth as AdamsBashforth
from ._multistep import AdamsMoulton as AdamsMoulton
from ._multistep import Leapfrog as Leapfrog
from ._partitioned import GaussSeidelEuler as GaussSeidelEuler
from ._partitioned import StormerVerlet as StormerVerlet
from ._partitioned import SymplecticEuler as SymplecticEuler
from ._partitioned import Yoshida4 as Yoshida4
from ._rosenbrock import FusedEuler as FusedEuler
from ._rosenbrock import LinearlyImplicitEuler as LinearlyImplicitEuler
from ._runge_kutta import RungeKutta as RungeKutta
from ._splitting import LieTrotter as LieTrotter
from ._splitting import Splitting as Splitting
from ._splitting import Strang as Strang
from ._wrappers import Adaptive as Adaptive
from ._wrappers import AlgebraicallyReversible as AlgebraicallyReversible
from ._wrappers import Delayed as Delayed
from ._wrappers import Substeps as Substeps

_PLAIN: tuple[AbstractMethod, ...] = (
    Euler(),
    Midpoint(),
    Heun(),
    Ralston(),
    Kutta3(),
    BogackiShampine3(),
    RK4(),
    RK38(),
    SSPRK22(),
    SSPRK33(),
    SSPRK43(),
    SSPRK104(),
    DormandPrince5(),
    Tsit5(),
    BackwardEuler(),
    ImplicitMidpoint(),
    Trapezoid(),
    SDIRK2(),
    LinearlyImplicitEuler(),
    FusedEuler(),
    Leapfrog(),
    GaussSeidelEuler(),
    SymplecticEuler(),
    StormerVerlet(),
    Yoshida4(),
    IMEXEuler(),
    ARS222(),
    ARK3(),
    ETD1(),
    ETDRK2(),
    ETDRK4(),
    Lawson4(),
    LieTrotter(),
    Strang(),
    Adaptive(),
)
_NUMBERED: dict[str, AbstractMethod] = {
    "rkc5": RungeKuttaChebyshev(5),
    "rkc10": RungeKuttaChebyshev(10),
    **{f"gauss{s}": Gauss(s) for s in (2, 3)},
    **{f"radauiia{s}": RadauIIA(s) for s in (2, 3)},
    **{f"adamsbashforth{k}": AdamsBashforth(k) for k in (2, 3, 4, 5)},
    **{f"adamsmoulton{k}": AdamsMoulton(k) for k in (1, 2, 3, 4)},
    **{f"bdf{k}": BDF(k) for k in (1, 2, 3, 4)},
    **{f"crouchgrossman{p}": CrouchGrossman(p) for p in (1, 2, 3, 4)},
    **{f"commutatorfree{p}": CommutatorFree(p) for p in (1, 2, 3, 4)},
    "reversiblerk4": AlgebraicallyReversible(RK4()),
}
METHODS: dict[str, AbstractMethod] = {
    **{type(method).__name__.lower(): method for method in _PLAIN},
    **_NUMBERED,
}
"""Methods by the name that the command line knows them by."""
