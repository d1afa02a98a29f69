"""Networks that are stable by construction, for all values of their parameters."""

from .._method import ETD1, Euler, LieTrotter
from ..fields import _certified as certified
from ..fields import _conservative as conservative
from ._network import Network

ContractingRNN = Network(
    "ContractingRNN", "contracting Elman network", 2019, certified.ContractingLeaky, Euler()
)
GradientFlowRNN = Network(
    "GradientFlowRNN",
    "residual network of a gradient flow",
    2024,
    certified.GradientFlow,
    Euler(),
)
ConservativeRNN = Network(
    "ConservativeRNN", "driven rotation", 2019, conservative.Conservative, ETD1()
)
SelectiveRotationRNN = Network(
    "SelectiveRotationRNN",
    "rotations that the input chooses",
    2019,
    conservative.SelectiveRotation,
    LieTrotter(),
)
ContractingLipschitzRNN = Network(
    "ContractingLipschitzRNN",
    "contracting Lipschitz network",
    2021,
    certified.ContractingLipschitz,
    Euler(),
    0.1,
)
ContractingCoRNN = Network(
    "ContractingCoRNN",
    "contracting coupled oscillators",
    2021,
    certified.ContractingOscillator,
    LieTrotter(methods={"rest": Euler()}),
    0.5,
)
ContractingUGRNN = Network(
    "ContractingUGRNN", "contracting update gate", 2017, certified.ContractingGated, Euler()
)

NETWORKS = (
    ContractingRNN,
    GradientFlowRNN,
    ConservativeRNN,
    SelectiveRotationRNN,
    ContractingLipschitzRNN,
    ContractingCoRNN,
    ContractingUGRNN,
)
