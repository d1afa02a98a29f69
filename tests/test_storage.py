"""Saving and loading models, and what hostile or damaged files get for an answer."""

import errno
import json
import os
import shutil
import time
from fractions import Fraction
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import odernn
from odernn import InputError
from odernn import _storage as storage

from . import cases


class Block(eqx.Module):
    """A user's class with arguments of every kind that can be stored."""

    size: int = eqx.field(static=True)
    seed: int = eqx.field(static=True)
    name: str | None = eqx.field(static=True)
    limit: float = eqx.field(static=True)
    ratios: tuple = eqx.field(static=True)
    start: jax.Array | None
    rate: float
    weight: jax.Array
    table: jax.Array

    def __init__(
        self,
        size,
        *,
        seed=2**40,
        name=None,
        limit=float("inf"),
        ratios=(Fraction(1, 3),),
        start=None,
        rate=0.1,
        key,
    ):
        self.size, self.seed, self.name, self.limit = size, seed, name, limit
        self.ratios, self.start, self.rate = ratios, start, rate
        self.weight = jax.random.normal(key, (size, size))
        self.table = jnp.arange(size)


class Pair(eqx.Module):
    blocks: list
    scale: jax.Array

    def __init__(self, blocks):
        self.blocks = blocks
        self.scale = jnp.ones(())


class Typed(eqx.Module):
    dtype: str = eqx.field(static=True)
    weight: jax.Array

    def __init__(self, dtype, *, key):
        self.dtype = dtype
        self.weight = jax.random.normal(key, (2, 3)).astype(dtype)


class Forgetful(eqx.Module):
    weight: jax.Array

    def __init__(self, size):
        self.weight = jnp.zeros(size)


class Callback(eqx.Module):
    function: object

    def __init__(self, function):
        self.function = function


class Greedy(eqx.Module):
    args: tuple

    def __init__(self, *args):
        self.args = args


def key():
    return jax.random.key(1)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(x) is type(y)
        assert getattr(x, "dtype", None) == getattr(y, "dtype", None)
        np.testing.assert_array_equal(x, y)


def a_model():
    cell = odernn.zoo.coRNN(3, 4, dt=odernn.TrainedStep(0.2), key=key())
    kutta3 = odernn.RungeKutta(odernn.ButcherTableau([[], ["1/2"], [-1, 2]], ["1/6", "2/3", "1/6"]))
    field = odernn.fields.Leaky(4, 5, activation="relu", key=key())
    layers = [
        odernn.Layer(cell, odernn.Scan(checkpoint=8), initial_state=cell.initial_state()),
        odernn.Bidirectional(
            odernn.Layer(odernn.Cell(field, kutta3, 0.5)),
            odernn.Layer(odernn.zoo.GRU(4, 5, key=key()), reverse=True),
        ),
    ]
    return odernn.Model(layers, odernn.LastStep(10, 2, key=key()), dropout=0.1)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    odernn.save(odernn.zoo.GRU(3, 4, key=key()), folder, {"note": "a"})
    return folder


@pytest.fixture
def saved(original, tmp_path):
    """A folder with a saved GRU cell."""
    for path in original.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path


def edit(folder, change):
    path = folder / "model.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def field_arguments(document):
    return document["model"]["arguments"]["field"]["arguments"]


# --- what goes in comes out --------------------------------------------------------------------


def test_whole_model_is_restored(tmp_path):
    model = a_model()
    # Other weights than the constructor's, so that they must come from the file.
    model = jax.tree.map(lambda a: a + 1 if eqx.is_inexact_array(a) else a, model)
    odernn.save(model, tmp_path, {"task": "x", "classes": ["a", "b"]})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    same(model, odernn.load(tmp_path))
    assert odernn.load_metadata(tmp_path) == {"task": "x", "classes": ["a", "b"]}


@pytest.mark.parametrize("name", sorted(odernn.zoo.CELLS))
def test_every_cell_of_the_zoo(name, tmp_path):
    cell = odernn.zoo.CELLS[name](2, 4, key=key())
    odernn.save(cell, tmp_path)
    same(cell, odernn.load(tmp_path))


