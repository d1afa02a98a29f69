"""Tables of what can be named: tasks, cells, fields and methods."""

from collections.abc import Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def new_table(title: str, *columns: str, right: Sequence[str] = ()) -> "Table":
    """Return an empty table; the columns named in ``right`` are numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        justify = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column == "name")
    return table


def show_tables(*tables: "Table") -> None:
    """Print tables to the terminal."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    for table in tables:
        console.print(table)


def task_table() -> "Table":
    """Tasks, and what is missing to have them."""
    from . import tasks

    table = new_table("tasks", "name", "what it is", "installed")
    for name, description, installed in tasks.names():
        table.add_row(name, description, "yes" if installed else "odernn[aeon]")
    return table


_LISTED_SIZE = 64


def cell_table() -> "Table":
    """Networks of the zoo."""
    import equinox as eqx
    import jax

    from . import zoo
    from ._model import parameter_count
    from .zoo._network import size_for

    table = new_table(
        f"cells (parameters: 1 channel, {_LISTED_SIZE} units or amplitudes)",
        *("name", "field", "method", "dt", "n", "t", "parameters"),
        right=("dt", "n", "t", "parameters"),
    )
    for name, network in zoo.CELLS.items():
        # Shapes are all that is shown: drawing the weights would take seconds.
        size = size_for(network.field, _LISTED_SIZE)
        cell = eqx.filter_eval_shape(partial(network, 1, size, key=jax.random.key(0)))
        count = parameter_count(cell)
        parts = (type(cell.field).__name__, type(cell.method).__name__, f"{cell.dt:g}")
        table.add_row(name, *parts, str(cell.n), str(cell.t), f"{count:,}")
    return table


def field_table() -> "Table":
    """Fields of the library, and what methods may make use of in them."""
    columns = ("name", "order t", "depth", "has", "equation")
    table = new_table("fields", *columns, right=columns[1:3])
    kinds = _kinds()
    for field in _fields():
        has = ", ".join(kind for kind, interface in kinds.items() if isinstance(field, interface))
        about = (type(field).__doc__ or "").splitlines()[0].replace("``", "")
        table.add_row(type(field).__name__, str(field.order), str(field.depth), has, about)
    return table


def method_table() -> "Table":
    """Methods, and the fields that they fit."""
    from ._method import METHODS

    columns = ("name", "stages n", "order", "past", "a step is", "fits fields with")
    table = new_table("methods", *columns, right=columns[1:4])
    fields, kinds = _fields(), _kinds()
    for name, method in METHODS.items():
        step = ["explicit" if method.explicit else "implicit"]
        step += [kind for kind in ("symplectic", "reversible") if getattr(method, kind)]
        fitting = [field for field in fields if method.fits(field)]
        fits = "anything" if fitting == fields else ", ".join(type(f).__name__ for f in fitting)
        for kind, interface in kinds.items():
            if fitting == [field for field in fields if isinstance(field, interface)]:
                fits = kind
        numbers = (str(method.stages), str(method.order), str(method.memory or ""))
        table.add_row(name, *numbers, ", ".join(step), fits)
    return table


def _kinds() -> dict[str, type]:
    """What a field may have besides its value, in a word."""
    from . import _field

    return {
        "blocks": _field.AbstractPartitionedField,
        "parts": _field.AbstractSplitField,
        "a linear part": _field.AbstractSemilinearField,
        "rates": _field.AbstractRelaxationField,
        "a Lie group": _field.AbstractLieField,
    }


@cache
def _fields() -> list[Any]:
    """One of each field of the library; no numbers are drawn."""
    import equinox as eqx
    import jax

    from . import fields
    from .zoo._network import size_for

    makes = [make for make in vars(fields).values() if isinstance(make, type)]
    key = jax.random.key(0)
    sizes = [size_for(make, _LISTED_SIZE) for make in makes]
    return [
        eqx.filter_eval_shape(partial(make, 1, size, key=key))
        for make, size in zip(makes, sizes, strict=True)
    ]
