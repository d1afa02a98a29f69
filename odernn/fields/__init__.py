"""Right-hand sides."""

from ._gated import LEM as LEM
from ._gated import LSTM as LSTM
from ._gated import Gated as Gated
from ._gated import ProjectedLSTM as ProjectedLSTM
from ._leaky import Antisymmetric as Antisymmetric
from ._leaky import Leaky as Leaky
from ._oscillator import Oscillator as Oscillator
