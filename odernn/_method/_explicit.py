"""Named explicit Runge-Kutta methods: their tableaux, as exact fractions."""

from typing import ClassVar

from .._tableau import ButcherTableau
from ._runge_kutta import AbstractExplicitRungeKutta

_EULER = ButcherTableau([[]], [1])
_MIDPOINT = ButcherTableau([[], ["1/2"]], [0, 1])
_HEUN = ButcherTableau([[], [1]], ["1/2", "1/2"])
_RALSTON = ButcherTableau([[], ["2/3"]], ["1/4", "3/4"])
_KUTTA3 = ButcherTableau([[], ["1/2"], [-1, 2]], ["1/6", "2/3", "1/6"])
_BOGACKI_SHAMPINE3 = ButcherTableau([[], ["1/2"], [0, "3/4"]], ["2/9", "1/3", "4/9"])
_RK4 = ButcherTableau([[], ["1/2"], [0, "1/2"], [0, 0, 1]], ["1/6", "1/3", "1/3", "1/6"])
_RK38 = ButcherTableau(
    [[], ["1/3"], ["-1/3", 1], [1, -1, 1]],
    ["1/8", "3/8", "3/8", "1/8"],
)
_SSPRK33 = ButcherTableau([[], [1], ["1/4", "1/4"]], ["1/6", "1/6", "2/3"])
_SSPRK43 = ButcherTableau(
    [[], ["1/2"], ["1/2", "1/2"], ["1/6", "1/6", "1/6"]],
    ["1/6", "1/6", "1/6", "1/2"],
)
_SSPRK104 = ButcherTableau(
    [["1/6"] * i for i in range(5)] + [["1/15"] * 5 + ["1/6"] * i for i in range(5)],
    ["1/10"] * 10,
)
_DORMAND_PRINCE5 = ButcherTableau(
    [
        [],
        ["1/5"],
        ["3/40", "9/40"],
        ["44/45", "-56/15", "32/9"],
        ["19372/6561", "-25360/2187", "64448/6561", "-212/729"],
        ["9017/3168", "-355/33", "46732/5247", "49/176", "-5103/18656"],
    ],
    ["35/384", 0, "500/1113", "125/192", "-2187/6784", "11/84"],
)
# Published to 16 digits: the conditions hold to rounding.
_TSIT5 = ButcherTableau(
    [
        [],
        ["0.161"],
        ["-0.008480655492356989", "0.335480655492357"],
        ["2.8971530571054935", "-6.359448489975075", "4.3622954328695815"],
        ["5.325864828439257", "-11.748883564062828", "7.4955393428898365", "-0.09249506636175525"],
        [
            "5.86145544294642",
            "-12.92096931784711",
            "8.159367898576159",
            "-0.071584973281401",
            "-0.028269050394068383",
        ],
    ],
    [
        "0.09646076681806523",
        "0.01",
        "0.4798896504144996",
        "1.379008574103742",
        "-3.290069515436081",
        "2.324710524099774",
    ],
)


class Euler(AbstractExplicitRungeKutta):
    """Forward Euler: ``y+ = y + dt F(s, y)``. Order 1, one stage.

    With dt = 1 it turns ``h' = -h + tanh(W h + V x + b)`` into the Elman network.
    Memory and cost: ``RungeKutta``. Reference: Euler, *Institutionum calculi integralis* (1768).
    """

    tableau: ClassVar[ButcherTableau] = _EULER


class Midpoint(AbstractExplicitRungeKutta):
    """The explicit midpoint rule: ``y+ = y + dt F(s + dt/2, y + dt/2 F(s, y))``. Order 2, 2 stages.

    Memory and cost: ``RungeKutta``. Reference: Runge, Math. Ann. 46 (1895).
    """

    tableau: ClassVar[ButcherTableau] = _MIDPOINT


class Heun(AbstractExplicitRungeKutta):
    """Heun's method: the mean of the slopes at both ends of the step. Order 2, 2 stages.

    ``K1 = F(s, y)``, ``K2 = F(s + dt, y + dt K1)``, ``y+ = y + dt (K1 + K2) / 2``.
    Memory and cost: ``RungeKutta``. Reference: Heun, Z. Math. Phys. 45 (1900).
    """

    tableau: ClassVar[ButcherTableau] = _HEUN


