"""The periodic table: its data are the zoo's, and it can be read."""

import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import equinox as eqx
import jax
import pytest
from rich.console import Console

import odernn
from odernn import zoo
from odernn.analysis import _picture as picture
from odernn.analysis import _table as table
from odernn.analysis._picture import draw_table
from odernn.analysis._table import Tile, periodic_table, print_table

TERM = re.compile(r"([+-]?)(\d*)(h²|hi|i²|h|i|)(?:/(\d+))?")


@pytest.fixture(scope="module")
def tiles() -> list[Tile]:
    return periodic_table()


def value(formula: str, h: int, i: int) -> float:
    """The value of a formula such as ``h²/2 + 3hi - 1``."""
    sizes = {"h²": h * h, "hi": h * i, "i²": i * i, "h": h, "i": i, "": 1}
    terms = [TERM.fullmatch(term) for term in re.findall(r"[+-]?[^+-]+", formula.replace(" ", ""))]
    return sum(int(f"{t[1]}1") * int(t[2] or 1) * sizes[t[3]] / int(t[4] or 1) for t in terms if t)


def many(count: int) -> list[Tile]:
    """Tiles that are no networks."""
    families, kinds = list(table.FAMILIES), [None, *table.CERTIFICATES]
    return [
        Tile(
            name=f"N{k}{('AntisymmetricRNN', 'MultiplicativeLSTM', 'GRU', 'uRNN')[k % 4]}",
            title="",
            year=1990 + k % 35,
            n=(0, 1, 1, 1, 2, 2, 3, 6)[k % 8],
            t=(1, 2, 1, 1, 1, 32)[k % 6],
            implicit=k % 7 == 0,
            method=("Euler", "GaussSeidelEuler", "6 x LinearlyImplicitEuler")[k % 3],
            dt=(1.0, 0.033)[k % 2],
            parameters=("4h² + 4hi + 4h", "8h² + 8hi + 131h + i + 100", "1,234,567*")[k % 3],
            family=families[k % len(families)],
            certificate=kinds[k % len(kinds)],
        )
        for k in range(count)
    ]


# --- the data ----------------------------------------------------------------------------------


def test_every_network_stands_there_once(tiles):
    assert [tile.name.lower() for tile in tiles] == list(zoo.CELLS)


def test_a_tile_says_what_its_cell_is(tiles, key):
    for tile in tiles:
        network = zoo.CELLS[tile.name.lower()]
        cell = eqx.filter_eval_shape(lambda key, network=network: network(3, 10, key=key), key)
        if not tile.t > table.LAST_T:  # some count the channels of a state beside the units
            assert (tile.n, tile.t) == (cell.n, cell.t), tile.name
        assert (tile.year, tile.title, tile.dt) == (network.year, network.title, network.dt)
        assert tile.implicit is not cell.method.explicit
        assert type(cell.method).__name__ in tile.method or " x " in tile.method
        assert tile.family in table.FAMILIES and tile.certificate in (None, *table.CERTIFICATES)


@pytest.mark.parametrize(("h", "i"), [(34, 5), (12, 11)])
def test_formulas_are_the_numbers_of_parameters(tiles, h, i):
    for tile in tiles:
        network = zoo.CELLS[tile.name.lower()]
        if tile.parameters.endswith("*"):
            counted = f"{table.count_parameters(network, 64, 1):,}*"
            assert tile.parameters == counted, tile.name
        else:
            counted = table.count_parameters(network, h, i)
            assert value(tile.parameters, h, i) == counted, tile.name


def test_parameters_that_are_counted_are_those_of_a_drawn_network(key):
    drawn = odernn.parameter_count(zoo.LSTM(5, 12, key=key))
    assert table.count_parameters(zoo.LSTM, 12, 5) == drawn


