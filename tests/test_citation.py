"""Citations: every network, field and method leads to its paper."""

import inspect
import re

import equinox as eqx
import jax
import pytest

import odernn
from odernn import fields, zoo
from odernn._citation import citation, entries, parse


def keys(thing) -> list[str]:
    return re.findall(r"^@\w+\{([^,]+),$", citation(thing), re.MULTILINE)


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(below) for below in kind.__subclasses__()))


def of_the_library(kind: type) -> dict[str, type]:
    found = (k for k in subclasses(kind) if k.__module__.startswith("odernn."))
    return {k.__name__: k for k in found if not inspect.isabstract(k)}


FIELDS = {name for name, value in vars(fields).items() if isinstance(value, type)}
DOCUMENTED = {name for entry in entries() for name in entry.documents}


@pytest.fixture
def cell(key):
    def make(name: str, **options) -> odernn.Cell:
        return zoo.CELLS[name](3, 4, key=key, **options)

    return make


# --- the file ----------------------------------------------------------------------------------


def test_everything_is_documented():
    needed = {*zoo.CELLS, *FIELDS, *(type(method).__name__ for method in odernn.METHODS.values())}
    assert not needed - DOCUMENTED


def test_what_is_documented_exists():
    known = {
        *zoo.CELLS,
        *of_the_library(odernn.AbstractField),
        *of_the_library(odernn.AbstractMethod),
    }
    assert not DOCUMENTED - known


@pytest.mark.parametrize("name", zoo.CELLS)
def test_a_network_is_as_old_as_a_paper_of_it(name):
    years = {entry.fields["year"] for entry in entries() if name in entry.documents}
    assert str(zoo.CELLS[name].year) in years


def test_keys_are_unique_and_entries_complete():
    found = [entry.key for entry in entries()]
    assert len(set(found)) == len(found)
    home = {"article": "journal", "inproceedings": "booktitle", "book": "publisher"}
    home |= {"phdthesis": "school", "techreport": "institution", "misc": "eprint"}
    for entry in entries():
        assert {"author", "title", "year", home[entry.kind]} <= entry.fields.keys(), entry.key
        assert re.fullmatch(r"\d{4}", entry.fields["year"]), entry.key


def test_no_paper_stands_twice():
    for name in ("doi", "eprint", "title"):
        values = [entry.fields[name].lower() for entry in entries() if name in entry.fields]
        assert len(set(values)) == len(values), sorted(v for v in values if values.count(v) > 1)


# --- what is cited -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.CELLS)
def test_a_network_is_cited_by_itself_its_name_and_its_cell(name, key):
    network = zoo.CELLS[name]
    of_network = keys(network)
    assert of_network == keys(name) == keys(network.name)
    cell = eqx.filter_eval_shape(lambda: network(3, 4, key=key))
    assert [k for k in keys(cell) if k in of_network] == of_network
    assert keys(cell)[-1] == "niu2019"


def test_a_cell_cites_network_method_and_view(cell):
    assert keys(cell("lstm")) == ["hochreiter1997", "gers2000", "hairer2006", "niu2019"]
    assert keys(cell("gru", dt=0.5)) == ["cho2014", "euler1768", "niu2019"]


def test_a_cell_that_is_no_known_network_cites_its_field(cell):
    found = keys(cell("lstm", method=odernn.RK4()))
    assert found == ["hochreiter1997", "gers2000", "kutta1901", "niu2019"]


def test_networks_that_differ_in_the_step_size_only_are_told_apart(key):
    alike = [zoo.RNN, zoo.CTRNN]  # leaky units and Euler's method
    assert [keys(network(3, 4, key=key))[0] for network in alike] == ["elman1990", "funahashi1993"]
    neither = keys(zoo.RNN(3, 4, dt=0.77, key=key))
    assert neither == [*keys(fields.Leaky), "euler1768", "niu2019"]


