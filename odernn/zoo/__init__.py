"""Known networks."""

from ._cells import GRU as GRU
from ._cells import LEM as LEM
from ._cells import LSTM as LSTM
from ._cells import NETWORKS
from ._cells import RNN as RNN
from ._cells import AntisymmetricRNN as AntisymmetricRNN
from ._cells import coRNN as coRNN
from ._network import Network as Network

CELLS: dict[str, Network] = {network.name.lower(): network for network in NETWORKS}
"""The networks of the zoo by lower-case name."""