@pytest.mark.parametrize(
    ("count", "formula"),
    [
        (lambda h, i: 4 * h * h + 4 * h * i + 4 * h, "4h² + 4hi + 4h"),
        (lambda h, i: h * (h - 1) // 2 + i * i, "h²/2 + i² - h/2"),
        (lambda h, i: 3 * h // 2 + 7, "3h/2 + 7"),
        (lambda h, i: i - h, "-h + i"),
        (lambda h, i: 1, "1"),
        (lambda h, i: 0, "0"),
        (lambda h, i: h**3, "262,144*"),
        (lambda h, i: h * h.bit_length(), "448*"),
    ],
)
def test_formulas_are_found_where_there_are_some(count, formula):
    assert table._formula(count) == formula
    if not formula.endswith("*"):
        assert value(formula, 20, 9) == count(20, 9)


def test_methods_within_a_step_are_named(key):
    network = zoo.Network(
        "Mine", "mine", 2026, odernn.fields.Leaky, odernn.Substeps(odernn.FusedEuler(), 6)
    )
    (tile,) = periodic_table([network], formulas=False)
    assert (tile.method, tile.n, tile.parameters) == ("6 x FusedEuler", 6, "")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("rnn", "units"),
        ("antisymmetricrnn", "antisymmetric, Lipschitz"),
        ("gru", "gates"),
        ("lstm", "memory cells"),
        ("cornn", "coupled blocks"),
    ],
)
def test_families(tiles, name, family):
    (found,) = (tile.family for tile in tiles if tile.name.lower() == name)
    assert found == family


def test_families_are_of_classes_that_exist():
    def names(kind: type) -> set[str]:
        return {kind.__name__}.union(*(names(below) for below in kind.__subclasses__()))

    assert table._FAMILY_OF.keys() <= names(odernn.AbstractField)


def test_positions_are_in_the_order_of_the_years():
    made = many(75)
    layout = table.layout_of(made)
    assert layout.columns == ["n = 0", "n = 1", "n = 2", "n = 3", "n ≥ 4"]
    assert layout.rows == ["t = 1", "t = 2", "t ≥ 3"]
    assert sorted(t for row in layout.groups for group in row for t in group) == sorted(made)
    for row, groups in enumerate(layout.groups):
        for column, group in enumerate(groups):
            assert {(min(tile.n, 4), min(tile.t, 3) - 1) for tile in group} <= {(column, row)}
            assert [tile.year for tile in group] == sorted(tile.year for tile in group)


# --- in the terminal ---------------------------------------------------------------------------


def printed(width: int, tiles: list[Tile] | None = None) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_table(console, tiles)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_all_names_are_printed(tiles, width):
    text = printed(width, tiles)
    assert max(len(line) for line in text.splitlines()) <= width
    words = re.split(r"[\s*=<~!]+", text)
    for tile in tiles:
        assert words.count(tile.name) == 1, tile.name
        assert f"'{tile.year % 100:02}" in words
    assert "t = 1" in text and "n = 1" in text


def test_the_whole_zoo_is_printed_by_default():
    assert printed(100) == printed(100, periodic_table(formulas=False))


def test_columns_are_put_together_where_there_is_no_room():
    made = many(75)
    assert "n ≥ 4" in printed(140, made)
    narrow = printed(66, made)
    assert "n ≥ 4" not in narrow and "n ≥ " in narrow
    assert all(tile.name in narrow for tile in made)
    assert max(len(line) for line in printed(40, made).splitlines()) <= 40


def test_marks_are_explained():
    text = printed(140, many(20))
    for kind, mark in table.MARKS.items():
        assert f"{mark} {kind}" in text
    assert "* a step solves equations" in text
    assert "isometry" not in printed(140, [t._replace(certificate=None) for t in many(20)])


# --- the picture -------------------------------------------------------------------------------


def test_the_svg_is_small_and_the_same_each_time(tiles, tmp_path):
    draw_table(tmp_path / "a.svg", tiles)
    draw_table(str(tmp_path / "b.svg"), tiles)
    data = (tmp_path / "a.svg").read_bytes()
    assert data == (tmp_path / "b.svg").read_bytes()
    assert len(data) < 600_000
    assert ET.fromstring(data).tag == "{http://www.w3.org/2000/svg}svg"
    # A comment says what each text is.
    texts = re.findall(r"<!-- (.*?) -->", data.decode())
    for tile in tiles:
        assert tile.parameters in texts and tile.method in texts and str(tile.year) in texts
        assert tile.name in texts or tile.name in "".join(texts)