class Ralston(AbstractExplicitRungeKutta):
    """Ralston's method: of all with order 2 and 2 stages, the smallest bound of the local error.

    ``K2 = F(s + 2/3 dt, y + 2/3 dt K1)``, ``y+ = y + dt (K1 + 3 K2) / 4``.
    Memory and cost: ``RungeKutta``. Reference: Ralston, Math. Comp. 16 (1962).
    """

    tableau: ClassVar[ButcherTableau] = _RALSTON


class Kutta3(AbstractExplicitRungeKutta):
    """Kutta's method of order 3: slopes at s, s + dt/2 and s + dt, Simpson's weights. 3 stages.

    Memory and cost: ``RungeKutta``. Reference: Kutta, Z. Math. Phys. 46 (1901).
    """

    tableau: ClassVar[ButcherTableau] = _KUTTA3


class BogackiShampine3(AbstractExplicitRungeKutta):
    """The method of order 3 inside the pair of Bogacki and Shampine. 3 stages.

    Memory and cost: ``RungeKutta``. Reference: Bogacki, Shampine, Appl. Math. Lett. 2 (1989).
    """

    tableau: ClassVar[ButcherTableau] = _BOGACKI_SHAMPINE3


class RK4(AbstractExplicitRungeKutta):
    """The classical Runge-Kutta method. Order 4, 4 stages.

    ``y+ = y + dt (K1 + 2 K2 + 2 K3 + K4) / 6`` with slopes at s, s + dt/2 (twice) and s + dt.
    Memory and cost: ``RungeKutta``. Reference: Kutta, Z. Math. Phys. 46 (1901).
    """

    tableau: ClassVar[ButcherTableau] = _RK4


class RK38(AbstractExplicitRungeKutta):
    """Kutta's 3/8 rule: slopes at s, s + dt/3, s + 2dt/3 and s + dt. Order 4, 4 stages.

    Memory and cost: ``RungeKutta``. Reference: Kutta, Z. Math. Phys. 46 (1901).
    """

    tableau: ClassVar[ButcherTableau] = _RK38


class SSPRK22(AbstractExplicitRungeKutta):
    """The optimal strong-stability-preserving method of order 2 with 2 stages: Heun's, radius 1.

    Memory and cost: ``RungeKutta``. Reference: Shu, Osher, J. Comput. Phys. 77 (1988).
    """

    tableau: ClassVar[ButcherTableau] = _HEUN


class SSPRK33(AbstractExplicitRungeKutta):
    """The optimal strong-stability-preserving method of order 3 with 3 stages: radius 1.

    Memory and cost: ``RungeKutta``. Reference: Shu, Osher, J. Comput. Phys. 77 (1988).
    """

    tableau: ClassVar[ButcherTableau] = _SSPRK33


class SSPRK43(AbstractExplicitRungeKutta):
    """The optimal strong-stability-preserving method of order 3 with 4 stages: radius 2.

    Memory and cost: ``RungeKutta``. Reference: Kraaijevanger, BIT 31 (1991).
    """

    tableau: ClassVar[ButcherTableau] = _SSPRK43


class SSPRK104(AbstractExplicitRungeKutta):
    """Ketcheson's strong-stability-preserving method of order 4 with 10 stages: radius 6.

    Memory and cost: ``RungeKutta``. Reference: Ketcheson, SIAM J. Sci. Comput. 30 (2008).
    """

    tableau: ClassVar[ButcherTableau] = _SSPRK104


class DormandPrince5(AbstractExplicitRungeKutta):
    """The method of order 5 inside the pair of Dormand and Prince (ode45). 6 stages.

    Memory and cost: ``RungeKutta``. Reference: Dormand, Prince, J. Comput. Appl. Math. 6 (1980).
    """

    tableau: ClassVar[ButcherTableau] = _DORMAND_PRINCE5


class Tsit5(AbstractExplicitRungeKutta):
    """Tsitouras' method of order 5. 6 stages.

    Memory and cost: ``RungeKutta``. Reference: Tsitouras, Comput. Math. Appl. 62 (2011).
    """

    tableau: ClassVar[ButcherTableau] = _TSIT5
