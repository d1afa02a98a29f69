"""Unitary networks, Lipschitz and antisymmetric ones, reservoirs, increments."""

from .._method import Euler, LieTrotter
from ..fields import _stable as stable
from ..fields import _unitary as unitary
from ._network import Network

uRNN = Network("uRNN", "unitary evolution network", 2016, unitary.FactoredUnitary, LieTrotter())
FullCapacityuRNN = Network(
    "FullCapacityuRNN", "full-capacity unitary network", 2016, unitary.Unitary, LieTrotter()
)
scoRNN = Network(
    "scoRNN", "scaled Cayley orthogonal network", 2018, unitary.CayleyOrthogonal, LieTrotter()
)
expRNN = Network("expRNN", "exponential orthogonal network", 2019, unitary.Orthogonal, LieTrotter())
GatedAntisymmetricRNN = Network(
    "GatedAntisymmetricRNN",
    "antisymmetric network with a gate",
    2019,
    stable.GatedAntisymmetric,
    Euler(),
    0.1,
)
LipschitzRNN = Network("LipschitzRNN", "Lipschitz network", 2021, stable.Lipschitz, Euler(), 0.03)
LipschitzGatedRNN = Network(
    "LipschitzGatedRNN", "gated Lipschitz network", 2021, stable.GatedLipschitz, Euler(), 0.03
)
IncrementalRNN = Network(
    "IncrementalRNN", "incremental network (iRNN)", 2020, stable.Incremental, Euler()
)
ESN = Network("ESN", "echo-state network", 2001, stable.Reservoir, Euler())
EuSN = Network("EuSN", "Euler state network", 2024, stable.AntisymmetricReservoir, Euler(), 0.01)

NETWORKS = (
    uRNN,
    FullCapacityuRNN,
    scoRNN,
    expRNN,
    GatedAntisymmetricRNN,
    LipschitzRNN,
    LipschitzGatedRNN,
    IncrementalRNN,
    ESN,
    EuSN,
)
