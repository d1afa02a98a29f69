"""Models: stacked layers and a read-out."""

from collections.abc import Sequence
from typing import Any, TypeGuard, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ._cell import Cell, TrainedStep
from ._field import AbstractField
from ._interpolation import AbstractInterpolation
from ._layer import AbstractLayer, Layer, check_sizes_fit, valid_steps
from ._method import AbstractMethod
from ._readout import AbstractReadout, LastStep
from ._results import InputError
from ._typing import Array, Float, Inexact, PRNGKeyArray, PyTree

Model_ = TypeVar("Model_")


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
        check_sizes_fit([*layers, readout], last="the read-out")
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
        if not (isinstance(self.readout, LastStep) and isinstance(top, Layer)) or top.reverse:
            return False
        return type(top.cell.field).feedthrough is AbstractField.feedthrough


def trained(model: Any) -> PyTree:
    """Return, for each leaf of a model, whether it is trained.

    These are the floating-point arrays, but those that a field names in ``fixed`` (the random
    weights of an echo-state network). For ``eqx.partition`` in a training loop of your own.

    >>> import equinox as eqx, jax, odernn
    >>> cell = odernn.zoo.RNN(3, 8, key=jax.random.key(0))
    >>> weights, rest = eqx.partition(cell, odernn.trained(cell))
    """

    def floating(leaf: Any) -> bool:
        shape = isinstance(leaf, jax.ShapeDtypeStruct)
        return eqx.is_inexact_array(leaf) or (shape and jnp.issubdtype(leaf.dtype, jnp.inexact))

    def mark(node: Any) -> Any:
        kinds = jax.tree.map(floating, node)
        if isinstance(node, AbstractField) and node.fixed:
            names = [name for name in node.fixed if getattr(node, name) is not None]
            kinds = eqx.tree_at(
                lambda field: [getattr(field, name) for name in names], kinds, [False] * len(names)
            )
        return kinds

    return jax.tree.map(mark, model, is_leaf=lambda node: isinstance(node, AbstractField))


def parameter_count(model: Any) -> int:
    """Return the number of trained scalars.

    >>> import jax, odernn
    >>> odernn.parameter_count(odernn.zoo.LSTM(8, 128, key=jax.random.key(0)))
    70144
    """
    return sum(a.size for a in jax.tree.leaves(eqx.filter(model, trained(model))))


def replace(
    model: Model_,
    *,
    method: AbstractMethod | None = None,
    dt: float | TrainedStep | None = None,
    interpolation: AbstractInterpolation | None = None,
) -> Model_:
    """Return a cell, layer or model with another method, step size or interpolation in every cell.

    The field with its weights stays: an LSTM trained elsewhere is run with RK4, or at half the
    step.

    >>> import jax, odernn
    >>> layer = odernn.Layer(odernn.zoo.LSTM(3, 8, key=jax.random.key(0)))
    >>> odernn.replace(layer, method=odernn.RK4(), dt=0.5).cell.n
    4

    Raises ``InputError`` if there is no cell inside, or the method does not fit its field.
    """
    cells = []

    def change(node: Any) -> Any:
        if not isinstance(node, Cell):
            return node
        cells.append(node)
        return Cell(
            node.field,
            node.method if method is None else method,
            node.dt if dt is None else dt,
            node.interpolation if interpolation is None else interpolation,
        )

    changed = jax.tree.map(change, model, is_leaf=lambda node: isinstance(node, Cell))
    if not cells:
        raise InputError(f"model = {type(model).__name__}: give a cell, a layer or a model.")
    return changed
