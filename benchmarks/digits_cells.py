"""Which cell should `odernn train digits` train by default? All of the zoo, equal tuning.

    python benchmarks/digits_cells.py [--seeds 3] [--epochs 40] [--tasks digits digits-permuted]

Every cell gets the same recipe and the same choice of learning rates. The rate is chosen by
validation accuracy alone, over the seeds; test accuracy is reported for the chosen one. Finished
runs are kept in --runs, so an interrupted comparison goes on where it was.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
from _machine import describe, store, table
from rich.console import Console

from odernn import train, zoo

RATES = (0.005, 0.02)


def outcome(config: train.Config, folder: Path) -> dict:
    """The result of a run, from its folder if it was done before."""
    if not (folder / "result.json").exists():
        train.fit(dataclasses.replace(config, out=folder), console=Console(quiet=True))
    return json.loads((folder / "result.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--tasks", nargs="+", default=["digits", "digits-permuted"])
    parser.add_argument("--cells", nargs="+", default=list(zoo.CELLS))
    parser.add_argument("--runs", type=Path, default=Path("runs/digits-cells"))
    options = parser.parse_args()
    for task in options.tasks:
        rows = []
        for cell in options.cells:
            results = {}
            for rate in RATES:
                config = train.Config(
                    task=task, cell=cell, learning_rate=rate, epochs=options.epochs
                )
                results[rate] = [
                    outcome(
                        dataclasses.replace(config, seed=seed),
                        options.runs / f"{task}-{cell}-{rate:g}-{seed}",
                    )
                    for seed in range(options.seeds)
                ]
            validation = {
                rate: np.mean([r["validation_metric"] for r in runs])
                for rate, runs in results.items()
            }
            best = max(RATES, key=lambda rate: validation[rate])
            test = [r["test_metric"] for r in results[best]]
            rows.append(
                [
                    task,
                    cell,
                    f"{results[best][0]['parameters']:,}",
                    f"{best:g}",
                    f"{validation[best]:.3f}",
                    f"{np.mean(test):.3f} ({min(test):.3f})",
                ]
            )
            print(*rows[-1], sep="\t", flush=True)
        header = [
            "task",
            "cell",
            "parameters",
            "learning rate",
            "validation accuracy",
            "test accuracy, mean (min)",
        ]
        recipe = f"seeds: {options.seeds}; {options.epochs} epochs, 64 units; rates {RATES}."
        store(f"{task}_cells", f"{describe('jax', 'odernn')}\n{recipe}\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
