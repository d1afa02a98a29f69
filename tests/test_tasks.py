import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odernn import InputError, tasks
from odernn.tasks import Dataset, Scaling
from odernn.tasks._split import part_of, reduced, stratified_split


def same(a: Dataset, b: Dataset) -> bool:
    return np.array_equal(a.inputs, b.inputs) and np.array_equal(a.targets, b.targets)


def rows_of(data: Dataset) -> set[bytes]:
    return {row.tobytes() for row in data.inputs}


# --- Data sets ---------------------------------------------------------------------------------


def dataset(count=4, time=3, **arrays) -> Dataset:
    inputs = np.arange(count * time * 2, dtype=np.float32).reshape(count, time, 2)
    return Dataset(inputs, np.arange(count, dtype=np.int32), **arrays)


def test_indexing_selects_from_every_array(rng):
    whole = dataset(
        lengths=np.array([1, 2, 3, 3], np.int32),
        mask=rng.random((4, 3)) < 0.5,
        times=rng.random((4, 3)).astype(np.float32),
        target_mask=rng.random((4, 3)) < 0.5,
    )
    for index in (np.array([2, 0]), slice(1, 3), np.array([True, False, False, True])):
        part = whole[index]
        for name in ("inputs", "targets", "lengths", "mask", "times", "target_mask"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[index])
    assert len(whole) == 4 and len(whole[3]) == 1 and len(whole[:0]) == 0
    assert dataset()[1:].mask is None


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"lengths": np.array([1, 2], np.int32)}, r"lengths has the shape \(2,\).*need \(4,\)"),
        ({"lengths": np.array([0, 1, 1, 1], np.int32)}, "lengths go from 0 to 1.*between 1 and 3"),
        ({"lengths": np.array([4, 1, 1, 1], np.int32)}, "lengths go from 1 to 4.*between 1 and 3"),
        ({"mask": np.ones((4, 2), bool)}, r"mask has the shape \(4, 2\).*need \(4, 3\)"),
        ({"times": np.ones(4, np.float32)}, r"times has the shape \(4,\).*need \(4, 3\)"),
        ({"target_mask": np.ones((3, 4), bool)}, r"target_mask has the shape \(3, 4\)"),
    ],
)
def test_dataset_refuses_what_does_not_fit(arrays, match):
    with pytest.raises(InputError, match=match):
        dataset(**arrays)


def test_dataset_refuses_wrong_inputs_and_targets():
    with pytest.raises(InputError, match=r"shape \(4, 3\): give \(sequences, time, channels\)"):
        Dataset(np.zeros((4, 3), np.float32), np.zeros(4, np.int32))
    with pytest.raises(InputError, match="sequences of length 0"):
        Dataset(np.zeros((4, 0, 1), np.float32), np.zeros(4, np.int32))
    with pytest.raises(InputError, match=r"targets has the shape \(3,\).*need \(4,\) first"):
        Dataset(np.zeros((4, 1, 1), np.float32), np.zeros(3, np.int32))


# --- Scaling -----------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_scaling_fits_applies_and_undoes(seed, channels, shift, spread):
    values = np.random.default_rng(seed).normal(shift, spread, (50, channels))
    scaling = Scaling.fit(values)
    scaled = scaling.apply(values)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(scaling.undo(scaled), values, rtol=1e-9, atol=1e-9 * spread)
    assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scaling_keeps_precision_and_leading_axes(dtype):
    scaling = Scaling((1.0, 2.0), (3.0, 4.0))
    values = np.ones((5, 6, 2), dtype)
    assert scaling.apply(values).dtype == scaling.undo(values).dtype == dtype
    assert scaling.apply(values).shape == values.shape
    assert scaling.apply(np.ones((5, 2), int)).dtype == np.float64


