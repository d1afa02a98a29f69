"""The growth of a step in the complex plane: where it is at most one, and how far that reaches."""

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._method import (
    AbstractMethod,
    AlgebraicallyReversible,
    Delayed,
    LinearlyImplicitEuler,
    Substeps,
)
from .._method._base import AbstractTwoPart
from .._stability import MultistepStability, RungeKuttaStability

TOLERANCE = 1e-9
"""A growth that far above one is one, but for rounding."""
LINEAR = -2.0
"""The linear part dt mu for which the second outline of a method of two parts is drawn."""
_CHUNK = 4096
_ANGLES, _RADII = np.linspace(0, np.pi, 64), np.geomspace(0.02, 200, 64)
_PROBES = (_RADII[:, None] * np.exp(1j * _ANGLES)).ravel()
_FAMILIES = {
    "_explicit": "explicit Runge-Kutta",
    "_chebyshev": "stabilised",
    "_implicit": "implicit Runge-Kutta",
    "_rosenbrock": "linearised",
    "_multistep": "multistep",
    "_partitioned": "symplectic",
    "_imex": "IMEX",
    "_exponential": "exponential",
    "_splitting": "splitting",
    "_lie": "Lie group",
    "_wrappers": "wrappers",
}


class Alike(NamedTuple):
    """Methods of one family whose steps grow alike, and how far their stable region reaches.

    ``left``, ``right``, ``top``: how far from the origin what is to be seen reaches: the stable
    region, or the unstable one where only that is bounded. ``bounded``: whether the stable region
    is. ``thin``: whether it has no interior. ``growth`` is R, compiled.
    """

    names: tuple[str, ...]
    orders: tuple[int, ...]
    method: AbstractMethod
    growth: "Growth"
    family: str
    left: float
    right: float
    top: float
    bounded: bool
    thin: bool


