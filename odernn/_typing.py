"""Names for what the library passes around."""

from typing import Any

from jaxtyping import Array, ArrayLike, Bool, Float, Inexact, Int, PRNGKeyArray, PyTree

State = PyTree[Inexact[Array, "..."]]
"""State of an ODE: an array, or a dict of named blocks."""

Drive = PyTree[Any]
"""What a field makes of one input, see ``AbstractField.drive``."""

Scalar = float | Inexact[Array, ""]
"""A number or an array without axes."""

__all__ = [
    "Array",
    "ArrayLike",
    "Bool",
    "Drive",
    "Float",
    "Inexact",
    "Int",
    "PRNGKeyArray",
    "PyTree",
    "Scalar",
    "State",
]
