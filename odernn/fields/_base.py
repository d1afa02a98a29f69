"""What the fields of the library share: parameters declared by their shapes."""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .._field import AbstractField, AbstractPartitionedField, AbstractRelaxationField
from .._initial import Rule, by_hidden, by_inputs, check_sizes, glorot, orthogonal
from .._results import InputError, unknown_name
from .._typing import Array, Float, Inexact, PRNGKeyArray, Scalar, State

INITS: dict[str, Rule | None] = {
    "official": None,
    "uniform": by_inputs(),
    "glorot": glorot,
    "orthogonal": orthogonal,
}
"""Initial values by name: the authors' own, or one rule for all matrices."""


class AbstractDeclaredField(AbstractField):
    """A field whose parameters follow from their declarations.

    A subclass declares ``weight: Float[Array, "hidden 2*hidden"]``: the array is drawn in that
    shape, where a word is the attribute ``<word>_size``. ``rules`` names how the authors draw the
    parameters; what it leaves out is drawn from U(-1/sqrt(hidden), 1/sqrt(hidden)).

    **Arguments** of all of them: ``input_size``, ``hidden_size``; ``init``, "official" (``rules``)
    or, for the matrices, one of "uniform", "glorot", "orthogonal"; ``key``.
    """

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    init: str = eqx.field(static=True)

    rules: ClassVar[Mapping[str, Rule]] = {}

    def __init__(
        self, input_size: int, hidden_size: int, *, init: str = "official", key: PRNGKeyArray
    ):
        self._draw(input_size, hidden_size, init, key)

    def _draw(
        self,
        input_size: int,
        hidden_size: int,
        init: str,
        key: PRNGKeyArray,
        absent: tuple[str, ...] = (),
    ) -> None:
        """Set the sizes and draw every declared array but the absent ones, which are None.

        A field with arguments of its own sets these first: other sizes are read from them.
        """
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        if init not in INITS:
            raise unknown_name("init", init, INITS)
        self.input_size, self.hidden_size, self.init = input_size, hidden_size, init
        declared = {f.name: f.type for f in dataclasses.fields(type(self)) if _is_array(f.type)}
        keys = jax.random.split(key, len(declared))
        for (name, kind), own in zip(declared.items(), keys, strict=True):
            value = None if name in absent else self._initial(name, self._shape(kind), own)
            setattr(self, name, value)

    def _shape(self, kind: Any) -> tuple[int, ...]:
        return tuple(
            math.prod(int(p) if p.isdigit() else getattr(self, f"{p}_size") for p in d.split("*"))
            for d in _first(kind).dim_str.split()
        )

    def _initial(self, name: str, shape: tuple[int, ...], key: PRNGKeyArray) -> Array:
        general = INITS[self.init] if len(shape) == 2 else None
        return (general or self.rules.get(name, by_hidden))(key, shape, self)

    def split(self, packed: Float[Array, " packed"]) -> list[Float[Array, " hidden"]]:
        """Split a vector, or the columns of a matrix, into parts of hidden size."""
        count = packed.shape[-1] // self.hidden_size
        return [
            packed[..., i * self.hidden_size : (i + 1) * self.hidden_size] for i in range(count)
        ]


def _first(kind: Any) -> Any:
    """Return the array type of ``array | None``."""
    return kind if hasattr(kind, "dim_str") else getattr(kind, "__args__", (kind,))[0]


def _is_array(kind: Any) -> bool:
    return hasattr(_first(kind), "dim_str")


def affine(
    x: Inexact[Array, " inputs"], weight: Inexact[Array, "inputs outputs"], *biases: Array | None
) -> Inexact[Array, " outputs"]:
    """Return ``x @ weight`` plus those biases that there are."""
    return sum((b for b in biases if b is not None), start=x @ weight)


def times(dt: Scalar, value: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
    """Return ``dt value`` in the precision of the value, which may be complex."""
    if isinstance(dt, int | float):
        return value if dt == 1 else dt * value
    return dt.astype(value.dtype) * value


def check_biases(biases: int) -> tuple[str, ...]:
    """Return which bias vectors are absent: ``biases`` is 0, 1 or 2."""
    if biases not in (0, 1, 2) or isinstance(biases, bool):
        raise InputError(f"biases = {biases!r}: give 1, 0 for none, or 2 for two as in PyTorch.")
    return (("bias", "candidate_bias", "recurrent_bias"), ("recurrent_bias",), ())[biases]


class AbstractAffineField(AbstractDeclaredField):
    """A field that needs affine forms of the input: ``drive(x) = x @ input_weight + bias``.

    ``input_biases`` names the biases that are added there.
    """

    input_weight: eqx.AbstractVar[Float[Array, "input forms"]]

    input_biases: ClassVar[tuple[str, ...]] = ("bias",)

    def drive(self, x: Float[Array, " input"]) -> Float[Array, " forms"]:
        return affine(x, self.input_weight, *(getattr(self, name) for name in self.input_biases))


class AbstractGatedField(AbstractAffineField, AbstractRelaxationField):
    """One block with gates: ``h' = b - a.h``, given by ``relaxation``.

    Euler with dt = 1 is ``h+ = (1 - a).h + b``.
    """

    def __call__(self, time: Scalar, y: State, u: Float[Array, " forms"]) -> State:
        rate, drive = self.relaxation(time, y, u)
        return drive - rate * y


class AbstractMemoryField(AbstractAffineField, AbstractPartitionedField, AbstractRelaxationField):
    """A memory c behind a hidden state h: ``c' = b - a.c``, then ``h' = expose(c) - h``.

    ``remember(y, u)`` returns a, b and what ``expose`` needs besides the memory; both are taken at
    the start of a step. A sequential method updates c first: Gauss-Seidel Euler with dt = 1 is
    ``c+ = (1 - a).c + b``, ``h+ = expose(c+)``. Order 2.
    """

    order: ClassVar[int] = 2
    blocks: ClassVar[tuple[str, ...]] = ("h", "c")
    update_order: ClassVar[tuple[str, ...]] = ("c", "h")

    @abc.abstractmethod
    def remember(self, y: State, u: Array) -> tuple[Array, Array, Any]:
        """Return the memory's rate a, its drive b, and what ``expose`` needs besides."""

    @abc.abstractmethod
    def expose(self, c: Float[Array, " memory"], rest: Any) -> Float[Array, " hidden"]:
        """Return what the hidden state becomes, of the memory as it is then."""

    def freeze(self, time: Scalar, y: State, u: Array) -> Any:
        return self.remember(y, u)

    def rate(self, block: str, time: Scalar, y: State, frozen: Any) -> Float[Array, "..."]:
        rate, drive, rest = frozen
        if block == "c":
            return drive - rate * y["c"]
        return self.expose(y["c"], rest) - y["h"]

    def relaxation(self, time: Scalar, y: State, u: Array) -> tuple[State, State]:
        rate, drive, rest = self.remember(y, u)
        target = self.expose(y["c"], rest)
        return {"h": jnp.ones_like(target), "c": rate}, {"h": target, "c": drive}
