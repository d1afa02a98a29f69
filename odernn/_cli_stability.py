"""`odernn diagnose` and `odernn eye`: what is measured of a network, in words and as a picture."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from ._arguments import parse
from ._certified_layers import certify_layers, fed_with
from ._cli_network import FLAG, TARGET, Network, at_least_one, bar, number_of_cells
from ._listing import new_table, show_tables
from ._model import replace
from ._results import InputError
from ._target import Target, cells_in, data_of_run, the_longest

_STEPS, _SEQUENCES = 1000, 8
"""What is measured at most, if nothing else is asked for."""
_POWERS = range(-8, 3)
"""Powers of two of the step sizes of a sweep."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Measured(Network):
    """What is measured, and how much of it."""

    steps: int | None = None
    """Steps of each sequence that are looked at, at most (1000)."""
    sequences: int = _SEQUENCES
    """Sequences that are looked at, at most."""

    def inputs(self, target: Target, horizon: int | None = None) -> tuple[np.ndarray, str]:
        """The validation data of a run, or random numbers; and which of the two."""
        for flag, value in (("--steps", self.steps), ("--sequences", self.sequences)):
            at_least_one(flag, value)
        at_least_one("--horizon", horizon)
        steps = max(_STEPS, horizon or 0) if self.steps is None else self.steps
        if target.config is not None:
            data = the_longest(data_of_run(target, "validation"), self.sequences, steps)
            inputs, text = data.inputs, data.text
        else:
            size = getattr(target.model, "input_size", self.input_size)
            if size is None:
                raise InputError(
                    f"{target.title}: give the size of its inputs, --input-size 3 say."
                )
            shape = (self.sequences, steps, size)
            inputs = np.random.default_rng(0).standard_normal(shape)
            text = "random (standard normal, seed 0), not those of a task"
        if horizon is not None and horizon > inputs.shape[1]:
            raise InputError(
                f"--horizon is {horizon}, but only {inputs.shape[1]} steps are looked at: "
                f"{'give a larger --steps' if self.steps else 'ask for a shorter one'}."
            )
        return inputs, text


# --- diagnose ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Diagnose(_Measured):
    """Measure what a network does with gradients, and what would help them.

    Along its trajectories on the validation data of a run, or on random inputs. A measurement, no
    theorem: `odernn certify` has these.
    """

    target: Annotated[str, tyro.conf.Positional, TARGET]
    """A run folder or another folder with a saved model; a network by its name, which gets random
    weights; or module:name of one of these or of a function (y, x) -> y."""
    horizon: int | None = None
    """Steps that gradients are to reach; by default all that are looked at."""
    state: tuple[int, ...] = (8,)
    """Size of a function's state; several sizes stand for a tuple of arrays."""
    json: Annotated[bool, FLAG] = False
    """Print JSON instead of a table."""
    out: Path | None = None
    """Draw it to this new .svg or .png file, too."""


def diagnose(arguments: list[str]) -> None:
    """`odernn diagnose`: print measurements and advice.

    Raises:
        InputError: a name or an option that cannot be used.
    """
    options = parse(_Diagnose, "diagnose", arguments)
    target = options.read(options.target)
    files = {} if options.out is None else _new_files(options.out, "--out", _places(target))
    inputs, text = options.inputs(target, options.horizon)
    with bar(number_of_cells(target)) as report:
        y = None if cells_in(target.model) else _start(options.state)
        measured = _measure(target, inputs, options, options.horizon, report, y=y, advice=True)
    if options.json:
        cells = {place: each.to_dict() for place, each in measured.items()}
        about = {"target": target.title, "notes": list(target.notes), "inputs": text}
        print(json.dumps({**about, "cells": cells}, allow_nan=False))
    else:
        for place, each in measured.items():
            title = target.title if place == "cell" else f"{target.title}: {place}"
            table = new_table(title, "", "")
            table.show_header = False
            rows = {**each.described(), "inputs": text}
            for name, line in rows.items():
                table.add_row(name, line)
            for note in target.notes:
                table.add_row("note", note)
            show_tables(table)
    if files:
        _draw_eyes(target, measured, files)
        if not options.json:
            _print_paths(files)


def _start(sizes: tuple[int, ...]) -> Any:
    """A state for a function: zeros."""
    if not sizes or min(sizes) < 1:
        raise InputError(f"--state is {sizes}: give sizes of at least 1.")
    first, *more = (jax.numpy.zeros(size) for size in sizes)
    return (first, *more) if more else first


def _measure(
    target: Target,
    inputs: np.ndarray,
    options: Network,
    horizon: int | None,
    report: Callable[[str, float], None],
    **more: Any,
) -> dict[str, Any]:
    """Diagnoses by the places of the cells."""
    from .analysis._diagnose import diagnose as measure

    found = measure(
        target.model,
        inputs,
        horizon=horizon,
        kappa=options.kappa,
        sequences=len(inputs),
        steps=inputs.shape[1],
        progress=report,
        **more,
    )
    return found if isinstance(found, dict) else {"cell": found}


