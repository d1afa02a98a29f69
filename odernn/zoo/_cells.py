"""The basic networks."""

from .. import fields
from .._method import Euler, GaussSeidelEuler
from ._network import Network

RNN = Network("RNN", "Elman network", 1990, fields.Leaky, Euler())
GRU = Network("GRU", "gated recurrent unit", 2014, fields.Gated, Euler())
LSTM = Network("LSTM", "long short-term memory", 1997, fields.LSTM, GaussSeidelEuler())
AntisymmetricRNN = Network(
    "AntisymmetricRNN", "antisymmetric network", 2019, fields.Antisymmetric, Euler(), 0.1
)
coRNN = Network("coRNN", "coupled oscillators", 2021, fields.Oscillator, GaussSeidelEuler(), 0.2)
LEM = Network("LEM", "long expressive memory", 2022, fields.LEM, GaussSeidelEuler())

NETWORKS = (RNN, GRU, LSTM, AntisymmetricRNN, coRNN, LEM)