def test_scaling_leaves_nan_out_and_shifts_what_is_constant():
    scaling = Scaling.fit(np.array([[0.1, 1.0], [0.1, np.nan], [0.1, 3.0]]))
    assert scaling == Scaling((scaling.mean[0], 2.0), (1.0, 1.0))
    assert scaling.mean[0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (None, "exactly the entries 'mean' and 'std'"),
        ({"mean": [0.0]}, "exactly the entries 'mean' and 'std'"),
        ({"mean": [0.0], "std": [1.0, 1.0]}, "1 means and 2 standard deviations"),
        ({"mean": [], "std": []}, "0 means"),
        ({"mean": [math.nan], "std": [1.0]}, "means must be finite"),
        ({"mean": [0.0], "std": [0.0]}, "finite and positive"),
        ({"mean": [0.0], "std": [-1.0]}, "finite and positive"),
        ({"mean": "x", "std": [1.0]}, "mean of a scaling must be a list of numbers"),
        ({"mean": [0.0], "std": 1.0}, "std of a scaling must be a list of numbers"),
    ],
)
def test_stored_scaling_is_checked(values, match):
    with pytest.raises(InputError, match=match):
        Scaling.from_dict(values)


def test_scaling_refuses_wrong_values():
    with pytest.raises(InputError, match=r"shape \(4, 3\) do not fit a scaling of 2 channel"):
        Scaling((0.0, 0.0), (1.0, 1.0)).apply(np.zeros((4, 3)))
    with pytest.raises(InputError, match="channel 2 has no value in the training part"):
        Scaling.fit(np.array([[1.0, np.nan]]))
    with pytest.raises(InputError, match=r"channel 1 has values up to 1e\+300, too large"):
        Scaling.fit(np.array([[1e300], [-1e300]]))


