"""Liquid networks by ncps, the authors' own library, with its weights all drawn anew."""

import functools

import ncps.torch
import ncps.wirings
import numpy as np
import torch

from odernn.interop._liquid import IMPORTERS


def random_module(module, rng):
    """Draw every parameter that is trained, in double precision."""
    module = module.double()
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data = torch.tensor(0.5 * rng.normal(size=tuple(parameter.shape)))
    return module


def arrays_of(module):
    return {name: value.numpy() for name, value in module.state_dict().items()}


def outputs(module, xs, elapsed=None):
    """What a cell puts out, from the state zero."""
    size = module.state_size if isinstance(module, ncps.torch.LTCCell) else module.hidden_size
    h = torch.zeros(1, size, dtype=torch.double)
    elapsed = np.ones(len(xs)) if elapsed is None else elapsed
    each = []
    with torch.no_grad():
        for x, ts in zip(torch.tensor(xs), elapsed, strict=True):
            out, h = module(x[None], h, ts)
            each.append(out[0].numpy())
    return np.array(each)


def ltc_module(input_size, hidden_size, rng, **options):
    wiring = ncps.wirings.FullyConnected(hidden_size)
    options = {"implicit_param_constraints": True, **options}
    return random_module(ncps.torch.LTCCell(wiring, input_size, **options), rng)


def cfc_module(input_size, hidden_size, rng, **options):
    return random_module(
        ncps.torch.CfCCell(input_size, hidden_size, backbone_units=16, **options), rng
    )


def by_ncps(make, kind, **options):
    def reference(input_size, hidden_size, rng):
        module = make(input_size, hidden_size, rng, **options)
        cell = IMPORTERS[kind](arrays_of(module), module)
        return cell, functools.partial(outputs, module)

    return reference


REFERENCES = {
    "ltc": by_ncps(ltc_module, "LTCCell"),
    "cfc": by_ncps(cfc_module, "CfCCell"),
    "cfcnogate": by_ncps(cfc_module, "CfCCell", mode="no_gate"),
    "cfcpure": by_ncps(cfc_module, "CfCCell", mode="pure"),
}
