"""Independent implementations of the networks of the zoo.

``REFERENCES[name](input_size, hidden_size, rng)`` returns a cell of that network with random
weights and a function from inputs (time, input) to the outputs (time, hidden) that another
implementation, with the same weights, computes: PyTorch, another library, or the equations of the
paper written out in NumPy.
"""

from . import basic, certified, linear, liquid, memories, quantum, stable, units

_FAMILIES = (
    basic,
    certified,
    linear,
    liquid,
    memories,
    quantum,
    stable,
    units,
)
REFERENCES = {name: make for family in _FAMILIES for name, make in family.REFERENCES.items()}
