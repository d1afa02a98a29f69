"""From requirements to cells: what is asked for is had, and what is said of it is so."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest

import odernn
from odernn import Requirements, design, tasks, zoo
from odernn._design._candidate import has_measured
from odernn._design._explained import explained
from odernn._design._kinds import kinds
from odernn._design._requirements import PROPERTIES, WORDS
from odernn._design._scales import scales
from odernn._design._search import pareto
from odernn.analysis import certify, cost, recall
from odernn.tasks import Dataset
from odernn.train import build_model, first_cell

FEW = ("rnn", "scornn", "lru", "contractingrnn", "cornn", "lstm")


@pytest.fixture(scope="module")
def found():
    return design(Requirements(2, 3, horizon=40, parameters=400), cells=("rnn", "scornn", "lru"))


# --- What a step costs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, products, functions, state",
    [
        ("rnn", 8 * (8 + 3), 8, 8),
        # Four gates and the two products of the cell state, one of the output.
        ("lstm", 4 * 8 * (8 + 3) + 3 * 8, 5 * 8, 16),
        ("indrnn", 8 * 3 + 8, 0, 8),
    ],
)
def test_the_cost_of_a_step_is_that_of_its_equations(name, products, functions, state):
    found = cost(zoo.CELLS[name](3, 8, key=jax.random.key(0)))
    assert found.functions == functions and found.state == state and found.exact
    # A step size, and the logistic function as a scaled tanh, come on top: products of elements.
    assert products <= found.multiply_adds <= products + 8 * 8


def test_stages_cost_as_often_as_they_are_evaluated():
    cell = zoo.CTRNN(3, 32, key=jax.random.key(0))
    once = cost(odernn.replace(cell, method=odernn.Euler())).functions
    assert cost(odernn.replace(cell, method=odernn.RK4())).functions == 4 * once


def test_a_loop_costs_as_often_as_it_turns():
    class Deep(odernn.AbstractField):
        """Five activations, one after the other, in a loop."""

        input_size: int = eqx.field(static=True, default=1)
        hidden_size: int = eqx.field(static=True, default=6)

        def __call__(self, time, h, x):
            return jax.lax.scan(lambda h, _: (jax.numpy.tanh(h), None), h, None, length=5)[0]

    found = cost(odernn.Cell(Deep(), odernn.Midpoint()))
    assert found.functions == 2 * 5 * 6 and found.exact


def test_an_implicit_step_says_that_one_iteration_is_counted():
    cell = zoo.CTRNN(3, 8, method=odernn.BackwardEuler(), key=jax.random.key(0))
    assert not cost(cell).exact


def test_what_depends_on_parameters_alone_costs_nothing():
    # The exponential of a matrix of 32 rows would be far more than 32^3 products.
    assert cost(zoo.expRNN(3, 32, key=jax.random.key(0))).multiply_adds < 3 * 32 * 35


def test_cost_takes_cells():
    with pytest.raises(odernn.InputError, match="cell is a int: give a Cell"):
        cost(3)


# --- What is recalled ----------------------------------------------------------------------------


class Shift(odernn.AbstractField):
    """Euler's step of h' = S h - h + e x moves all units on by one."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=12)

    def __call__(self, time, h, x):
        moved = jax.numpy.concatenate([x.astype(h.dtype), h[:-1]])
        return moved - h


def test_a_shift_register_recalls_exactly_as_many_values_as_it_has_units(key):
    cell = odernn.Cell(Shift(), odernn.Euler())
    found = recall(cell, 20, key=key)
    # A value is in the first unit at lag 0, in the last at lag 11.
    inside = found.lags <= 11
    np.testing.assert_allclose(found.share[inside], 1, atol=2e-3)
    np.testing.assert_allclose(found.share[~inside], 0, atol=0.1)
    # Of the far half, lags 10 to 20, there are two; straight lines between lags round that a bit.
    assert 1.5 < found.numbers < 3.5


def test_no_network_recalls_more_values_than_it_has_units(key):
    cell = zoo.scoRNN(1, 16, key=key)
    found = recall(cell, 100, key=key)
    assert 0.6 * 8 < found.numbers < 1.4 * 16


def test_recall_of_a_state_that_breaks_is_nan():
    cell = zoo.CTRNN(1, 4, dt=50.0, key=jax.random.key(0))
    broken = eqx.tree_at(lambda c: c.field.input_weight, cell, np.nan * cell.field.input_weight)
    assert np.isnan(recall(broken, 5).numbers)


@pytest.mark.parametrize("horizon", [0, 2.5, True])
def test_recall_refuses_horizons(horizon):
    with pytest.raises(odernn.InputError, match="give a whole number of steps of at least 1"):
        recall(zoo.RNN(1, 4, key=jax.random.key(0)), horizon)


