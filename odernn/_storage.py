"""A model on disk: `model.json` (classes and arguments) beside `model.safetensors` (arrays)."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from ._description import (
    ArraySpec,
    describe,
    is_array,
    known_classes,
    leaves_with_paths,
    match_arrays,
    rebuild,
)
from ._files import write_file
from ._results import InputError, RunFailed
from ._version import __version__

FORMAT = 1
ARRAYS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"

_MAX_DESCRIPTION = 16 * 2**20  # bytes of model.json
_MAX_HEADER = 100 * 2**20  # bytes of the header of model.safetensors (that format's own limit)

# safetensors has no complex128, and its NumPy reader no bfloat16: both are stored as a view.
_STORED_AS = {"complex128": "float64", "bfloat16": "uint16"}
_DTYPES = {"bool", "bfloat16", "float16", "float32", "float64", "complex64", "complex128"}
_DTYPES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def save(
    model: eqx.Module, folder: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a model to `folder` as `model.safetensors` and `model.json`.

    Each file is written under a temporary name and then moved into place, so a file that was
    there before stays whole if the disk fills up or the process is killed. The folder is
    created if needed. `metadata` is any JSON object that should travel with the model.

    **Raises**: `InputError` if the model could not be loaded again (an argument of its
    constructor that is not kept as an attribute, a function or a random key as an argument,
    an array of another shape than the constructor makes), if an array holds NaN or an
    infinite value, or if the folder is not one that can be written to; `RunFailed` if the
    disk is full.

    >>> import jax, odernn, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> odernn.save(odernn.zoo.GRU(3, 8, key=jax.random.key(0)), folder, {"note": "untrained"})
    >>> odernn.load_metadata(folder)
    {'note': 'untrained'}
    """
    if not isinstance(model, eqx.Module):
        raise InputError(f"model is a {type(model).__name__}: only an equinox.Module can be saved.")
    arrays = _arrays_of(model)
    specs = {path: ArraySpec(tuple(a.shape), str(a.dtype)) for path, a in arrays.items()}
    try:
        tree = describe(model, specs)
    except InputError as error:
        raise InputError(f"the model cannot be saved: {error}") from error.__cause__
    stored = {path: _to_stored(path, array) for path, array in arrays.items()}
    text = _to_json(
        {
            "format": FORMAT,
            "odernn": __version__,
            "model": tree,
            "arrays": {path: [list(spec.shape), spec.dtype] for path, spec in specs.items()},
            "metadata": dict(metadata or {}),
        }
    )
    content = safetensors.save(stored, metadata={"checksum": _checksum(stored)})
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / ARRAYS_FILE, content)
        write_file(folder / DESCRIPTION_FILE, text.encode())
    except OSError as error:
        _refuse_to_write(folder, error)


def load(folder: str | os.PathLike[str], classes: Iterable[type] = ()) -> Any:
    """Read back the model that `save` wrote to `folder`.

    Only odernn's own classes are known; your own fields and methods are named in `classes`.
    Its arrays are JAX arrays of the precision they were saved in.

    **Raises**: `InputError` for a file that is missing, truncated, corrupt or of another
    format; for a class name, argument or array that is not expected; for arrays of the wrong
    shape or dtype or with values that are not finite; and for float64 arrays when JAX's 64-bit
    mode is off, because they would silently lose precision.
    """
    folder = Path(folder)
    description, content = folder / DESCRIPTION_FILE, folder / ARRAYS_FILE
    document = _read_description(description)
    specs = _read_specs(document["arrays"], description)
    expected, size = sum(spec.nbytes for spec in specs.values()), _regular_file(content)
    if not expected <= size <= expected + _MAX_HEADER:
        raise InputError(
            f"{content} has {size} bytes but {DESCRIPTION_FILE} promises {expected} bytes of "
            "numbers: a file is truncated or the two do not belong together."
        )
    known = known_classes(classes)
    try:
        skeleton = rebuild(document["model"], known, specs)
        paths = match_arrays(skeleton, specs)
    except InputError as error:
        raise InputError(f"{description}: {error}") from error.__cause__
    arrays = _read_arrays(content, specs)
    leaves, treedef = jax.tree.flatten(skeleton)
    for i, path in enumerate(paths):
        if path is not None:
            leaves[i] = jnp.asarray(arrays[path])
    return jax.tree.unflatten(treedef, leaves)


