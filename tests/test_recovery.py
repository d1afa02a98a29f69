"""Known networks are exact special cases: PyTorch's layers with their weights, for one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import odernn
from odernn import zoo

from . import cases

STEPS = 500
# PyTorch's name, our cell, and the order of PyTorch's gates in our packing (the same).
LAYERS = {
    "RNN": (torch.nn.RNN, zoo.RNN, {}),
    "RNN-relu": (torch.nn.RNN, zoo.RNN, {"nonlinearity": "relu"}),
    "GRU": (torch.nn.GRU, zoo.GRU, {}),
    "LSTM": (torch.nn.LSTM, zoo.LSTM, {}),
}


def _split_bias(name, module):
    """PyTorch has two biases; ours is their sum, but for the GRU's candidate, which keeps both."""
    inward, recurrent = module.bias_ih_l0, module.bias_hh_l0
    if name != "GRU":
        return {"bias": inward + recurrent}
    size = module.hidden_size
    gates = torch.cat([recurrent[: 2 * size], torch.zeros_like(recurrent[2 * size :])])
    return {"bias": inward + gates, "candidate_bias": recurrent[2 * size :]}


def _copy(name, module, cell):
    arrays = {
        "weight": module.weight_hh_l0.T,
        "input_weight": module.weight_ih_l0.T,
        **_split_bias(name, module),
    }
    names = list(arrays)
    return eqx.tree_at(
        lambda c: [getattr(c.field, n) for n in names],
        cell,
        [jnp.asarray(arrays[n].detach().numpy()) for n in names],
    )


def _torch_run(module, xs, weights):
    xs = torch.tensor(xs, requires_grad=True)
    out, _ = module(xs)
    (out * torch.tensor(weights)).sum().backward()
    return out.detach().numpy(), xs.grad.numpy()


@pytest.mark.parametrize("unroll", cases.UNROLLS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("name", LAYERS)
def test_torch_weights_give_torch_values_and_gradients(name, dtype, tolerance, unroll, rng, seed):
    make_torch, make_cell, options = LAYERS[name]
    torch.manual_seed(seed)
    module = make_torch(3, 6, **options).to(getattr(torch, dtype))
    xs = rng.normal(size=(STEPS, 3)).astype(dtype)
    weights = rng.normal(size=(STEPS, 6)).astype(dtype)
    expected, expected_xs = _torch_run(module, xs, weights)

    extra = {"activation": "relu"} if "relu" in name else {}
    cell = make_cell(3, 6, key=jax.random.key(0), **extra)
    cell = cases.as_precision(_copy(name, module, cell), dtype)

    @eqx.filter_jit
    def run(cell, xs):
        hs, _ = odernn.Layer(cell, cases.UNROLLS[unroll])(xs)
        return jnp.sum(hs * weights), hs

    gradient, values = eqx.filter_grad(lambda both: run(*both), has_aux=True)(
        (cell, jnp.asarray(xs))
    )
    assert values.dtype == dtype
    np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance)
    field = gradient[0].field
    pairs = [
        (field.weight, module.weight_hh_l0.grad.T),
        (field.input_weight, module.weight_ih_l0.grad.T),
        (field.bias, module.bias_ih_l0.grad),
        (gradient[1], expected_xs),
    ]
    if name == "GRU":
        pairs.append((field.candidate_bias, module.bias_hh_l0.grad[12:]))
    for ours, theirs in pairs:
        theirs = np.asarray(theirs)
        # Gradients are sums over 500 steps: compare on their own scale.
        np.testing.assert_allclose(
            ours, theirs, rtol=0, atol=tolerance * (1 + np.abs(theirs).max())
        )


def _cornn(p, xs, dt, gamma, epsilon):
    h = v = torch.zeros(6, dtype=torch.float64)
    for x in xs:
        force = h @ p["weight"] + v @ p["velocity_weight"] + x @ p["input_weight"] + p["bias"]
        v = v + dt * (torch.tanh(force) - gamma * h - epsilon * v)
        h = h + dt * v
        yield h


def _lem(p, xs, dt):
    h = z = torch.zeros(6, dtype=torch.float64)
    for x in xs:
        i = (x @ p["input_weight"] + p["bias"] + p["recurrent_bias"]).chunk(4)
        r = (h @ p["weight"]).chunk(3)
        fast, slow = dt * torch.sigmoid(i[0] + r[0]), dt * torch.sigmoid(i[1] + r[1])
        z = (1 - slow) * z + slow * torch.tanh(i[2] + r[2])
        h = (1 - fast) * h + fast * torch.tanh(z @ p["slow_weight"] + i[3])
        yield h


@pytest.mark.parametrize(
    ("make", "equations", "options"),
    [
        (zoo.coRNN, _cornn, {"dt": 0.076, "gamma": 2.7, "epsilon": 4.7}),
        (zoo.LEM, _lem, {"dt": 0.31}),
    ],
)
def test_gradients_of_published_equations(make, equations, options, key, rng):
    cell = make(3, 6, key=key, **options)
    xs, weights = rng.normal(size=(200, 3)), rng.normal(size=(200, 6))
    arrays, static = eqx.partition(cell.field, eqx.is_array)
    theirs = {
        name: torch.tensor(np.asarray(a), requires_grad=True)
        for name, a in vars(arrays).items()
        if a is not None and not isinstance(a, int | float | str)
    }
    outputs = torch.stack(list(equations(theirs, torch.tensor(xs), **options)))
    (outputs * torch.tensor(weights)).sum().backward()

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(arrays):
        again = odernn.Cell(eqx.combine(arrays, static), cell.method, cell.dt)
        return jnp.sum(odernn.Layer(again)(xs)[0] * weights)

    ours = gradient(arrays)
    for name, wanted in theirs.items():
        scale = 1 + float(wanted.grad.abs().max())
        np.testing.assert_allclose(
            getattr(ours, name), wanted.grad, rtol=0, atol=1e-12 * scale, err_msg=name
        )
