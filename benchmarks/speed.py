"""How fast is a layer, forward and backward? Against PyTorch and a plain scan, in one run.

    python benchmarks/speed.py [--repeats 9]

Batch 32, 784 steps, 8 inputs, 128 units, float32; the gradients of all parameters of
mean(sin(hs)). The candidates take turns, so that a slow spell of the machine meets all of them;
ratios are medians of the ratios within a turn. Memory is what the compiled gradient needs beside
arguments and results (XLA's own count).
"""

import argparse
import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from _machine import describe, store, table

import odernn

BATCH, STEPS, INPUTS, HIDDEN = 32, 784, 8, 128
KEY = jax.random.key(0)
XS = np.random.default_rng(0).normal(size=(BATCH, STEPS, INPUTS)).astype("float32")


def ours(cell: odernn.Cell, unroll) -> tuple[Callable, int]:
    """A compiled gradient and the bytes it needs."""
    weights, static = eqx.partition(odernn.Layer(cell, unroll), eqx.is_inexact_array)

    def loss(weights, xs):
        layer = eqx.combine(weights, static)
        return jnp.mean(jnp.sin(jax.vmap(lambda x: layer(x)[0])(xs)))

    return compiled(loss, weights)


def compiled(loss, weights) -> tuple[Callable, int]:
    xs = jnp.asarray(XS)
    run = jax.jit(jax.grad(loss)).lower(weights, xs).compile()
    memory = run.memory_analysis().temp_size_in_bytes
    return lambda: jax.block_until_ready(run(weights, xs)), memory


def plain_scan_lstm() -> tuple[Callable, int]:
    """The LSTM as one writes it by hand: `jax.lax.scan` over the textbook formula."""
    a, b = jax.random.split(KEY)
    weights = {
        "w": jax.random.normal(a, (HIDDEN, 4 * HIDDEN)) * HIDDEN**-0.5,
        "v": jax.random.normal(b, (INPUTS, 4 * HIDDEN)) * HIDDEN**-0.5,
        "b": jnp.zeros(4 * HIDDEN),
    }

    def loss(p, xs):
        def step(carry, u):
            h, c = carry
            i, f, g, o = jnp.split(u + h @ p["w"], 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((BATCH, HIDDEN))
        drive = jnp.swapaxes(xs, 0, 1) @ p["v"] + p["b"]
        return jnp.mean(jnp.sin(jax.lax.scan(step, (zero, zero), drive)[1]))

    return compiled(loss, weights)


class TorchCoRNN(torch.nn.Module):
    """The coRNN as a loop in PyTorch, one Linear a step, as its authors wrote it."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(INPUTS + 2 * HIDDEN, HIDDEN)

    def forward(self, xs):
        """All hidden states, time first."""
        h = xs.new_zeros(xs.shape[1], HIDDEN)
        v, out = h, []
        for x in xs:
            force = torch.tanh(self.linear(torch.cat([x, v, h], 1)))
            v = v + 0.2 * (force - h - v)
            h = h + 0.2 * v
            out.append(h)
        return torch.stack(out)


def theirs(module: torch.nn.Module) -> Callable:
    """A gradient step of a PyTorch module, time first (its default)."""
    xs = torch.tensor(XS).transpose(0, 1).contiguous()

    def run():
        module.zero_grad()
        out = module(xs)
        out = out[0] if isinstance(out, tuple) else out
        out.sin().mean().backward()

    return run


def candidates() -> dict[str, tuple[Callable, int | None]]:
    zoo, adjoint = odernn.zoo, odernn.Adjoint()
    found: dict[str, tuple[Callable, int | None]] = {
        "torch.nn.LSTM": (theirs(torch.nn.LSTM(INPUTS, HIDDEN)), None),
        "torch.nn.GRU": (theirs(torch.nn.GRU(INPUTS, HIDDEN)), None),
        "torch.nn.RNN": (theirs(torch.nn.RNN(INPUTS, HIDDEN)), None),
        "coRNN, PyTorch loop": (theirs(TorchCoRNN()), None),
        "LSTM, plain jax.lax.scan": plain_scan_lstm(),
    }
    for name in ("LSTM", "GRU", "RNN", "coRNN", "LEM"):
        cell = getattr(zoo, name)(INPUTS, HIDDEN, key=KEY)
        found[f"{name}, Scan()"] = ours(cell, odernn.Scan())
        found[f"{name}, Scan(checkpoint=28)"] = ours(cell, odernn.Scan(checkpoint=28))
        found[f"{name}, Adjoint()"] = ours(cell, adjoint)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    runs = candidates()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, (run, _) in runs.items():
            start = time.perf_counter()
            run()
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - start)
    lstm, loop = (np.array(seconds[n]) for n in ("torch.nn.LSTM", "coRNN, PyTorch loop"))
    rows = []
    for name, (_, memory) in runs.items():
        taken = np.array(seconds[name])
        rows.append(
            [
                name,
                f"{1e3 * np.median(taken):.0f} ({1e3 * taken.min():.0f})",
                f"{np.median(lstm / taken):.2f}",
                f"{np.median(loop / taken):.2f}",
                "" if memory is None else f"{memory / 2**20:.0f}",
            ]
        )
    header = [
        "forward + backward",
        "ms, median (min)",
        "times torch.nn.LSTM's speed",
        "times the coRNN loop's speed",
        "memory, MiB",
    ]
    store("speed", f"{describe('jax', 'torch', 'odernn')}\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
