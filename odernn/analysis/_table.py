"""The periodic table of recurrent networks: n across, t down, made from the zoo."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax

from .._cell import Cell
from .._method import AbstractMethod, Substeps
from .._model import parameter_count, trained
from ..zoo import CELLS, Network
from ..zoo._network import size_for
from ._certify import certify
from ._jacobians import reachable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

ABOUT_N = "n, across: nonlinearities nested in one step."
ABOUT_T = "t, down: blocks of hidden size in the state."
LAST_N, LAST_T = 4, 3
"""Where the columns and the rows of the table become open: n >= 4, t >= 3."""

FAMILIES = {
    "units": "#4c78a8",
    "antisymmetric, Lipschitz": "#5fb6d2",
    "norm-preserving": "#6554c0",
    "gates": "#f28e2b",
    "memory cells": "#e15759",
    "coupled blocks": "#3a9e5f",
    "linear in the state": "#9c755f",
    "liquid": "#d372a8",
}
"""Colours of the edge, by what the field is."""

_FAMILY_OF = {
    **dict.fromkeys(("Leaky", "IndRNN", "FastRNN", "Reservoir", "Incremental"), "units"),
    **dict.fromkeys(("ContractingLeaky", "GradientFlow"), "units"),
    "ContractingLipschitz": "antisymmetric, Lipschitz",
    "Antisymmetric": "antisymmetric, Lipschitz",
    "GatedAntisymmetric": "antisymmetric, Lipschitz",
    "AntisymmetricReservoir": "antisymmetric, Lipschitz",
    "AbstractLipschitzField": "antisymmetric, Lipschitz",
    "AbstractUnitaryField": "norm-preserving",
    "AbstractLieField": "norm-preserving",
    "LiquidTimeConstant": "liquid",
    "ClosedForm": "liquid",
    "AbstractMemoryField": "memory cells",
    "MCLSTM": "memory cells",
    "RAN": "memory cells",
    "AbstractPartitionedField": "coupled blocks",
    "AbstractRelaxationField": "gates",
}
"""Of a field that is not linear: by the first of its classes that stands here."""

CERTIFICATES = {
    "isometry": "#cfe2f8",
    "contractive for all parameters": "#d2ecd3",
    "conditional": "#fbebc4",
    "none": "#f5dfdc",
}
"""Colours of the fill, by what is certified of a step's stability."""


class Tile(NamedTuple):
    """One network in the table.

    ``n`` and ``t`` are its class, ``implicit`` whether a step solves equations; ``method`` and
    ``dt`` its own; ``parameters`` their number as a formula in h, the hidden size, and i, the input
    size from 2, or a number with an asterisk, for h = 64 and i = 1, where it is no polynomial (of
    qubits there are as many as have h amplitudes); ``family`` what the field is; ``certificate``
    what is certified of a step's stability, if anything is known.
    """

    name: str
    title: str
    year: int
    n: int
    t: int
    implicit: bool
    method: str
    dt: float
    parameters: str
    family: str
    certificate: str | None = None


def periodic_table(
    networks: Iterable[Network] | None = None,
    *,
    formulas: bool = True,
    certificates: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Tile]:
    """Return the tiles of the networks, of the whole zoo by default, in the order of the zoo.

    Without ``formulas``, which take a few seconds, ``parameters`` is empty. With ``certificates``,
    which take one or two minutes, ``certificate`` is what ``certificate_kind`` finds; ``progress``
    is told the name of each network, its number and how many there are.

    >>> tiles = {tile.name: tile for tile in periodic_table()}
    >>> tiles["LSTM"].n, tiles["LSTM"].t, tiles["LSTM"].parameters
    (2, 2, '4h² + 4hi + 4h')
    """
    networks = list(CELLS.values() if networks is None else networks)
    tiles = []
    for number, network in enumerate(networks):
        if progress is not None:
            progress(network.name, number, len(networks))
        tiles.append(_tile(network, formulas, certificates))
    return tiles


def certificate_kind(network: Network) -> str:
    """Return what is certified of a network's step, by the kinds of the table.

    "isometry" or "contractive for all parameters" if a theorem says so whatever the parameters are;
    "conditional" if there is a certificate with ``upper <= 1`` for some parameters, which are
    looked for among random ones and these scaled down, with all inputs or those in [-1, 1]; else
    "none", which is no proof that there are no such parameters.
    """
    cell = network(2, size_for(network.field, 4), key=jax.random.key(0))
    weights, rest = eqx.partition(cell, trained(cell))
    for scale in (1.0, 0.1, 0.01):
        scaled = eqx.combine(jax.tree.map(lambda a, s=scale: s * a, weights), rest)
        for region in (None, reachable(scaled, 1.0)):
            kind = certify(scaled, region).kind
            if kind != "none":
                return kind
    return "none"


