"""PyTorch's recurrent modules, and those of libraries built on it, as cells and layers."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._cell import Cell
from .._layer import AbstractLayer, Layer, Stack
from .._results import InputError, unknown_name
from ._arrays import Arrays, is_module, module_arrays, stored_arrays
from ._liquid import IMPORTERS as _LIQUID
from ._memories import IMPORTERS as _MEMORIES
from ._memories import OFFICIAL
from ._nn import CELLS, export, from_state, without_prefix
from ._units import IMPORTERS as _UNITS


def from_torch(
    source: Any,
    *,
    kind: str | None = None,
    prefix: str = "",
    nonlinearity: str | None = None,
    **options: Any,
) -> Cell | AbstractLayer:
    """Return a recurrent PyTorch module, or what is stored of one, as a cell or a layer.

    It computes what the module computes, with the same numbers: a ``Cell`` of a cell (nn.LSTMCell),
    of a layer (nn.LSTM) a ``Layer``, of several directions or layers a ``Bidirectional`` or a
    ``Stack``. It takes one sequence (time, input) whatever ``batch_first`` says, and has no dropout
    between layers.

    **Arguments**:

    - ``source``: a module, nn.RNN, nn.GRU, nn.LSTM (with any of num_layers, bidirectional, bias,
      proj_size) or one of their cells, or of torchrecurrent or ncps; or of PyTorch's own modules a
      state_dict, that is a mapping of names to tensors or arrays, or the path of a .safetensors
      file. No other file is read, as pickles execute code.
    - ``kind``: "cornn", "lem" or "unicornn": the arrays are named as in the authors' code, and
      ``options`` (dt, gamma, epsilon, alpha) are what that code does not store with them.
    - ``prefix`` chooses a part of a larger state, "encoder.rnn" say.
    - ``nonlinearity``, "tanh" (if not given) or "relu": the RNN's, which a state does not name.

    Precision is kept: float64 needs JAX's 64-bit mode, without which it is refused; half precision
    becomes float32.

    >>> import torch
    >>> from odernn import interop
    >>> layer = interop.from_torch(torch.nn.LSTM(3, 8))
    >>> layer.cell.field.weight.shape, layer.cell.n, layer.cell.t
    ((8, 32), 2, 2)

    Raises ``InputError`` for a module, a name or a shape that is not known.
    """
    if is_module(source) and (prefix or nonlinearity):
        raise InputError(
            "prefix and nonlinearity are for a state_dict or a file: of a module give the part "
            "itself (model.encoder.rnn), which knows its nonlinearity."
        )
    if kind is not None:
        given = options if nonlinearity is None else {**options, "nonlinearity": nonlinearity}
        return _official(source, kind, prefix, given)
    for option in options:
        raise unknown_name("argument of from_torch", option, ("kind", "nonlinearity", "prefix"))
    if is_module(source):
        return _from_module(source)
    state = without_prefix(stored_arrays(source, prefix))
    return from_state(state, nonlinearity)


def to_torch(model: Cell | AbstractLayer) -> Any:
    """Return the PyTorch module that computes what a cell or layer computes.

    The inverse of ``from_torch`` for PyTorch's own modules, bit by bit: an RNN, GRU or LSTM is an
    nn.RNN, nn.GRU or nn.LSTM, with layers and directions as in a ``Stack`` and ``Bidirectional``;
    a ``Cell`` an nn.RNNCell, nn.GRUCell or nn.LSTMCell. Where the field has one bias, PyTorch's
    second one is zero.

    >>> import jax, odernn
    >>> from odernn import interop
    >>> layer = odernn.Layer(odernn.zoo.GRU(3, 8, key=jax.random.key(0)))
    >>> interop.to_torch(layer)
    GRU(3, 8)

    Raises ``InputError`` for what PyTorch has no module for: another field, method or ``dt``, a
    trained initial state, a layer in reverse only, layers that differ in size; and if PyTorch is
    not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "PyTorch is not installed: pip install torch, or write to_state_dict(model) to a file."
        ) from error
    name, arguments, state = export(model)
    tensors = {
        key: torch.tensor(np.asarray(a, np.float64), dtype=getattr(torch, str(a.dtype)))
        for key, a in state.items()
    }
    dtype = next(iter(tensors.values())).dtype
    # On the meta device nothing is drawn: PyTorch's random state is its user's.
    module = getattr(torch.nn, name)(**arguments, device="meta", dtype=dtype).to_empty(device="cpu")
    module.load_state_dict(tensors)
    return module