def test_layers_and_models_cite_all_their_cells(cell, key):
    layer = odernn.Layer(cell("gru"))
    model = odernn.Model(
        [layer, odernn.Layer(zoo.LEM(4, 4, key=key))], odernn.LastStep(4, 2, key=key)
    )
    expected = ["cho2014", "euler1768", "rusch2022", "hairer2006", "niu2019"]
    assert keys(model) == expected
    both = odernn.Bidirectional(layer, odernn.Layer(cell("lem"), reverse=True))
    assert keys(both) == expected
    assert keys(odernn.Stack([layer, odernn.Layer(zoo.LEM(4, 4, key=key))])) == expected


@pytest.mark.parametrize("name", odernn.METHODS)
def test_a_method_is_cited_by_itself_its_name_and_its_class(name):
    method = odernn.METHODS[name]
    assert keys(method) == keys(name)
    assert keys(type(method)) == keys(method)[: len(keys(type(method)))]


def test_a_method_made_of_others_cites_them():
    assert keys(odernn.Substeps(odernn.FusedEuler(), 6)) == ["hasani2021"]
    assert keys(odernn.AlgebraicallyReversible(odernn.RK4())) == ["mccallum2024", "kutta1901"]
    assert keys(odernn.Strang({"rest": odernn.Heun()})) == ["strang1968", "heun1900"]


def test_a_field_is_cited_by_itself_and_its_class(cell):
    assert keys(cell("cornn").field) == keys(fields.Oscillator) == ["rusch2021"]


class Slower(fields.Leaky):
    pass


class Mine(odernn.AbstractField):
    input_size: int = eqx.field(static=True, default=3)
    hidden_size: int = eqx.field(static=True, default=3)

    def __call__(self, time, y, u):
        return -y


def test_a_field_of_your_own_cites_what_it_comes_from(key):
    assert keys(Slower(3, 4, key=key)) == keys(fields.Leaky)
    assert keys(odernn.Cell(Mine(), odernn.RK4())) == ["kutta1901", "niu2019"]
    network = zoo.Network("Mine", "my network", 2026, Slower, odernn.RK4())
    assert keys(network) == [*keys(fields.Leaky), "kutta1901", "niu2019"]
    with pytest.raises(odernn.InputError, match="unknown field or method 'Mine'"):
        citation(Mine())


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ("ltsm", "unknown network, field or method 'ltsm': did you mean 'lstm'"),
        (3, "thing = 3: give a network .zoo.LSTM or 'lstm'."),
        (None, "thing = None: give a network"),
    ],
)
def test_what_is_not_known_is_refused(thing, message):
    with pytest.raises(odernn.InputError, match=message):
        citation(thing)


def test_the_text_is_bibtex_without_what_is_documented():
    text = citation("lstm")
    assert "odernn" not in text
    (first, second) = parse(text)
    assert first.text + "\n\n" + second.text == text
    assert first.fields["author"] == r"Hochreiter, Sepp and Schmidhuber, J{\"u}rgen"
    assert first.fields["pages"] == "1735--1780"


# --- reading BibTeX ----------------------------------------------------------------------------


def test_values_are_in_braces_in_quotes_or_bare():
    text = """
    A comment. % another
    @Article{a2020, Title = {The {RNN} and
        its {\\"u}ber-step}, year = 2020, note = "say {"}hi{"}", odernn={ rnn, Leaky },}
    @misc{b, eprint = {1} }
    """
    first, second = parse(text)
    assert (first.kind, first.key) == ("article", "a2020")
    assert first.fields["title"] == 'The {RNN} and its {\\"u}ber-step'
    assert first.fields["year"] == "2020"
    assert first.fields["note"] == 'say {"}hi{"}'
    assert first.documents == ["rnn", "Leaky"]
    assert (second.key, second.fields, second.documents) == ("b", {"eprint": "1"}, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n@article", "line 2: no entry"),
        ("@article{a,\n title}", "line 1: no field in a"),
        ("@article{a, title = }", "line 1: a value is missing"),
        ("@article{a,\n title = {b {c} }", "line 2: no field in a"),
        ('@article{a,\n title = "b', "line 2: a value has no end"),
    ],
)
def test_a_broken_file_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        list(parse(text))


def test_trained_step_and_jit_do_not_matter(key):
    cell = zoo.RNN(3, 4, dt=odernn.TrainedStep(1.0), key=key)
    assert keys(jax.jit(lambda: cell)()) == ["elman1990", "euler1768", "niu2019"]