def test_the_png_is_a_picture_without_transparency(tmp_path):
    from matplotlib.image import imread

    draw_table(tmp_path / "table.PNG", many(75))
    pixels = imread(tmp_path / "table.PNG", format="png")
    assert pixels.shape[1] == 2 * picture._WIDTH
    assert 0.5 < pixels.shape[0] / pixels.shape[1] < 1.3
    assert pixels.shape[2] == 3 or pixels[..., 3].min() == 1
    # Every colour of a fill is there.
    seen = {tuple(p) for p in (255 * pixels[::5, ::5, :3]).round().astype(int).reshape(-1, 3)}
    for colour in table.CERTIFICATES.values():
        assert tuple(bytes.fromhex(colour[1:])) in seen


@pytest.mark.parametrize("count", [1, 2, 30, 75, 120])
def test_tiles_do_not_overlap_and_stay_on_the_sheet(count):
    layout = table.layout_of(many(count))
    sheet = picture._sheet(layout)
    for (left, across), (then, _) in zip(sheet.columns, sheet.columns[1:], strict=False):
        assert left + sheet.span(across) < then
    for (top, down), (then, _) in zip(sheet.rows, sheet.rows[1:], strict=False):
        assert top + sheet.rise(down) < then
    for (_, down), groups in zip(sheet.rows, layout.groups, strict=True):
        for (_, across), group in zip(sheet.columns, groups, strict=True):
            assert len(group) <= across * down
    left, across = sheet.columns[-1]
    assert left + sheet.span(across) < picture._WIDTH
    top, down = sheet.rows[-1]
    assert top + sheet.rise(down) < sheet.height


def test_texts_stay_in_their_tiles_and_names_can_be_read(monkeypatch):
    figure, boxes, texts = pytest.importorskip("matplotlib.figure").Figure(dpi=100), [], []
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 66), ylim=(66, 0))

    def write(axes, x, y, text, size, *rest, weight="normal", at="left", width=None):
        length = picture._length(text, weight) * size if text else 0
        shown = length if width is None else min(length, width)
        left = x - {"left": 0, "center": shown / 2, "right": shown}[at]
        texts.append((text, left, left + shown, y, size, weight))

    monkeypatch.setattr(picture, "_write", write)
    monkeypatch.setattr(picture, "_box", lambda *rest, **options: boxes.append(rest))
    for tile in many(24):
        picture._draw_tile(axes, 0, 0, 66, tile)
    assert len(boxes) == 3 * 24
    for text, left, right, base, size, weight in texts:
        assert left > 3.6 and right < 66
        assert base > 0.75 * size and base < 66 * picture._SHAPE
        assert size >= 7 or weight == "normal" or re.fullmatch(r"\d+-\d+", text), text


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("LSTM", ["LSTM"]),
        ("GatedAntisymmetricRNN", ["Gated", "Antisymmetric", "RNN"]),
        ("FullCapacityuRNN", ["FullCapacity", "uRNN"]),
        ("HiPPOLegS", ["HiPPO", "LegS"]),
        ("UnICORNN", ["UnICORNN"]),
        ("MultiplicativeLSTM", ["Multiplicative", "LSTM"]),
    ],
)
def test_names_are_broken_between_words(name, lines):
    assert picture._fitted(name, 58, 11, 21)[0] == lines


@pytest.mark.parametrize("name", ["table.pdf", "table", "table.svg.gz", ".svg"])
def test_other_files_are_refused(tmp_path, name):
    with pytest.raises(odernn.InputError, match="name an .svg or a .png file"):
        draw_table(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_importing_the_table_imports_no_pictures():
    code = (
        "import sys, odernn.analysis._picture; print({'matplotlib', 'rich'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n", done.stderr


def test_drawing_changes_no_setting(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams), jax.config.values
    draw_table(tmp_path / "a.svg", many(2))
    assert (dict(matplotlib.rcParams), jax.config.values) == before
