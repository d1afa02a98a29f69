"""Models: stacked layers and a read-out."""

from collections.abc import Sequence
from typing import Any, TypeGuard

import equinox as eqx
import jax
import jax.numpy as jnp

from ._layer import AbstractLayer, Layer, valid_steps
from ._readout import AbstractReadout, LastStep
from ._results import InputError
from ._typing import Array, Float, Inexact, PRNGKeyArray


class Model(eqx.Module):
    """Layers one after the other, then a read-out.

    **Arguments**: ``layers``, each taking what the one before puts out; ``readout``: ``LastStep``
    or ``MeanPool`` (one output a sequence: class scores, values) or ``EachStep``; ``dropout``, the
    share of hidden units dropped after each layer while training, the same ones at all steps of a
    sequence (Gal and Ghahramani, arXiv:1512.05287).

    ``model(xs)`` takes one sequence of shape (time, input) and the options ``times``, ``mask`` and
    ``length`` of ``Layer``; with a random ``key`` it drops values (training), without it does not.
    A batch is ``jax.vmap`` of it.

    >>> import jax, jax.numpy as jnp, odernn
    >>> a, b = jax.random.split(jax.random.key(0))
    >>> layer = odernn.Layer(odernn.zoo.coRNN(3, 16, key=a))
    >>> model = odernn.Model([layer], odernn.LastStep(16, 10, key=b))
    >>> model(jnp.ones((20, 3))).shape
    (10,)

    Raises ``InputError`` if sizes do not fit or ``dropout`` is not in [0, 1).
    """

    layers: tuple[AbstractLayer, ...]
    readout: AbstractReadout
    dropout: float = eqx.field(static=True)

    def __init__(
        self, layers: Sequence[AbstractLayer], readout: AbstractReadout, dropout: float = 0.0
    ):
        if not layers:
            raise InputError("layers is empty: a model needs at least one layer.")
        sizes = [layer.hidden_size for layer in layers]
        following = [(f"layer {i + 1}", layer) for i, layer in enumerate(layers[1:])]
        for size, (name, part) in zip(sizes, [*following, ("the read-out", readout)], strict=True):
            if part.input_size != size:
                raise InputError(
                    f"{name} takes {part.input_size} channels but the layer before it puts out "
                    f"{size}."
                )
        if not 0 <= dropout < 1:
            raise InputError(f"dropout = {dropout}: give the share to drop, in [0, 1).")
        self.layers = tuple(layers)
        self.readout = readout
        self.dropout = float(dropout)

    @property
    def input_size(self) -> int:
        """Number of input channels."""
        return self.layers[0].input_size

    @property
    def output_size(self) -> int:
        """Number of outputs."""
        return self.readout.output_size

    def __call__(
        self,
        xs: Inexact[Array, "time input"],
        *,
        key: PRNGKeyArray | None = None,
        mask: Any = None,
        length: Any = None,
        times: Any = None,
    ) -> Float[Array, "*time output"]:
        """Return the outputs for one sequence."""
        keys = [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
        hs = jnp.asarray(xs)
        valid = valid_steps(mask, length, hs.shape[0]) if hs.ndim else None
        for number, (layer, dropout_key) in enumerate(zip(self.layers, keys, strict=True), start=1):
            hs, state = layer(hs, times=times, mask=valid)
            if number == len(keys) and self._reads_final_state(layer):
                # No other output is needed, and so none is kept for the gradient.
                hs, valid = layer.cell.output(state)[None], None
            if dropout_key is not None and self.dropout:
                keep = jax.random.bernoulli(dropout_key, 1 - self.dropout, hs.shape[1:])
                hs = jnp.where(keep, hs / (1 - self.dropout), jnp.zeros_like(hs))
        return self.readout(hs, valid)

    def _reads_final_state(self, top: AbstractLayer) -> TypeGuard[Layer]:
        """Whether the last output that counts, which masked steps repeat, is all that is read."""
        return isinstance(self.readout, LastStep) and isinstance(top, Layer) and not top.reverse


def parameter_count(model: Any) -> int:
    """Return the number of trained scalars: the sizes of all floating-point arrays.

    >>> import jax, odernn
    >>> odernn.parameter_count(odernn.zoo.LSTM(8, 128, key=jax.random.key(0)))
    70144
    """
    return sum(a.size for a in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
