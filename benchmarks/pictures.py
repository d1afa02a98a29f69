"""Which steps are stable, how far do gradients reach, and what does a certificate promise of it?

    python benchmarks/pictures.py [--cell antisymmetricrnn] [--hidden 32] [--steps 200] [--dt 0.03]

Draws docs/images/stability-regions.svg and order-stars.svg from the methods alone, and eye.svg and
horizon-sweep.svg of one network with its initial weights on slow random inputs. No times, so the
same files come out on every machine, but for rounding.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from _machine import IMAGES

import odernn
from odernn.analysis import (
    certify,
    diagnose,
    draw_eye,
    draw_horizon_sweep,
    draw_order_star,
    draw_stability_regions,
)


def slow_inputs(batch: int, steps: int, size: int) -> np.ndarray:
    """Sums of a few slow waves, of about unit size."""
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.01, 0.12, (batch, 1, size, 5))
    phases = rng.uniform(0, 2 * np.pi, rates.shape)
    time = np.arange(steps)[:, None, None]
    return np.sin(rates * time + phases).sum(axis=-1).astype(np.float32) / 1.6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cell", default="antisymmetricrnn", help="name of a network of the zoo")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--dt", type=float, default=0.03)
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder for the pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    draw_stability_regions(options.out / "stability-regions.svg")
    draw_order_star(options.out / "order-stars.svg")

    network = odernn.zoo.CELLS[options.cell]
    made = network(4, options.hidden, key=jax.random.key(0))
    inputs = slow_inputs(4, options.steps, 4)

    def with_step(dt: float) -> odernn.Cell:
        return odernn.Cell(made.field, made.method, dt)

    cell = with_step(options.dt)
    certificate = certify(cell)
    diagnosis = diagnose(cell, inputs, advice=False)
    draw_eye(diagnosis, certificate, cell, options.out / "eye.svg")
    print(certificate)
    dts = [float(dt) for dt in np.geomspace(0.002, 1.0, 12)]
    certified = []
    for dt in dts:
        found = certify(with_step(dt))
        certified.append((dt, found.horizon() if found else None))
    for point in draw_horizon_sweep(
        options.out / "horizon-sweep.svg", cell, inputs, dts, certified=certified
    ):
        print(point)


if __name__ == "__main__":
    main()
