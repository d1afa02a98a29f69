"""Objects as JSON values: a class name with its arguments, and back.

Every constructor argument of a storable class is kept under the same attribute name, except
`key`. So an object is written as class name + arguments, and rebuilt by calling the class
abstractly: no number is drawn and no memory is taken, whatever sizes the arguments name.
Nothing that is read is executed: a name that is not on the list of classes is refused.
"""

import dataclasses
import inspect
import json
import math
import warnings
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from . import (
    _cell,
    _interpolation,
    _layer,
    _method,
    _model,
    _operator,
    _readout,
    _tableau,
    _unroll,
    fields,
)
from ._results import InputError, unknown_name

# Limits on what a description may ask for. A real model is far below them.
_MAX_DEPTH = 64  # objects inside objects
_MAX_VALUES = 10_000
_MAX_FREE_INTEGER = 2**20  # a larger one must be matched by that many bytes of arrays


class ArraySpec(NamedTuple):
    """Shape and dtype of an array that is stored elsewhere."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes that the array takes."""
        return math.prod(self.shape) * jnp.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def describe(model: eqx.Module, arrays: Mapping[str, ArraySpec]) -> dict[str, Any]:
    """Describe a model by JSON values, its arrays by their paths.

    Raises `InputError` if the model could not be rebuilt from the description.
    """
    encoder = _Encoder(arrays)
    tree = encoder.encode(model, "")
    # Building it now means that what is saved today is known to load tomorrow.
    match_arrays(rebuild(tree, encoder.classes, arrays), arrays)
    return tree


def rebuild(tree: Any, classes: Mapping[str, type], arrays: Mapping[str, ArraySpec]) -> Any:
    """Build the model of a description, with a `jax.ShapeDtypeStruct` in place of each array.

    Raises `InputError` for whatever a description should not hold.
    """
    limit = max(_MAX_FREE_INTEGER, sum(spec.nbytes for spec in arrays.values()))
    decoder = _Decoder(classes, arrays, limit)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a size that overflows is caught later, by shape
            skeleton = eqx.filter_eval_shape(partial(decoder.decode, tree))
    except InputError:
        raise
    except Exception as error:  # whatever a constructor does with arguments it does not expect
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise InputError(
            "the model cannot be rebuilt from its arguments "
            f"({type(error).__name__}: {reason[:200]})."
        ) from error
    if not isinstance(skeleton, eqx.Module):
        raise InputError("the top of 'model' is not a class with its arguments.")
    return skeleton


def match_arrays(skeleton: Any, arrays: Mapping[str, ArraySpec]) -> list[str | None]:
    """Check that the arrays are those the skeleton asks for; give the path of each of its leaves.

    The path of a leaf that is no array is None. Raises `InputError` for an array that is
    missing, not asked for, or of another shape or kind of number.
    """
    paths: list[str | None] = []
    for path, leaf in leaves_with_paths(skeleton):
        if not is_array(leaf):
            paths.append(None)
            continue
        if path not in arrays:
            raise InputError(f"the array {path} is missing.")
        spec = arrays[path]
        if tuple(leaf.shape) != spec.shape:
            raise InputError(
                f"{path} has the shape {list(spec.shape)} but the model's arguments make it "
                f"{list(leaf.shape)}."
            )
        if _kind(leaf.dtype) != _kind(spec.dtype):
            raise InputError(
                f"{path} is {spec.dtype} but the model's arguments make it {leaf.dtype}."
            )
        paths.append(path)
    if extra := sorted(set(arrays) - set(filter(None, paths))):
        raise InputError(f"the array {extra[0][:80]} does not belong to the model.")
    return paths


def known_classes(classes: Iterable[type] = ()) -> dict[str, type]:
    """List odernn's public classes, and the user's, by name.

    Raises `InputError` for something that is no class or whose name is taken.
    """
    known = _builtin_classes()
    for cls in classes:
        if not isinstance(cls, type):
            raise InputError(f"classes holds {cls!r}: it must hold classes.")
        if known.setdefault(cls.__name__, cls) is not cls:
            raise InputError(f"classes holds {cls!r}: the name {cls.__name__!r} is taken.")
    return known


def leaves_with_paths(tree: Any) -> list[tuple[str, Any]]:
    """Give the leaves of a tree with paths such as `layers.0.cell.field.weight`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array, or the shape of one."""
    return isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct)


