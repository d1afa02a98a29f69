"""Known recurrent networks."""

from ._cells import CELLS as CELLS
from ._cells import GRU as GRU
from ._cells import LEM as LEM
from ._cells import LSTM as LSTM
from ._cells import RNN as RNN
from ._cells import AntisymmetricRNN as AntisymmetricRNN
from ._cells import coRNN as coRNN
