"""All Jacobians that a function may have on a box: from its program to bounds of their norms."""

from ._matrices import MatrixSet as MatrixSet
from ._norm import Norm as Norm
from ._operations import NotEnclosed as NotEnclosed
from ._program import Enclosed as Enclosed
from ._program import enclose as enclose
