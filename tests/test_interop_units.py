"""torchrecurrent's one-state cells, imported: the same numbers from the same weights."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchrecurrent

import odernn
from odernn.interop._units import IMPORTERS

from .references.units import module_outputs, random_module

STEPS = 30
OPTIONS = {
    "AntisymmetricRNNCell": {"epsilon": 0.1, "gamma": 0.3},
    "GatedAntisymmetricRNNCell": {"epsilon": 0.2, "gamma": 0.1},
    "FastGRNNCell": {"nonlinearity": "sigmoid"},
    "FastRNNCell": {"nonlinearity": "relu"},
    "IndRNNCell": {"nonlinearity": "relu"},
    "JANETCell": {"beta": 0.7},
    "LiGRUCell": {"nonlinearity": "tanh"},
    "MGUCell": {"bias": False},
    "MiRU1Cell": {"update_coefficient": 0.3},
    "MiRU2Cell": {"update_coefficient": 0.9, "reset_coefficient": 0.7, "nonlinearity": "relu"},
    "SGUCell": {"gate_nonlinearity": "sigmoid", "output_nonlinearity": "tanh"},
    "UGRNNCell": {"recurrent_bias": False},
}
"""Other options than the defaults, of those that have some."""


def assert_same(name, module, sizes, rng):
    cell = IMPORTERS[name]({k: v.numpy() for k, v in module.state_dict().items()}, module)
    xs = rng.normal(size=(STEPS, sizes[0]))
    past = np.zeros((cell.interpolation.samples - 1, sizes[0]))
    outputs, _ = odernn.Layer(cell, odernn.Scan())(xs, **({"past": past} if len(past) else {}))
    np.testing.assert_allclose(outputs, module_outputs(module, xs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", IMPORTERS)
def test_an_imported_cell_computes_the_same(name, seed, rng):
    assert_same(name, random_module(name, 3, 5, seed), (3, 5), rng)


@pytest.mark.parametrize("name", OPTIONS)
def test_so_it_does_with_other_options(name, seed, rng):
    assert_same(name, random_module(name, 1, 4, seed, **OPTIONS[name]), (1, 4), rng)


def test_a_delay_of_several_steps(seed, rng):
    module = random_module("tauGRUCell", 2, 3, seed)
    module.delay = 4
    assert_same("tauGRUCell", module, (2, 3), rng)


@pytest.mark.parametrize("name", IMPORTERS)
def test_the_precision_is_the_modules(name, seed):
    module = random_module(name, 2, 3, seed).float()
    state = {k: v.numpy() for k, v in module.state_dict().items()}
    assert IMPORTERS[name](state, None).field.dtype == jnp.float32


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("MGUCell", {"nonlinearity": "relu"}, "act is relu: the network has tanh"),
        ("TGRUCell", {"gate_nonlinearity": "hard_sigmoid"}, "gate_act is hard_sigmoid"),
        ("LiGRUCell", {"nonlinearity": "gelu"}, "act is GELU: activations are"),
    ],
)
def test_what_a_network_is_not_is_not_imported(name, options, match):
    module = getattr(torchrecurrent, name)(2, 3, **options)
    state = {k: v.numpy() for k, v in module.state_dict().items()}
    with pytest.raises(odernn.InputError, match=match):
        IMPORTERS[name](state, module)


def test_a_missing_array_is_named():
    state = {"weight_ih": np.zeros((6, 2)), "weight_hh": np.zeros((6, 3))}
    with pytest.raises(odernn.InputError, match="bias_ih is missing: there are weight_hh, "):
        IMPORTERS["MGUCell"](state, None)


def test_torchrecurrents_default_is_taken_without_a_module(seed, rng):
    module = random_module("IndRNNCell", 2, 3, seed)
    state = {k: v.numpy() for k, v in module.state_dict().items()}
    assert isinstance(module.act, torch.nn.Tanh)
    assert IMPORTERS["IndRNNCell"](state, None).field.activation == "tanh"