MADE_OF_ANOTHER = {
    "a tableau": odernn.RungeKutta(odernn.ButcherTableau([[], ["2/3"]], ["1/4", "3/4"])),
    "an implicit one": odernn.ImplicitRungeKutta(odernn.Gauss(2).tableau, max_steps=7),
    "a composition": odernn.Splitting([(0, "1/3"), (1, 1), (0, "2/3")], {"rest": odernn.Heun()}),
    "an order": odernn.StormerVerlet(("h", "v"), tolerance=1e-6),
    "substeps": odernn.Substeps(odernn.Strang({"rest": odernn.ImplicitMidpoint()}), 2),
    "a coupling": odernn.AlgebraicallyReversible(odernn.Heun(), 0.9),
}


@pytest.mark.parametrize("name", [*odernn.METHODS, *MADE_OF_ANOTHER])
def test_every_method(name, tmp_path):
    method = {**odernn.METHODS, **MADE_OF_ANOTHER}[name]
    made = [field for field in cases.MADE.values() if cases.fits(field, method)]
    cell = odernn.Cell(made[-1], method, 0.1)
    odernn.save(cell, tmp_path)
    again = odernn.load(tmp_path, classes=[cases.Rotor])
    assert again.method == method
    same(cell, again)


@pytest.mark.parametrize("unroll", [*cases.UNROLLS.values(), odernn.Reversible(anchor=5)])
@pytest.mark.parametrize(
    "interpolation", [odernn.HeldInput(), odernn.LinearInput(), odernn.CubicInput()]
)
def test_every_unroll_and_interpolation(unroll, interpolation, tmp_path):
    cell = odernn.Cell(cases.MADE["Oscillator"], odernn.StormerVerlet(), 0.1, interpolation)
    layer = odernn.Layer(cell, unroll)
    odernn.save(layer, tmp_path)
    same(layer, odernn.load(tmp_path))


def test_a_users_classes(tmp_path):
    model = Pair([Block(3, key=key()), Block(2, name="ü", start=jnp.arange(2.0), key=key())])
    odernn.save(model, tmp_path)
    same(model, odernn.load(tmp_path, classes=[Block, Pair]))
    with pytest.raises(InputError, match=r"unknown class 'Pair'.*classes="):
        odernn.load(tmp_path)


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "complex64", "complex128", "int8"]
)
def test_every_dtype(dtype, tmp_path):
    model = Typed(dtype, key=key())
    odernn.save(model, tmp_path)
    same(model, odernn.load(tmp_path, classes=[Typed]))


def test_float32_model_keeps_its_precision(tmp_path):
    model = odernn.zoo.LSTM(2, 3, key=key())
    model = jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_array(a) else a, model)
    odernn.save(model, tmp_path)
    same(model, odernn.load(tmp_path))


def test_float64_without_64_bit_mode_is_refused(saved):
    with jax.enable_x64(False), pytest.raises(InputError, match=r"float64.*jax_enable_x64"):
        odernn.load(saved)


def test_saving_again_replaces_and_makes_folders(tmp_path):
    folder = tmp_path / "a" / "b"
    odernn.save(odernn.zoo.GRU(3, 4, key=key()), folder)
    odernn.save(odernn.zoo.LSTM(2, 2, key=key()), folder)
    assert isinstance(odernn.load(folder).field, odernn.fields.LSTM)


