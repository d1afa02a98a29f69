"""Cells and layers of ncps, imported: the same numbers from the same weights."""

import jax
import jax.numpy as jnp
import ncps.torch
import ncps.wirings
import numpy as np
import pytest
import torch

import odernn
from odernn.interop._liquid import IMPORTERS
from odernn.zoo import _liquid as zoo

from .references.liquid import arrays_of, cfc_module, ltc_module, outputs, random_module

STEPS = 30


def assert_same(cell, module, rng, *, irregular=False, channels=slice(None)):
    xs = rng.normal(size=(STEPS, cell.input_size))
    spans = rng.uniform(0.3, 2, size=STEPS) if irregular else np.ones(STEPS)
    times = np.concatenate([[0.0], np.cumsum(spans)])
    hs, _ = odernn.Layer(cell, odernn.Scan())(xs, times=times)
    expected = outputs(module, xs, np.diff(times))
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(hs[:, channels], expected, rtol=0, atol=1e-12)


def positive(module):
    """What is to be positive, without a constraint."""
    for name in ("w", "sensory_w", "cm", "gleak"):
        parameter = getattr(module, name)
        parameter.data = parameter.data.abs() + 0.1
    return module


@pytest.mark.parametrize("irregular", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ode_unfolds": 3, "epsilon": 1e-3},
        {"input_mapping": "linear", "output_mapping": None},
        {"input_mapping": None, "output_mapping": "linear"},
    ],
    ids=str,
)
def test_liquid_time_constants(options, irregular, rng):
    module = ltc_module(3, 5, rng, **options)
    cell = IMPORTERS["LTCCell"](arrays_of(module), module)
    assert cell.n == options.get("ode_unfolds", 6)
    assert_same(cell, module, rng, irregular=irregular)


def test_explicit_weights_are_taken_as_they_are(rng):
    module = positive(ltc_module(3, 5, rng, implicit_param_constraints=False))
    for source in (module, None):  # so is a cell that is not known to be otherwise
        cell = IMPORTERS["LTCCell"](arrays_of(module), source)
        assert not cell.field.implicit and not cell.field.sparse
        assert_same(cell, module, rng)


def test_a_wiring_is_a_mask_that_is_not_trained(rng):
    wiring = ncps.wirings.AutoNCP(9, 3, seed=1)
    cell_of_ncps = ncps.torch.LTCCell(wiring, 4, implicit_param_constraints=True)
    module = random_module(cell_of_ncps, rng)
    cell = IMPORTERS["LTCCell"](arrays_of(module), module)
    np.testing.assert_array_equal(cell.field.mask, np.abs(wiring.adjacency_matrix))
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    # The other six neurons have an output here, too.
    assert odernn.parameter_count(cell) == trained + 2 * 6
    assert_same(cell, module, rng, channels=slice(3))


def test_a_sparse_cell_starts_with_all_synapses(key):
    full, sparse = (zoo.LTC(3, 5, sparse=s, init="glorot", key=key) for s in (False, True))
    assert odernn.parameter_count(full) == odernn.parameter_count(sparse)
    x = jnp.ones(3)
    assert np.array_equal(full(full.initial_state(), x), sparse(sparse.initial_state(), x))


@pytest.mark.parametrize("irregular", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "no_gate"},
        {"mode": "pure"},
        {"backbone_activation": "tanh"},
        {"backbone_activation": "relu", "mode": "pure"},
    ],
    ids=str,
)
def test_the_closed_form(options, irregular, rng):
    module = cfc_module(2, 4, rng, **options)
    cell = IMPORTERS["CfCCell"](arrays_of(module), module)
    assert_same(cell, module, rng, irregular=irregular)


@pytest.mark.parametrize("mode", ["default", "pure"])
def test_the_arrays_alone_tell_the_mode_but_not_the_gate(mode, rng):
    module = cfc_module(2, 4, rng, mode=mode)
    assert_same(IMPORTERS["CfCCell"](arrays_of(module), None), module, rng)


