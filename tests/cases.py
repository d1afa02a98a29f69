"""Lists of everything that property tests go through; what is added here is tested at once."""

import itertools

import jax

import odernn
from odernn import fields, zoo

FIELDS = {
    "Leaky": lambda key: fields.Leaky(3, 5, key=key),
    "Leaky-relu": lambda key: fields.Leaky(3, 5, activation="relu", key=key),
    "Antisymmetric": lambda key: fields.Antisymmetric(3, 5, gamma=0.1, key=key),
    "Oscillator": lambda key: fields.Oscillator(3, 5, gamma=1.3, epsilon=0.7, key=key),
    "Gated": lambda key: fields.Gated(3, 5, key=key),
    "LSTM": lambda key: fields.LSTM(3, 5, key=key),
    "LEM": lambda key: fields.LEM(3, 5, key=key),
}
METHODS = dict(odernn.METHODS)
UNROLLS = {
    "scan": odernn.Scan(),
    "scan-checkpoint": odernn.Scan(checkpoint=4),
    "adjoint": odernn.Adjoint(),
    "adjoint-blocks": odernn.Adjoint(block=4),
}
CELLS = {name: (lambda key, make=make: make(3, 5, key=key)) for name, make in zoo.CELLS.items()}


def fits(field, method) -> bool:
    """Whether the method can integrate the field."""
    try:
        method.check(field)
    except odernn.InputError:
        return False
    return True


_KEY = jax.random.key(0)
MADE = {name: make(_KEY) for name, make in FIELDS.items()}
PAIRS = [(f, m) for f, m in itertools.product(FIELDS, METHODS) if fits(MADE[f], METHODS[m])]
MISFITS = [pair for pair in itertools.product(FIELDS, METHODS) if pair not in PAIRS]
# One field of each kind (one block, two blocks, frozen gates) is trained by every method that fits.
TRAINED = [pair for pair in PAIRS if pair[0] in ("Leaky", "Oscillator", "LSTM")]
# Every such pair is trained once (test_unroll); these, cheap to compile, are also compared with a
# loop in Python, by every unroll and in single precision. One block is a special case of several.
SIMPLE = ("euler", "midpoint", "heun", "rk4", "gaussseideleuler")
SIMPLE_PAIRS = [pair for pair in PAIRS if pair[1] in SIMPLE]
SIMPLE_TRIPLES = [
    (*pair, unroll) for pair in SIMPLE_PAIRS for unroll in UNROLLS if unroll != "adjoint"
]


def as_precision(tree, dtype):
    """Return the pytree with its floating-point arrays in another precision."""
    import equinox as eqx

    return jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, tree)