def to_state_dict(model: Cell | AbstractLayer) -> dict[str, np.ndarray]:
    """Return the arrays of a cell or layer under PyTorch's names, without PyTorch.

    What ``to_torch(model).state_dict()`` holds; ``safetensors.numpy.save_file`` writes it to a
    file.

    >>> import jax, odernn
    >>> from odernn import interop
    >>> cell = odernn.zoo.RNN(3, 8, biases=0, key=jax.random.key(0))
    >>> {name: a.shape for name, a in interop.to_state_dict(odernn.Layer(cell)).items()}
    {'weight_ih_l0': (8, 3), 'weight_hh_l0': (8, 8)}

    Raises ``InputError`` as ``to_torch`` does.
    """
    return export(model)[2]


def _official(source: Any, kind: str, prefix: str, options: Mapping[str, Any]) -> Any:
    if kind not in OFFICIAL:
        raise unknown_name("kind", kind, OFFICIAL)
    build = OFFICIAL[kind]
    _, *known = inspect.signature(build).parameters.values()
    for option in options:
        if option not in {parameter.name for parameter in known}:
            raise unknown_name(f"option of kind {kind!r}", option, [p.name for p in known])
    for parameter in known:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise InputError(
                f"{parameter.name} is missing: the authors' code does not store it with the arrays "
                f"of its {kind}; give the one that it was trained with."
            )
    state = module_arrays(source) if is_module(source) else stored_arrays(source, prefix)
    return build(state, **options)


class _Within:
    """A cell's attributes, and those that only the layer around it has, a delay say."""

    def __init__(self, *modules: Any):
        self._modules = modules

    def __getattr__(self, name: str) -> Any:
        for module in self._modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(name)


def _importers(package: str) -> Mapping[str, Callable[[Arrays, Any], Any]]:
    """What is known of a package: of a module's arrays and the module, its cell or layer."""
    if package == "torch":
        return dict.fromkeys([*CELLS, *CELLS.values()], _from_nn)
    if package == "torchrecurrent":
        cells = {**_UNITS, **_MEMORIES}
        return {
            **dict.fromkeys((name.removesuffix("Cell") for name in cells), _from_cells),
            **cells,
        }
    return _LIQUID if package == "ncps" else {}


def _from_cells(state: Arrays, module: Any) -> AbstractLayer:
    """Return a layer of torchrecurrent, whose cells stand one above the other."""
    layers = []
    for cell in module.cells:
        importer = _importer(type(cell))
        if importer is None:
            raise _unknown_module(cell)
        layers.append(Layer(importer(module_arrays(cell), _Within(cell, module))))
    return layers[0] if len(layers) == 1 else Stack(layers)


def _from_nn(state: Arrays, module: Any) -> Cell | AbstractLayer:
    return from_state(state, getattr(module, "nonlinearity", None))


def _from_module(module: Any) -> Cell | AbstractLayer:
    importer = _importer(type(module))
    if importer is None:
        raise _unknown_module(module)
    return importer(module_arrays(module), module)


def _importer(cls: type) -> Callable[[Arrays, Any], Any] | None:
    """The importer of a class, or of the one that it inherits its computation from."""
    for base in cls.__mro__:
        known = _importers(base.__module__.split(".")[0])
        if base.__name__ in known:
            return known[base.__name__]
        if "forward" in vars(base):
            break
    return None


def _unknown_module(module: Any) -> InputError:
    inside = [
        f"{name} ({type(part).__name__})"
        for name, part in module.named_modules()
        if name and _importer(type(part))
    ]
    if inside:
        return InputError(
            f"source is a {type(module).__name__}, of which only parts are recurrent: give one of "
            f"them, {', '.join(inside[:5])}."
        )
    kind = type(module)
    known = _importers(kind.__module__.split(".")[0]) or _importers("torch")
    error = unknown_name("module", kind.__name__, known)
    return InputError(f"{error} One that computes what nn.LSTM does is read by its state_dict().")