# --- Splits ------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.data())
def test_stratified_split(labels, data):
    labels = np.array(labels)
    size = data.draw(st.integers(0, len(labels)))
    rest, part = stratified_split(labels, size)
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, part])), np.arange(len(labels)))
    classes, counts = np.unique(labels, return_counts=True)
    assert set(labels[rest]) == set(classes)
    assert len(part) == min(size, len(labels) - len(classes))
    shares = np.array([(labels[part] == name).sum() for name in classes])
    # Where no class is too small to give its share, shares are right up to rounding.
    if np.all(counts - 1 >= np.ceil(counts * size / len(labels))):
        assert np.all(np.abs(shares - counts * size / len(labels)) < 1.5)
    again = stratified_split(labels, size)
    np.testing.assert_array_equal(part, again[1])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_train_size_is_exact(labels, data):
    labels = np.array(labels)
    size = data.draw(st.integers(1, len(labels)))
    kept = reduced("x", labels, size)
    assert len(set(kept)) == len(kept) == size
    # A larger part holds the smaller ones: more data is never other data.
    assert set(kept) <= set(reduced("x", labels, len(labels) - (len(labels) - size) // 2))


def test_too_few_to_split():
    with pytest.raises(InputError, match=r"has 3 sequence\(s\) in 3 class\(es\) to split: too few"):
        part_of("tiny", np.arange(3), 0.5)


# --- Digits ------------------------------------------------------------------------------------


def parts(task, epoch=0):
    return task.training(epoch), task.validation, task.test


def test_digits():
    task = tasks.get("digits")
    training, validation, test = parts(task)
    assert (len(training), len(validation), len(test)) == (1293, 144, 360)
    for part in parts(task):
        assert part.inputs.shape[1:] == (64, 1) and part.inputs.dtype == np.float32
        assert part.targets.dtype == np.int32
        assert part.inputs.min() >= 0 and part.inputs.max() <= 1
        assert part.lengths is None and part.mask is None and part.times is None
        shares = np.bincount(part.targets, minlength=10) / len(part)
        np.testing.assert_allclose(shares, 0.1, atol=0.01)
    assert not rows_of(training) & rows_of(test)
    assert not rows_of(training) & rows_of(validation)
    assert not rows_of(validation) & rows_of(test)
    assert (task.kind, task.per_step, task.metric) == ("classification", False, "accuracy")
    assert (task.input_size, task.output_size) == (1, 10)
    assert task.classes == tuple("0123456789") and task.scaling is None
    assert task.baseline is not None and task.baseline[0] == pytest.approx(0.1, abs=0.01)


def test_digits_do_not_depend_on_seed_or_epoch():
    one, other = tasks.get("digits", seed=0), tasks.get("DIGITS", seed=7)
    assert all(same(a, b) for a, b in zip(parts(one), parts(other, epoch=3), strict=True))


def test_digits_permuted_moves_pixels_the_same_way_everywhere():
    plain, shuffled = tasks.get("digits"), tasks.get("digits-permuted", seed=5)
    order = np.random.RandomState(0).permutation(64)
    for a, b in zip(parts(plain), parts(shuffled), strict=True):
        np.testing.assert_array_equal(a.inputs[:, order], b.inputs)
        np.testing.assert_array_equal(a.targets, b.targets)
    # NumPy promises this stream: the task is the same with every version of it.
    assert order[:5].tolist() == [45, 29, 43, 61, 34]


def test_train_size_takes_a_stratified_part_of_the_training_part():
    whole, part = tasks.get("digits"), tasks.get("digits", train_size=200)
    assert len(part.training(0)) == 200
    assert rows_of(part.training(0)) <= rows_of(whole.training(0))
    counts = np.bincount(part.training(0).targets, minlength=10)
    assert counts.min() >= 19 and counts.max() <= 21
    assert same(part.test, whole.test) and same(part.validation, whole.validation)


# --- Generated tasks ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adding", "copy"])
def test_generated_data_depend_on_seed_and_epoch_only(name):
    def make(seed):
        return tasks.get(name, seed=seed, length=20, train_size=50)

    one, again, other = make(3), make(3), make(4)
    assert same(one.training(5), again.training(5))
    # Asked for in any order.
    assert same(again.training(0), one.training(0))
    assert not same(one.training(0), one.training(1))
    assert not same(one.training(0), other.training(0))
    # Results of different seeds are compared on the same test.
    assert same(one.test, other.test) and same(one.validation, other.validation)
    for epoch in (0, 1):
        for seed in (0, 1, 2, 3):
            drawn = rows_of(make(seed).training(epoch))
            assert not drawn & rows_of(one.test) and not drawn & rows_of(one.validation)
    assert not rows_of(one.test) & rows_of(one.validation)


@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_adding(length, seed):
    task = tasks.adding(length=length, seed=seed, train_size=20)
    data = task.training(0)
    number, marker = data.inputs[..., 0], data.inputs[..., 1]
    assert data.inputs.shape == (20, length, 2) and data.inputs.dtype == np.float32
    assert data.targets.shape == (20, 1) and data.targets.dtype == np.float32
    assert number.min() >= 0 and number.max() < 1
    assert set(np.unique(marker)) <= {0, 1}
    half = length // 2
    np.testing.assert_array_equal(marker[:, :half].sum(axis=1), 1)
    np.testing.assert_array_equal(marker[:, half:].sum(axis=1), 1)
    np.testing.assert_allclose((number * marker).sum(axis=1), data.targets[:, 0], rtol=1e-6)


def test_adding_baseline_is_what_guessing_the_mean_gets():
    task = tasks.adding(train_size=20_000, length=10)
    assert task.baseline is not None
    value, name = task.baseline
    assert name == "guessing the mean" and round(value, 3) == 0.167
    assert np.mean((task.training(0).targets - 1) ** 2) == pytest.approx(value, rel=0.03)


def test_adding_marks_every_step_of_each_half():
    marked = tasks.adding(length=7, train_size=2000).training(0).inputs[..., 1].sum(axis=0)
    np.testing.assert_allclose(marked[:3] / 2000, 1 / 3, atol=0.05)
    np.testing.assert_allclose(marked[3:] / 2000, 1 / 4, atol=0.05)


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_copy(length, seed):
    task = tasks.copy(length=length, seed=seed, train_size=8)
    data = task.training(1)
    steps = length + 20
    assert data.inputs.shape == (8, steps, 10) and data.targets.shape == (8, steps)
    assert data.inputs.dtype == np.float32 and data.targets.dtype == np.int32
    np.testing.assert_array_equal(data.inputs.sum(axis=-1), 1)
    read = data.inputs.argmax(axis=-1)
    assert read[:, :10].max() < 8
    # The cue comes once, ten steps before the end, and the answer after it.
    np.testing.assert_array_equal(np.argwhere(read == 9)[:, 1], length + 9)
    assert np.all(np.delete(read[:, 10:], length - 1, axis=1) == 8)
    np.testing.assert_array_equal(data.targets[:, -10:], read[:, :10])
    assert np.all(data.targets[:, :-10] == 8)
    assert task.target_mask is not None and task.target_mask.shape == (steps,)
    np.testing.assert_array_equal(np.flatnonzero(task.target_mask), np.arange(steps - 10, steps))


def test_copy_baselines():
    task = tasks.copy(length=100)
    assert task.baseline == (1 / 8, "guessing a symbol")
    # Cross-entropy of a network that knows when to answer but not what, over all steps.
    targets = task.training(0).targets
    chance = np.where(np.arange(120) < 110, 1.0, 1 / 8)
    loss = -np.mean(np.log(np.broadcast_to(chance, targets.shape)))
    assert task.loss_baseline is not None
    assert task.loss_baseline[0] == pytest.approx(loss) == pytest.approx(10 * math.log(8) / 120)


def test_generated_sizes():
    task = tasks.get("adding")
    assert task.training(0).inputs.shape == (2000, 100, 2)
    assert len(task.validation) == 500 and len(task.test) == 1000


# --- By name -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("digit", {}, "unknown task 'digit': did you mean 'digits'"),
        ("gunpoin", {}, "unknown task 'gunpoin': did you mean 'GunPoint'"),
        ("photo.png", {}, r"photo.png is not a task: .*\.ts or \.csv"),
        ("some/folder", {}, r"some/folder is not a task: .*\.ts or \.csv"),
        ("digits", {"length": 10}, "length is 10, but task digits .*leave length out"),
        ("digits", {"target": "x"}, "target is 'x', but task digits forecasts no column"),
        ("adding", {"horizon": 2}, "horizon is 2, but task adding forecasts no column"),
        ("GunPoint", {"length": 10}, "length is 10, but task GunPoint"),
        ("digits", {"train_size": 0}, r"train_size \(--train-size\) is 0: give at least 1"),
        ("digits", {"train_size": 5000}, "is 5000, but task digits has 1293 training"),
        ("adding", {"train_size": 1.5}, r"train_size \(--train-size\) is 1.5: give a whole"),
        ("adding", {"train_size": 10**9}, "takes 800 GB: take fewer or shorter"),
        ("adding", {"length": 10**9}, "GB: take fewer or shorter"),
        ("adding", {"length": 0}, "length is 0: give at least 2"),
        ("adding", {"length": 1}, "length is 1: give at least 2"),
        ("copy", {"length": 0}, "length is 0: give at least 1"),
        ("copy", {"length": True}, "length is True: give a whole number"),
        ("copy", {"seed": -1}, "seed is -1: give at least 0"),
    ],
)
def test_refused(name, options, match):
    with pytest.raises(InputError, match=match) as caught:
        tasks.get(name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("epoch", [-1, 0.5, "1"])
def test_epoch_must_be_a_whole_number(epoch):
    with pytest.raises(InputError, match="epoch is"):
        tasks.adding(train_size=1, length=2).training(epoch)


def test_names_have_descriptions_and_all_can_be_got():
    rows = tasks.names()
    assert [name for name, *_ in rows][:4] == ["digits", "digits-permuted", "adding", "copy"]
    assert len({name.lower() for name, *_ in rows}) == len(rows)
    for name, text, installed in rows:
        assert text and "\n" not in text and isinstance(installed, bool)
        if installed:
            assert tasks.get(name).name == name


def test_importing_tasks_loads_nothing_heavy():
    code = (
        "import sys; from odernn import tasks; tasks.names(); tasks.get('GunPoint'); "
        "heavy = {'aeon', 'sklearn', 'pandas', 'torch', 'matplotlib'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