# --- eye -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Eye(_Measured):
    """Draw what is certified of a network and what is measured, as one picture for each cell.

    Where the eigenvalues lie in the stability region of the method, how gradients grow against the
    certified corridor, Lyapunov exponents, a trajectory. Or one of the single plots.
    """

    target: Annotated[str, tyro.conf.Positional, TARGET] = ""
    """A run folder or another folder with a saved model; a network by its name, which gets random
    weights; or module:name."""
    sweep: Annotated[bool, FLAG] = False
    """Draw instead how far gradients reach for step sizes from dt/256 to 4 dt."""
    regions: Annotated[bool, FLAG] = False
    """Draw instead the stability regions of all methods (or --method); names no network."""
    order_stars: Annotated[bool, FLAG] = False
    """Draw instead the order stars of nine methods (or --method); names no network."""
    out: Path | None = None
    """New .svg or .png file; by default eye-NAME.svg in the present folder."""


def eye(arguments: list[str]) -> None:
    """`odernn eye`: draw into a new file, print its path.

    Raises:
        InputError: a name, a file or an option that cannot be used.
    """
    options = parse(_Eye, "eye", arguments)
    plots = [name for name in ("sweep", "regions", "order_stars") if getattr(options, name)]
    if len(plots) > 1:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in plots)
        raise InputError(f"{flags} are pictures of their own: draw one at a time.")
    if plots and plots[0] != "sweep":
        return _draw_methods(plots[0].replace("_", "-"), options)
    if not options.target:
        raise InputError(
            "what to draw is missing: name a run folder, a network of `odernn list` or "
            "module:name. See `odernn eye --help`."
        )
    target = options.read(options.target)
    out = options.out or Path(f"{'sweep' if plots else 'eye'}-{target.name}.svg")
    files = _new_files(out, "--out", _places(target))
    inputs, _ = options.inputs(target)
    if plots:
        _draw_sweeps(target, inputs, options, files)
    else:
        with bar(number_of_cells(target)) as report:
            more = {"advice": False, "fixed_points": False}
            measured = _measure(target, inputs, options, None, report, **more)
        _draw_eyes(target, measured, files)
    _print_paths(files)


def _draw_methods(name: str, options: _Eye) -> None:
    from .analysis._regions_picture import draw_order_star, draw_stability_regions

    if options.target:
        raise InputError(f"--{name} draws methods, not {options.target}: leave that out.")
    draw, title = {
        "regions": (draw_stability_regions, "stability-regions.svg"),
        "order-stars": (draw_order_star, "order-stars.svg"),
    }[name]
    files = _new_files(options.out or Path(title), "--out", ["cell"])
    draw(files["cell"], *([] if options.method is None else [[options.method]]))
    _print_paths(files)


def _places(target: Target) -> list[str]:
    """The places of the cells, as certificates and diagnoses name them."""
    names = [name.removesuffix("cell").removesuffix(".") for name, _ in cells_in(target.model)]
    return [name or "cell" for name in names] or ["cell"]


def _new_files(out: Path, flag: str, places: list[str]) -> dict[str, Path]:
    """A file for each cell, none of which is there yet; of several cells by their places."""
    if out.suffix.lower() not in (".svg", ".png"):
        raise InputError(f"{flag} {out}: this is a picture; name an .svg or a .png file.")
    if not out.parent.is_dir():
        raise InputError(f"{flag} {out}: there is no folder {out.parent}.")
    files = dict.fromkeys(places, out)
    if len(places) > 1:
        files = {
            place: out.with_name(f"{out.stem}-{place.replace('.', '-')}{out.suffix}")
            for place in places
        }
    for path in files.values():
        if path.exists():
            raise InputError(f"{flag} {path} exists already: choose another file or delete it.")
    return files


def _print_paths(files: Mapping[str, Path]) -> None:
    for path in files.values():
        print(path)


def _draw_eyes(target: Target, measured: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    from .analysis._eye import draw_eye

    if not cells_in(target.model):
        return draw_eye(measured["cell"], None, None, files["cell"])
    with bar(len(files)) as report:
        found = certify_layers(target.model, report=report)
    for each in found:
        draw_eye(measured[each.place], each.certificate, each.cell, files[each.place])


def _draw_sweeps(
    target: Target, inputs: np.ndarray, options: _Eye, files: Mapping[str, Path]
) -> None:
    """The gradient horizon of each cell against the step size, as certified and as measured."""
    from .analysis._certify import certify
    from .analysis._sweep import draw_horizon_sweep

    layers = fed_with(target.model, inputs, np.full(len(inputs), inputs.shape[1]))
    with bar(len(layers)) as report:
        for place, layer, xs in layers:
            dts = [float(layer.cell.step_size) * 2.0**power for power in _POWERS]
            certified = []
            for number, dt in enumerate(dts):
                report(f"{place}: dt = {dt:.3g}", number / len(dts))
                found = certify(replace(layer.cell, dt=dt))
                certified.append((dt, found.horizon(options.kappa) if found else None))
            draw_horizon_sweep(
                files[place], layer.cell, xs, dts, kappa=options.kappa, certified=certified
            )
            report(place, 1.0)
