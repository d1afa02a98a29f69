"""Weights from other libraries, and back; networks of qubits as circuits."""

from ._quantum import QuantumFunction as QuantumFunction
from ._quantum import to_openqasm as to_openqasm
from ._quantum import to_pennylane as to_pennylane
from ._torch import from_torch as from_torch
from ._torch import to_state_dict as to_state_dict
from ._torch import to_torch as to_torch
