from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odernn import InputError, tasks
from odernn.tasks._forecasting import _cut


@pytest.fixture
def write(tmp_path):
    def write(text, name="data.csv"):
        path = tmp_path / name
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(text, encoding="utf-8")
        return path

    return write


def table(values, names=("a", "b")) -> str:
    rows = [",".join(repr(float(value)) for value in row) for row in np.atleast_2d(values)]
    return "\n".join([",".join(names[: np.shape(values)[1]]), *rows, ""])


# --- Reading -----------------------------------------------------------------------------------


def test_numbers_come_back_as_written(write, rng):
    values = rng.normal(size=(20, 2)) * 10.0 ** rng.integers(-200, 200, (20, 2))
    names, found, mask = tasks.read_csv(write(table(values)))
    assert names == ("a", "b") and mask is None and found.dtype == np.float64
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_dialects(write, delimiter, end):
    lines = [f'"a"{delimiter} b ', f"1{delimiter} 2.5", "", f'"-3e2"{delimiter}4', "", ""]
    names, found, _ = tasks.read_csv(write(("\ufeff" + end.join(lines)).encode()))
    assert names == ("a", "b")
    assert found.tolist() == [[1, 2.5], [-300, 4]]


def test_columns_without_numbers_are_left_out(write):
    path = write("day,x,remark,,y\n2020-01-01,1,ok,,5\n2020-01-02,2,,,6\n")
    assert tasks.read_csv(path)[0] == ("x", "y")
    names, found, _ = tasks.read_csv(path, columns=["y", "x"])
    assert names == ("y", "x") and found.tolist() == [[5, 1], [6, 2]]


def test_a_column_without_a_name_is_called_by_its_place(write):
    assert tasks.read_csv(write(",x\n0,1\n1,2\n"))[0] == ("column 1", "x")


def test_missing_values_are_masked_and_filled_with_the_last(write):
    path = write("a,b\n?,1\n1,2\nNaN,3\n,4\n5,inf\n")
    names, found, mask = tasks.read_csv(path, mask_missing=True)
    assert names == ("a", "b") and mask is not None
    assert mask.tolist() == [False, True, False, False, False]
    assert found.tolist() == [[1, 1], [1, 2], [1, 3], [1, 4], [5, 4]]


