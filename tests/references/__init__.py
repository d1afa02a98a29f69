"""Independent implementations of the networks of the zoo.

``REFERENCES[name](input_size, hidden_size, rng)`` returns a cell of that network with random
weights and a function from inputs (time, input) to the outputs (time, hidden) that another
implementation, with the same weights, computes: PyTorch, another library, or the equations of the
paper written out in NumPy.
"""

from .basic import REFERENCES as _basic

REFERENCES = {**_basic}
