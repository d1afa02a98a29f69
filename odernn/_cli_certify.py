"""`odernn certify`: what theorems say of the cells of a network."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import tyro

from ._arguments import parse
from ._certified_layers import Found, Wanted, certify_layers
from ._cli_network import FLAG, TARGET, Network, at_least_one, bar, number_of_cells
from ._enclosure import Norm
from ._listing import new_table, show_tables
from ._results import InputError, RunFailed
from ._target import Target, data_of_run
from .analysis._certificate import TOLERANCE, Certificate, Rates
from .analysis._certify import all_rates
from .analysis._structural import unproven
from .zoo._network import undelayed


class NotCertified(RunFailed):
    """The horizon that was asked for is not certified; the message says what is."""


@dataclasses.dataclass(frozen=True)
class _Certify(Network):
    """Say what a theorem promises of the gradients in a network.

    For each cell: two rates between which every step stretches a gradient, for every state and
    input of a region. Exit code 1 if --horizon is given and is not certified.
    """

    target: Annotated[str, tyro.conf.Positional, TARGET]
    """A run folder or another folder with a saved model; a network by its name, which gets random
    weights; or module:name."""
    horizon: int | None = None
    """Steps over which gradients are to stay between 1/kappa and kappa times."""
    region: Literal["all", "reachable", "data"] | None = None
    """States and inputs it is about: all, those within reach, or the box that the training data of
    the run fill; by default all, or those within reach where that gives more."""
    input_bound: float | None = None
    """The inputs of the first layer are between -B and B."""
    norm: Literal["1", "2", "inf"] | None = None
    """The norm of a gradient; by default the one that gives most, weights included."""
    all_theorems: Annotated[bool, FLAG, tyro.conf.arg(name="all")] = False
    """Show what every theorem says that says something."""
    json: Annotated[bool, FLAG] = False
    """Print JSON instead of a table."""

    def check(self) -> None:
        """Refuse what does not go together."""
        at_least_one("--horizon", self.horizon)
        if self.input_bound is None:
            return
        if not 0 <= self.input_bound < math.inf:
            raise InputError(f"--input-bound is {self.input_bound:g}, it must be 0 or more.")
        if self.region == "data":
            raise InputError("--input-bound with --region data: the data bound the inputs; leave it"
                             " out.")  # fmt: skip


def certify(arguments: list[str]) -> None:
    """`odernn certify`: print certificates.

    Raises:
        InputError: a name or an option that cannot be used.
        NotCertified: a horizon that was asked for.
    """
    options = parse(_Certify, "certify", arguments)
    options.check()
    target = options.read(options.target)
    norm = None if options.norm is None else Norm(options.norm)
    with bar(number_of_cells(target)) as report:
        found = certify_layers(
            target.model,
            region=options.region,
            bound=math.inf if options.input_bound is None else options.input_bound,
            norm=norm,
            data=data_of_run(target, "training") if options.region == "data" else None,
            wanted=None if options.horizon is None else Wanted(options.horizon, options.kappa),
            report=report,
        )
        rates = [_all_rates(each, norm) if options.all_theorems else [] for each in found]
    if options.json:
        print(json.dumps(_as_json(target, found, rates, options), indent=2, allow_nan=False))
    else:
        _print_certificates(target, found, rates, options)
    if options.horizon is not None:
        _check_horizon(found, options.horizon, options.kappa)


def _all_rates(found: Found, norm: Norm | None) -> list[Rates]:
    """What the theorems say, the most telling first."""
    rates = all_rates(found.cell, found.region, norm)
    telling = [each for each in rates if each.lower > 0 or each.upper < math.inf]
    return sorted(telling, key=lambda each: (each.upper, -each.lower))


def _print_certificates(
    target: Target, found: list[Found], rates: list[list[Rates]], options: _Certify
) -> None:
    for each, every in zip(found, rates, strict=True):
        table = new_table(_title(target, each), "", "")
        table.show_header = False
        rows = {
            "network": _network(each),
            **_certificate_rows(each, options),
            **_notes(target, each.certificate),
        }
        for name, text in rows.items():
            table.add_row(name, text)
        show_tables(table)
        if every:
            _print_theorems(every)


def _title(target: Target, found: Found) -> str:
    return target.title if found.place == "cell" else f"{target.title}: {found.place}"


def _network(found: Found) -> str:
    cell = found.cell
    names = (type(cell.field).__name__, type(undelayed(cell.method)).__name__)
    return f"{names[0]} + {names[1]}, dt = {float(cell.step_size):g}"


def _notes(target: Target, certificate: Certificate) -> dict[str, str]:
    """What a reader must know of the weights."""
    notes = "; ".join(target.notes)
    if target.random and certificate:
        also = (
            "it holds after training, too"
            if certificate.structural
            else "a trained network may have another certificate"
        )
        notes = f"{notes}; {also}"
    return {"note": notes} if notes else {}


def _certificate_rows(found: Found, options: _Certify) -> Mapping[str, str]:
    certificate = found.certificate
    rows = dict(certificate.described())
    if not certificate and unproven(found.cell):
        return rows
    if not certificate:
        return rows | {"try": "--input-bound B, --region reachable or, of a run, --region data"}
    far = certificate.horizon(options.kappa)
    rows["in words"] = _in_words(certificate)
    rows["horizon"] = f"{_steps(far)} with gradients between {_band(options.kappa)} times"
    if options.horizon is not None:
        low, high = certificate.corridor(options.horizon)
        rows[f"{options.horizon} steps"] = f"a gradient is multiplied by {low:.4g} to {high:.4g}"
    first = ("certificate", "in words")
    return {name: rows[name] for name in (*first, *(n for n in rows if n not in first))}


def _in_words(certificate: Certificate) -> str:
    grows, shrinks = certificate.upper > 1 + TOLERANCE, certificate.lower < 1 - TOLERANCE
    if not grows and not shrinks:
        return "in this norm gradients neither grow nor vanish"
    high = f"grow at most {certificate.upper:.6g} times a step" if grows else "never grow"
    if certificate.upper == math.inf:
        high = "may grow without bound"
    low = f"keep at least {certificate.lower:.6g} of their size a step"
    if certificate.lower == 0:
        low = "may vanish"
    return f"in this norm gradients {high} and {low if shrinks else 'never vanish'}"


def _steps(horizon: float) -> str:
    if math.isinf(horizon):
        return "any number of steps"
    return f"{horizon:g} step{'' if horizon == 1 else 's'}"


def _band(kappa: float) -> str:
    return f"1/{kappa:g} and {kappa:g}"


def _print_theorems(rates: list[Rates]) -> None:
    """A row for each theorem and norm; columns that say nothing are left out."""
    columns: dict[str, list[str]] = {
        "theorem": [each.theorem.split(" (")[0] for each in rates],
        "norm": [str(each.norm).split(" (")[0] for each in rates],
        "at least": [f"{each.lower:.6g}" for each in rates],
        "at most": [f"{each.upper:.6g}" for each in rates],
    }
    if any(each.dt_max is not None for each in rates):
        limits = ["" if each.dt_max is None else f"{each.dt_max:.4g}" for each in rates]
        columns["dt up to"] = limits
    if any(each.structural for each in rates):
        columns["weights"] = ["all" if each.structural else "these" for each in rates]
    right = [name for name in columns if name in ("at least", "at most", "dt up to")]
    table = new_table("|J v| / |v| by every theorem", *columns, right=right)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*("∞" if text == "inf" else text for text in row))
    show_tables(table)


def _as_json(
    target: Target, found: list[Found], rates: list[list[Rates]], options: _Certify
) -> dict[str, Any]:
    cells = {}
    for each, every in zip(found, rates, strict=True):
        far = each.certificate.horizon(options.kappa)
        cells[each.place] = {
            **each.certificate.to_dict(),
            "kind": each.certificate.kind,
            "horizon": _finite(far),
            "horizon_is_infinite": math.isinf(far),
        }
        if options.horizon is not None:
            corridor = each.certificate.corridor(options.horizon)
            cells[each.place]["corridor"] = [_finite(end) for end in corridor]
            cells[each.place]["horizon_is_certified"] = far >= options.horizon
        if options.all_theorems:
            cells[each.place]["theorems"] = [_rates_as_json(one) for one in every]
    return {
        "target": target.title,
        "notes": list(target.notes),
        "kappa": options.kappa,
        "wanted_horizon": options.horizon,
        "cells": cells,
    }


def _rates_as_json(rates: Rates) -> dict[str, Any]:
    return {
        "theorem": rates.theorem,
        "norm": str(rates.norm),
        "lower": float(rates.lower),
        "upper": _finite(rates.upper),
        "assumptions": list(rates.assumptions),
        "structural": rates.structural,
        "dt_max": None if rates.dt_max is None else _finite(rates.dt_max),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _check_horizon(found: list[Found], horizon: int, kappa: float) -> None:
    short = [each for each in found if each.certificate.horizon(kappa) < horizon]
    if not short:
        return
    worst = min(short, key=lambda each: each.certificate.horizon(kappa))
    certificate = worst.certificate
    if certificate:
        low, high = certificate.corridor(horizon)
        instead = (
            f"certified is {_steps(certificate.horizon(kappa))}; {horizon} steps multiply a "
            f"gradient by {low:.4g} to {high:.4g}"
        )
    else:
        instead = "no theorem applies"
    where = "" if worst.place == "cell" else f" of {worst.place}"
    raise NotCertified(
        f"a horizon{where} of {horizon} steps with gradients between {_band(kappa)} times is not "
        f"certified: {instead}."
    )