def test_an_empty_line_is_a_missing_value_where_there_is_one_column(write):
    path = write("a\n1\n\n3\n\n")
    with pytest.raises(InputError, match=r"1 missing value\(s\) \(row 2 \(line 3\), column 'a'"):
        tasks.read_csv(path)
    mask = tasks.read_csv(path, mask_missing=True)[2]
    assert mask is not None and mask.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"data.csv is empty: it needs a line of column names"),
        ("\n \n", r"data.csv is empty"),
        ("a,b\n", "has column names but no rows"),
        ("1,2\n3,4\n", r"begins with numbers \(1, 2\): its first line has to be column names"),
        ("a,a\n1,2\n", "has 2 columns named 'a': rename one"),
        ("a,b\nx,y\n", "has no column with numbers"),
        ("a,b\n1,2\n3,four\n", r"has 'four' at row 2 \(line 3\), column 'b': it has to be"),
        ("a,b\n1,2\n3,1_000\n", r"has '1_000' at row 2 \(line 3\), column 'b'"),
        ('a,b\n1,2\n3,"4,5"\n', r"has '4,5' at row 2 .* column 'b': use a decimal point"),
        (f"a,b\n1,2\n3,{'z' * 99}\n", r"has 'z{37}\.\.\.' at row 2"),
        ("a,b\n1,2\n\n3\n", r"has 1 cells in row 2 \(line 4\), but 2 column names"),
        ("a,b\n1,2,3\n", r"has 3 cells in row 1 \(line 2\), but 2 column names"),
        ('a,b\n1,"2\n', r"line 2 is not CSV: "),
        ("a,b\n1,2\n,3\n4,-inf\n", r"has 1 missing and 1 infinite value\(s\) \(row 2 \(line 3\), "),
        ("a,b\n1,2\n,\n,\n", r"has 4 missing value.*column 'b'; row 3 .*column 'a'; \.\.\.\)"),
        (b"a,b\n1,\xe9\n", "is not UTF-8 .byte 0xe9 at position 6.: save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_bad_files(write, text, match):
    with pytest.raises(InputError, match=match) as caught:
        tasks.read_csv(write(text))
    assert "\n" not in str(caught.value)


def test_missing_values_name_the_option(write):
    with pytest.raises(InputError, match=r"pass mask_missing=True \(--mask-missing\)"):
        tasks.read_csv(write("a\n1\nnan\n"))


def test_text_is_not_masked(write):
    with pytest.raises(InputError, match="has 'x' at row 2"):
        tasks.read_csv(write("a\n1\nx\n"), mask_missing=True)


def test_files_that_cannot_be_opened(write, tmp_path):
    write("a\n1\n", "sales.csv")
    with pytest.raises(InputError, match=r"no file .*slaes\.csv: did you mean .*/sales\.csv'"):
        tasks.read_csv(tmp_path / "slaes.csv")
    with pytest.raises(InputError, match=r"no file .*nowhere/x\.csv\."):
        tasks.read_csv(tmp_path / "nowhere" / "x.csv")
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        tasks.read_csv(tmp_path)


def test_no_such_column(write):
    path = write("temperature,rain\n1,2\n")
    with pytest.raises(InputError, match=r"no column 'temprature': did you mean 'temperature'\?"):
        tasks.read_csv(path, columns=["temprature"])
    with pytest.raises(InputError, match=r"no column 'zz'\. Columns: 'temperature', 'rain'\."):
        tasks.read_csv(path, columns=["zz"])


def test_an_asked_for_column_must_have_numbers(write):
    path = write("day,x,empty\nmon,1,\n")
    with pytest.raises(InputError, match="has 'mon' at row 1"):
        tasks.read_csv(path, columns=["day"])
    with pytest.raises(InputError, match="has no number in column 'empty'"):
        tasks.read_csv(path, columns=["empty"], mask_missing=True)


@given(st.binary(max_size=200))
def test_no_bytes_make_another_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(data)
    try:
        names, found, mask = tasks.read_csv(path, mask_missing=True)
    except InputError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert found.shape[1] == len(names) and np.isfinite(found).all()
        assert mask is None or mask.shape == (len(found),)


# --- Windows -----------------------------------------------------------------------------------


@given(st.integers(1, 30), st.integers(0, 100), st.integers(1, 100), st.integers(1, 100))
def test_windows_count_every_step_once(window, extra, second, third):
    ends = list(np.cumsum([0, window + extra, second, third]))
    for low, high in pairwise(ends):
        cuts = _cut(low, high, window)
        counted = [step for _, first, end in cuts for step in range(first, end)]
        assert counted == list(range(low, high))
        for start, first, end in cuts:
            assert end - start == window and 0 <= start <= first < end
            # Half a window of past, but for the very first one.
            assert start == 0 or first - start >= window // 2


# --- Forecasting -------------------------------------------------------------------------------


def counting(data):
    """Which steps count, as an array."""
    if data.target_mask is None:
        return np.ones(data.inputs.shape[:2], bool)
    return data.target_mask


@pytest.mark.parametrize("horizon", [1, 3, 10])
@pytest.mark.parametrize("length", [None, 1, 7, 32])
@pytest.mark.parametrize("count", [60, 333])
def test_forecasts_are_the_target_some_rows_later(write, horizon, length, count):
    # Numbers are row numbers, so that every value says where it comes from.
    rows = np.arange(count)
    path = write(table(np.stack([rows, rows + 1000], axis=1)))
    task = tasks.get(path, target="b", horizon=horizon, length=length)
    assert (task.kind, task.per_step, task.metric) == ("regression", True, "mse")
    assert (task.input_size, task.output_size, task.channels) == (2, 1, ("a", "b"))
    assert task.target == "b" and task.target_scaling is not None and task.scaling is not None
    ends = [0, count * 70 // 100, count * 85 // 100, count]
    for number, data in enumerate([task.training(0), task.validation, task.test]):
        now = task.scaling.undo(data.inputs.astype(np.float64))
        ahead = task.target_scaling.undo(data.targets.astype(np.float64))
        later = now[..., 1:] + np.where(counting(data)[..., None], ahead, horizon)
        np.testing.assert_allclose(ahead[counting(data)], horizon, atol=1e-3)
        np.testing.assert_allclose(np.diff(now[..., 0], axis=1), 1, atol=1e-3)
        # Each row is a target once, in its own part.
        aimed = np.sort(np.rint(later[..., 0] - 1000)[counting(data)])
        first = max(ends[number], horizon)
        np.testing.assert_array_equal(aimed, np.arange(first, ends[number + 1]))
        assert now[..., 0].max() < ends[number + 1] - horizon + 0.5
    assert task.training(0).inputs.shape[1] == (length or min(64, ends[1] - horizon))
    assert task.training(0).inputs.dtype == task.training(0).targets.dtype == np.float32


def test_nothing_of_later_parts_reaches_training(write, rng):
    values = rng.normal(size=(200, 2))
    changed = values.copy()
    changed[140:] = 1e3 * rng.normal(size=(60, 2))
    one = tasks.get(write(table(values), "one.csv"), target="a")
    other = tasks.get(write(table(changed), "other.csv"), target="a")
    assert one.scaling == other.scaling
    for name in ("inputs", "targets", "target_mask"):
        np.testing.assert_array_equal(
            getattr(one.training(0), name), getattr(other.training(0), name)
        )
    np.testing.assert_allclose(one.scaling.mean, values[:140].mean(axis=0))
    np.testing.assert_allclose(one.scaling.std, values[:140].std(axis=0))
    # Nor of the test part the validation part.
    changed = values.copy()
    changed[170:] += 50
    third = tasks.get(write(table(changed), "third.csv"), target="a")
    np.testing.assert_array_equal(one.validation.inputs, third.validation.inputs)
    np.testing.assert_array_equal(one.validation.targets, third.validation.targets)


def test_data_depend_neither_on_seed_nor_epoch(write, rng):
    path = write(table(rng.normal(size=(100, 1))))
    one, other = tasks.get(path, seed=1), tasks.get(path, seed=2)
    np.testing.assert_array_equal(one.training(0).inputs, other.training(9).inputs)


def test_the_only_numeric_column_is_the_target(write, rng):
    rows = "".join(f"2020-01-{row},{row}\n" for row in range(40))
    task = tasks.get(write("day,x\n" + rows, "Sales.CSV"))
    assert (task.target, task.name, task.channels) == ("x", "Sales", ("x",))


def test_baseline_repeats_the_present_value(write, rng):
    values = rng.normal(size=(100, 1)) * 3 + 7
    task = tasks.get(write(table(values)), horizon=2)
    spread = values[:70].std()
    expected = np.mean(((values[85:] - values[83:-2]) / spread) ** 2)
    assert task.baseline is not None and task.baseline[1] == "repeating the present value"
    assert task.baseline[0] == pytest.approx(expected, rel=1e-5)
    # So has a network that answers 0.
    assert np.mean(task.test.targets[counting(task.test)] ** 2) == pytest.approx(expected)


def test_missing_values_hold_the_state_and_do_not_count(write, rng):
    values = rng.normal(size=(100, 2))
    lines = table(values).splitlines()
    # Rows 0 and 20 lack an input, row 30 the target, which is an input as well.
    lines[1] = f"{values[0, 0]},"
    lines[21] = f"{values[20, 0]},"
    lines[31] = f",{values[30, 1]}"
    path = write("\n".join(lines))
    with pytest.raises(InputError, match="has 3 missing"):
        tasks.get(path, target="a")
    task = tasks.get(path, target="a", mask_missing=True, length=69)
    data = task.training(0)
    assert task.scaling is not None
    assert data.inputs.shape == (1, 69, 2) and data.mask is not None
    assert np.flatnonzero(~data.mask[0]).tolist() == [0, 20, 30]
    # There is nothing to begin from at row 0, and nothing to compare with at row 29.
    assert np.flatnonzero(~counting(data)[0]).tolist() == [0, 29]
    # The present value is that of the last row that was read.
    now = values[[*range(20), 19, *range(21, 30), 29, *range(31, 69)], 0]
    expected = np.where(counting(data)[0], (values[1:70, 0] - now) / task.scaling.std[0], 0)
    np.testing.assert_allclose(data.targets[0, :, 0], expected, atol=1e-5)
    assert np.isfinite(data.inputs).all() and np.isfinite(data.targets).all()
    seen = np.delete(values[:70, 0], 30)
    assert task.scaling.mean[0] == pytest.approx(seen.mean())
    assert task.scaling.std[0] == pytest.approx(seen.std())
    assert task.validation.mask is None or task.validation.mask.shape == (1, 69)


def test_train_size_takes_the_latest_windows(write):
    values = np.arange(200.0)[:, None]
    path = write(table(values))
    whole, part = tasks.get(path, length=20), tasks.get(path, length=20, train_size=2)
    training, fewer = whole.training(0), part.training(0)
    assert len(fewer) == 2 < len(training)
    assert whole.scaling is not None and part.scaling is not None
    np.testing.assert_allclose(
        part.scaling.undo(fewer.inputs), whole.scaling.undo(training.inputs[-2:]), rtol=1e-5
    )
    # The scaling knows of nothing else.
    first = float(part.scaling.undo(fewer.inputs.astype(np.float64)).min())
    assert part.scaling.mean[0] == pytest.approx(values[round(first) : 140].mean())


def test_a_constant_column_stays_finite(write, rng):
    values = np.stack([np.full(50, 0.1), rng.normal(size=50)], axis=1)
    task = tasks.get(write(table(values)), target="b")
    np.testing.assert_allclose(task.training(0).inputs[..., 0], 0, atol=1e-6)


ROWS = table(np.arange(60.0).reshape(30, 2))


@pytest.mark.parametrize(
    ("text", "options", "match"),
    [
        (ROWS, {}, r"has 2 numeric columns: name the one .*target \(--target\): 'a', 'b'"),
        (ROWS, {"target": "c"}, r"has no column 'c'.* Columns: 'a', 'b'"),
        ("day,x\n" + "mon,1\n" * 30, {"target": "day"}, "has 'mon' at row 1"),
        (ROWS, {"target": "a", "horizon": 0}, "horizon is 0: give at least 1"),
        (ROWS, {"target": "a", "horizon": 1.5}, "horizon is 1.5: give a whole number"),
        (ROWS, {"target": "a", "horizon": 12}, r"has 30 row\(s\): forecasting 12 .* least 32"),
        (ROWS, {"target": "a", "length": 21}, "length is 21, but .* has 20 of its 30.* most 20"),
        (ROWS, {"target": "a", "length": 0}, "length is 0: give at least 1"),
        (ROWS, {"target": "a", "train_size": 5}, "is 5, but .* gives 1 training windows"),
        (ROWS, {"target": "a", "train_size": 0}, "is 0: give at least 1"),
        ("a\n1\n2\n", {}, r"has 2 row\(s\): forecasting 1 row\(s\) ahead .* needs at least 16"),
        ("a\n" + "1\n" * 29 + "1e300\n", {}, "values more than 1e38 times the spread"),
        ("a\n" + "\n" * 25 + "1\n" * 5, {"mask_missing": True}, "no value in the training part"),
        ("a\n" + "1\n" * 25 + "nan\n" * 5, {"mask_missing": True}, "'a' in the test part to"),
    ],
)
def test_refused(write, text, options, match):
    path = write(text)
    with pytest.raises(InputError, match=match) as caught:
        tasks.get(path, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("horizon", [1, 2, 5, 40])
def test_least_number_of_rows(write, horizon):
    least = -(-(10 + horizon) * 10 // 7)
    tasks.get(write("a\n" + "1\n2\n" * least, "two.csv"), horizon=horizon)
    task = tasks.get(write("a\n" + "1\n" * least, "one.csv"), horizon=horizon)
    assert task.training(0).inputs.shape[1] >= 10
    with pytest.raises(InputError, match=f"needs at least {least}"):
        tasks.get(write("a\n" + "1\n" * (least - 1), "less.csv"), horizon=horizon)
