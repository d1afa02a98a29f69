"""Tasks from differential equations, tasks with steps left out, and names with a length."""

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from odernn import InputError, tasks
from odernn.tasks import Dataset, _aeon, _dynamics
from odernn.tasks._task import Always

RATES = {
    "fhn": lambda t, y: [y[0] - y[0] ** 3 / 3 - y[1] + 0.5, (y[0] + 0.7 - 0.8 * y[1]) / 50],
    "lorenz": lambda t, y: [
        10 * (y[1] - y[0]),
        y[0] * (28 - y[2]) - y[1],
        y[0] * y[1] - 8 / 3 * y[2],
    ],
    "pendulum": lambda t, y: [y[1], -np.sin(y[0]) - 0.1 * y[1]],
}
PATHS = {
    "fhn": (_dynamics._fhn_paths, 60, lambda n: 0.4 * np.arange(n + 1)),
    "lorenz": (_dynamics._lorenz_paths, 45, lambda n: 0.04 * np.arange(n)),
    "pendulum": (_dynamics._pendulum_paths, 40, lambda n: 0.1 * np.arange(n)),
}


def parts(task, epoch=0):
    return task.training(epoch), task.validation, task.test


# --- Differential equations --------------------------------------------------------------------


@pytest.mark.parametrize("name", RATES)
def test_paths_solve_the_equation(name):
    make, stamps, times = PATHS[name]
    paths = make(stamps)
    assert np.isfinite(paths).all()
    at = times(stamps)
    for path in paths[[0, -1]]:
        found = solve_ivp(RATES[name], (0, at[-1]), path[0], "DOP853", at, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(path, found.y.T, atol=1e-6)


def test_fhn_is_the_papers():
    task = tasks.fhn(length=60)
    sizes = [len(part) for part in parts(task)]
    assert sizes == [128, 128, 1024]
    for part in parts(task):
        # The next value is the target, and nothing is scaled.
        np.testing.assert_array_equal(part.inputs[:, 1:], part.targets[:, :-1])
        assert part.inputs[:, 0].min() >= -1 and part.inputs[:, 0].max() <= 1
        assert part.inputs.dtype == part.targets.dtype == np.float32
    starts = np.concatenate([part.inputs[:, 0, 0] for part in parts(task)])
    assert len(np.unique(starts)) == 1280 and abs(starts.mean()) < 0.05
    assert (task.scaling, task.per_step, task.metric) == (None, True, "mse")
    assert task.needed is None and task.time_unit is None


@pytest.mark.parametrize(("name", "ahead"), [("lorenz", 5), ("pendulum", 10)])
def test_windows_forecast_some_steps_ahead(name, ahead):
    task = tasks.get(name, length=40 if name == "lorenz" else 30)
    assert [len(part) for part in parts(task)] == [512, 128, 1024]
    for part in parts(task):
        np.testing.assert_array_equal(part.inputs[:, ahead:], part.targets[:, :-ahead])
    value, text = task.baseline
    test = task.test
    assert text == "repeating the present value"
    assert value == pytest.approx(np.mean((test.inputs - test.targets) ** 2), rel=1e-4)


def test_lorenz_is_scaled_by_its_training_part():
    task = tasks.get("lorenz", length=40)
    training = task.training(0).inputs.astype(float)
    assert training.mean() == pytest.approx(0, abs=1e-5)
    assert training.std() == pytest.approx(1, abs=1e-5)
    assert task.scaling == task.target_scaling and 7 < task.scaling.std[0] < 9


def test_pendulum_shows_no_velocity():
    data = tasks.get("pendulum", length=30).test
    np.testing.assert_allclose((data.inputs.astype(float) ** 2).sum(-1), 1, atol=1e-6)


def test_paths_are_solved_once_and_no_setting_stays(monkeypatch):
    before = jax.config.jax_enable_x64
    first = tasks.get("fhn-60", seed=1)
    monkeypatch.setattr(_dynamics, "_solved", None)  # would fail if it were called again
    again = tasks.get("fhn", length=60, seed=2)
    np.testing.assert_array_equal(first.test.inputs, again.test.inputs)
    np.testing.assert_array_equal(first.training(0).inputs, again.training(5).inputs)
    assert jax.config.jax_enable_x64 == before


def test_train_size_keeps_the_other_parts():
    few = tasks.get("lorenz", length=40, train_size=7)
    all_ = tasks.get("lorenz", length=40)
    assert len(few.training(0)) == 7
    np.testing.assert_array_equal(few.test.inputs, all_.test.inputs)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"train_size": 513}, "train_size .* is 513, but task lorenz has 512 training sequences"),
        ({"length": 1}, "length is 1: give at least 2"),
        ({"horizon": 3}, "horizon is 3, but task lorenz forecasts no column"),
        ({"mask_missing": True}, "mask_missing is True, but task lorenz lacks no value"),
    ],
)
def test_dynamics_refuse(options, match):
    with pytest.raises(InputError, match=match):
        tasks.get("lorenz", **({"length": 40} | options))