def _tile(network: Network, formulas: bool, certificates: bool) -> Tile:
    # Shapes are all that is asked for: drawing the weights would take minutes.
    key = jax.random.key(0)
    cell = eqx.filter_eval_shape(partial(network, 1, size_for(network.field, _SIZE), key=key))
    return Tile(
        name=network.name,
        title=network.title,
        year=network.year,
        n=cell.n,
        t=cell.t,
        implicit=not cell.method.explicit,
        method=_method_name(cell.method),
        dt=network.dt,
        parameters=_formula(partial(count_parameters, network)) if formulas else "",
        family=_family(cell),
        certificate=certificate_kind(network) if certificates else None,
    )


def _method_name(method: AbstractMethod) -> str:
    if isinstance(method, Substeps):
        return f"{method.steps} x {_method_name(method.method)}"
    return type(method).__name__


def _family(cell: Cell) -> str:
    if cell.n == 0:
        return "linear in the state"
    names = [base.__name__ for base in type(cell.field).__mro__]
    return next((_FAMILY_OF[name] for name in names if name in _FAMILY_OF), "units")


# --- parameters as a formula -------------------------------------------------------------------

_SIZE = 64
_POWERS = ((2, 0), (1, 1), (0, 2), (1, 0), (0, 1), (0, 0))
"""Powers of h and i in a formula, in the order in which they are written."""
_FITTED = ((8, 2), (16, 2), (32, 2), (8, 3), (16, 3), (8, 4))
_CHECKED = ((64, 2), (10, 7))
"""Sizes (h, i) that the coefficients are solved from, and at which they must be right, too."""


def count_parameters(network: Network, hidden: int, inputs: int) -> int:
    """Return how many parameters a network has at these sizes."""
    key, size = jax.random.key(0), size_for(network.field, hidden)
    return eqx.filter_eval_shape(lambda: parameter_count(network(inputs, size, key=key)))


def _formula(count: Callable[[int, int], int]) -> str:
    """The number of parameters as a polynomial in h and i, exactly, or else as a number."""
    coefficients = _solve(
        [[Fraction(h**a * i**b) for a, b in _POWERS] for h, i in _FITTED],
        [Fraction(count(h, i)) for h, i in _FITTED],
    )
    for h, i in _CHECKED:
        terms = zip(coefficients, _POWERS, strict=True)
        if sum(c * h**a * i**b for c, (a, b) in terms) != count(h, i):
            return f"{count(_SIZE, 1):,}*"
    text = "".join(map(_term, coefficients, _POWERS))
    return text.removeprefix(" + ").replace(" - ", "-", text.startswith(" - ")) or "0"


def _solve(rows: list[list[Fraction]], values: list[Fraction]) -> list[Fraction]:
    """Solve linear equations that have one solution, exactly."""
    system = [[*row, value] for row, value in zip(rows, values, strict=True)]
    for k in range(len(system)):
        pivot = next(row for row in range(k, len(system)) if system[row][k])
        system[k], system[pivot] = system[pivot], system[k]
        system[k] = [entry / system[k][k] for entry in system[k]]
        for other in range(len(system)):
            if other != k:
                factor = system[other][k]
                pairs = zip(system[other], system[k], strict=True)
                system[other] = [entry - factor * own for entry, own in pairs]
    return [row[-1] for row in system]


def _term(coefficient: Fraction, powers: tuple[int, int]) -> str:
    """One term with its sign: `` + 4h²``."""
    if not coefficient:
        return ""
    letters = "".join(f"{x}{'²' if p == 2 else ''}" for x, p in zip("hi", powers, strict=True) if p)
    size = abs(coefficient)
    number = "" if size.numerator == 1 and letters else str(size.numerator)
    over = f"/{size.denominator}" if size.denominator > 1 else ""
    return f" {'-' if coefficient < 0 else '+'} {number}{letters}{over}"


# --- where the tiles go ------------------------------------------------------------------------


class Layout(NamedTuple):
    """Titles of columns and rows, and the tiles of each position in the order of their years."""

    columns: list[str]
    rows: list[str]
    groups: list[list[list[Tile]]]  # by row, then by column