class Growth:
    """R(z) of a step on ``y' = lambda y``, ``z = dt lambda``, for arrays of points.

    Called with ``linear = dt mu`` it is the growth on ``y' = (lambda + mu) y`` of a method that
    treats the two parts in two ways. It is compiled once, for pieces of one length.
    """

    def __init__(self, method: AbstractMethod):
        def plain(z: Any, w: Any) -> Any:
            return method.stability_function(z)

        def of_parts(z: Any, w: Any) -> Any:
            return method.split_stability(z, w)  # pyright: ignore[reportAttributeAccessIssue]

        self.parts = isinstance(method, AbstractTwoPart)
        self._function = jax.jit(of_parts if self.parts else plain)

    def __call__(self, z: np.ndarray, linear: float = 0.0) -> np.ndarray:
        flat = np.asarray(z, np.complex128).ravel()
        padded = np.zeros(-(-flat.size // _CHUNK) * _CHUNK, np.complex128)
        padded[: flat.size] = flat
        values = np.empty_like(padded)
        # In double precision whatever the settings, and also while JAX traces the caller.
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
            w = jnp.full(_CHUNK, linear, complex)
            for start in range(0, padded.size, _CHUNK):
                piece = slice(start, start + _CHUNK)
                values[piece] = self._function(jnp.asarray(padded[piece]), w)
        return values[: flat.size].reshape(np.shape(z))

    def size(self, z: np.ndarray, linear: float = 0.0) -> np.ndarray:
        """Return log |R(z)|, between -50 and 50; what cannot be computed is NaN."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            return np.clip(np.log(np.abs(self(z, linear))), -50.0, 50.0)


def families(methods: Mapping[str, AbstractMethod]) -> list[Alike]:
    """Return the methods by family; those that grow alike share an entry."""
    found: dict[tuple[str, bytes], list[tuple[str, AbstractMethod]]] = {}
    entries: dict[tuple[str, bytes], tuple[Growth, np.ndarray]] = {}
    for name, method in methods.items():
        growth = Growth(method)
        sizes = growth.size(_PROBES)
        # Rounding apart: what two methods share is compared where R is neither huge nor tiny.
        near = (np.abs(_PROBES) < 5) & (np.abs(_PROBES) > 0.3)
        marks = [sizes[near], growth.size(_PROBES[near], LINEAR)] if growth.parts else [sizes[near]]
        mark = (family_of(method), (np.round(np.concatenate(marks), 6) + 0.0).tobytes())
        found.setdefault(mark, []).append((shown(name, method), method))
        entries.setdefault(mark, (growth, sizes))
    order = [*_FAMILIES.values()]
    marks = sorted(found, key=lambda m: order.index(m[0]) if m[0] in order else len(order))
    return [_reach(found[mark], mark[0], *entries[mark]) for mark in marks]


def acts_on_eigenvalues(method: AbstractMethod) -> bool:
    """Return whether a step on ``y' = G y`` grows by R of each eigenvalue of ``dt G``.

    Not so where parts or blocks of a field are treated in different ways, or past states are read.
    """
    if isinstance(method, Delayed):
        return False
    if isinstance(method, Substeps | AlgebraicallyReversible):
        return acts_on_eigenvalues(method.method)
    known = isinstance(method.stability, RungeKuttaStability | MultistepStability)
    return known or isinstance(method, LinearlyImplicitEuler)


def family_of(method: AbstractMethod) -> str:
    """Return the family that a method belongs to, by the module that has it."""
    module = type(method).__module__
    if not module.startswith("odernn."):
        return "others"
    text = sys.modules[module].__doc__ or module
    return _FAMILIES.get(module.rpartition(".")[2], text.partition(":")[0].partition(".")[0])


def shown(name: str, method: AbstractMethod) -> str:
    """Return the name of the registry, written as the class is where they agree."""
    title = type(method).__name__
    return title + name[len(title) :] if name.startswith(title.lower()) else name


def merged(names: Iterable[str]) -> list[str]:
    """Return names, those that differ in a last digit as one: BDF1, BDF2 is BDF1-2.

    >>> merged(["Heun", "BDF1", "BDF2", "BDF3", "RK4"])
    ['Heun', 'BDF1-3', 'RK4']
    """
    runs: list[tuple[str, list[int]]] = []
    for name in names:
        stem, digits = re.fullmatch(r"(.*?)(\d*)", name).groups()  # pyright: ignore
        number = int(digits) if digits else -1
        if runs and runs[-1][0] == stem and number >= 0 and number == runs[-1][1][-1] + 1:
            runs[-1][1].append(number)
        else:
            runs.append((stem, [number]))
    return [
        stem + ("" if n[0] < 0 else str(n[0]) if len(n) == 1 else f"{n[0]}-{n[-1]}")
        for stem, n in runs
    ]


def _reach(
    members: list[tuple[str, AbstractMethod]], family: str, growth: Growth, sizes: np.ndarray
) -> Alike:
    """How far the stable region reaches, by points on rays."""
    names, methods = zip(*members, strict=True)
    orders, method = tuple(sorted({m.order for m in methods})), methods[0]
    stable = sizes <= TOLERANCE
    far = np.abs(_PROBES) > 150
    bounded = not stable[far].any()
    inside = stable if bounded else ~stable
    real, imaginary = method.real_interval, method.imaginary_interval
    thin = bounded and not stable[(_PROBES.imag > 0.01) & (np.abs(_PROBES.real) > 0.01)].any()
    if not bounded and inside[far].any():
        left, right, top = 3.0, 3.0, 3.0  # unbounded on both sides: no length of its own
    else:
        if growth.parts and bounded:
            outline = growth.size(_PROBES, LINEAR) <= TOLERANCE
            inside = inside | (outline if not outline[far].any() else False)
        seen = _PROBES[inside]
        left, right = max(0.0, -seen.real.min(initial=0)), seen.real.max(initial=0)
        top = seen.imag.max(initial=0)
    if bounded:
        left, top = max(left, real), max(top, imaginary)
    return Alike(names, orders, method, growth, family, left, right, top, bounded, thin)
