"""Which papers a network, a field or a method comes from, as BibTeX."""

import functools
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any, NamedTuple

import jax

from ._cell import Cell, TrainedStep
from ._field import AbstractField
from ._method import METHODS, AbstractMethod
from ._results import InputError, unknown_name
from .zoo import CELLS, Network

_PACKAGE = __name__.partition(".")[0]
_FILE = "references.bib"
_DOCUMENTED = "odernn"  # the field of an entry that lists what it documents
_VIEW = "niu2019"  # recurrent networks as differential equations: what every cell here rests on


def citation(thing: Any) -> str:
    """Return the papers behind a network, a model, a field or a method as BibTeX entries.

    ``thing`` is a network (``zoo.LSTM`` or its name), a cell, or a layer or model (all its cells),
    a field, a method, or one of their classes. A cell is cited by the network that it is (at any
    step size, if no other has the same field and method) or else by its field, by its method, and
    by the paper that reads networks as integrators.

    >>> import odernn
    >>> print(odernn.citation("rnn"))
    @article{elman1990,
      author = {Elman, Jeffrey L.},
      title = {Finding Structure in Time},
      ...
    }

    Raises ``InputError`` if nothing of the library is recognised.
    """
    return "\n\n".join(entry.text for entry in _found(thing))


class Entry(NamedTuple):
    """One entry of a BibTeX file."""

    kind: str
    key: str
    fields: dict[str, str]

    @property
    def documents(self) -> list[str]:
        """Networks, fields and methods that the entry is about."""
        return [name.strip() for name in self.fields.get(_DOCUMENTED, "").split(",") if name]

    @property
    def text(self) -> str:
        """The entry as BibTeX, without what it documents."""
        shown = {name: value for name, value in self.fields.items() if name != _DOCUMENTED}
        lines = [f"  {name} = {{{value}}},\n" for name, value in shown.items()]
        return f"@{self.kind}{{{self.key},\n{''.join(lines)}}}"


# --- looking up --------------------------------------------------------------------------------


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Return what the library's own file holds."""
    return tuple(parse((resources.files(_PACKAGE) / _FILE).read_text(encoding="utf-8")))


def _documenting(name: str) -> list[Entry]:
    return [entry for entry in entries() if name in entry.documents]


def _found(thing: Any) -> Iterable[Entry]:
    leaves = jax.tree.leaves(thing, is_leaf=lambda node: isinstance(node, Cell))
    cells = [node for node in leaves if isinstance(node, Cell)]
    if cells:
        view = _view()
        of_cells = [entry for cell in cells for entry in _of_cell(cell)]
        found = [*(entry for entry in of_cells if entry not in view), *view]
    elif isinstance(thing, str):
        found = _of_name(thing)
    elif isinstance(thing, Network):
        found = _of_network(thing)
    elif isinstance(thing, AbstractField | AbstractMethod):
        found = _of_part(thing)
    elif isinstance(thing, type) and issubclass(thing, AbstractField | AbstractMethod):
        found = _of_class(thing)
    else:
        raise InputError(
            f"thing = {thing!r}: give a network (zoo.LSTM or 'lstm'), a cell, layer or model, a "
            "field, a method, or the class of one."
        )
    if not found:
        name = (thing if isinstance(thing, type) else type(thing)).__name__
        raise unknown_name("field or method", name, _class_names())
    # In the order in which they came up, each once.
    return {entry.key: entry for entry in found}.values()


def _of_name(name: str) -> list[Entry]:
    if name.lower() in CELLS:
        return _of_network(CELLS[name.lower()])
    if name.lower() in METHODS:
        return _of_part(METHODS[name.lower()])
    if found := _documenting(name):
        return found
    raise unknown_name("network, field or method", name, [*CELLS, *METHODS, *_class_names()])


def _of_network(network: Network) -> list[Entry]:
    name = network.name.lower()
    if CELLS.get(name) is network and (found := _documenting(name)):
        return found
    of_field = _of_class(network.field) if isinstance(network.field, type) else []
    return [*of_field, *_of_part(network.method), *_view()]


def _of_cell(cell: Cell) -> Iterator[Entry]:
    dt = cell.dt.initial if isinstance(cell.dt, TrainedStep) else cell.dt
    fitting = {name: network for name, network in CELLS.items() if network.matches(cell)}
    # Some networks differ in nothing but the step size.
    alike = [name for name, network in fitting.items() if network.dt == dt]
    names = alike or (fitting if len(fitting) == 1 else ())
    of_networks = [entry for name in names for entry in _documenting(name)]
    yield from of_networks or _of_part(cell.field)
    yield from _of_part(cell.method)


def _of_part(part: AbstractField | AbstractMethod) -> list[Entry]:
    """Entries of a field or a method, and of the methods that it is made of."""
    inside = jax.tree.leaves(
        part, is_leaf=lambda node: isinstance(node, AbstractMethod) and node is not part
    )
    methods = [node for node in inside if isinstance(node, AbstractMethod) and node is not part]
    return [*_of_class(type(part)), *(entry for method in methods for entry in _of_part(method))]


def _of_class(kind: type) -> list[Entry]:
    """Entries of a class, or of the library's class that it comes from."""
    for base in kind.__mro__:
        own = base.__module__.partition(".")[0] == _PACKAGE
        if own and (found := _documenting(base.__name__)):
            return found
    return []


def _view() -> list[Entry]:
    return [entry for entry in entries() if entry.key == _VIEW]


def _class_names() -> list[str]:
    named = {name for entry in entries() for name in entry.documents}
    return sorted(named - CELLS.keys())


# --- reading BibTeX ----------------------------------------------------------------------------

_HEAD = re.compile(r"@(\w+)\s*\{\s*([^\s,{}]+)\s*,")
_NAME = re.compile(r"\s*([\w-]+)\s*=\s*")
_COMMA = re.compile(r"\s*,")
_END = re.compile(r"\s*\}")
_BARE = re.compile(r"[^\s,{}]+")


def parse(text: str) -> Iterator[Entry]:
    """Read the entries of a BibTeX file; what stands between them is a comment.

    Values are in balanced braces, in quotes, or bare. Raises ``ValueError`` for anything else.
    """
    position = 0
    while (start := text.find("@", position)) >= 0:
        head = _HEAD.match(text, start)
        if head is None:
            raise ValueError(f"line {_line(text, start)}: no entry such as @article{{key, ...}}.")
        fields, position = {}, head.end()
        while (end := _END.match(text, position)) is None:
            name = _NAME.match(text, position)
            if name is None:
                raise ValueError(f"line {_line(text, position)}: no field in {head[2]}.")
            value, position = _value(text, name.end())
            fields[name[1].lower()] = " ".join(value.split())
            if comma := _COMMA.match(text, position):
                position = comma.end()
        position = end.end()
        yield Entry(head[1].lower(), head[2], fields)


def _value(text: str, start: int) -> tuple[str, int]:
    """A value that starts at ``start``, and where it ends."""
    if text[start : start + 1] not in ("{", '"'):
        bare = _BARE.match(text, start)
        if bare is None:
            raise ValueError(f"line {_line(text, start)}: a value is missing.")
        return bare[0], bare.end()
    depth = 0
    for position in range(start + 1, len(text)):
        letter = text[position]
        if depth == 0 and letter == {"{": "}", '"': '"'}[text[start]]:
            return text[start + 1 : position], position + 1
        depth += {"{": 1, "}": -1}.get(letter, 0)
    raise ValueError(f"line {_line(text, start)}: a value has no end.")


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
