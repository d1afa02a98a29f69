"""Fields that are stable by construction: their bounds hold for all values of the parameters."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .._field import (
    AbstractCertifiedField,
    AbstractSemilinearField,
    StructuralBounds,
)
from .._initial import Rule, by_inputs
from .._operator import Dense
from .._results import InputError, unknown_name
from .._typing import Array, Float, PRNGKeyArray, Scalar, State
from ._activation import SLOPES, gates
from ._base import AbstractAffineField, AbstractGatedField
from ._leaky import AbstractLeakyField
from ._oscillator import AbstractOscillatorField

_CONTRACTING = [name for name, slope in SLOPES.items() if slope <= 1 and name != "identity"]
"""Activations whose slope is in [0, 1] everywhere, and that are no identity."""


def contraction(matrix: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """Return ``M R^-1`` with the upper triangular R of ``R^T R = I + M^T M``, R_ii > 0.

    A smooth map from all matrices onto those with a 2-norm below one, each reached once; singular
    values s become ``s / sqrt(1 + s^2)``. It is the upper part of Q in ``Q R = (M; I)``, whose
    columns are orthonormal to rounding, however large M is.
    """
    one = jnp.eye(matrix.shape[1], dtype=matrix.dtype)
    q, r = jnp.linalg.qr(jnp.concatenate([matrix, one]))
    return q[: matrix.shape[0]] * jnp.sign(jnp.diagonal(r))


def _number(name: str, value: Any, high: float = math.inf) -> float:
    """Return the value as a number in [0, high)."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < high:
        top = "and finite" if math.isinf(high) else f"and below {high:g}"
        raise InputError(f"{name} = {value!r}: give a number of at least 0 {top}.")
    return number


def _circle(damping: float, rotation: float, gain: float, margin: float) -> float | None:
    """The r with ``||N + D + r I|| <= r``, N = -damping I + S, S skew, damping = gain + margin.

    With ``||S|| <= rotation`` and ``||D|| <= gain``, ``||N + r I||^2 <= (r - damping)^2 +
    rotation^2`` shall be at most ``(r - gain)^2``.
    """
    if margin == 0:
        return gain if rotation == 0 else None
    return (damping**2 + rotation**2 - gain**2) / (2 * margin)


class ContractingLeaky(AbstractCertifiedField, AbstractLeakyField):
    """Leaky units that contract: ``h' = -h + phi(W h + V x + b)`` with ``||W|| < 1 - margin``.

    ``W = (1 - margin) C(M)``, where C maps all matrices onto those with a norm below one. Every
    two states of the same inputs approach each other: Euler's method with dt <= 1 has step
    Jacobians of a norm of at most ``1 - dt margin``, and exponential, IMEX and algebraically stable
    methods contract for every dt. With Euler and dt = 1 it is the Elman network. Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``margin`` in [0, 1); ``activation`` phi, of a
    slope in [0, 1]: "tanh", "relu", "sigmoid", "softplus" or "hard_sigmoid"; ``init``; ``key``.
    **Parameters**: ``free_weight`` M (hidden, hidden), ``input_weight`` (input, hidden), ``bias``
    (hidden,); all start as U(-1/sqrt(hidden), 1/sqrt(hidden)). ``weight`` is W, input-major.

    Reference: Miller and Hardt, "Stable Recurrent Models", arXiv:1805.10369.
    """

    margin: float = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    free_weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        margin: float = 0.01,
        activation: str = "tanh",
        init: str = "official",
        key: PRNGKeyArray,
    ):
        if activation not in _CONTRACTING:
            raise unknown_name("activation of a slope in [0, 1]", activation, _CONTRACTING)
        self.margin, self.activation = _number("margin", margin, 1.0), activation
        self._draw(input_size, hidden_size, init, key)

    @property
    def weight(self) -> Float[Array, "hidden hidden"]:
        """W, of a 2-norm below 1 - margin."""
        return (1 - self.margin) * contraction(self.free_weight)

    @property
    def certified(self) -> StructuralBounds:
        return StructuralBounds(
            growth=0.0 - self.margin,
            size=2 - self.margin,
            circle=1 - self.margin / 2,
            isometry=False,
            source="leaky units, the norm of W bounded by construction",
            euler=1.0,
            linear=-1.0,
            rest=1 - self.margin,
        )


