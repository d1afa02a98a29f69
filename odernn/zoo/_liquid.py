"""Liquid time constants and their closed form."""

from .._method import FusedEuler, LieTrotter, Substeps
from ..fields import _liquid as fields
from ._network import Network

LTC = Network(
    "LTC",
    "liquid time-constant network",
    2021,
    fields.LiquidTimeConstant,
    Substeps(FusedEuler(), 6),
)
CfC = Network(
    "CfC",
    "closed-form continuous-time network",
    2022,
    fields.ClosedForm,
    LieTrotter(),
    options={"mode": "default"},
)
CfCNoGate = Network(
    "CfCNoGate",
    "closed-form continuous-time network without its second gate",
    2022,
    fields.ClosedForm,
    LieTrotter(),
    options={"mode": "no_gate"},
)
CfCPure = Network(
    "CfCPure",
    "closed-form solution of liquid time constants",
    2022,
    fields.ClosedForm,
    LieTrotter(),
    options={"mode": "pure"},
)

NETWORKS = (LTC, CfC, CfCNoGate, CfCPure)
