"""Known networks as field, method and step size."""

from collections.abc import Callable

from .. import fields
from .._cell import Cell, TrainedStep
from .._method import Euler, GaussSeidelEuler
from .._typing import PRNGKeyArray

Step = float | TrainedStep


def RNN(
    input_size: int,
    hidden_size: int,
    *,
    activation: str = "tanh",
    dt: Step = 1.0,
    key: PRNGKeyArray,
) -> Cell:
    """The Elman network ``h+ = tanh(W h + V x + b)``: Leaky, Euler, dt = 1.

    With dt < 1 it is the leaky (CTRNN) network. Reference: Elman, Cogn. Sci. 14 (1990).
    """
    field = fields.Leaky(input_size, hidden_size, activation=activation, key=key)
    return Cell(field, Euler(), dt)


def GRU(input_size: int, hidden_size: int, *, dt: Step = 1.0, key: PRNGKeyArray) -> Cell:
    """The gated recurrent unit, as PyTorch has it: Gated, Euler, dt = 1.

    Reference: Cho et al., arXiv:1406.1078.
    """
    return Cell(fields.Gated(input_size, hidden_size, key=key), Euler(), dt)


def LSTM(input_size: int, hidden_size: int, *, dt: Step = 1.0, key: PRNGKeyArray) -> Cell:
    """Long short-term memory, as PyTorch has it: LSTM, Gauss-Seidel Euler, dt = 1.

    Reference: Hochreiter and Schmidhuber, Neural Computation 9 (1997).
    """
    return Cell(fields.LSTM(input_size, hidden_size, key=key), GaussSeidelEuler(), dt)


def AntisymmetricRNN(
    input_size: int,
    hidden_size: int,
    *,
    gamma: float = 0.01,
    dt: Step = 0.1,
    key: PRNGKeyArray,
) -> Cell:
    """The antisymmetric network ``h+ = h + dt tanh((M - M^T - gamma I) h + V x + b)``: Euler.

    Reference: Chang, Chen, Haber, Chi, arXiv:1902.09689.
    """
    return Cell(fields.Antisymmetric(input_size, hidden_size, gamma=gamma, key=key), Euler(), dt)


def coRNN(
    input_size: int,
    hidden_size: int,
    *,
    gamma: float = 1.0,
    epsilon: float = 1.0,
    dt: Step = 0.2,
    key: PRNGKeyArray,
) -> Cell:
    """Coupled oscillators: Oscillator, Gauss-Seidel (IMEX) Euler, velocity first.

    ``v+ = v + dt (tanh(W h + U v + V x + b) - gamma h - eps v)``, ``h+ = h + dt v+``.
    Reference: Rusch, Mishra, arXiv:2010.00951.
    """
    field = fields.Oscillator(input_size, hidden_size, gamma=gamma, epsilon=epsilon, key=key)
    return Cell(field, GaussSeidelEuler(), dt)


def LEM(input_size: int, hidden_size: int, *, dt: Step = 1.0, key: PRNGKeyArray) -> Cell:
    """Long expressive memory: LEM, Gauss-Seidel (IMEX) Euler, z first.

    Reference: Rusch, Mishra, Erichson, Mahoney, arXiv:2110.04744.
    """
    return Cell(fields.LEM(input_size, hidden_size, key=key), GaussSeidelEuler(), dt)


CELLS: dict[str, Callable[..., Cell]] = {
    cell.__name__.lower(): cell for cell in (RNN, GRU, LSTM, AntisymmetricRNN, coRNN, LEM)
}
"""The networks of the zoo by lower-case name."""