class GradientFlow(AbstractCertifiedField, AbstractAffineField):
    """Descent on a convex function: ``h' = -A^T tanh(A h + V x + b) - damping h``, bounded A.

    ``A = sqrt(strength) C(M)``, where C maps all matrices onto those with a norm below one. The
    Jacobian is symmetric, with eigenvalues from ``-(strength + damping)`` to ``-damping``, so a
    method of circle radius rho contracts for ``dt (strength + damping) <= 2 rho``: SSPRK43 twice as
    far as Euler or RK4. One layer is a residual network whose blocks do not expand. Order 1,
    depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``strength`` and ``damping``, both at least 0;
    ``init``; ``key``. **Parameters**: ``free_weight`` M (hidden, hidden), ``input_weight`` (input,
    hidden), ``bias`` (hidden,); all start as U(-1/sqrt(hidden), 1/sqrt(hidden)). ``weight`` is A^T.

    Reference: Sherry et al., "Designing stable neural networks using convex analysis and ODEs",
    arXiv:2306.17332.
    """

    strength: float = eqx.field(static=True)
    damping: float = eqx.field(static=True)
    free_weight: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        strength: float = 2.0,
        damping: float = 0.0,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.strength = _number("strength", strength)
        self.damping = _number("damping", damping)
        self._draw(input_size, hidden_size, init, key)

    @property
    def weight(self) -> Float[Array, "hidden hidden"]:
        """A^T: what the state, as a row, is multiplied with; of a 2-norm below sqrt(strength)."""
        return math.sqrt(self.strength) * contraction(self.free_weight)

    @property
    def certified(self) -> StructuralBounds:
        size, both = self.strength + self.damping, self.strength + 2 * self.damping
        return StructuralBounds(
            growth=0.0 - self.damping,
            size=size,
            circle=size / 2,
            isometry=False,
            source="symmetric Jacobian, the norm of A bounded by construction",
            euler=2 / both if both else math.inf,
        )

    def __call__(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> State:
        weight = self.weight
        return -jnp.tanh(y @ weight + u) @ weight.T - self.damping * y


class ContractingLipschitz(AbstractCertifiedField, AbstractAffineField, AbstractSemilinearField):
    """Lipschitz units that contract: ``h' = A h + tanh(W h + V x + b)``, A damped beyond W.

    ``W = gain C(M)`` and ``A = -(gain + margin) I + S``, S skew: ``rotation (C(B) - C(B)^T)/2``,
    where C maps all matrices onto those with a norm below one. So ``||W|| < gain``, and states
    approach each other at the rate ``margin`` at least: the first of the Lipschitz RNN's conditions
    for global exponential stability, by construction. Euler's method contracts for ``dt ((gain +
    margin)^2 + rotation^2 - gain^2) <= 2 margin``; exponential, IMEX and algebraically stable
    methods do for every dt. Order 1, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``gain``, ``margin``, ``rotation``, numbers of
    at least 0 (``rotation=None``: S = B - B^T, as fast as it likes, and no bound for Euler);
    ``init``; ``key``. **Parameters**: ``free_weight`` M and ``free_linear`` B (hidden, hidden),
    ``input_weight`` (input, hidden), ``bias`` (hidden,); all start as U(-1/sqrt(hidden),
    1/sqrt(hidden)). ``weight`` is W and ``linear_weight`` A, input-major.

    Reference: Erichson, Azencot, Queiruga, Hodgkinson, Mahoney, "Lipschitz Recurrent Neural
    Networks", arXiv:2006.12070.
    """

    gain: float = eqx.field(static=True)
    margin: float = eqx.field(static=True)
    rotation: float | None = eqx.field(static=True)
    free_weight: Float[Array, "hidden hidden"]
    free_linear: Float[Array, "hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        gain: float = 1.0,
        margin: float = 0.1,
        rotation: float | None = 1.0,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.gain = _number("gain", gain)
        self.margin = _number("margin", margin)
        self.rotation = None if rotation is None else _number("rotation", rotation)
        self._draw(input_size, hidden_size, init, key)

    @property
    def weight(self) -> Float[Array, "hidden hidden"]:
        """W, of a 2-norm below the gain."""
        return self.gain * contraction(self.free_weight)

    @property
    def linear_weight(self) -> Float[Array, "hidden hidden"]:
        """A, whose symmetric part is -(gain + margin) I."""
        free, one = self.free_linear, jnp.eye(self.hidden_size, dtype=self.free_linear.dtype)
        half = free if self.rotation is None else self.rotation / 2 * contraction(free)
        return half - half.T - (self.gain + self.margin) * one

    @property
    def certified(self) -> StructuralBounds:
        damping, size, circle = self.gain + self.margin, None, None
        if self.rotation is not None:
            size = math.hypot(damping, self.rotation) + self.gain
            circle = _circle(damping, self.rotation, self.gain, self.margin)
        return StructuralBounds(
            growth=0.0 - self.margin,
            size=size,
            circle=circle,
            isometry=False,
            source="damping beyond the norm of W by construction",
            euler=1 / damping if self.rotation == 0 and damping else None,
            linear=-damping,
            rest=self.gain,
        )

    def __call__(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> State:
        return self.linear().apply(y) + self.rest(time, y, u)

    def linear(self) -> Dense:
        return Dense(self.linear_weight)

    def rest(self, time: Scalar, y: State, u: Float[Array, " hidden"]) -> State:
        return jnp.tanh(y @ self.weight + u)


class ContractingOscillator(AbstractCertifiedField, AbstractOscillatorField):
    """Damped oscillators with bounded feedback: ``h'' = tanh(W z + V x + b) - k h - c h'``.

    k = ``stiffness``, c = ``damping`` with c^2 < 4 k, and ``z = (w h, h' + c h/2)`` with
    ``w^2 = k - c^2/4``: in these coordinates the undriven oscillator spirals inwards at the rate
    c/2 exactly. ``W = (c/2 - margin) C(M)``, where C maps all matrices onto those with a norm below
    one, so that states approach each other at the rate ``margin`` at least, in the norm of z.
    Splitting with Euler's method for the force, IMEX Euler, ETD1 and algebraically stable methods
    contract for every dt; ``sequential_rate`` says how far the coRNN's own sequential Euler steps
    do. State blocks ``h`` and ``v = h'``. Order 2, depth 1.

    **Arguments**: ``input_size``, ``hidden_size``; ``stiffness``, ``damping``; ``margin`` up to
    damping/2; ``init``; ``key``. **Parameters**: ``free_weight`` M (2 hidden, hidden) from U(-1/
    sqrt(2 hidden), 1/sqrt(2 hidden)), ``input_weight`` (input, hidden) and ``bias`` (hidden,) from
    U(-1/sqrt(hidden), 1/sqrt(hidden)). ``weight`` is W, input-major.

    Reference: Rusch, Mishra, "Coupled Oscillatory Recurrent Neural Network", arXiv:2010.00951, for
    the network without the bound on W.
    """

    stiffness: float = eqx.field(static=True)
    damping: float = eqx.field(static=True)
    margin: float = eqx.field(static=True)
    free_weight: Float[Array, "2*hidden hidden"]
    input_weight: Float[Array, "input hidden"]
    bias: Float[Array, " hidden"]

    rules: ClassVar[Mapping[str, Rule]] = {"free_weight": by_inputs()}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        stiffness: float = 1.0,
        damping: float = 0.5,
        margin: float = 0.01,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.stiffness = _number("stiffness", stiffness)
        # Beyond it the oscillator does not turn, and no fixed norm decays at the rate c/2.
        self.damping = _number("damping", damping, 2 * math.sqrt(self.stiffness))
        self.margin = _number("margin", margin)
        if self.margin > self.damping / 2:
            raise InputError(f"margin = {margin!r}: give at most half the damping, {damping!r}/2.")
        self._draw(input_size, hidden_size, init, key)

    @property
    def frequency(self) -> float:
        """The frequency w of the damped oscillation, in radians per unit of time."""
        return math.sqrt(self.stiffness - self.damping**2 / 4)

    @property
    def gain(self) -> float:
        """What the norm of W is below."""
        return self.damping / 2 - self.margin

    @property
    def weight(self) -> Float[Array, "2*hidden hidden"]:
        """W, of a 2-norm below the gain."""
        return self.gain * contraction(self.free_weight)

    @property
    def certified(self) -> StructuralBounds:
        half, frequency = self.damping / 2, self.frequency
        return StructuralBounds(
            growth=0.0 - self.margin,
            size=math.sqrt(self.stiffness) + self.gain,
            circle=_circle(half, frequency, self.gain, self.margin),
            isometry=False,
            source="damping beyond the norm of W by construction, in the coordinates of the spiral",
            scale=((frequency, 0.0), (half, 1.0)),
            linear=-half,
            rest=self.gain,
        )

    def sequential_rate(self, dt: float) -> float:
        """Return what Gauss-Seidel Euler's step Jacobians are below, in the norm of ``certified``.

        The step is ``v+ = v + dt F(h, v)``, ``h+ = h + dt v+``, linear but for the bounded force.
        """
        half, frequency = self.damping / 2, self.frequency
        scale = np.array([[frequency, 0.0], [half, 1.0]])
        kept, pulled = 1 - dt * self.damping, -dt * self.stiffness
        linear = np.array([[1 + dt * pulled, dt * kept], [pulled, kept]])
        force = scale @ np.array([dt * dt, dt])
        spiral = np.linalg.norm(scale @ linear @ np.linalg.inv(scale), 2)
        return float(spiral + self.gain * np.linalg.norm(force))

    def force(self, y: State, u: Float[Array, " hidden"]) -> Float[Array, " hidden"]:
        z = [self.frequency * y["h"], y["v"] + self.damping / 2 * y["h"]]
        return jnp.tanh(jnp.concatenate(z) @ self.weight + u)


class ContractingGated(AbstractCertifiedField, AbstractGatedField):
    """Gated relaxation that contracts: ``h' = a.(g - h)``, in the maximum norm.

    ``a = floor + (1 - floor) sigma(V_a x + b_a + W_a h)``, ``g = tanh(V_g x + b_g + W_g h)``. The
    weights into each unit, the rows (p, q) of M into its gate and candidate, are scaled down until
    ``N(|q|, k |p|) <= 1 - margin`` with the sums of absolute values ``|.|``,
    ``N(w, u) = max (1 - s^2) w + (1 + s) u`` over s in [0, 1], and ``k = (1 - sqrt(floor))/(1 +
    sqrt(floor))``: the states of [-1, 1]^hidden, which are not left, approach each other. Euler's
    method with dt <= 1, and a method of SSP coefficient C with dt <= C, has step Jacobians of a
    maximum norm of at most ``1 - dt floor margin`` or 1. With Euler and dt = 1 it is the UGRNN.
    Order 1, depth 1. Why: a row of ``I + dt G`` has the sum ``1 - dt a + dt a (1 - g^2)|q| + dt
    |g - h| a' |p|`` or less, with ``a' = (a - floor)(1 - a)/(1 - floor) <= k a``, ``|g - h| <= 1 +
    |g|``.

    **Arguments**: ``input_size``, ``hidden_size``; ``margin`` and ``floor``, the least rate of
    relaxation, in [0, 1); ``init``; ``key``. **Parameters**, packed in the order gate, candidate:
    ``free_weight`` M (hidden, 2 hidden), ``input_weight`` (input, 2 hidden), ``bias`` (2 hidden,),
    all from U(-1/sqrt(hidden), 1/sqrt(hidden)). ``weight`` holds W_a and W_g, input-major.

    Reference: Collins, Sohl-Dickstein, Sussillo, arXiv:1611.09913, for the network; Bonassi,
    Farina, Scattolini, arXiv:2011.06806, for conditions of this kind on the GRU.
    """

    margin: float = eqx.field(static=True)
    floor: float = eqx.field(static=True)
    free_weight: Float[Array, "hidden 2*hidden"]
    input_weight: Float[Array, "input 2*hidden"]
    bias: Float[Array, "2*hidden"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        margin: float = 0.01,
        floor: float = 0.0,
        init: str = "official",
        key: PRNGKeyArray,
    ):
        self.margin, self.floor = _number("margin", margin, 1.0), _number("floor", floor, 1.0)
        self._draw(input_size, hidden_size, init, key)

    @property
    def weight(self) -> Float[Array, "hidden 2*hidden"]:
        """The matrices W_a and W_g side by side, scaled down unit by unit where need be."""
        root, limit = math.sqrt(self.floor), 1 - self.margin
        gate, candidate = (jnp.sum(jnp.abs(a), axis=0) for a in self.split(self.free_weight))
        gate = (1 - root) / (1 + root) * gate
        inside = gate < 2 * candidate
        safe = jnp.where(inside, candidate, jnp.ones_like(candidate))
        bound = jnp.where(inside, safe + gate + gate**2 / (4 * safe), 2 * gate)
        scale = limit / jnp.maximum(bound, limit)
        return self.free_weight * jnp.concatenate([scale, scale])

    @property
    def certified(self) -> StructuralBounds:
        return StructuralBounds(
            growth=0.0 - self.floor * self.margin,
            size=2 - self.margin,
            circle=None,
            isometry=False,
            source="gated units, the sums of absolute weights bounded by construction",
            norm="inf",
            euler=1.0,
            state=1.0,
        )

    def relaxation(self, time: Scalar, y: State, u: Float[Array, " gates"]) -> tuple[State, State]:
        gate, candidate = gates(y @ self.weight + u, "st")
        rate = self.floor + (1 - self.floor) * gate
        return rate, rate * candidate
