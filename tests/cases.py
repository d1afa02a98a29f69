"""Lists of everything that property tests go through; what is added here is tested at once."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp

import odernn
from odernn import fields, zoo


class Rotor(odernn.AbstractLieField):
    """Pairs of numbers that turn at rates which depend on input and state, on SO(2) each."""

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    weight: jax.Array
    input_weight: jax.Array

    def __init__(self, input_size, hidden_size, *, key):
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight = jax.random.normal(key, (hidden_size, hidden_size // 2))
        self.input_weight = jax.random.normal(key, (input_size, hidden_size // 2))

    def drive(self, x):
        return x @ self.input_weight

    def generator(self, time, y, u):
        return jnp.tanh(y @ self.weight + u)

    def exponential(self, element, y):
        return self._combine(jnp.cos(element), jnp.sin(element), y)

    def product(self, element, y):
        return self._combine(jnp.zeros_like(element), element, y)

    def initial_state(self):
        return jnp.linspace(-1, 1, self.hidden_size, dtype=self.dtype)

    def _combine(self, same, other, y):
        a, b = jnp.split(y, 2)
        return jnp.concatenate([same * a - other * b, other * a + same * b])


def _chain(**options):
    """Two qubits; the shorter splitting compiles faster."""
    return lambda key: fields.PauliHamiltonian(3, 2, splitting=2, key=key, **options)


FIELDS = {
    "Leaky": lambda key: fields.Leaky(3, 5, key=key),
    "Leaky-relu": lambda key: fields.Leaky(3, 5, activation="relu", key=key),
    "Antisymmetric": lambda key: fields.Antisymmetric(3, 5, gamma=0.1, key=key),
    "Oscillator": lambda key: fields.Oscillator(3, 5, gamma=1.3, epsilon=0.7, key=key),
    "Gated": lambda key: fields.Gated(3, 5, key=key),
    "LSTM": lambda key: fields.LSTM(3, 5, key=key),
    "LEM": lambda key: fields.LEM(3, 5, key=key),
    "Pauli-delayed": _chain(memory=2, feedback=True),
    "Pauli-feedback": _chain(feedback=True),
    "Pauli-lags": _chain(memory=2),
    "Pauli": _chain(),
    "Rotor": lambda key: Rotor(3, 6, key=key),
}
METHODS = dict(odernn.METHODS)
UNROLLS = {
    "scan": odernn.Scan(),
    "scan-checkpoint": odernn.Scan(checkpoint=4),
    "adjoint": odernn.Adjoint(),
    "adjoint-blocks": odernn.Adjoint(block=4),
}
# One network of each kind; `test_zoo.py` goes through them all.
_NETWORKS = (
    *(zoo.RNN, zoo.GRU, zoo.LSTM, zoo.AntisymmetricRNN, zoo.coRNN, zoo.LEM),
    *(zoo.LRU, zoo.expRNN, zoo.UnICORNN, zoo.tauGRU, zoo.QUNN),
)
CELLS = {make.name.lower(): (lambda key, make=make: make(3, 5, key=key)) for make in _NETWORKS}


def fits(field, method) -> bool:
    """Whether the method can integrate the field: Delayed takes one-step methods only."""
    one_step = isinstance(method, odernn.AbstractOneStep)
    return method.fits(field) and (one_step or not field.delays)


_KEY = jax.random.key(0)
MADE = {name: make(_KEY) for name, make in FIELDS.items()}
PAIRS = [(f, m) for f, m in itertools.product(FIELDS, METHODS) if fits(MADE[f], METHODS[m])]
MISFITS = [pair for pair in itertools.product(FIELDS, METHODS) if pair not in PAIRS]
# One stepper with other coefficients than those of the methods that go through all fields (Heun,
# RK4, two-stage Gauss, ...): on one field.
COEFFICIENTS = (
    *("ralston", "kutta3", "bogackishampine3", "rk38", "ssprk22", "ssprk33", "ssprk43", "ssprk104"),
    *("dormandprince5", "tsit5", "rkc10", "gauss3", "radauiia2", "radauiia3"),
    *("adamsmoulton1", "adamsmoulton3", "adamsmoulton4", "bdf1", "bdf3", "bdf4"),
    *("adamsbashforth4", "adamsbashforth5"),
)
# Chains of qubits, slow to compile, differ in what a step reads: all by the methods made for them,
# one by a method of each other kind.
QUANTUM = ("lietrotter", "crouchgrossman2", "commutatorfree2")
KINDS = (
    *("rk4", "adaptive", "implicitmidpoint", "linearlyimpliciteuler", "rkc5"),
    *("adamsbashforth2", "bdf2", "leapfrog", "reversiblerk4"),
)


def _is_trained(field: str, method: str) -> bool:
    """Every pair is trained, but those that would tell nothing new for the time they take.

    Another activation makes no other field, and for a method that solves equations, slow to
    compile, the LEM is another LSTM: two blocks that relax.
    """
    if field.startswith("Pauli"):
        return method in QUANTUM or (field == "Pauli-feedback" and method in KINDS)
    if field == "Leaky-relu" or (field == "LEM" and not METHODS[method].explicit):
        return False
    if method == "adaptive":  # Diffrax's loop is the same for all fields, and slow to compile
        return field in ("Leaky", "LSTM")
    return field == "Leaky" or method not in COEFFICIENTS


TRAINED = [pair for pair in PAIRS if _is_trained(*pair)]
# Precision is a matter of a field and of a method: each is in one of these pairs at least.
SINGLE = {
    pair for place in (0, 1) for pair in {pair[place]: pair for pair in reversed(TRAINED)}.values()
}
# These, cheap to compile, are also compared with a loop in Python, by every unroll.
SIMPLE = ("euler", "midpoint", "heun", "rk4", "gaussseideleuler")
SIMPLE_PAIRS = [
    (field, method)
    for field, method in PAIRS
    if method in SIMPLE and (not field.startswith("Pauli") or method == "heun")
]
SIMPLE_TRIPLES = [
    (*pair, unroll) for pair in SIMPLE_PAIRS for unroll in UNROLLS if unroll != "adjoint"
]


def as_precision(tree, dtype):
    """Return the pytree with its floating-point arrays in another precision."""
    return jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, tree)
