"""What a known network is: a field, a method and a step size under a name."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx

from .._cell import Cell, TrainedStep
from .._field import AbstractField
from .._interpolation import AbstractInterpolation
from .._method import AbstractMethod
from .._results import InputError, unknown_name
from .._typing import PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class Network:
    """A known network: ``network(input_size, hidden_size, key=key)`` is its cell.

    **Arguments of the call**: ``input_size``, ``hidden_size``; ``dt``, ``method`` and
    ``interpolation`` in place of the network's own; ``key``; all others are the field's (``init``,
    ``gamma``, ...). Raises ``InputError`` for a name that the field does not take.

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
        hidden_size: int,
        *,
        dt: float | TrainedStep | None = None,
        method: AbstractMethod | None = None,
        interpolation: AbstractInterpolation | None = None,
        key: PRNGKeyArray,
        **options: Any,
    ) -> Cell:
        """Return the network's cell."""
        known = set(inspect.signature(self.field).parameters) - {"input_size", "hidden_size", "key"}
        for option in options:
            if option not in known:
                raise unknown_name(f"argument of {self.name}", option, sorted(known))
        try:
            field = self.field(input_size, hidden_size, key=key, **{**self.options, **options})
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

    def matches(self, cell: Cell) -> bool:
        """Return whether a cell is this network: its field, its method, whatever sizes and dt."""
        same = type(cell.field) is self.field and eqx.tree_equal(cell.method, self.method)
        return bool(same) and all(
            getattr(cell.field, name) == value for name, value in self.options.items()
        )
