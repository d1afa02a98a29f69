"""What a step function is: its functional nonlinearity and its temporal memory."""

from ._order import Class as Class
from ._order import classify as classify
from ._picture import draw_table as draw_table
from ._table import Tile as Tile
from ._table import periodic_table as periodic_table
from ._table import print_table as print_table