def test_same_bytes_for_the_same_model(tmp_path):
    for name in "ab":
        odernn.save(a_model(), tmp_path / name, {"x": 1})
    for file in ("model.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_arrays_without_checksum_are_accepted(saved):
    arrays = load_file(saved / "model.safetensors")
    save_file({name: array + 1 for name, array in arrays.items()}, saved / "model.safetensors")
    loaded = odernn.load(saved)
    np.testing.assert_array_equal(loaded.field.bias, arrays["field.bias"] + 1)


# --- what cannot be saved ----------------------------------------------------------------------


def clash():
    class Leaky(eqx.Module):
        pass

    return Leaky()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: 3, "model is a int"),
        (lambda: Forgetful(3), "Forgetful does not keep its argument 'size'"),
        (lambda: Callback(jnp.tanh), "function is a .*cannot be saved"),
        (lambda: Callback(key()), "function holds key<fry>"),
        (lambda: Greedy(1), r"Greedy takes \*args"),
        (clash, "another class is named 'Leaky'"),
        (
            lambda: eqx.tree_at(lambda m: m.scale, Pair([]), jnp.ones(3)),
            r"scale has the shape \[3\] but the model's arguments make it \[\]",
        ),
        (
            lambda: eqx.tree_at(lambda m: m.scale, Pair([]), jnp.asarray(1)),
            "scale is int64 but the model's arguments make it float64",
        ),
        (lambda: eqx.tree_at(lambda m: m.scale, Pair([]), 1.0), "the array scale is missing"),
        (
            lambda: eqx.tree_at(lambda m: m.scale, Pair([]), jnp.asarray(jnp.nan)),
            "scale holds 1 of 1 values that are NaN or infinite",
        ),
    ],
)
def test_unsaveable_models_are_refused_before_anything_is_written(model, message, tmp_path):
    with pytest.raises(InputError, match=message):
        odernn.save(model(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("metadata", [{"a": object()}, {"a": float("nan")}, {"a": np.ones(2)}])
def test_metadata_must_be_json(metadata, tmp_path):
    with pytest.raises(InputError, match="metadata is not valid JSON"):
        odernn.save(Pair([]), tmp_path, metadata)
    assert not list(tmp_path.iterdir())


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "x").write_text("keep")
    with pytest.raises(InputError, match=r"cannot be saved to .*x"):
        odernn.save(Pair([]), tmp_path / "x")
    assert (tmp_path / "x").read_text() == "keep"


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_disk_full_keeps_what_was_there(saved, monkeypatch, failing):
    before = {p.name: p.read_bytes() for p in saved.iterdir()}

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    if failing == "write":
        monkeypatch.setattr(Path, "open", full)
    else:
        monkeypatch.setattr(os, failing, full)
    with pytest.raises(odernn.RunFailed, match=r"disk is full.*unchanged") as caught:
        odernn.save(odernn.zoo.LSTM(3, 4, key=key()), saved)
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_a_kill_while_writing_leaves_no_part(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        storage.write_file(tmp_path / "x", b"abc")
    assert not list(tmp_path.iterdir())


# --- damaged and hostile files -----------------------------------------------------------------


def refused(folder, message, **arguments):
    """Loading fails with one line that names a file, quickly."""
    before = time.perf_counter()
    with pytest.raises(InputError, match=message) as caught:
        odernn.load(folder, **arguments)
    assert time.perf_counter() - before < 5
    assert "\n" not in str(caught.value)
    assert "model." in str(caught.value)


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
def test_missing_file(saved, file):
    (saved / file).unlink()
    refused(saved, f"{file} does not exist")
    refused(saved / "nowhere", "does not exist")


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_something_else_in_place_of_a_file(saved, file, kind):
    (saved / file).unlink()
    if kind == "folder":
        (saved / file).mkdir()
    elif kind == "pipe":
        os.mkfifo(saved / file)
    else:
        (saved / file).symlink_to("/dev/zero")
    refused(saved, f"{file} is not a regular file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"\x80\x04K*.", "not valid JSON"),
        (b'{"format": 1', "not valid JSON"),
        (b"[" * 200_000, "too deeply nested"),
        (b'{"format": ' + b"1" * 5000 + b"}", "not valid JSON"),
        (b'{"format": 1, "format": 1}', "a name occurs twice"),
        (b'{"format": NaN}', "NaN is not JSON"),
        (b"[]", "names no format"),
        (b"{}", "names no format"),
        (b'{"format": true}', "is of format 'True'"),
        (b'{"format": "1"}', "is of format '1'"),
        (b'{"format": 1}', "'model' is missing"),
        (b'{"format": 1, "model": {}, "arrays": [], "metadata": {}}', "'arrays' is missing"),
        (b'{"format": 1, "model": {}, "arrays": {}, "metadata": {}}', "not a value of this"),
        (b'{"format": 1, "model": {"tuple": []}, "arrays": {}, "metadata": {}}', "the top of"),
        (b" " * (16 * 2**20 + 1), "is larger than"),
    ],
)
def test_description_that_is_none(saved, content, message):
    (saved / "model.json").write_bytes(content)
    refused(saved, message)


def test_another_format_is_named(saved):
    edit(saved, lambda d: d.update(format=2, odernn="9.1"))
    refused(saved, f"of format '2', written by odernn '9.1'; this is odernn '?{odernn.__version__}")
    with pytest.raises(InputError, match="of format '2'"):
        odernn.load_metadata(saved)


def nest(document):
    value = {"tuple": []}
    for _ in range(100):
        value = {"tuple": [value]}
    field_arguments(document)["input_size"] = value


def resize(size):
    """Both sizes agree with each other, but not with the file."""

    def change(document):
        field_arguments(document)["hidden_size"] = size
        document["arrays"] = {
            "field.weight": [[size, 3 * size], "float64"],
            "field.input_weight": [[3, 3 * size], "float64"],
            "field.bias": [[3 * size], "float64"],
            "field.candidate_bias": [[size], "float64"],
        }

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["model"].update({"class": "Cel"}), "unknown class 'Cel': did you mean 'Cell'"),
        (lambda d: d["model"].update({"class": "os.system"}), "unknown class 'os.system'"),
        (lambda d: d["model"].update({"class": "builtins.eval"}), "unknown class"),
        (lambda d: d["model"].update({"class": "InputError"}), "unknown class 'InputError'"),
        (lambda d: d["model"].update({"class": "../../Cell"}), "unknown class"),
        (lambda d: d["model"].update({"class": ["Cell"]}), "not a value of this format"),
        (lambda d: d["model"].update({"__reduce__": 1}), "not a value of this format"),
        (lambda d: d["model"]["arguments"].update(extra=1), "Cell takes no argument 'extra'"),
        (lambda d: d["model"]["arguments"].update(key=1), "Cell takes no argument 'key'"),
        (lambda d: d["model"]["arguments"].pop("dt"), "Cell lacks its argument 'dt'"),
        (lambda d: d["model"]["arguments"].update(dt=-1), "dt = -1"),
        (lambda d: d["model"]["arguments"].update(dt={"float": "nan"}), "dt = nan"),
        (lambda d: d["model"]["arguments"].update(dt={"float": "__import__('os')"}), "not a value"),
        (lambda d: d["model"]["arguments"].update(dt="1; import os"), "dt = '1; import os'"),
        (lambda d: d["model"]["arguments"].update(field=None), "field = None"),
        (lambda d: d["model"]["arguments"].update(field={"tuple": []}), r"field = \(\)"),
        (lambda d: field_arguments(d).update(input_size="3"), "input_size = '3'"),
        (lambda d: field_arguments(d).update(input_size=-3), "input_size = -3"),
        (lambda d: field_arguments(d).update(input_size=3.0), "input_size = 3.0"),
        (lambda d: field_arguments(d).update(input_size=5), r"\[3, 12\] but .* \[5, 12\]"),
        (lambda d: field_arguments(d).update(hidden_size=10**12), "more numbers than the model's"),
        (lambda d: field_arguments(d).update(hidden_size=10**6), "has the shape"),
        (lambda d: field_arguments(d).update(input_size={"fraction": "1/0"}), "ZeroDivisionError"),
        (lambda d: field_arguments(d).update(input_size={"fraction": "9" * 2000}), "not a value"),
        (lambda d: field_arguments(d).update(input_size={"array": "field.bias"}), "input_size = "),
        (lambda d: field_arguments(d).update(input_size={"array": "/etc/passwd"}), "not a value"),
        (nest, "nested more than 64 deep"),
        (lambda d: field_arguments(d).update(input_size=[0] * 20_000), "more than 10000 values"),
        (resize(10**12), "promises .* bytes"),
        (resize(10**6), "promises .* bytes"),
        (resize(5), r"field.weight is float64\[4, 12\] but model.json says float64\[5, 15\]"),
        (lambda d: d["arrays"].update({"field.bias": [[13], "float64"]}), "bias has the shape"),
        (lambda d: d["arrays"].update({"field.bias": [[3, 4], "float64"]}), "has the shape"),
        (lambda d: d["arrays"].update({"field.bias": [[12], "int64"]}), "is int64 but"),
        (
            lambda d: d["arrays"].update({"field.bias": [[12], "float32"]}),
            "float64.* but .*json",
        ),
        (lambda d: d["arrays"].update({"field.bias": [[12], "object"]}), "bias is not readable"),
        (lambda d: d["arrays"].update({"field.bias": [[-12], "float64"]}), "bias is not readable"),
        (lambda d: d["arrays"].update({"field.bias": [[True], "int8"]}), "bias is not readable"),
        (lambda d: d["arrays"].update({"field.bias": [[2**70], "int8"]}), "bias is not readable"),
        (lambda d: d["arrays"].update({"field.bias": [[2**62] * 9, "int8"]}), "promises"),
        (lambda d: d["arrays"].update({"field.bias": "x"}), "bias is not readable"),
        (lambda d: d["arrays"].pop("field.bias"), "the array field.bias is missing"),
        (lambda d: d["arrays"].update({"../x": [[], "int8"]}), r"array ../x does not belong"),
        (lambda d: d["arrays"].update({"field.size": [[0], "int8"]}), "field.size does not belong"),
    ],
)
def test_hostile_description(saved, change, message):
    edit(saved, change)
    refused(saved, message)


