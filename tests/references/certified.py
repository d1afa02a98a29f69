"""Networks that are stable by construction, by their equations."""

import numpy as np

from odernn import zoo

from .weights import equation, sigma


def rotated(weight, dt):
    """exp(dt (M - M^T)) and the integral of exp(s (M - M^T)) over the step."""
    values, vectors = np.linalg.eig(weight - weight.T)
    inverse = np.linalg.inv(vectors)
    flow = (vectors * np.exp(dt * values)) @ inverse
    mean = (vectors * (np.expm1(dt * values) / values)) @ inverse
    return flow.real, mean.real


def bounded(free):
    """C(M) by the root of I + M^T M."""
    root = np.linalg.cholesky(np.eye(free.shape[1]) + free.T @ free)
    return free @ np.linalg.inv(root.T)


def contracting_rnn(f, xs, dt):
    h = np.zeros(f.bias.size)
    for x in xs:
        h = np.tanh(h @ (0.99 * bounded(f.free_weight)) + x @ f.input_weight + f.bias)
        yield h


def gradient_flow(f, xs, dt):
    h, a = np.zeros(f.bias.size), np.sqrt(2) * bounded(f.free_weight).T
    for x in xs:
        h = h - a.T @ np.tanh(a @ h + x @ f.input_weight + f.bias)
        yield h


def driven_rotation(f, xs, dt):
    flow, mean = rotated(f.weight, dt)
    h = np.zeros(f.bias.size)
    for x in xs:
        h = h @ flow + (x @ f.input_weight + f.bias) @ mean
        yield np.tanh(h)


def selective(f, xs, dt):
    flow, _ = rotated(f.weight, dt)
    size = f.weight.shape[0]
    h = np.zeros(size)
    for x in xs:
        forms = x @ f.input_weight + f.bias
        p, q = np.split(h @ flow, 2)
        z = (p + 1j * q) * np.exp(1j * forms[: size // 2])
        h = np.concatenate([z.real, z.imag]) + forms[size // 2 :]
        yield np.tanh(h)


def contracting_lipschitz(f, xs, dt):
    h, b = np.zeros(f.bias.size), bounded(f.free_linear)
    for x in xs:
        inner = h @ bounded(f.free_weight) + x @ f.input_weight + f.bias
        h = h + dt * (h @ (b - b.T) / 2 - 1.1 * h + np.tanh(inner))
        yield h


def contracting_cornn(f, xs, dt):
    h = v = np.zeros(f.bias.size)
    w = np.sqrt(1 - 0.25**2)
    for x in xs:
        z = np.exp(-(0.25 - 1j * w) * dt) * ((v + 0.25 * h) + 1j * w * h)
        h, v = z.imag / w, z.real - 0.25 * z.imag / w
        inner = np.concatenate([w * h, v + 0.25 * h]) @ (0.24 * bounded(f.free_weight))
        v = v + dt * np.tanh(inner + x @ f.input_weight + f.bias)
        yield h


def contracting_ugrnn(f, xs, dt):
    weight = f.free_weight.copy()
    size = f.bias.size // 2
    s = np.linspace(0, 1, 1001)
    for i in range(size):
        gate, candidate = np.abs(weight[:, i]).sum(), np.abs(weight[:, size + i]).sum()
        inner = np.clip(gate / (2 * candidate), 0, 1)
        bound = max((1 - t**2) * candidate + (1 + t) * gate for t in (*s, inner))
        weight[:, [i, size + i]] *= 0.99 / max(bound, 0.99)
    h = np.zeros(size)
    for x in xs:
        gate, candidate = np.split(h @ weight + x @ f.input_weight + f.bias, 2)
        h = (1 - sigma(gate)) * h + sigma(gate) * np.tanh(candidate)
        yield h


def in_pairs(input_size, hidden_size, rng):
    """Of an even size: units turn in pairs."""
    make = equation(zoo.SelectiveRotationRNN, selective)
    return make(input_size, hidden_size + hidden_size % 2, rng)


REFERENCES = {
    "contractingrnn": equation(zoo.ContractingRNN, contracting_rnn),
    "gradientflowrnn": equation(zoo.GradientFlowRNN, gradient_flow),
    "conservativernn": equation(zoo.ConservativeRNN, driven_rotation),
    "selectiverotationrnn": in_pairs,
    "contractinglipschitzrnn": equation(zoo.ContractingLipschitzRNN, contracting_lipschitz),
    "contractingcornn": equation(zoo.ContractingCoRNN, contracting_cornn),
    "contractingugrnn": equation(zoo.ContractingUGRNN, contracting_ugrnn),
}
