"""Building models, batches, losses and pictures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import odernn
from odernn import InputError, tasks, zoo
from odernn.train import Config, build_model, first_cell
from odernn.train._curves import plot_curves
from odernn.train._loop import _optimiser, _schedule
from odernn.train._loss import Batch, batches, outputs, sums
from odernn.zoo._network import size_name

ADDING = tasks.get("adding", length=4, train_size=8)
COPY = tasks.get("copy", length=1, train_size=8)


def config(**changes) -> Config:
    return Config(**({"task": "adding", "hidden_size": 3, "cell": "rnn"} | changes))


# --- Building ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", sorted(zoo.CELLS))
def test_every_cell_of_the_zoo_builds(cell, key):
    size = {"hidden_size": None, size_name(zoo.CELLS[cell].field): 4}
    model = build_model(config(cell=cell, **size), ADDING, key)
    assert jax.eval_shape(model, jnp.ones((4, 2))).shape == (1,)


def test_layers_directions_and_readouts(key):
    stacked = config(
        layers=2, bidirectional=True, readout="mean", cell="GRU", interpolation="linear"
    )
    model = build_model(stacked, ADDING, key)
    assert [layer.hidden_size for layer in model.layers] == [6, 6]
    assert isinstance(model.readout, odernn.MeanPool)
    assert isinstance(first_cell(model).interpolation, odernn.LinearInput)
    assert isinstance(first_cell(model).field, odernn.fields.Gated)
    each = build_model(config(), COPY, key)
    assert jax.eval_shape(each, jnp.ones((7, 10))).shape == (7, 10)
    cells = [cell for layer in model.layers for cell in (layer.forward.cell, layer.backward.cell)]
    assert len({np.asarray(cell.field.weight).tobytes() for cell in cells}) == 4


def test_method_and_step_replace_the_cells_own(key):
    cell = first_cell(build_model(config(method="RK4", dt=0.25), ADDING, key))
    assert (cell.n, cell.dt, type(cell.method)) == (4, 0.25, odernn.RK4)
    own = first_cell(build_model(config(cell="cornn"), ADDING, key))
    zoos = zoo.coRNN(2, 3, key=key)
    assert (own.dt, type(own.method)) == (zoos.dt, odernn.GaussSeidelEuler)
    trained = first_cell(build_model(config(train_dt=True, dt=0.5), ADDING, key))
    assert float(trained.dt.value) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"cell": "ltsm"}, "unknown cell 'ltsm': did you mean 'lstm'"),
        ({"method": "rk5"}, "unknown method 'rk5': did you mean 'rkc5' or 'rk4'"),
        ({"readout": "each"}, "--readout each gives one output a step"),
        ({"readout": "first"}, "unknown read-out 'first'"),
        ({"interpolation": "lineal"}, "unknown interpolation 'lineal': did you mean 'linear'"),
        ({"cell": "gru", "method": "gaussseideleuler"}, "GaussSeidelEuler"),
    ],
)
def test_what_does_not_fit_is_refused(changes, part, key):
    with pytest.raises(InputError) as error:
        build_model(config(**changes), ADDING, key)
    assert part in str(error.value)


def test_one_output_does_not_serve_every_step(key):
    with pytest.raises(InputError, match="use --readout each"):
        build_model(config(readout="last"), COPY, key)


# --- Batches and losses --------------------------------------------------------------------------


def test_batches_have_one_shape_and_every_sequence_once():
    data = ADDING.training(0)
    order = np.array([3, 1, 0, 7, 5, 2, 4])
    found = list(batches(data, order, 3))
    assert {batch.inputs.shape for batch in found} == {(3, 4, 2)}
    kept = np.concatenate([batch.targets[batch.weight > 0] for batch in found])
    np.testing.assert_array_equal(kept, data.targets[order])
    assert [batch.weight.tolist() for batch in found][-1] == [1, 0, 0]
    later = list(batches(data, order, 3, first=2))
    np.testing.assert_array_equal(later[0].inputs, found[2].inputs)


def test_filling_rows_change_neither_loss_nor_gradient(key):
    model = build_model(config(), ADDING, key)
    data = ADDING.training(0)

    def loss(model, batch):
        return sums(outputs(model, batch), batch, ADDING).loss

    (short,) = batches(data, np.arange(5), 5)
    (filled,) = batches(data, np.arange(5), 8)
    compute = jax.jit(jax.value_and_grad(loss))
    value, gradient = compute(model, short)
    value_filled, gradient_filled = compute(model, filled)
    np.testing.assert_allclose(value, value_filled, rtol=1e-12)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(gradient_filled), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)


def test_squared_error_ignores_targets_that_are_masked():
    task = dataclasses.replace(ADDING, per_step=True)
    targets = np.array([[[1.0], [np.nan], [3.0]], [[0.0], [5.0], [7.0]]], np.float32)
    counts = np.array([[True, False, True], [True, True, True]])
    batch = Batch(
        inputs=np.zeros((2, 3, 2), np.float32),
        targets=targets,
        weight=np.ones(2, np.float32),
        lengths=np.array([3, 2], np.int32),
        mask=None,
        times=None,
        target_mask=counts,
    )
    total = sums(jnp.zeros((2, 3, 1)), batch, task)
    assert float(total.loss) == 1 + 9 + 0 + 25
    assert float(total.weight) == 4
    assert float(total.metric) == float(total.loss)


def test_the_metric_looks_at_the_steps_of_the_task_only():
    data = COPY.test
    (batch,) = batches(data, np.arange(6), 6)
    right = 20 * jax.nn.one_hot(batch.targets, 10, dtype=jnp.float64)
    blank = right.at[:, -10:].set(jax.nn.one_hot(8, 10, dtype=jnp.float64))
    total = sums(blank, batch, COPY)
    assert float(total.weight) == 6 * 21
    assert float(total.metric_weight) == 6 * 10
    assert float(total.metric) == 0
    assert float(sums(right, batch, COPY).metric) == 60


def test_cross_entropy_and_smoothing():
    (batch,) = batches(COPY.test, np.arange(1), 1)
    logits = jnp.zeros((1, 21, 10))
    assert float(sums(logits, batch, COPY).loss) == pytest.approx(21 * np.log(10))
    sure = 50 * jax.nn.one_hot(batch.targets, 10, dtype=jnp.float64)
    assert float(sums(sure, batch, COPY).loss) == pytest.approx(0, abs=1e-9)
    assert float(sums(sure, batch, COPY, smoothing=0.1).loss) == pytest.approx(21 * 50 * 0.09)


def test_unequal_lengths_reach_the_model(key):
    model = build_model(config(), ADDING, key)
    data = ADDING.test[:2]
    cut = dataclasses.replace(data, lengths=np.array([2, 4], np.int32))
    (batch,) = batches(cut, np.arange(2), 2)
    found = outputs(model, batch)
    np.testing.assert_allclose(found[0], model(jnp.asarray(data.inputs[0, :2])), rtol=1e-6)


def test_learning_rate_warms_up_and_decays():
    schedule = _schedule(config(learning_rate=0.1, warmup=0.1), 100)
    rates = [float(schedule(step)) for step in range(100)]
    assert 0 < rates[0] < rates[5] < rates[10] == pytest.approx(0.1)
    assert rates[99] < 1e-3
    alone = _schedule(config(learning_rate=0.1, warmup=0.9), 1)
    assert float(alone(0)) == pytest.approx(0.1)


def test_decay_spares_biases_and_step_sizes():
    weights = {"matrix": jnp.ones((2, 2)), "bias": jnp.ones(2), "step": jnp.ones(())}
    optimiser = _optimiser(config(weight_decay=0.5), lambda _: 0.1)
    zero = jax.tree.map(jnp.zeros_like, weights)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimiser.update(zero, optimiser.init(weights), weights)
    assert float(updates["matrix"][0, 0]) == pytest.approx(-0.05)
    assert float(jnp.abs(updates["bias"]).sum() + jnp.abs(updates["step"])) == 0


# --- The picture -------------------------------------------------------------------------------


@pytest.mark.parametrize("losses", [(1.0,), (1.0, 0.5, 0.25), (0.5, 0.0)])
def test_curves_are_drawn(tmp_path, losses):
    rows = [
        {"epoch": i + 1, "train_loss": x, "validation_loss": 2 * x, "validation_metric": 1 - x}
        for i, x in enumerate(losses)
    ]
    path = tmp_path / "curves.png"
    plot_curves(rows, "accuracy", path, best_epoch=len(rows), baseline=(0.1, "guessing"))
    assert path.read_bytes().startswith(b"\x89PNG")
