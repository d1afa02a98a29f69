"""What a known network is: a field, a method and a step size under a name."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx

from .._cell import Cell, TrainedStep
from .._field import AbstractField
from .._interpolation import AbstractInterpolation
from .._method import AbstractMethod, Delayed
from .._results import InputError, unknown_name
from .._typing import PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class Network:
    """A known network: ``network(input_size, hidden_size, key=key)`` is its cell.

    **Arguments of the call**: ``input_size``; ``hidden_size``, or what the field counts in its
    place, which may be given by its own name, too (``qubits``); ``dt``, ``method`` and
    ``interpolation`` in place of the network's own; ``key``; all others are the field's (``init``,
    ``gamma``, ...). Raises ``InputError`` for a name that the field does not take, and without a
    size.

    >>> import jax
    >>> from odernn import zoo
    >>> zoo.LSTM
    zoo.LSTM: LSTM, GaussSeidelEuler, dt = 1 (1997)
    >>> cell = zoo.LSTM(3, 8, dt=0.5, key=jax.random.key(0))
    >>> cell.n, cell.t
    (2, 2)

    Attributes: ``name``, ``title``, ``year``, ``field``, ``method``, ``dt``, ``options`` of
    the field; ``odernn.citation(network)`` is its reference.
    """

    name: str
    title: str
    year: int
    field: Callable[..., AbstractField]
    method: AbstractMethod
    dt: float = 1.0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(
        self,
        input_size: int,
        hidden_size: int | None = None,
        *,
        dt: float | TrainedStep | None = None,
        method: AbstractMethod | None = None,
        interpolation: AbstractInterpolation | None = None,
        key: PRNGKeyArray,
        **options: Any,
    ) -> Cell:
        """Return the network's cell."""
        size = size_name(self.field)
        for option in options:
            if option not in self.takes:
                known = sorted(self.takes - {"hidden_size"})
                raise unknown_name(f"argument of {self.name}", option, known)
        if hidden_size is not None and size in options:
            raise InputError(f"{self.name}: its size is given twice, by its place and as {size}.")
        sizes = [options.pop(size, None) if hidden_size is None else hidden_size]
        if sizes == [None]:
            raise InputError(f"{self.name}: its size is missing, give {size}.")
        try:
            field = self.field(input_size, *sizes, key=key, **{**self.options, **options})
        except TypeError as error:
            raise InputError(f"{self.name}: {error}.") from error
        return Cell(
            field,
            self.method if method is None else method,
            self.dt if dt is None else dt,
            interpolation,
        )

    def __repr__(self) -> str:
        parts = (self.field.__name__, type(self.method).__name__, f"dt = {self.dt:g}")
        return f"zoo.{self.name}: {', '.join(parts)} ({self.year})"

    @property
    def takes(self) -> frozenset[str]:
        """Names of the field's arguments: its size, and its options."""
        return frozenset(inspect.signature(self.field).parameters) - {"input_size", "key"}

    def matches(self, cell: Cell) -> bool:
        """Return whether a cell is this network: its field, its method, whatever sizes and dt."""
        method = undelayed(cell.method)
        same = type(cell.field) is self.field and eqx.tree_equal(method, undelayed(self.method))
        return bool(same) and all(
            getattr(cell.field, name) == value for name, value in self.options.items()
        )


def size_name(field: Callable[..., AbstractField]) -> str:
    """Return the name of the argument that is a field's size, the second one.

    >>> from odernn import fields
    >>> size_name(fields.LSTM), size_name(fields.PauliHamiltonian)
    ('hidden_size', 'qubits')
    """
    return list(inspect.signature(field).parameters)[1]


def size_for(field: Callable[..., AbstractField], units: int) -> int:
    """Return the size at which a field is about as large as others of so many units.

    The m qubits of a chain have 2^m amplitudes; at least 2 are coupled.

    >>> from odernn import fields
    >>> size_for(fields.LSTM, 64), size_for(fields.PauliHamiltonian, 64)
    (64, 6)
    """
    return max(2, units.bit_length() - 1) if size_name(field) == "qubits" else units


def undelayed(method: AbstractMethod) -> AbstractMethod:
    """Return the method that a cell was given, without the ``Delayed`` that it puts around."""
    return method.method if isinstance(method, Delayed) else method