@pytest.mark.parametrize("known", [True, False], ids=["module", "arrays"])
@pytest.mark.parametrize("kind", ["LTC", "CfC"])
def test_layers(kind, known, rng):
    module = random_module(getattr(ncps.torch, kind)(3, 5), rng)
    layer = IMPORTERS[kind](arrays_of(module), module if known else None)
    xs = rng.normal(size=(STEPS, 3))
    start = torch.zeros(1, 5, dtype=torch.double)
    expected, last = module(torch.tensor(xs)[None], start)
    hs, state = layer(xs)
    np.testing.assert_allclose(hs, expected[0].detach(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(state, last[0].detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["default", "no_gate", "pure"])
def test_the_first_weights_are_as_large_as_theirs(mode, seed, key):
    torch.manual_seed(seed)
    theirs = arrays_of(ncps.torch.CfCCell(60, 100, mode=mode))
    field = zoo.CfC(60, 100, mode=mode, key=key).field
    pairs = [
        (field.weight, theirs["backbone.0.weight"]),
        (field.bias, theirs["backbone.0.bias"]),
        (field.head_weight, theirs["ff1.weight"]),
        (field.head_bias, theirs["ff1.bias"]),
    ]
    if mode == "pure":
        pairs += [(field.tau, theirs["w_tau"]), (field.limit, theirs["A"])]
    for ours, other in pairs:
        assert np.abs(ours).max() == pytest.approx(np.abs(other).max(), rel=0.1)


def test_the_closed_form_is_no_flow(key):
    cell = zoo.CfC(3, 5, key=key)
    y, u = jnp.ones(5), cell.field.drive(jnp.ones(3))
    assert not np.allclose(cell.field.flow("closed", 0.0, y, u, 0.0), y)
    np.testing.assert_allclose(cell.field(0.0, y, u) + y, cell(y, jnp.ones(3)), atol=1e-15)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ncps.torch.CfCCell(3, 5, backbone_layers=2), "several layers"),
        (lambda: ncps.torch.CfCCell(3, 5, backbone_layers=0), "no backbone"),
        (lambda: ncps.torch.CfCCell(3, 5, backbone_activation="silu"), "unknown activation.*SiLU"),
        (lambda: ncps.torch.CfC(3, 5, mixed_memory=True), "beside its cell"),
        (lambda: ncps.torch.CfC(3, 5, proj_size=2), "beside its cell"),
        (lambda: ncps.torch.CfC(3, ncps.wirings.AutoNCP(9, 3)), "no wiring"),
        (lambda: ncps.torch.LTC(3, 5, mixed_memory=True), "beside its cell"),
    ],
)
def test_what_has_no_counterpart_is_refused(make, match):
    module = make()
    with pytest.raises(odernn.InputError, match=match):
        IMPORTERS[type(module).__name__](arrays_of(module), module)


def test_a_missing_array_is_named(rng):
    module = ltc_module(3, 5, rng)
    state = arrays_of(module)
    del state["mu"]
    with pytest.raises(odernn.InputError, match="mu is missing"):
        IMPORTERS["LTCCell"](state, module)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda k: zoo.LTC(3, 4, epsilon=-1.0, key=k), "epsilon = -1.0: give a number"),
        (lambda k: zoo.CfC(3, 4, mode="none", key=k), "unknown mode 'none'"),
        (lambda k: zoo.CfC(3, 4, backbone_size=0, key=k), "backbone_size = 0: give a whole"),
        (lambda k: zoo.CfC(3, 4, activation="no", key=k), "unknown activation 'no'"),
    ],
)
def test_bad_arguments(make, match, key):
    with pytest.raises(odernn.InputError, match=match):
        make(key)


def test_precision_is_kept(rng):
    module = cfc_module(2, 4, rng).float()
    cell = IMPORTERS["CfCCell"](arrays_of(module), module)
    assert {a.dtype for a in jax.tree.leaves(cell.field)} == {np.dtype("float32")}
