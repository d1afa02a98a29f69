"""Named arrays of other libraries: read from where they are, and put into a cell."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from .._cell import Cell
from .._results import InputError, unknown_name
from ..zoo import Network

Arrays = Mapping[str, np.ndarray]
"""Arrays by the names that the other library gives them."""


def cell_of(
    network: Network, input_size: int, hidden_size: int, arrays: Arrays, **options: Any
) -> Cell:
    """Return a network's cell whose parameters are given: of its field, by their names.

    ``options`` are those of the network's call. Nothing is drawn and every array is copied. Raises
    ``InputError`` for a parameter that is missing, has another shape or does not belong there.
    """

    def skeleton(key: Any) -> Cell:
        return network(input_size, hidden_size, key=key, **options)

    cell = eqx.filter_eval_shape(skeleton, jax.random.key(0))
    wanted = {
        name: leaf
        for name, leaf in vars(cell.field).items()
        if isinstance(leaf, jax.ShapeDtypeStruct)
    }
    check_names(arrays, wanted, network.name)
    for name, leaf in wanted.items():
        check_shape(name, arrays[name], leaf.shape)
        if not jnp.issubdtype(arrays[name].dtype, np.floating):
            raise InputError(f"{name} is {arrays[name].dtype}: a parameter is a real number.")
    dtype = np.result_type(*(arrays[name] for name in wanted))
    field = eqx.tree_at(
        lambda field: [getattr(field, name) for name in wanted],
        cell.field,
        [jnp.array(arrays[name], dtype) for name in wanted],  # a copy: theirs may change
    )
    return Cell(field, cell.method, options.get("dt", cell.dt), cell.interpolation)


def check_names(given: Iterable[str], wanted: Iterable[str], owner: str) -> None:
    """Raise ``InputError`` unless the arrays are those that are wanted, no more and no less."""
    given, wanted = set(given), set(wanted)
    if missing := sorted(wanted - given):
        raise InputError(
            f"{missing[0]} is missing: {owner} has the arrays {', '.join(sorted(wanted))}."
        )
    if extra := sorted(given - wanted):
        raise unknown_name(f"array of {owner}", extra[0], wanted)


def check_shape(name: str, array: np.ndarray, wanted: tuple[int, ...]) -> None:
    """Raise ``InputError`` for an array of another shape."""
    if array.shape != wanted:
        raise InputError(f"{name} has the shape {array.shape}, but the others make it {wanted}.")


def is_module(source: Any) -> bool:
    """Whether something is a PyTorch module; asked without PyTorch."""
    return callable(getattr(source, "state_dict", None)) and hasattr(source, "named_modules")


def module_arrays(module: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a PyTorch module by name, parametrised ones as they are in effect."""
    state = {k: v for k, v in module.state_dict().items() if "parametrizations." not in k}
    for path, part in module.named_modules():
        # Weight or spectral normalisation keeps an array as others that it is computed from.
        for name in getattr(part, "parametrizations", None) or ():
            state[f"{path}.{name}" if path else name] = getattr(part, name)
    return {name: as_array(name, value) for name, value in state.items()}


def stored_arrays(source: Any, prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays of a mapping or a safetensors file whose names begin with ``prefix``.

    The names are returned without it.
    """
    prefix = prefix if prefix.endswith(".") or not prefix else prefix + "."
    if isinstance(source, str | os.PathLike):
        return _read(Path(source), prefix)
    if isinstance(source, Mapping) and all(isinstance(name, str) for name in source):
        return {name: as_array(name, source[prefix + name]) for name in _below(source, prefix)}
    raise InputError(
        f"source is a {type(source).__name__}: give a PyTorch module, a mapping of names to arrays "
        "(its state_dict()), or the path of a .safetensors file."
    )


def as_array(name: str, value: Any) -> np.ndarray:
    """Return a tensor or array as a NumPy array, of at least single precision."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # NumPy has no bfloat16 of its own.
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    if not hasattr(value, "__array__"):
        raise InputError(f"{name} is a {type(value).__name__}: give a tensor or an array.")
    array = np.asarray(value)
    if jnp.issubdtype(array.dtype, np.floating) and array.dtype.itemsize < 4:
        return array.astype(np.float32)
    if array.dtype == np.float64 and jnp.result_type(float) != np.float64:
        raise InputError(
            f"{name} is float64, but JAX's 64-bit mode is off and would round it: call "
            "jax.config.update('jax_enable_x64', True) first, or give float32 (module.float())."
        )
    return array


def _below(names: Iterable[str], prefix: str) -> list[str]:
    """The names that begin with a prefix, without it."""
    names = list(names)
    found = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    if prefix and not found:
        parts = {name[: i + 1] for name in names for i, c in enumerate(name) if c == "."}
        raise unknown_name("prefix", prefix, parts)
    return found


def _read(path: Path, prefix: str) -> dict[str, np.ndarray]:
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path} is no .safetensors file: others (.pt, .pth, .bin) are pickles, which can "
            "execute code, and are not read; save one with safetensors.torch.save_file, or give "
            "the module or its state_dict()."
        )
    if not path.is_file():
        state = "is not a regular file" if path.exists() else "does not exist"
        raise InputError(f"{path} {state}: give the path of a .safetensors file.")
    try:
        with safe_open(path, framework="numpy") as file:
            return {
                name: as_array(name, file.get_tensor(prefix + name))
                for name in _below(file.keys(), prefix)
            }
    except SafetensorError as error:
        raise InputError(f"{path} is truncated or corrupt ({error}).") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None
    except TypeError as error:  # a kind of number that NumPy does not know, float8 say
        raise InputError(f"{path} holds numbers that cannot be read ({error}).") from None