# --- What is told of targets in data -------------------------------------------------------------


def a_task(rng, targets, **given):
    """White noise, 30 steps, and targets made of it; 40 sequences for training, 20 to validate."""

    def part(count):
        xs = rng.standard_normal((count, 30, 1)).astype(np.float32)
        return Dataset(xs, targets(xs), **{k: v[:count] for k, v in given.items()})

    training, validation = part(40), part(20)
    kind = "classification" if training.targets.dtype == np.int32 else "regression"
    per_step = training.targets.shape[1:2] == (30,)
    metric = "accuracy" if kind == "classification" else "mse"
    return tasks.Task(
        *("noise", kind, per_step, 1, 2 if kind == "classification" else 1, metric),
        *(lambda epoch: training, validation, validation, ("x",)),
    )


def told(task):
    return explained(odernn.Layer(odernn.Cell(Shift(), odernn.Euler())), task)


def delayed(xs, lag):
    return np.concatenate([np.zeros_like(xs[:, :lag]), xs[:, : 30 - lag]], axis=1)


def test_a_shift_register_tells_inputs_that_it_holds_and_no_products_of_them(rng):
    # Its twelve units hold the inputs of lags 0 to 11.
    assert told(a_task(rng, lambda xs: delayed(xs, 11))) == pytest.approx(1, abs=1e-6)
    assert told(a_task(rng, lambda xs: delayed(xs, 12))) < 0.05
    assert told(a_task(rng, lambda xs: delayed(xs, 3) * xs)) < 0.1


def test_one_value_is_read_from_the_last_output(rng):
    assert told(a_task(rng, lambda xs: xs[:, -5])) == pytest.approx(1, abs=1e-6)
    lengths = np.tile(np.int32([10, 30]), 20)
    tenth = a_task(rng, lambda xs: xs[:, 9], lengths=lengths)
    shorter = told(dataclasses.replace(tenth, validation=tenth.validation[::2]))
    assert shorter > told(dataclasses.replace(tenth, validation=tenth.validation[1::2]))


def test_of_classes_the_signs_of_an_input_are_told_in_part(rng):
    # The share of a sign's variance that is linear in a normal number: 2 / pi.
    task = a_task(rng, lambda xs: (xs[..., 0] > 0).astype(np.int32))
    assert told(task) == pytest.approx(2 / np.pi, abs=0.06)


def test_targets_that_do_not_count_are_not_looked_at(rng):
    def broken(xs):
        targets = delayed(xs, 2)
        targets[:, ::3] = np.nan
        return targets

    counts = np.tile(np.arange(30) % 3 > 0, (40, 1))
    assert told(a_task(rng, broken, target_mask=counts)) == pytest.approx(1, abs=1e-6)


def test_a_state_that_breaks_tells_nothing(rng):
    cell = zoo.CTRNN(1, 4, dt=50.0, key=jax.random.key(0))
    broken = eqx.tree_at(lambda c: c.field.input_weight, cell, np.nan * cell.field.input_weight)
    assert explained(odernn.Layer(broken), a_task(rng, lambda xs: xs)) == 0


def test_what_data_are_told_of_comes_before_what_is_recalled(rng):
    task = a_task(rng, lambda xs: np.abs(xs))
    needs = Requirements.of_task(task, parameters=150, horizon=30)
    some = ("scornn", "ctrnn", "rnn")
    without, found = design(needs, cells=some), design(needs, task=task, cells=some)
    assert without.best.name == "scoRNN" != found.best.name
    order = [round(-10 * np.log10(1 - c.explained)) for c in found.candidates]
    assert order == sorted(order, reverse=True) and order[0] > order[-1]
    assert f"explains {100 * found.best.explained:.3g} %" in "\n".join(found.best.reasons())
    with pytest.raises(odernn.InputError, match="noise has 1 inputs, the design is for 2"):
        design(Requirements(2), task=task, cells=["rnn"])


# --- Requirements --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, said",
    [
        ({"input_size": 0}, "input_size = 0: give a whole number of at least 1"),
        ({"parameters": 2.5}, "parameters = 2.5"),
        ({"horizon": 0}, "horizon = 0: give a positive"),
        ({"horizon": float("nan")}, "horizon = nan"),
        ({"n": -1}, "n = -1: give a whole number of at least 0"),
        ({"must": {"certfied"}}, "unknown property 'certfied': did you mean 'certified'"),
        ({"use": "train"}, "unknown use 'train'"),
        ({"intervals": 3}, "give the shortest and the longest"),
        ({"intervals": (3, 1)}, "give the shortest first"),
        ({"fastest": 1.5}, "fastest = 1.5 conflicts with step = 1.*ask for 2"),
        ({"fastest": 30, "slowest": 20}, "fastest = 30 conflicts with slowest = 20"),
        (
            {"horizon": 100, "length": 50},
            "horizon = 100 .* conflicts with length = 50.*horizon = 50",
        ),
        ({"horizon": 100, "slowest": 200}, "slowest = 200 conflicts with horizon = 100"),
    ],
)
def test_requirements_that_cannot_be_are_refused(given, said):
    with pytest.raises(odernn.InputError, match=said):
        Requirements(**{"input_size": 1, **given})


