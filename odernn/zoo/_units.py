"""Networks with one state, most of them gated."""

from .._method import Euler
from ..fields import _units, _units_input, _units_reset
from ..fields._leaky import Leaky
from ._network import Network

CTRNN = Network("CTRNN", "continuous-time network", 1993, Leaky, Euler(), 0.1)
IndRNN = Network("IndRNN", "independently recurrent network", 2018, _units.IndRNN, Euler())
FastRNN = Network("FastRNN", "network with a weighted residual", 2018, _units.FastRNN, Euler())
FastGRNN = Network("FastGRNN", "gated, with shared weights", 2018, _units.FastGRNN, Euler())

UGRNN = Network(
    "UGRNN",
    "update-gate network",
    2017,
    _units.UpdateGated,
    Euler(),
    options={"activation": "tanh", "beta": 0.0},
)
LiGRU = Network(
    "LiGRU",
    "light gated recurrent unit",
    2018,
    _units.UpdateGated,
    Euler(),
    options={"activation": "relu", "beta": 0.0},
)
JANET = Network(
    "JANET",
    "LSTM with a forget gate only",
    2018,
    _units.UpdateGated,
    Euler(),
    options={"activation": "tanh", "beta": 1.0},
)
ATR = Network("ATR", "addition-subtraction twin-gated network", 2018, _units.ATR, Euler())
SGRN = Network("SGRN", "simple gated network", 2021, _units.SGRN, Euler())
CFN = Network("CFN", "chaos-free network", 2017, _units.CFN, Euler())
LightRU = Network("LightRU", "light recurrent unit", 2024, _units.LightRU, Euler())
STAR = Network("STAR", "stackable recurrent cell", 2022, _units.STAR, Euler())
BR = Network("BR", "bistable cell", 2021, _units.BR, Euler())
NBR = Network("NBR", "neuromodulated bistable cell", 2021, _units.NBR, Euler())
MinimalRNN = Network(
    "MinimalRNN", "minimal recurrent network", 2017, _units_input.MinimalRNN, Euler()
)

GRUReset = Network("GRUReset", "GRU, reset first", 2014, _units_reset.ResetGated, Euler())
GRUODE = Network("GRUODE", "GRU-ODE", 2019, _units_reset.ResetGated, Euler(), 0.1)
MGU = Network("MGU", "minimal gated unit", 2016, _units_reset.MGU, Euler())
MUT1 = Network("MUT1", "evolved unit 1", 2015, _units_reset.MUT1, Euler())
MUT2 = Network("MUT2", "evolved unit 2", 2015, _units_reset.ResetGated, Euler())
MUT3 = Network("MUT3", "evolved unit 3", 2015, _units_reset.MUT3, Euler())
# dt is one minus the update coefficient; the reset coefficient of MiRU-2 scales the weights.
MiRU1 = Network("MiRU1", "minion recurrent unit 1", 2026, _units_reset.MiRU, Euler(), 0.5)
MiRU2 = Network("MiRU2", "minion recurrent unit 2", 2026, Leaky, Euler(), 0.5)
SGU = Network(
    "SGU",
    "simple gated unit",
    2016,
    _units_reset.SGU,
    Euler(),
    options={"deep": False, "output_activation": "softplus"},
)
DSGU = Network(
    "DSGU",
    "deep simple gated unit",
    2016,
    _units_reset.SGU,
    Euler(),
    options={"deep": True, "output_activation": "sigmoid"},
)

minGRU = Network("minGRU", "minimal parallel GRU", 2024, _units_input.InputGated, Euler())
minLSTM = Network("minLSTM", "minimal parallel LSTM", 2024, _units_input.MinLSTM, Euler())
TRNN = Network("TRNN", "strongly-typed network", 2016, _units_input.InputGated, Euler())
TGRU = Network(
    "TGRU",
    "strongly-typed GRU",
    2016,
    _units_input.TGRU,
    Euler(),
)
tauGRU = Network("tauGRU", "GRU with delayed feedback", 2022, _units_input.TauGRU, Euler())

NETWORKS = (
    *(CTRNN, IndRNN, FastRNN, FastGRNN),
    *(UGRNN, LiGRU, JANET, ATR, SGRN, CFN, LightRU, STAR, BR, NBR, MinimalRNN),
    *(GRUReset, GRUODE, MGU, MUT1, MUT2, MUT3, MiRU1, MiRU2, SGU, DSGU),
    *(minGRU, minLSTM, TRNN, TGRU, tauGRU),
)
