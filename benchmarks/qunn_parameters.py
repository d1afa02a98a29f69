"""How many numbers are trained for a memory of t inputs? QUNN beside networks that can hold them.

    python benchmarks/qunn_parameters.py

Counts only, no times and no training: the same file comes out on every machine. Draws
docs/images/qunn_parameters.svg.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from _machine import IMAGES, describe, store, table

import odernn
from odernn._typing import Array, Float
from odernn.analysis._figure import BLUE, COLUMN, GREEN, INK, LINE, PAGE, RED, SOFT, figure_into

QUBITS = 8
CHANNELS = (1, 8)
SHOWN = (1, 10, 100, 1000)
MEMORIES = tuple(sorted({round(10 ** (k / 12)) for k in range(37)}))
KEY = jax.random.key(0)


class LaggedElman(eqx.Module):
    """``h_k = tanh(x_k V + sum_{j<t} h_{k-1-j} W_j + b)``, as many units as channels."""

    weight: Float[Array, "lags units units"]
    input_weight: Float[Array, "units units"]
    bias: Float[Array, " units"]

    def __init__(self, channels: int, lags: int):
        self.weight = jax.numpy.zeros((lags, channels, channels))
        self.input_weight = jax.numpy.zeros((channels, channels))
        self.bias = jax.numpy.zeros(channels)


def qunn(sharing: str, channels: int, memory: int) -> Any:
    options = {"sharing": sharing, "feedback": True, "encoding": "fixed"}
    return odernn.fields.PauliHamiltonian(channels, QUBITS, memory=memory, key=KEY, **options)


def lstm(channels: int, memory: int) -> Any:
    return odernn.zoo.LSTM(channels, memory * channels, key=KEY)


def unitary(channels: int, memory: int) -> Any:
    # A complex unit holds two real numbers.
    return odernn.zoo.FullCapacityuRNN(channels, 2 * -(-memory * channels // 2), key=KEY)


# Name, network, colour, dashes.
NETWORKS: tuple[tuple[str, Callable[[int, int], Any], str, Any], ...] = (
    ("LSTM", lstm, INK, "-"),
    ("full-capacity uRNN", unitary, SOFT, (0, (6, 1.5))),
    ("t-lag Elman", LaggedElman, GREEN, (0, (1, 1.2))),
    ("QUNN, per site", partial(qunn, "site"), RED, (0, (3, 1, 1, 1))),
    ("QUNN, global", partial(qunn, "global"), BLUE, "-"),
)


def count(network: Callable[[int, int], Any], channels: int, memory: int) -> int:
    """Return the number of trained scalars; no array is made."""
    return odernn.parameter_count(eqx.filter_eval_shape(network, channels, memory))


def draw(counts: dict[tuple[str, int], np.ndarray], path: Path) -> None:
    with figure_into(path, PAGE, 0.85 * COLUMN) as figure:
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for number, (axis, channels) in enumerate(zip(panels, CHANNELS, strict=True)):
            ends = []
            for name, _, colour, style in NETWORKS:
                values = counts[name, channels]
                width = 1.8 if name.startswith("QUNN") else 1.0
                axis.plot(MEMORIES, values, color=colour, linestyle=style, linewidth=width)
                ends.append((values[-1], name, colour))
            lowest = 0.0
            for value, name, colour in sorted(ends):
                # No nearer to the name below than the letters are high.
                lowest = max(value, 2.5 * lowest)
                axis.annotate(
                    name, (MEMORIES[-1], lowest), (4, 0), textcoords="offset points",
                    color=colour, va="center", annotation_clip=False,
                )  # fmt: skip
            inputs = "1 input channel" if channels == 1 else f"{channels} input channels"
            axis.set_title(f"{'ab'[number]}  {inputs}, {QUBITS} qubits", loc="left")
            axis.set(xscale="log", yscale="log", xlim=(1, 1000), xlabel="memory t, in input steps")
            axis.grid(color=LINE, alpha=0.4, linewidth=0.4)
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelleft=True)
        panels[0].set_ylabel("trained scalars, without read-out")


def text(counts: dict[tuple[str, int], np.ndarray]) -> str:
    rows = []
    for channels in CHANNELS:
        for name, _, _, _ in NETWORKS:
            values = dict(zip(MEMORIES, counts[name, channels], strict=True))
            growth = np.log10(values[SHOWN[-1]] / values[SHOWN[-2]])
            rows.append([str(channels), name, *(f"{values[t]:,}" for t in SHOWN), f"{growth:.2f}"])
    header = ["input channels", "network", *(f"t = {t}" for t in SHOWN), "power of t"]
    return f"""{describe("jax", "odernn")}

How many numbers are trained (`odernn.parameter_count`, without read-out) by a network whose state
can hold the last t inputs of p channels?

"Can hold" is a count of state variables: t p real numbers have to be somewhere for an output to
depend on all of them in any way. What each network is given for it:

- **LSTM**: t p units, one number each in the memory c. **Full-capacity uRNN**: t p real numbers,
  two to a complex unit.
- **t-lag Elman**: its state holds the last t hidden vectors of p units, each with a matrix of its
  own, `h_k = tanh(x_k V + sum_(j<t) h_(k-1-j) W_j + b)`.
- **QUNN**: memory t; its state holds the last t - 1 inputs beside the {2**QUBITS} amplitudes of
  {QUBITS} qubits. With feedback, fixed encoding: 5 t, per site (5 m - 1) t for m qubits,
  whatever p, m (global) and the length of the sequence.

{table(header, rows)}

"power of t": the exponent between t = {SHOWN[-2]} and t = {SHOWN[-1]}.

What this does not say: that fewer numbers do the same. LSTM and uRNN may remember longer than they
have units, by slow decay or none, and so may the amplitudes of a QUNN with few lags. A QUNN's lags
act through five numbers each, a t-lag Elman network's through p^2; with one channel and one unit
the Elman network has the fewest numbers of all, and it is linear in t as well. With more channels
than qubits the fixed encoding shows a QUNN {QUBITS} combinations of them only.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--picture", type=Path, default=IMAGES / "qunn_parameters.svg")
    picture = parser.parse_args().picture
    counts = {
        (name, channels): np.array([count(network, channels, t) for t in MEMORIES])
        for name, network, _, _ in NETWORKS
        for channels in CHANNELS
    }
    draw(counts, picture)
    store("qunn_parameters", text(counts).rstrip())


if __name__ == "__main__":
    main()