class _Encoder:
    """Turns an object into JSON values and notes the classes that it meets."""

    def __init__(self, arrays: Mapping[str, ArraySpec]):
        self._arrays = arrays
        self._builtin = _builtin_classes()
        self.classes: dict[str, type] = {}

    def encode(self, value: Any, path: str) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": str(float(value))}
        if isinstance(value, Fraction):
            return {"fraction": str(value)}
        if isinstance(value, tuple | list):
            items = [self.encode(item, _join(path, i)) for i, item in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
        if isinstance(value, dict) and all(isinstance(name, str) for name in value):
            items = {name: self.encode(item, _join(path, name)) for name, item in value.items()}
            return {"dict": items}
        if is_array(value) and path in self._arrays:
            return {"array": path}
        if isinstance(value, eqx.Module) or type(value) in self._builtin.values():
            return self._object(value, path)
        raise InputError(
            f"{path or 'the model'} is a {type(value).__name__}, which cannot be saved: arguments "
            "may be numbers, strings, tuples, lists, dicts, arrays (not static), equinox.Modules."
        )

    def _object(self, value: Any, path: str) -> Any:
        cls = type(value)
        name = cls.__name__
        if self._builtin.get(name, self.classes.get(name, cls)) is not cls:
            raise InputError(
                f"{path or 'the model'} is of the class {cls.__module__}.{name}, but another class "
                f"is named {name!r}: rename yours."
            )
        self.classes[name] = cls
        arguments = {}
        for argument in _arguments(cls):
            if not hasattr(value, argument):
                raise InputError(
                    f"{name} does not keep its argument {argument!r} as an attribute, so it "
                    f"cannot be rebuilt: store it as self.{argument} (only `key` is exempt)."
                )
            arguments[argument] = self.encode(getattr(value, argument), _join(path, argument))
        return {"class": name, "arguments": arguments}


class _Decoder:
    """Builds objects from JSON values; runs under `eqx.filter_eval_shape`."""

    def __init__(
        self, classes: Mapping[str, type], arrays: Mapping[str, ArraySpec], largest_integer: int
    ):
        self._classes = classes
        self._arrays = arrays
        self._largest_integer = largest_integer
        self._builtin = set(_builtin_classes().values())
        self._values = 0

    def decode(self, value: Any, depth: int = 0, name: str = "model", trusted: bool = False) -> Any:
        self._values += 1
        if depth > _MAX_DEPTH:
            raise InputError(f"objects are nested more than {_MAX_DEPTH} deep.")
        if self._values > _MAX_VALUES:
            raise InputError(f"there are more than {_MAX_VALUES} values.")
        if isinstance(value, list):
            return [self.decode(item, depth + 1, name, trusted) for item in value]
        if isinstance(value, dict):
            return self._tagged(value, depth, name, trusted)
        if isinstance(value, int) and not trusted and abs(value) > self._largest_integer:
            raise InputError(f"{name} = {value} needs more numbers than the model's files hold.")
        return value

    def _tagged(self, value: dict[str, Any], depth: int, name: str, trusted: bool) -> Any:
        match value:
            case {"class": str(cls), "arguments": dict(arguments), **rest} if not rest:
                return self._object(cls, arguments, depth)
            case {"tuple": list(items), **rest} if not rest:
                return tuple(self.decode(item, depth + 1, name, trusted) for item in items)
            case {"dict": dict(items), **rest} if not rest:
                return {
                    key: self.decode(item, depth + 1, f"{name}.{key}", trusted)
                    for key, item in items.items()
                }
            case {"array": str(path), **rest} if not rest and path in self._arrays:
                return jnp.zeros(*self._arrays[path])
            case {"float": "inf" | "-inf" | "nan" as text, **rest} if not rest:
                return float(text)
            case {"fraction": str(text), **rest} if not rest and len(text) < 1000:
                numerator, _, denominator = text.partition("/")
                return Fraction(int(numerator), int(denominator or 1))
        raise InputError(f"{name} is not a value of this format: {json.dumps(value)[:60]}.")

    def _object(self, name: str, arguments: dict[str, Any], depth: int) -> Any:
        cls = self._classes.get(name)
        if cls is None:
            error = unknown_name("class", name[:80], self._classes)
            raise InputError(f"{error} A class of your own is passed as load(folder, classes=...).")
        known = _arguments(cls)
        if unexpected := sorted(set(arguments) - set(known)):
            raise InputError(f"{name} takes no argument {unexpected[0][:80]!r}.")
        if missing := sorted(set(known) - set(arguments)):
            raise InputError(f"{name} lacks its argument {missing[0]!r}.")
        # The sizes in odernn's own classes are bounded by what the files hold. A class of the
        # user's may well have a large integer that is no size, a seed for instance.
        trusted = cls not in self._builtin
        values = {
            argument: self.decode(value, depth + 1, f"{name}.{argument}", trusted)
            for argument, value in arguments.items()
        }
        if "key" in inspect.signature(cls).parameters:
            values["key"] = jax.random.key(0)
        return cls(**values)


def _arguments(cls: type) -> tuple[str, ...]:
    """The names of a constructor's arguments, without `key`."""
    parameters = inspect.signature(cls).parameters.values()
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InputError(
                f"{cls.__name__} takes {parameter}: the arguments of a class that is saved must "
                "be passed by name."
            )
    return tuple(parameter.name for parameter in parameters if parameter.name != "key")


def _join(path: str, part: str | int) -> str:
    return f"{path}.{part}" if path else str(part)


def _kind(dtype: Any) -> str:
    # Precision may differ (a model made in float32 keeps its own in a float64 session), the kind
    # of number may not. NumPy has no kind for bfloat16.
    return "f" if jnp.issubdtype(dtype, jnp.floating) else jnp.dtype(dtype).kind


def _builtin_classes() -> dict[str, type]:
    layers = (_cell, _layer, _model, _readout, _unroll)
    parts = (_interpolation, _method, _operator, _tableau, fields)
    return {
        name: value
        for module in (*layers, *parts)
        for name, value in vars(module).items()
        if isinstance(value, type)
        and (issubclass(value, eqx.Module) or dataclasses.is_dataclass(value))
        and value.__module__.startswith("odernn.")
        and not name.startswith("_")
        and not inspect.isabstract(value)
    }
