"""Networks that are linear in their state, and memories of history."""

from .._method import ETD1, Euler, GaussSeidelEuler, IMEXEuler, ImplicitMidpoint, LieTrotter
from ..fields import _history as history
from ..fields import _state_space as state_space
from ._network import Network

LinOSSIM = Network(
    "LinOSSIM", "oscillatory state space, implicit", 2025, state_space.LinOSS, IMEXEuler()
)
LinOSSIMEX = Network(
    "LinOSSIMEX",
    "oscillatory state space, symplectic",
    2025,
    state_space.LinOSS,
    GaussSeidelEuler(),
)
LRU = Network(
    "LRU", "linear recurrent unit", 2023, state_space.LRU, LieTrotter(methods={"rest": Euler()})
)
S4D = Network("S4D", "diagonal state space", 2022, state_space.S4D, ETD1())
S5 = Network("S5", "simplified state space", 2023, state_space.S5, ETD1())
LMU = Network(
    "LMU", "Legendre memory unit", 2019, history.LMU, LieTrotter(methods={"hidden": Euler()})
)
HiPPOLegS = Network(
    "HiPPOLegS", "scaled Legendre memory", 2020, history.HiPPOLegS, ImplicitMidpoint()
)

NETWORKS = (LinOSSIM, LinOSSIMEX, LRU, S4D, S5, LMU, HiPPOLegS)
