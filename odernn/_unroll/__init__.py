"""Ways to repeat a step over a sequence."""

from ._adjoint import Adjoint as Adjoint
from ._base import AbstractUnroll as AbstractUnroll
from ._reversible import Reversible as Reversible
from ._scan import Scan as Scan