# --- Lengths in names --------------------------------------------------------------------------


def test_a_length_in_the_name():
    named, given = tasks.get("adding-50", seed=3), tasks.get("adding", length=50, seed=3)
    assert (named.name, given.name) == ("adding-50", "adding")
    np.testing.assert_array_equal(named.training(2).inputs, given.training(2).inputs)
    assert tasks.get("COPY-30").test.inputs.shape[1] == 50


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("adding-50", {"length": 60}, "length is 60, but task adding-50 has it in its name"),
        ("digits-50", {}, "length is 50, but task digits has sequences of 64 pixels"),
        ("adding-0", {}, "length is 0: give at least 2"),
        ("add-50", {}, "unknown task 'add-50'"),
        ("digit-irregular", {}, "unknown task 'digit': did you mean 'digits'"),
    ],
)
def test_names_that_are_no_task(name, options, match):
    with pytest.raises(InputError, match=match):
        tasks.get(name, **options)


# --- Steps left out ----------------------------------------------------------------------------


def test_irregular_keeps_what_remains():
    whole, task = tasks.get("digits"), tasks.get("digits-irregular")
    assert task.name == "digits-irregular" and task.time_unit == 1.0
    for before, after in zip(parts(whole), parts(task), strict=True):
        assert after.inputs.shape == (len(before), 45, 1)  # 64 less 30 %, rounded
        assert after.lengths is None and after.mask is None and after.times.dtype == np.float32
        steps = after.times.astype(int)
        assert (np.diff(steps) > 0).all() and steps.min() >= 0 and steps.max() < 64
        kept = np.take_along_axis(before.inputs, steps[..., None], axis=1)
        np.testing.assert_array_equal(after.inputs, kept)
        np.testing.assert_array_equal(after.targets, before.targets)
        # Any step is as likely to go as another, and not the same ones everywhere.
        share = np.bincount(steps.ravel(), minlength=64) / len(steps)
        assert abs(share - 45 / 64).max() < 6 * np.sqrt(0.21 / len(steps))


def test_irregular_is_seeded_by_part_and_epoch():
    task, other = (tasks.irregular(tasks.digits(), seed=seed) for seed in (0, 1))
    again = tasks.get("digits-irregular", seed=9)
    for one, two, three in zip(parts(task), parts(again, epoch=4), parts(other), strict=True):
        np.testing.assert_array_equal(one.times, two.times)
        assert not np.array_equal(one.times, three.times)
    training, validation, test = (part.times[:100] for part in parts(task))
    assert not np.array_equal(training, validation) and not np.array_equal(validation, test)
    drawn = tasks.get("adding-20-irregular").training
    np.testing.assert_array_equal(drawn(1).times, drawn(1).times)
    assert not np.array_equal(drawn(1).times, drawn(2).times)


def test_adding_keeps_its_markers():
    task = tasks.get("adding-40-irregular")
    for data in (*parts(task), task.training(3)):
        assert data.inputs.shape[1] == 28
        numbers, markers = data.inputs[..., 0], data.inputs[..., 1]
        np.testing.assert_array_equal(markers.sum(1), 2)
        np.testing.assert_allclose((numbers * markers).sum(1), data.targets[:, 0], rtol=1e-6)


def test_copy_keeps_symbols_cue_and_answers():
    task = tasks.get("copy-30-irregular")
    for data in parts(task):
        assert data.inputs.shape[1] == 35 and data.targets.shape[1] == 35
        symbols = data.inputs[:, :10].argmax(-1)
        np.testing.assert_array_equal(data.targets[:, -10:], symbols)
        np.testing.assert_array_equal(data.inputs[..., 9].sum(1), 1)
        np.testing.assert_array_equal(data.inputs[:, 10:-10, :8], 0)
        np.testing.assert_array_equal(data.times[:, [0, 9, -10, -1]] - [0, 9, 40, 49], 0)
    np.testing.assert_array_equal(task.target_mask, np.arange(35) >= 25)
    assert task.loss_baseline[0] == pytest.approx(10 * np.log(8) / 35)


