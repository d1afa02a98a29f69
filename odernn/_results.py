"""What the library says when something is wrong."""

import difflib
from collections.abc import Iterable
from typing import Any

import equinox as eqx
import numpy as np
from jax.core import Tracer

from ._typing import Array, Bool

_SHOWN = 20
"""Names that a message lists at most."""


class InputError(ValueError):
    """An argument, file or option is not usable; the message says which, why and what to do.

    The command line prints it as one line and exits with code 2.
    """


class RunFailed(RuntimeError):
    """A run had to stop (loss not finite, disk full); the message says when and what to try.

    The command line prints it as one line and exits with code 1.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """An error for a name that is not known, with the nearest ones that are.

    >>> print(unknown_name("cell", "ltsm", ["lstm", "gru"]))
    unknown cell 'ltsm': did you mean 'lstm'? Known: gru, lstm.
    """
    known = sorted(known, key=str.lower)
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = f": did you mean {' or '.join(map(repr, near))}?" if near else "."
    shown = ", ".join(known[:_SHOWN]) + (
        f" and {len(known) - _SHOWN} more" if known[_SHOWN:] else ""
    )
    return InputError(f"unknown {kind} {name!r}{hint} Known: {shown}.")


def require(value: Array, wrong: Bool[Array, ""], message: str, shown: Any = None) -> Array:
    """Refuse a value known only at run time: at once where it is known, else when it is.

    ``shown`` is what the message tells of it, by default all of it.
    """
    if isinstance(wrong, Tracer):
        return eqx.error_if(value, wrong, message)
    if bool(wrong):
        raise InputError(f"{message}; got {np.asarray(value if shown is None else shown)}.")
    return value
