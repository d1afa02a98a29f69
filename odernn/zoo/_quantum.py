"""Quantum-inspired networks."""

from .._method import LieTrotter
from ..fields import PauliHamiltonian
from ._network import Network

QUNN = Network("QUNN", "quantum-inspired universal network", 2019, PauliHamiltonian, LieTrotter())

NETWORKS = (QUNN,)