def layout_of(tiles: Iterable[Tile], last: int = LAST_N) -> Layout:
    """Put the tiles in their positions; the last column is that of n >= ``last``."""
    placed: dict[tuple[int, int], list[Tile]] = {}
    for tile in sorted(tiles, key=lambda tile: (tile.year, tile.name.lower())):
        placed.setdefault((min(tile.t, LAST_T), min(tile.n, last)), []).append(tile)
    ts = range(min(t for t, _ in placed), max(t for t, _ in placed) + 1)
    ns = range(min(n for _, n in placed), max(n for _, n in placed) + 1)
    found = [tile for group in placed.values() for tile in group]
    beyond_n, beyond_t = max(t.n for t in found) > last, max(t.t for t in found) > LAST_T
    return Layout(
        [f"n {'≥' if n == last and beyond_n else '='} {n}" for n in ns],
        [f"t {'≥' if t == LAST_T and beyond_t else '='} {t}" for t in ts],
        [[placed.get((t, n), []) for n in ns] for t in ts],
    )


# --- in the terminal ---------------------------------------------------------------------------

MARKS = {"isometry": "=", "contractive for all parameters": "<", "conditional": "~", "none": "!"}
"""What is certified, in one letter."""
_SPACE, _LEAST, _BROKEN = 2, 5, 4
"""Between columns; width of a title; how many years may stand below their names."""


def print_table(console: "Console", tiles: Sequence[Tile] | None = None) -> None:
    """Print the table, of the whole zoo by default: names with their years, n across, t down.

    The last columns are put together where the console is too narrow for all of them.
    """
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    tiles = periodic_table(formulas=False) if tiles is None else tiles
    layout, widths = _laid_out(tiles, console.width)
    room = min(console.width, max(60, sum(widths) + _SPACE * (len(widths) - 1)))

    def row_of(texts: Iterable[Text]) -> Table:
        row = Table.grid(padding=(0, _SPACE, 0, 0))
        for width in widths:
            row.add_column(width=width, overflow="fold")
        row.add_row(*texts)
        return row

    console.print(Text("The periodic table of recurrent networks", style="bold"))
    for about in (ABOUT_N, ABOUT_T):
        console.print(Text(about, style="dim"))
    console.print()
    console.print(row_of(Text(title, style="bold") for title in layout.columns))
    for band, groups in zip(layout.rows, layout.groups, strict=True):
        console.print(Rule(Text(band, style="bold"), align="left", style="dim"), width=room)
        console.print(row_of(Text("\n").join(map(_label, tiles)) for tiles in groups))
    console.print(Rule(style="dim"), width=room)
    for line in _explained(tiles):
        console.print(line, width=room)


def _laid_out(tiles: Sequence[Tile], width: int) -> tuple[Layout, list[int]]:
    """The table with as many columns as have room, and their widths: names are not broken."""
    found = []
    for last in range(LAST_N, 1, -1):
        layout = layout_of(tiles, last)
        columns = [[*chain.from_iterable(column)] for column in zip(*layout.groups, strict=True)]
        widths = _shared(columns, width)
        too_wide = sum(widths) + _SPACE * (len(widths) - 1) > width
        pairs = zip(columns, widths, strict=True)
        broken = sum(len(_label(tile)) > w for column, w in pairs for tile in column)
        found.append(((too_wide, max(broken, _BROKEN), -last), layout, widths))
    _, layout, widths = min(found, key=lambda option: option[0])
    return layout, widths


def _shared(columns: Sequence[Sequence[Tile]], width: int) -> list[int]:
    """Widths: that of the names, and what is left where it lets most years stand beside them."""
    widths = [max([_LEAST, *(len(_named(tile)) for tile in column)]) for column in columns]
    room = width - sum(widths) - _SPACE * (len(widths) - 1)
    while True:
        steps = []
        for n, column in enumerate(columns):
            longer = sorted(len(_label(t)) for t in column if len(_label(t)) > widths[n])
            costs = [(goal - widths[n], count + 1) for count, goal in enumerate(longer)]
            steps += [(count / cost, cost, n) for cost, count in costs if cost <= room]
        if not steps:
            return widths
        _, cost, n = max(steps)
        widths[n] += cost
        room -= cost


def _named(tile: Tile) -> str:
    return f"{tile.name}{MARKS.get(tile.certificate or '', '')}{'*' * tile.implicit}"


def _label(tile: Tile) -> "Text":
    from rich.text import Text

    label = Text.assemble((_named(tile), FAMILIES[tile.family]), " ")
    return label.append(f"'{tile.year % 100:02}", style="dim")


def _explained(tiles: Sequence[Tile]) -> Iterator["Text"]:
    """What colours and marks mean."""
    from rich.text import Text

    found = {tile.family for tile in tiles}
    shown = [Text(family, style=colour) for family, colour in FAMILIES.items() if family in found]
    yield Text("   ").join(shown)
    found = {tile.certificate for tile in tiles}
    marks = [f"{mark} {kind}" for kind, mark in MARKS.items() if kind in found]
    if any(tile.implicit for tile in tiles):
        marks.append("* a step solves equations")
    if marks:
        yield Text("   ".join(marks), style="dim")