def test_times_are_in_the_unit_of_the_step():
    wanted = Requirements(1, horizon=2.0, step=0.01, intervals=(0.01, 0.05))
    assert wanted.steps == 200 and wanted.longest_interval == pytest.approx(5)


def test_every_property_has_its_meaning_in_words():
    assert set(WORDS) == set(PROPERTIES)


# --- Networks in a budget ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rnn", "urnn", "lstm", "lru", "qunn"])
def test_the_size_is_the_largest_within_the_budget(name):
    wanted = Requirements(2, 3, parameters=700)
    (kind,) = kinds(wanted, [name])
    model = build_model(
        odernn.train.Config(task="x", **_size(kind)), _Shapes(2, 3), jax.random.key(0)
    )
    assert odernn.parameter_count(model) == kind.parameters <= 700
    if name != "qunn":  # 10 qubits are the most that are looked at
        step = 2 if name == "urnn" else 1  # whose units are pairs
        bigger = dataclasses.replace(kind, size=kind.size + step).shape
        assert odernn.parameter_count(bigger) + (bigger.hidden_size + 1) * 3 > 700


class _Shapes:
    """All that a model needs to know of a task."""

    name, per_step = "shapes", False

    def __init__(self, inputs, outputs):
        self.input_size, self.output_size = inputs, outputs


def _size(kind):
    size = "qubits" if kind.name == "qunn" else "hidden_size"
    return {"cell": kind.name, size: kind.size}


def test_budgets_of_work_and_state_are_kept():
    wanted = Requirements(2, 3, parameters=3000, operations=900, state=20)
    for kind in kinds(wanted, ["rnn", "lstm", "cornn"]):
        assert kind.cost.multiply_adds <= 900 and kind.cost.state <= 20
        bigger = dataclasses.replace(kind, size=kind.size + 1).cost
        assert bigger.multiply_adds > 900 or bigger.state > 20


def test_a_method_is_added_where_it_gives_what_is_asked_for():
    titles = {k.title for k in kinds(Requirements(2, must={"reversible"}), ["rnn", "lstm"])}
    assert titles == {"RNN", "RNN + reversiblerk4", "LSTM", "LSTM + stormerverlet"}
    two = [k for k in kinds(Requirements(2, n=2), ["rnn"]) if k.has("n")]
    assert [k.method for k in two] == ["heun"] and two[0].shape.n == 2


# --- The search ----------------------------------------------------------------------------------


def test_a_rotation_comes_first_where_much_has_to_be_kept(found):
    assert found.best.name == "scoRNN"
    assert all(c.in_band for c in found.candidates)
    for c in found.candidates:
        assert c.memory == recall_again(c)


def recall_again(c):
    return max(c.recall.numbers, 0.0)


def test_the_front_is_what_no_other_beats(found):
    values = [(c.in_band, round(c.memory, 1), -c.parameters, -c.work) for c in found.candidates]
    for c, mine in zip(found.candidates, values, strict=True):
        beaten = any(all(np.greater_equal(v, mine)) and v != mine for v in values)
        assert (c in found.front) != beaten
    assert pareto(found.front) == list(found.front)


@pytest.mark.parametrize("name", ["scoRNN", "RNN"])
def test_the_configuration_builds_what_was_measured(found, name):
    c = next(c for c in found.candidates if c.name == name)
    config = c.config(task="adding", seed=3)
    model = build_model(config, tasks.get("adding", length=40, train_size=1), jax.random.key(3))
    cell = first_cell(model)
    assert cell.hidden_size == c.cell.hidden_size
    again = odernn.analysis.initialise(cell, 40)
    assert 0.1 <= again.gradient <= 10  # it starts in the band


def test_must_haves_are_had():
    got = design(Requirements(1, horizon=20, parameters=150, must={"contracting"}), cells=FEW)
    assert {c.name for c in got.candidates} == {"ContractingRNN", "LRU"}
    assert all(certify(c.cell).upper < 1 for c in got.candidates)
    assert got.skipped["RNN"] == "has not contracting"


def test_oscillation_is_measured():
    wanted = Requirements(1, horizon=20, parameters=150, must={"oscillating"})
    got = design(wanted, cells=["cornn", "ctrnn"])
    assert "coRNN" in {c.name for c in got.candidates}
    one = next(iter(kinds(wanted, ["ctrnn"])))
    leaking = zoo.CTRNN(1, 4, key=jax.random.key(0))
    zero = jax.tree.map(lambda a: 0 * a, leaking)
    fake = dataclasses.replace(got.best, kind=one, cell=zero)
    assert not has_measured(fake, "oscillating")


