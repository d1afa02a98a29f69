import socket
import sys

import numpy as np
import pytest

from odernn import InputError, tasks
from odernn.tasks import _aeon
from odernn.tasks._ts import read_ts

HEADER = "@problemName x\n@classLabel true up down\n@data\n"
VALUES = "@problemName x\n@targetLabel true\n@data\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name="data.ts"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def series(rng, count=20, header=HEADER, steps=(5, 5), channels=1) -> str:
    lines = []
    for number in range(count):
        length = rng.integers(steps[0], steps[1] + 1)
        parts = [",".join(map(repr, rng.normal(size=length).tolist())) for _ in range(channels)]
        label = ("up", "down")[number % 2] if header is HEADER else str(number / 10)
        lines.append(":".join([*parts, label]))
    return header + "\n".join(lines) + "\n"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a task asked for the network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


# --- aeon's data sets --------------------------------------------------------------------------

BUNDLED = sorted(_aeon.bundled())


def test_aeon_brings_what_the_list_says():
    # Installed by the extra `dev`; a newer aeon may bring more.
    assert set(_aeon.DESCRIPTIONS) <= set(BUNDLED)
    assert {name for name, _, installed in tasks.names() if installed} >= set(BUNDLED)


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_set(name, no_network):
    task = tasks.get(name)
    assert task.name == name and not task.per_step
    parts = [task.training(0), task.validation, task.test]
    steps = {part.inputs.shape[1:] for part in parts}
    assert len(steps) == 1 and steps.pop()[1] == task.input_size == len(task.channels)
    seen = [part.inputs[row, :length] for part in parts[:1] for row, length in _rows(part)]
    values = np.concatenate(seen)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-3)
    for part in parts:
        assert np.isfinite(part.inputs).all()
        for row, length in _rows(part):
            assert not part.inputs[row, length:].any()
    if task.kind == "classification":
        assert task.classes is not None and len(task.classes) == task.output_size
        assert set(np.unique(parts[0].targets)) == set(range(task.output_size))
        assert parts[0].targets.dtype == np.int32
    else:
        assert parts[0].targets.shape == (len(parts[0]), 1)
        np.testing.assert_allclose(parts[0].targets.mean(), 0, atol=1e-5)


def _rows(data):
    lengths = data.lengths
    if lengths is None:
        lengths = np.full(len(data), data.inputs.shape[1])
    return enumerate(lengths)


@pytest.mark.parametrize(
    "name", ["BasicMotions", "JapaneseVowels", "GunPoint", "ItalyPowerDemand", "Covid3Month"]
)
def test_the_same_numbers_as_aeon_reads(name):
    loaders = pytest.importorskip("aeon.datasets")
    task = tasks.get(name)
    data = {}
    for part in ("TRAIN", "TEST"):
        path = _aeon.bundled()[name].with_name(f"{name}_{part}.ts")
        data[part] = loaders.load_from_ts_file(str(path))
    theirs, labels = data["TEST"]
    assert task.scaling is not None
    for row, length in _rows(task.test):
        mine = task.scaling.undo(task.test.inputs[row, :length].astype(np.float64))
        np.testing.assert_allclose(mine, theirs[row].T, rtol=1e-4, atol=1e-4)
        assert length == theirs[row].shape[1]
    if task.classes is not None:
        names = [task.classes[number].lower() for number in task.test.targets]
        assert names == labels.tolist()
    assert len(task.training(0)) + len(task.validation) == len(data["TRAIN"][0])


def test_japanese_vowels_have_unequal_lengths():
    task = tasks.get("JapaneseVowels")
    assert (task.input_size, task.output_size) == (12, 9)
    lengths = task.test.lengths
    assert lengths is not None and lengths.min() == 7 and lengths.max() == 29
    assert lengths.dtype == np.int32


def test_names_in_lower_case():
    assert tasks.get("gunpoint").name == "GunPoint"


def test_without_aeon(monkeypatch):
    monkeypatch.setitem(sys.modules, "aeon", None)
    with pytest.raises(InputError, match=r"GunPoint is a data set of aeon.*'odernn\[aeon\]'"):
        tasks.get("GunPoint")
    installed = {name: there for name, _, there in tasks.names()}
    assert installed["digits"] and not installed["GunPoint"]


