"""Weights from other libraries, and back."""

from ._torch import from_torch as from_torch
from ._torch import to_state_dict as to_state_dict
from ._torch import to_torch as to_torch