def load_metadata(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the metadata that was saved with a model, without reading its arrays.

    **Raises**: `InputError` if `model.json` is missing, corrupt or of another format.
    """
    return _read_description(Path(folder) / DESCRIPTION_FILE)["metadata"]


def _arrays_of(model: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for path, leaf in leaves_with_paths(model):
        if not is_array(leaf):
            continue
        if str(leaf.dtype) not in _DTYPES:
            raise InputError(f"the model cannot be saved: {path} holds {leaf.dtype}.")
        if path in arrays:
            raise InputError(f"the model cannot be saved: two of its arrays are named {path}.")
        arrays[path] = leaf
    return arrays


def _to_stored(path: str, array: Any) -> np.ndarray:
    # ascontiguousarray alone would turn a scalar into a vector.
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    _check_finite(f"the model cannot be saved: {path}", array)
    dtype = str(array.dtype)
    if dtype in _STORED_AS:
        return array.reshape(-1).view(_STORED_AS[dtype]).reshape(_stored(array).shape)
    return array


def _stored(array: ArraySpec | np.ndarray) -> ArraySpec:
    """What an array looks like in the file."""
    dtype = str(array.dtype)
    shape = (*array.shape, 2) if dtype == "complex128" else tuple(array.shape)
    return ArraySpec(shape, _STORED_AS.get(dtype, dtype))


def _check_finite(what: str, array: np.ndarray) -> None:
    if jnp.issubdtype(array.dtype, jnp.inexact):
        bad = int(array.size - np.isfinite(array).sum())
        if bad:
            raise InputError(
                f"{what} holds {bad} of {array.size} values that are NaN or infinite: such a "
                "model predicts nothing; go back to one from before it diverged."
            )


def _checksum(stored: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for path in sorted(stored):
        array = stored[path]
        digest.update(f"{path}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _to_json(document: dict[str, Any]) -> str:
    try:
        text = json.dumps(document, indent=1, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"metadata is not valid JSON ({error}): use plain values.") from None
    if len(text) > _MAX_DESCRIPTION:
        raise InputError(
            f"{DESCRIPTION_FILE} would have {len(text)} characters, more than the "
            f"{_MAX_DESCRIPTION} that load accepts: keep the metadata small."
        )
    return text + "\n"


def _refuse_to_write(folder: Path, error: OSError) -> NoReturn:
    if error.errno in _DISK_FULL:
        raise RunFailed(
            f"the disk is full: the model was not saved to {folder}; what was saved there before "
            "is unchanged. Free some space and try again."
        ) from error
    raise InputError(f"the model cannot be saved to {folder} ({error.strerror}).") from error


def _regular_file(path: Path) -> int:
    """The size of a file that must exist."""
    # A pipe or device in place of the file would be waited for without end.
    if not path.is_file():
        state = "is not a regular file" if path.exists() else "does not exist"
        raise InputError(f"{path} {state}: expected a folder written by odernn.save.")
    return path.stat().st_size


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name occurs twice")
    return value


_parse_json: Callable[[bytes], Any] = partial(
    json.loads, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant
)


def _read_description(path: Path) -> dict[str, Any]:
    if _regular_file(path) > _MAX_DESCRIPTION:
        raise InputError(f"{path} is larger than {_MAX_DESCRIPTION} bytes: not a model of odernn.")
    try:
        document = _parse_json(_read(path))
    except (ValueError, RecursionError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{path} is not valid JSON ({reason}).") from None
    if not isinstance(document, dict) or "format" not in document:
        raise InputError(f"{path} does not describe a model of odernn: it names no format.")
    if type(document["format"]) is not int or document["format"] != FORMAT:
        raise InputError(
            f"{path} is of format {str(document['format'])[:40]!r}, written by odernn "
            f"{str(document.get('odernn', '?'))[:40]!r}; this is odernn {__version__}, which reads "
            f"format {FORMAT}: load it with the version that wrote it."
        )
    for name in ("model", "arrays", "metadata"):
        if not isinstance(document.get(name), dict):
            raise InputError(f"{path}: {name!r} is missing or not an object.")
    return document


def _read_specs(entries: dict[str, Any], path: Path) -> dict[str, ArraySpec]:
    specs = {}
    for name, entry in entries.items():
        match entry:
            case [list(shape), str(dtype)] if dtype in _DTYPES and all(
                type(size) is int and 0 <= size < 2**63 for size in shape
            ):
                specs[name] = ArraySpec(tuple(shape), dtype)
            case _:
                raise InputError(f"{path}: the entry of the array {name[:80]} is not readable.")
        # JAX would otherwise round the numbers to 32 bits.
        wide = dtype != "complex64" and dtype.endswith(("64", "128"))
        if wide and jnp.result_type(float) != jnp.float64:
            raise InputError(
                f"{path}: {name[:80]} is {dtype}, but JAX's 64-bit mode is off: call "
                "jax.config.update('jax_enable_x64', True) first."
            )
    return specs


def _read_arrays(path: Path, specs: Mapping[str, ArraySpec]) -> dict[str, np.ndarray]:
    content = _read(path)
    try:
        stored = safetensors.load(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} is truncated or corrupt ({error}).") from None
    if difference := sorted(set(specs) ^ set(stored)):
        state = "missing from" if difference[0] in specs else "not expected in"
        raise InputError(f"{path}: the array {difference[0][:80]} is {state} the file.")
    for name, spec in specs.items():
        found = ArraySpec(stored[name].shape, str(stored[name].dtype))
        if found != _stored(spec):
            raise InputError(
                f"{path}: {name} is {found} but {DESCRIPTION_FILE} says {_stored(spec)}."
            )
    checksum = _file_metadata(content).get("checksum")
    if checksum is not None and checksum != _checksum(stored):
        raise InputError(f"{path} is corrupt: its numbers do not match its checksum.")
    arrays = {}
    for name, spec in specs.items():
        array = stored[name].reshape(-1).view(jnp.dtype(spec.dtype)).reshape(spec.shape)
        _check_finite(f"{path}: {name}", array)
        arrays[name] = array.copy()  # aligned, writable, and not a view of the file
    return arrays


def _file_metadata(content: bytes) -> dict[str, str]:
    # The header is a little-endian length and that many bytes of JSON; the reader checked both.
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]).get("__metadata__") or {}