# --- Files -------------------------------------------------------------------------------------


def test_one_file_is_split(write, rng):
    path = write(series(rng, 40, steps=(3, 9), channels=2))
    task, again = tasks.get(path, seed=1), tasks.get(path, seed=2)
    parts = [task.training(0), task.validation, task.test]
    assert [len(part) for part in parts] == [26, 6, 8]
    rows = [{row.tobytes() for row in part.inputs} for part in parts]
    assert len(rows[0] | rows[1] | rows[2]) == 40
    for part in parts:
        assert abs(np.mean(part.targets) - 0.5) < 0.01
        assert part.lengths is not None and part.inputs.shape[1:] == (9, 2)
    assert (task.name, task.classes) == ("data", ("up", "down"))
    np.testing.assert_array_equal(parts[0].inputs, again.training(3).inputs)


def test_either_file_of_a_pair_names_both(write, rng):
    first = write(series(rng, 10), "pair_TRAIN.ts")
    second = write(series(rng, 6).replace("true up down", "true down up"), "pair_TEST.ts")
    one, other = tasks.get(first), tasks.get(second)
    assert one.name == other.name == "pair"
    assert (len(one.training(0)), len(one.validation), len(one.test)) == (8, 2, 6)
    np.testing.assert_array_equal(one.test.inputs, other.test.inputs)
    # Classes have the numbers of the training file in both.
    assert one.test.targets.tolist() == [0, 1, 0, 1, 0, 1]
    second.unlink()
    assert len(tasks.get(first).test) == 2


def test_scaling_knows_the_training_part_only(write, rng):
    training, test = series(rng, 20), series(rng, 4)
    folder = write(training, "a_TRAIN.ts").parent
    write(training, "b_TRAIN.ts")
    write(test, "a_TEST.ts")
    write(test.replace("0.", "99."), "b_TEST.ts")
    one, other = tasks.get(folder / "a_TRAIN.ts"), tasks.get(folder / "b_TEST.ts")
    assert one.scaling == other.scaling
    np.testing.assert_array_equal(one.training(0).inputs, other.training(0).inputs)
    assert not np.array_equal(one.test.inputs, other.test.inputs)
    inputs = one.training(0).inputs
    np.testing.assert_allclose(inputs.mean(), 0, atol=1e-6)
    np.testing.assert_allclose(inputs.std(), 1, atol=1e-6)


def test_values_as_targets(write, rng):
    task = tasks.get(write(series(rng, 30, VALUES)))
    assert (task.kind, task.metric, task.classes) == ("regression", "mse", None)
    targets = task.training(0).targets
    assert targets.dtype == np.float32 and targets.shape == (19, 1)
    assert task.target_scaling is not None and task.baseline is not None
    parts = [task.training(0), task.validation, task.test]
    back = np.concatenate([task.target_scaling.undo(part.targets)[:, 0] for part in parts])
    np.testing.assert_allclose(np.sort(back), np.arange(30) / 10, atol=1e-5)
    assert task.baseline == (pytest.approx(np.mean(task.test.targets**2)), "guessing the mean")


def test_missing_values(write, rng):
    # Unequal lengths and a step that lacks one of two channels.
    lines = ["1,?,3:4,5,6:up", "1,2:3,4:down", "inf,2:3,4:up", "1,2:3,5:down"] * 5
    path = write(HEADER + "\n".join(lines))
    match = r"has 5 missing and 5 infinite value\(s\), the first at line 4, channel 1, step 2"
    with pytest.raises(InputError, match=match):
        tasks.get(path)
    with pytest.raises(InputError, match=r"mask_missing=True \(--mask-missing\)"):
        tasks.get(path)
    task = tasks.get(path, mask_missing=True)
    gone = 0
    for part in (task.training(0), task.validation, task.test):
        assert np.isfinite(part.inputs).all()
        gone += 0 if part.mask is None else int((~part.mask).sum())
    assert gone == 10


def stamped(stamps) -> str:
    row = ",".join(f"({stamp},{-1.5 * number})" for number, stamp in enumerate(stamps))
    return "@timestamps true\n" + HEADER + f"{row}:up\n{row}:down\n" * 5


