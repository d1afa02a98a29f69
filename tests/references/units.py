"""One-state networks: by torchrecurrent where it has them as their paper, else by equations."""

import numpy as np

from odernn.interop._units import IMPORTERS
from odernn.zoo import _units as zoo

from .weights import equation, sigma


def random_module(name, input_size, hidden_size, seed, **options):
    """Return a cell of torchrecurrent whose parameters are all drawn from N(0, 0.5^2)."""
    import torch
    import torchrecurrent

    torch.manual_seed(seed)
    module = getattr(torchrecurrent, name)(input_size, hidden_size, dtype=torch.float64, **options)
    for parameter in module.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, dtype=torch.float64)
    return module.requires_grad_(False)


def module_outputs(module, xs):
    """Run such a cell over inputs (time, input); what it sees of the past begins with zeros."""
    return np.array(list(_outputs(module, xs)))


def _outputs(module, xs):
    import torch

    kind = type(module).__name__
    past = [torch.zeros(module.hidden_size, dtype=torch.float64)] * (
        getattr(module, "delay", 1) + 1
    )
    previous, c = torch.zeros(module.input_size, dtype=torch.float64), past[0]
    for x in torch.from_numpy(xs):
        if kind == "tauGRUCell":
            h = module(x, past[-1], past[0])
        elif kind == "TGRUCell":
            h, previous = module(x, (past[-1], previous))
        elif kind == "JANETCell":
            h, c = module(x, (past[-1], c))
        else:
            h = module(x, past[-1])
        past = [*past[1:], h]
        yield h.numpy()


def imported(name, **options):
    """A reference by torchrecurrent, of whose module the cell is imported."""

    def reference(input_size, hidden_size, rng):
        seed = int(rng.integers(2**31))
        delay = options.get("delay")
        given = {k: v for k, v in options.items() if k != "delay"}
        module = random_module(name, input_size, hidden_size, seed, **given)
        if delay:
            module.delay = delay
        state = {k: v.numpy() for k, v in module.state_dict().items()}
        return IMPORTERS[name](state, module), lambda xs: module_outputs(module, xs)

    return reference


def leaky(f, xs, dt):
    h = np.zeros(f.hidden_size)
    for x in xs:
        h = (1 - dt) * h + dt * np.tanh(h @ f.weight + x @ f.input_weight + f.bias)
        yield h


def cho(f, xs, dt):
    h = np.zeros(f.hidden_size)
    for x in xs:
        i = np.split(x @ f.input_weight + f.bias, 3)
        r, z = (sigma(a + b) for a, b in zip(i, np.split(h @ f.weight, 2), strict=False))
        g = np.tanh(i[2] + (r * h) @ f.candidate_weight)
        h = h + dt * (1 - z) * (g - h)
        yield h


def min_gru(f, xs, dt):
    h = np.zeros(f.hidden_size)
    for x in xs:
        z, candidate = np.split(x @ f.input_weight + f.bias, 2)
        h = (1 - sigma(z)) * h + sigma(z) * candidate
        yield h


def min_lstm(f, xs, dt):
    h = np.zeros(f.hidden_size)
    for x in xs:
        forget, enter, candidate = np.split(x @ f.input_weight + f.bias, 3)
        total = sigma(forget) + sigma(enter)
        h = sigma(forget) / total * h + sigma(enter) / total * candidate
        yield h


REFERENCES = {
    "ctrnn": equation(zoo.CTRNN, leaky),
    "indrnn": imported("IndRNNCell", nonlinearity="relu"),
    "fastrnn": imported("FastRNNCell"),
    "fastgrnn": imported("FastGRNNCell", nonlinearity="sigmoid"),
    "ugrnn": imported("UGRNNCell"),
    "ligru": imported("LiGRUCell"),
    "janet": imported("JANETCell"),
    "atr": imported("ATRCell"),
    "sgrn": imported("SGRNCell"),
    "cfn": imported("CFNCell"),
    "lightru": imported("LightRUCell"),
    "star": imported("STARCell"),
    "br": imported("BRCell"),
    "nbr": imported("NBRCell"),
    "minimalrnn": imported("MinimalRNNCell"),
    "grureset": equation(zoo.GRUReset, cho),
    "gruode": equation(zoo.GRUODE, cho, dt=0.05),
    "mgu": imported("MGUCell"),
    "mut1": imported("MUT1Cell"),
    "mut2": imported("MUT2Cell"),
    "mut3": imported("MUT3Cell"),
    "miru1": imported("MiRU1Cell", update_coefficient=0.3),
    "miru2": imported("MiRU2Cell", update_coefficient=0.3, reset_coefficient=0.7),
    "sgu": imported("SGUCell"),
    "dsgu": imported("DSGUCell"),
    "mingru": equation(zoo.minGRU, min_gru),
    "minlstm": equation(zoo.minLSTM, min_lstm),
    "trnn": imported("TRNNCell"),
    "tgru": imported("TGRUCell"),
    "taugru": imported("tauGRUCell", delay=3),
}