def test_hostile_model_file_runs_nothing(saved, monkeypatch):
    ran = []
    monkeypatch.setattr(os, "system", lambda *a: ran.append(a))
    edit(saved, lambda d: d.update(model={"class": "system", "arguments": {"command": "x"}}))
    refused(saved, "unknown class 'system'")
    assert not ran


@pytest.mark.parametrize("keep", [0, 4, 8, 60, 200, -8, -1])
def test_truncated_arrays(saved, keep):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(saved, "truncated")


def test_bytes_appended(saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    refused(saved, "truncated or corrupt")


def test_a_flipped_bit_is_noticed(saved):
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    refused(saved, "does not match its checksum|do not match its checksum")


def test_header_that_claims_too_much(saved):
    path = saved / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes((2**60).to_bytes(8, "little") + content[8:])
    refused(saved, "truncated or corrupt")


def change_arrays(folder, change):
    arrays = {name: array.copy() for name, array in load_file(folder / "model.safetensors").items()}
    change(arrays)
    save_file(arrays, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update(x=np.zeros(1, np.int8)), "array x is not expected in the file"),
        (
            lambda a: a.update({"field.other": a.pop("field.bias")}),
            "field.bias is missing from the file",
        ),
        (
            lambda a: a.update({"field.bias": a["field.bias"].reshape(3, 4)}),
            r"field.bias is float64\[3, 4\] but model.json says float64\[12\]",
        ),
        (
            lambda a: a.update({"field.bias": a["field.bias"].view(np.int64)}),
            r"field.bias is int64\[12\] but model.json says float64\[12\]",
        ),
        (lambda a: a["field.bias"].__setitem__(1, np.nan), "bias holds 1 of 12 values .* NaN"),
        (lambda a: a["field.bias"].fill(np.inf), "field.bias holds 12 of 12 values .* infinite"),
    ],
)
def test_hostile_arrays(saved, change, message):
    change_arrays(saved, change)
    refused(saved, message)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["Leaky"], "must hold classes"),
        ([type("Leaky", (eqx.Module,), {})], "the name 'Leaky' is taken"),
    ],
)
def test_classes_argument(saved, classes, message):
    with pytest.raises(InputError, match=message):
        odernn.load(saved, classes=classes)
