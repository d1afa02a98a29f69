"""Networks of several blocks: by torchrecurrent where it is true to the paper, or by equations."""

import numpy as np
import torch
import torchrecurrent

from odernn.interop._memories import IMPORTERS
from odernn.zoo import _memories as zoo

from .weights import equation, sigma


def random_module(name, input_size, hidden_size, rng, **options):
    """A cell of torchrecurrent in double precision, all its parameters drawn anew."""
    module = getattr(torchrecurrent, name)(input_size, hidden_size, **options).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.as_tensor(0.5 * rng.normal(size=tuple(parameter.shape))))
    return module


def module_outputs(module, xs):
    """What a cell of torchrecurrent puts out; it begins with zeros, past inputs too."""
    decoupled = type(module).__name__ in ("MCLSTMCell", "TLSTMCell", "IntersectionRNNCell")
    state, outputs = None, []
    with torch.no_grad():
        for x in torch.from_numpy(xs):
            result = module(x, state)
            output, state = result if decoupled else (result[0], result)
            outputs.append(output.numpy())
    return np.array(outputs)


def imported(name):
    """A reference from a random module and the cell that is imported from it."""

    def reference(input_size, hidden_size, rng):
        module = random_module(name, input_size, hidden_size, rng)
        arrays = {key: value.numpy().copy() for key, value in module.state_dict().items()}
        return IMPORTERS[name](arrays, module), lambda xs: module_outputs(module, xs)

    return reference


def original_lstm(f, xs, dt):
    # The paper squashes by g in [-2, 2] and h in [-1, 1]: weights of g twice, the memory twice.
    def g(z):
        return 4 * sigma(z) - 2

    def h(s):
        return 2 * sigma(s) - 1

    scale = np.repeat([1, 2, 1], f.hidden_size)
    y = s = np.zeros(f.hidden_size)
    for x in xs:
        net = (y @ f.weight + x @ f.input_weight + f.bias) * scale
        net_in, net_c, net_out = np.split(net, 3)
        s = s + sigma(net_in) * g(net_c)
        y = sigma(net_out) * h(s)
        yield y


def relu(x):
    return np.maximum(x, 0)


def nas(f, xs, dt):
    m = c = np.zeros(f.hidden_size)
    for x in xs:
        a, b = np.split(x @ f.input_weight, 8), np.split(m @ f.weight + f.bias, 8)
        first = [
            sigma(a[0] + b[0]),
            relu(a[1] + b[1]),
            sigma(a[2] + b[2]),
            relu(a[3] * b[3]),
            np.tanh(a[4] + b[4]),
            sigma(a[5] + b[5]),
            np.tanh(a[6] + b[6]),
            sigma(a[7] + b[7]),
        ]
        left, right = np.tanh(first[0] * first[1]), np.tanh(first[2] + first[3])
        other, last = np.tanh(first[4] * first[5]), sigma(first[6] + first[7])
        c = np.tanh(left + c) * right
        m = np.tanh(c * np.tanh(other + last))
        yield m


def scrn(f, xs, dt):
    h, s = np.zeros(f.hidden_size), np.zeros(f.context_size)
    for x in xs:
        s = (1 - f.alpha) * (x @ f.context_input_weight) + f.alpha * s
        h = sigma(s @ f.context_weight + x @ f.input_weight + h @ f.weight)
        yield h @ f.output_weight + s @ f.context_output_weight


def intersection(f, xs, dt):
    h = np.zeros(f.hidden_size)
    for x in xs:
        x = x if f.encoder is None else x @ f.encoder + f.encoder_bias
        y_in, h_in, gate_y, gate_h = np.split(x @ f.input_weight + h @ f.weight + f.bias, 4)
        yield sigma(gate_y) * x + (1 - sigma(gate_y)) * relu(y_in)
        h = sigma(gate_h) * h + (1 - sigma(gate_h)) * np.tanh(h_in)


def momentum(f, xs, dt):
    h = v = np.zeros(f.hidden_size)
    for x in xs:
        v = f.mu * v + f.scale * (x @ f.input_weight)
        h = np.tanh(h @ f.weight + v + f.bias)
        yield h


def unicornn(f, xs, dt):
    y = z = np.zeros(f.hidden_size)
    step = dt * sigma(f.time_scale)
    for x in xs:
        z = z - step * (np.tanh(f.weight * y + x @ f.input_weight + f.bias) + f.alpha * y)
        y = y + step * z
        yield y


REFERENCES = {
    "originallstm": equation(zoo.OriginalLSTM, original_lstm),
    "peepholelstm": imported("PeepholeLSTMCell"),
    "scrn": equation(zoo.SCRN, scrn, context_size=3, alpha=0.8),
    "multiplicativelstm": imported("MultiplicativeLSTMCell"),
    "tlstm": imported("TLSTMCell"),
    "intersectionrnn": equation(zoo.IntersectionRNN, intersection),
    "mclstm": imported("MCLSTMCell"),
    "nas": equation(zoo.NAS, nas),
    "ran": imported("RANCell"),
    "reslstm": imported("ResLSTMCell"),
    "momentumrnn": equation(zoo.MomentumRNN, momentum, mu=0.6, scale=0.4),
    "unicornn": equation(zoo.UnICORNN, unicornn, dt=0.3, alpha=2.5),
    "wmclstm": imported("WMCLSTMCell"),
}
