"""Weights from other libraries, and back; circuits of qubits; estimators (`sklearn`, `aeon`)."""

import importlib
from types import ModuleType

from ._quantum import QuantumFunction as QuantumFunction
from ._quantum import to_openqasm as to_openqasm
from ._quantum import to_pennylane as to_pennylane
from ._torch import from_torch as from_torch
from ._torch import to_state_dict as to_state_dict
from ._torch import to_torch as to_torch


def __getattr__(name: str) -> ModuleType:
    # Imported when first asked for: scikit-learn takes a second, aeon several.
    if name in ("aeon", "sklearn"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
