"""Fields whose flow is a rotation for all values of the parameters."""

from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from .._field import (
    AbstractCertifiedField,
    AbstractSemilinearField,
    AbstractSplitField,
    StructuralBounds,
)
from .._initial import Rule, by_input_size, by_inputs, by_variance, zeros
from .._operator import Skew
from .._results import InputError
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._activation import activation
from ._base import AbstractAffineField


class AbstractRotationField(AbstractCertifiedField, AbstractAffineField):
    """A field that is linear in its state, with a rotation for its flow; it shows phi(h)."""

    activation: str = eqx.field(static=True)

    depth: ClassVar[int] = 0

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "tanh",
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.activation = activation
        self._draw(input_size, hidden_size, init, key)

    def __check_init__(self):
        activation(self.activation)

    def output(self, y: State) -> Float[Array, " hidden"]:
        return activation(self.activation)(y)


class Conservative(AbstractRotationField, AbstractSemilinearField):
    """A rotation driven by the input: ``h' = (M - M^T) h + V x + b``; the next layer sees phi(h).

    The exact flow (ETD1, a splitting) and the implicit midpoint rule (the Cayley map) have
    orthogonal step Jacobians: gradients through time neither grow nor shrink, ever. The state
    enters linearly: a map whose Jacobian is orthogonal everywhere is an affine one, so only what is
    read out may be nonlinear, and what the input does (``SelectiveRotation``). A Hamiltonian system
    that is not linear is symplectic and no isometry. Order 1, depth 0.

    **Arguments**: ``input_size``, ``hidden_size``; ``activation`` phi; ``init``; ``key``.
    **Parameters**: ``weight`` M (hidden, hidden) from N(0, 1/hidden), ``input_weight`` (input,
    hidden) from U(-1/sqrt(input), 1/sqrt(input)), ``bias`` (hidden,), zero.

    Reference: Lezcano-Casado and Martinez-Rubio, "Cheap Orthogonal Constraints in Neural Networks",
    arXiv:1901.08428.
    """

    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": by_variance,
        "input_weight": by_inputs(),
        "bias": zeros,
    }

    @property
    def certified(self) -> StructuralBounds:
        return StructuralBounds(
            growth=0.0,
            size=None,
            circle=None,
            isometry=True,
            source="linear in the state, by a skew matrix",
            linear=0.0,
            rest=0.0,
        )

    def __call__(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> State:
        return self.linear().apply(y) + u

    def linear(self) -> Skew:
        return Skew(self.weight)

    def rest(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> State:
        return u


class SelectiveRotation(AbstractRotationField, AbstractSplitField):
    """Rotations that the input chooses: ``h' = (M - M^T) h + theta(x).(J h) + V x + b``.

    ``J (p, q) = (-q, p)`` for the halves p, q of the state turns pairs of units, each at a speed
    ``theta = V_t x + b_t`` of the input; M, fixed in time, mixes the pairs. Three parts, "mixing",
    "turn" and "input", each with its exact flow: every splitting has orthogonal step Jacobians,
    whatever the inputs. The next layer sees phi(h). Order 1, depth 0: linear in the state.

    **Arguments**: ``input_size``; ``hidden_size``, an even number; ``activation`` phi; ``init``;
    ``key``. **Parameters**: ``weight`` M (hidden, hidden) from N(0, 1/hidden); ``input_weight``
    (input, 3/2 hidden) and ``bias`` (3/2 hidden,), the speeds first, from U(-1/sqrt(input),
    1/sqrt(input)).

    Reference: Dangovski, Jing, Nakov, Tatalovic, Soljacic, "Rotational Unit of Memory", TACL 7
    (2019), whose rotation the state chooses, too, at the price of the isometry.
    """

    weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input forms"]
    bias: Float[Array, " forms"]

    parts: ClassVar[tuple[str, ...]] = ("mixing", "turn", "input")
    part_depths: ClassVar[Mapping[str, int]] = dict.fromkeys(parts, 0)
    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": by_variance,
        "input_weight": by_input_size,
        "bias": by_input_size,
    }

    def __check_init__(self):
        if self.hidden_size % 2:
            raise InputError(
                f"hidden_size = {self.hidden_size}: give an even number, units turn in pairs."
            )

    @property
    def forms_size(self) -> int:
        """Number of affine forms of the input: a speed for each pair, a drive for each unit."""
        return self.hidden_size // 2 + self.hidden_size

    @property
    def certified(self) -> StructuralBounds:
        return StructuralBounds(
            growth=0.0,
            size=None,
            circle=None,
            isometry=True,
            source="linear in the state, by a skew matrix of the input",
        )

    def __call__(self, time: Scalar, y: State, u: Float[Array, " forms"]) -> State:
        mixing, turn, given = (self.part(name, time, y, u) for name in self.parts)
        return mixing + turn + given

    def part(self, name: str, time: Scalar, y: State, u: Float[Array, " forms"]) -> State:
        if name == "mixing":
            return Skew(self.weight).apply(y)
        speed, given = jnp.split(u, [self.hidden_size // 2])
        return given if name == "input" else _turn(y, jnp.zeros_like(speed), speed)

    def flow(
        self, name: str, time: Scalar, y: State, u: Float[Array, " forms"], dt: Scalar
    ) -> State:
        if name == "mixing":
            return Skew(self.weight).exponential(dt).apply(y)
        speed, given = jnp.split(jnp.asarray(dt, u.dtype) * u, [self.hidden_size // 2])
        return y + given if name == "input" else _turn(y, jnp.cos(speed), jnp.sin(speed))


def _turn(y: Array, same: Array, other: Array) -> Array:
    p, q = jnp.split(y, 2)
    return jnp.concatenate([same * p - other * q, other * p + same * q])
