"""What a step function is: its functional nonlinearity and its temporal memory."""

from ._order import Class as Class
from ._order import classify as classify