def test_long_intervals_leave_out_what_they_break(found):
    some = found.candidates[0]
    wanted = Requirements(2, 3, horizon=40, intervals=(1, 50), must={"irregular"})
    kind = dataclasses.replace(some.kind, required=wanted)
    exact = zoo.CTRNN(2, 8, method=odernn.BackwardEuler(), key=jax.random.key(0))
    explicit = zoo.CTRNN(2, 8, dt=0.5, key=jax.random.key(0))
    assert has_measured(dataclasses.replace(some, kind=kind, cell=exact), "irregular")
    assert not has_measured(dataclasses.replace(some, kind=kind, cell=explicit), "irregular")


def test_where_gates_would_overshoot_they_get_a_step_that_does_not():
    def found(longest, *names):
        wanted = Requirements(2, horizon=20, intervals=(1, longest), must={"irregular"})
        return [(k.title, k.has("irregular")) for k in kinds(wanted, names)]

    # An open gate is Euler's y - L y: of two steps and more it grows.
    assert found(1.9, "gru") == [("GRU", True)]
    assert found(2, "gru") == [("GRU", False), ("GRU + fusedeuler", True)]
    assert found(8, "lstm") == [("LSTM", False), ("LSTM + fusedeuler", True)]
    # A tenth of a step each, a linearly implicit step, and no gates.
    assert found(8, "ctrnn", "ltc", "scornn") == [("CTRNN", True), ("LTC", True), ("scoRNN", True)]


@pytest.mark.parametrize(
    "given, said",
    [
        ({"must": {"contracting", "unitary"}}, "contracting conflicts with unitary: .* without it"),
        ({"must": {"parallel"}, "n": 2}, "n = 2 conflicts with parallel: .* there is n = 0"),
        ({"parameters": 3}, r"no network has at most 3 parameters: the fewest have \d+ \(RNN"),
        ({"t": 9}, "no network has t = 9: there is t = 1, 2"),
    ],
)
def test_requirements_that_exclude_each_other_are_named(given, said):
    cells = ("rnn", "scornn", "contractingrnn", "lru", "lstm")
    with pytest.raises(odernn.InputError, match=said):
        design(Requirements(2, 2, horizon=10, **given), cells=cells)


def test_unknown_cells_are_refused():
    with pytest.raises(odernn.InputError, match="unknown cell 'ltsm': did you mean 'lstm'"):
        design(Requirements(1), cells=["ltsm"])


def test_reasons_have_the_numbers(found):
    text = "\n".join(found.best.reasons())
    assert f"{found.best.memory:.1f} input values" in text
    assert f"{found.best.parameters:,} parameters of 400" in text


# --- Times in data -------------------------------------------------------------------------------


def test_times_in_data_are_measured(rng):
    steps = np.arange(300)
    wave = np.sin(2 * np.pi * steps / 30) + 0.1 * rng.standard_normal((20, 300))
    mask = rng.random((20, 300)) > 0.25
    times = np.cumsum(rng.uniform(0.5, 2.0, (20, 300)), axis=1)
    data = Dataset(
        *(wave[..., None].astype(np.float32), np.zeros(20, np.int32)),
        mask=mask,
        times=times.astype(np.float32),
    )
    found = scales(data)
    assert found.period == pytest.approx(30, rel=0.05) and found.length == 300
    assert found.missing == pytest.approx(1 - mask.mean()) and found.irregular
    assert 0.5 <= found.intervals[0] < found.intervals[1] < found.intervals[2] <= 2.01


def test_the_correlation_time_is_that_of_the_process(rng):
    # Of x' = -x / 20 + noise it is 20 steps.
    noise, series = rng.standard_normal((30, 3000)), np.zeros((30, 3000))
    for k in range(1, 3000):
        series[:, k] = np.exp(-1 / 20) * series[:, k - 1] + noise[:, k]
    found = scales(Dataset(series[..., None].astype(np.float32), np.zeros(30, np.int32)))
    assert found.correlation == pytest.approx(20, rel=0.15) and found.period is None


def test_what_a_task_needs_follows_from_its_data():
    wanted = Requirements.of_task(tasks.get("copy", length=80, train_size=4))
    # Symbols come back at the last steps: gradients have to cross the whole sequence.
    assert wanted.steps == 100 and wanted.input_size == wanted.output_size == 10
    # Data are measured in steps; what is required of them is in the unit of a step.
    again = Requirements.of_task(tasks.get("copy", length=80, train_size=4), step=0.5)
    assert again.steps == 100 and again.horizon == 50