def test_time_stamps_are_in_input_steps(write):
    task = tasks.get(write(stamped([10.0, 10.5, 11.0, 13.0])))
    data = task.training(0)
    assert task.time_unit == 0.5 and data.times is not None
    np.testing.assert_array_equal(data.times, np.tile([0, 1, 2, 6], (len(data), 1)))
    assert task.scaling is not None
    np.testing.assert_allclose(
        task.scaling.undo(data.inputs)[0, :, 0], [0, -1.5, -3, -4.5], atol=1e-6
    )


def test_time_stamps_may_be_dates(write):
    days = ["2020-01-01 00:00:00", "2020-01-01 00:01:00", "2020-01-01T01:02:00+01:00"]
    task = tasks.get(write(stamped(days)))
    data = task.training(0)
    assert task.time_unit == 60 and data.times is not None
    assert data.times[0].tolist() == [0, 1, 2]


def test_times_go_on_in_the_padding(write):
    header = "@timestamps true\n" + HEADER
    text = header + "(0,1),(2,2),(4,3):up\n(0,1),(2,5):down\n" * 5
    task = tasks.get(write(text))
    for part in (task.training(0), task.validation, task.test):
        assert part.times is not None and part.lengths is not None
        assert np.all(np.diff(part.times, axis=1) > 0)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "has no line @data: not a .ts file"),
        ("@problemName x\n", "has no line @data"),
        ("1,2:up\n@data\n", "line 1 has data before @data"),
        ("@data\n1,2:up\n", "neither classes nor target values"),
        ("@classLabel false\n@data\n1,2\n", "neither classes nor target values"),
        (HEADER, "has no sequences after @data"),
        (HEADER + "1,2\n", "line 4 has no ':' between the values and the class"),
        (HEADER + "1,2:left\n" * 9, "line 4 has the class 'left', but the header lists up, down"),
        (HEADER + "1,x:up\n", "line 4 has 'x' at channel 1, step 2: it has to be a number"),
        (HEADER + "1,2:3:up\n", "line 4 has channels of 1 and of 2 steps"),
        (HEADER + "1,2:up\n1,2:3,4:up\n", r"line 5 has 2 channel\(s\), the sequences before"),
        (HEADER + ":up\n", "line 4 has a sequence of length 0"),
        (VALUES + "1,2:abc\n" * 9, "line 4 has the target 'abc'"),
        (VALUES + "1,2:nan\n" * 9, "line 4 has the target 'nan'"),
        (HEADER + "1,2:up\n", r"has 1 sequence\(s\) in 1 class\(es\) to split: too few"),
        (b"@data\xff\n", "is not UTF-8"),
        ("@timestamps true\n" + HEADER + "1,2:up\n", r"line 5 is not of the form \(time,value\)"),
        ("@timestamps true\n" + HEADER + "(0,1),2:up\n", "line 5 is not of the form"),
        ("@timestamps true\n" + HEADER + "(0,1),(0,2):up\n", "do not increase at step 2"),
        ("@timestamps true\n" + HEADER + "(0,1):(1,1):up\n", "channels with different time"),
        ("@timestamps true\n" + HEADER + "(noon,1):up\n", "has the time stamp 'noon'"),
    ],
)
def test_bad_files(write, text, match):
    with pytest.raises(InputError, match=match) as caught:
        tasks.get(write(text))
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit_together(write, rng):
    path = write(series(rng, 10), "p_TRAIN.ts")
    write(series(rng, 10, channels=2), "p_TEST.ts")
    with pytest.raises(InputError, match=r"p_TRAIN.ts has 1 channel\(s\), but .*p_TEST.ts has 2"):
        tasks.get(path)
    write(series(rng, 10, VALUES), "p_TEST.ts")
    with pytest.raises(InputError, match="one has classes and one has values"):
        tasks.get(path)
    write(stamped([0, 1]), "p_TEST.ts")
    with pytest.raises(InputError, match="only one has time stamps"):
        tasks.get(path)


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*nothing\.ts"):
        tasks.get(tmp_path / "nothing.ts")
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        read_ts(tmp_path)


@pytest.mark.parametrize("options", [{"length": 5}, {"target": "x"}, {"horizon": 2}])
def test_options_of_other_tasks(write, rng, options):
    with pytest.raises(InputError, match=rf"{next(iter(options))} is .*: leave \w+ out"):
        tasks.get(write(series(rng)), **options)
