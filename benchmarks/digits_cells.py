"""Which cell should `odernn train digits` train by default? All of the zoo, equal tuning.

    python benchmarks/digits_cells.py [--seeds 3] [--epochs 40] [--tasks digits digits-permuted]
                                      [--cells lstm gru ...]

Every cell gets the same recipe. The learning rate is lowered from 0.02 to 0.005 and 0.001 as long
as that makes validation accuracy better, over the seeds; test accuracy is reported for the rate
that validation prefers. Finished runs are kept in --runs, so an interrupted comparison goes on
where it was.
"""

import argparse
import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
from _machine import describe, store, table
from rich.console import Console

from odernn import RunFailed, train, zoo

RATES = (0.02, 0.005, 0.001)


def outcome(config: train.Config, folder: Path) -> dict:
    """The result of a run, from its folder if it was done before.

    A run whose loss is no longer finite counts as a guess.
    """
    kept = folder.with_name(f"{folder.name}.json")
    if not kept.exists():
        shutil.rmtree(folder, ignore_errors=True)
        try:
            train.fit(dataclasses.replace(config, out=folder), console=Console(quiet=True))
            result = json.loads((folder / "result.json").read_text())
        except RunFailed as error:
            print(f"{folder.name}: {error}", flush=True)
            result = {"validation_metric": 0.1, "test_metric": 0.1, "n": "-", "t": "-"}
            result |= {"parameters": 0, "seconds": math.inf}
        kept.write_text(json.dumps(result))
    return json.loads(kept.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--tasks", nargs="+", default=["digits", "digits-permuted"])
    parser.add_argument("--cells", nargs="+", default=list(zoo.CELLS))
    parser.add_argument("--runs", type=Path, default=Path("runs/digits-cells"))
    options = parser.parse_args()
    for task in options.tasks:
        rows = [row(task, cell, options) for cell in options.cells]
        # Time is told by the cell that everyone knows, trained here as well.
        unit = next((r.seconds for r in rows if r.cell == "lstm"), None)
        for r in rows:
            r.columns.append("" if unit is None else f"{r.seconds / unit:.1f}")
        header = [
            *("cell", "n-t", "parameters", "learning rate", "validation accuracy"),
            *("test accuracy, mean (min)", "training time / lstm's"),
        ]
        recipe = f"seeds: {options.seeds}; {options.epochs} epochs, 64 units; rates from {RATES}."
        lines = table(header, [r.columns for r in rows])
        store(f"{task}_cells", f"{describe('jax', 'odernn')}\n{recipe}\n\n{lines}")


@dataclasses.dataclass
class Row:
    """One line of the table."""

    cell: str
    columns: list[str]
    seconds: float


def row(task: str, cell: str, options: argparse.Namespace) -> Row:
    """Train a cell with every seed, at lower rates while they help; report the best of them."""
    results, validation = {}, {}
    for rate in RATES:
        config = train.Config(task=task, cell=cell, learning_rate=rate, epochs=options.epochs)
        results[rate] = [
            outcome(
                dataclasses.replace(config, seed=seed),
                options.runs / f"{task}-{cell}-{rate:g}-{seed}",
            )
            for seed in range(options.seeds)
        ]
        before = max(validation.values(), default=0.0)
        validation[rate] = np.mean([r["validation_metric"] for r in results[rate]])
        if validation[rate] < before:
            break
    best = max(validation, key=lambda rate: validation[rate])
    test = [r["test_metric"] for r in results[best]]
    columns = [
        cell,
        f"{results[best][0]['n']}-{results[best][0]['t']}",
        f"{results[best][0]['parameters']:,}",
        f"{best:g}",
        f"{validation[best]:.3f}",
        f"{np.mean(test):.3f} ({min(test):.3f})",
    ]
    print(*columns, sep="\t", flush=True)
    return Row(cell, columns, min(r["seconds"] for runs in results.values() for r in runs))


if __name__ == "__main__":
    main()