def test_irregular_targets_stay_at_their_steps():
    whole, task = tasks.get("fhn-60"), tasks.get("fhn-60-irregular")
    steps = task.test.times.astype(int)
    rows = np.arange(len(steps))[:, None]
    np.testing.assert_array_equal(task.test.targets, whole.test.targets[rows, steps])
    np.testing.assert_array_equal(task.test.inputs, whole.test.inputs[rows, steps])


def test_irregular_with_lengths_masks_and_times(rng):
    lengths = np.array([10, 7, 1], np.int32)
    within = np.arange(10) < lengths[:, None]
    data = Dataset(
        inputs=np.where(within[..., None], rng.random((3, 10, 2)), 0).astype(np.float32),
        targets=np.zeros(3, np.int32),
        lengths=lengths,
        mask=rng.random((3, 10)) < 0.7,
        times=np.cumsum(rng.random((3, 10)) + 0.1, axis=1).astype(np.float32),
    )
    base = tasks.get("digits")
    task = tasks.irregular(
        tasks.Task(
            **{
                **vars(base),
                "training": Always(data),
                "validation": data,
                "test": data,
                "time_unit": 2.0,
            }
        )
    )
    for found in parts(task):
        assert found.lengths.tolist() == [7, 5, 1] and found.inputs.shape == (3, 7, 2)
        assert (np.diff(found.times, axis=1) > 0).all()
        for row, length in enumerate(found.lengths):
            steps = np.searchsorted(data.times[row], found.times[row, :length])
            np.testing.assert_array_equal(found.inputs[row, :length], data.inputs[row, steps])
            np.testing.assert_array_equal(found.mask[row, :length], data.mask[row, steps])
            assert (steps < lengths[row]).all()
            assert not found.inputs[row, length:].any()
    assert task.time_unit == 2.0


def test_irregular_refuses():
    task = tasks.digits()
    with pytest.raises(InputError, match=r"share is 1, it must be at least 0 and below 1"):
        tasks.irregular(task, share=1)
    with pytest.raises(InputError, match="seed is -1: give at least 0"):
        tasks.irregular(task, seed=-1)
    with pytest.raises(InputError, match="6 of the 21 steps .* task copy-1, but 21 of them"):
        tasks.get("copy-1-irregular")
    early = tasks.Task(**{**vars(tasks.copy(length=30)), "target_mask": np.arange(50) < 5})
    with pytest.raises(InputError, match="task copy counts other steps than the last ones"):
        tasks.irregular(early)
    assert tasks.irregular(task, share=0).test.inputs.shape[1] == 64


@pytest.mark.parametrize("name", ["BasicMotions", "JapaneseVowels"])
def test_every_kind_of_bundled_set_can_be_irregular(name):
    whole, task = tasks.get(name), tasks.get(f"{name}-IRREGULAR")
    assert task.test.inputs.shape[1] == round(0.7 * whole.test.inputs.shape[1])
    assert (whole.test.lengths is None) == (task.test.lengths is None)


# --- aeon's series -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", _aeon.SERIES)
def test_bundled_series(name):
    task = tasks.get(name, horizon=1)
    series = _aeon.SERIES[name]
    assert (task.name, task.target) == (name, series.target)
    assert task.channels == (series.target, *series.others)
    assert task.baseline[1] == "repeating the present value" and task.baseline[0] > 0


def test_series_take_the_options_of_forecasts():
    task = tasks.get("Uschange-16", target="Income", horizon=4)
    assert task.target == "Income" and task.test.inputs.shape[1:] == (16, 5)
    assert task.name == "Uschange-16"
    assert tasks.get("Airline-irregular").test.inputs.shape[1] == 45


def test_columns_of_a_forecast(tmp_path):
    path = tmp_path / "x.csv"
    rows = "\n".join(f"{i},{i % 5},{i % 7}" for i in range(40))
    path.write_text(f"a,b,c\n{rows}\n")
    assert tasks.forecasting(path, target="b", columns=["c"]).channels == ("c", "b")
    assert tasks.forecasting(path, target="b").channels == ("a", "b", "c")
    with pytest.raises(InputError, match="no column 'd'"):
        tasks.forecasting(path, target="b", columns=["d"])
