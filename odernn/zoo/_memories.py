"""Networks with a memory behind the hidden state, and others with several blocks."""

from .._method import Euler, GaussSeidelEuler
from ..fields import _blocks as blocks
from ..fields import _memories as memories
from ._network import Network

OriginalLSTM = Network(
    "OriginalLSTM",
    "LSTM without a forget gate",
    1997,
    memories.OriginalLSTM,
    GaussSeidelEuler(),
)
PeepholeLSTM = Network(
    "PeepholeLSTM",
    "LSTM with peephole connections",
    2000,
    memories.PeepholeLSTM,
    GaussSeidelEuler(),
)
SCRN = Network("SCRN", "structurally constrained network", 2015, blocks.SCRN, GaussSeidelEuler())
MultiplicativeLSTM = Network(
    "MultiplicativeLSTM",
    "multiplicative LSTM",
    2016,
    memories.MultiplicativeLSTM,
    GaussSeidelEuler(),
)
TLSTM = Network(
    "TLSTM",
    "strongly-typed LSTM",
    2016,
    memories.TLSTM,
    GaussSeidelEuler(),
)
IntersectionRNN = Network(
    "IntersectionRNN", "intersection network (+RNN)", 2017, blocks.IntersectionRNN, Euler()
)
MCLSTM = Network(
    "MCLSTM", "LSTM with a memory controller", 2017, memories.MCLSTM, GaussSeidelEuler()
)
NAS = Network("NAS", "cell of an architecture search", 2017, memories.NAS, GaussSeidelEuler())
RAN = Network("RAN", "recurrent additive network", 2017, memories.RAN, Euler())
ResLSTM = Network("ResLSTM", "residual LSTM", 2017, memories.ResLSTM, GaussSeidelEuler())
MomentumRNN = Network(
    "MomentumRNN", "network with momentum", 2020, blocks.MomentumRNN, GaussSeidelEuler()
)
UnICORNN = Network(
    "UnICORNN", "undamped independent oscillators", 2021, blocks.UnICORNN, GaussSeidelEuler(), 0.19
)
WMCLSTM = Network("WMCLSTM", "LSTM with working memory", 2021, memories.WMCLSTM, GaussSeidelEuler())

NETWORKS = (
    OriginalLSTM,
    PeepholeLSTM,
    SCRN,
    MultiplicativeLSTM,
    TLSTM,
    IntersectionRNN,
    MCLSTM,
    NAS,
    RAN,
    ResLSTM,
    MomentumRNN,
    UnICORNN,
    WMCLSTM,
)
