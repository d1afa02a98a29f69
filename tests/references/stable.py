"""Unitary and stable networks by the equations of their authors' code, in its conventions."""

import equinox as eqx
import jax
import numpy as np
import scipy.linalg

from odernn.zoo import _stable as zoo

from .weights import equation, random_cell, sigma


def modrelu(v, b):
    return np.sign(v) * np.maximum(np.abs(v) + b, 0)


def exprnn(f, xs, dt):
    upper = np.triu(f.weight, 1)
    w = scipy.linalg.expm(upper - upper.T)
    h = np.zeros(f.hidden_size)
    for x in xs:
        h = modrelu(x @ f.input_weight + h @ w, f.bias)
        yield h


def scornn(f, xs, dt):
    n, upper = f.hidden_size, np.triu(f.weight, 1)
    a, one = upper - upper.T, np.eye(f.hidden_size)
    d = np.diag(np.concatenate([np.ones(n - f.negative), -np.ones(f.negative)]))
    w = np.linalg.lstsq(one + a, one - a, rcond=None)[0] @ d
    h = np.zeros(n)
    for x in xs:
        h = modrelu(x @ f.input_weight + h @ w, f.bias)
        yield h


def parts(h):
    """Real and imaginary part, from a vector that has them one after the other."""
    return np.split(h, 2)


def times_diag(h, theta):
    re, im = parts(h)
    cos, sin = np.cos(theta), np.sin(theta)
    return np.concatenate([re * cos - im * sin, im * cos + re * sin])


def times_reflection(h, v):
    (re, im), (a, b) = parts(h), parts(v)
    first, second = re @ a - im @ b, re @ b + im @ a
    change = np.concatenate([first * a + second * b, second * a - first * b])
    return h - 2 / (v @ v) * change


def fourier(h, transform):
    re, im = parts(h)
    z = transform(re + 1j * im, norm="ortho")
    return np.concatenate([z.real, z.imag])


def urnn(f, xs, dt):
    n = f.hidden_size // 2
    theta = f.phases.reshape(3, n)
    order = np.random.default_rng(f.seed).permutation(n)
    order = np.concatenate([order, order + n])
    h = f.start
    for x in xs:
        z = fourier(times_diag(h, theta[0]), np.fft.fft)
        z = times_diag(times_reflection(z, f.reflections[0])[order], theta[1])
        z = times_reflection(fourier(z, np.fft.ifft), f.reflections[1])
        z = times_diag(z, theta[2]) + x @ f.input_weight
        modulus = np.tile(np.hypot(*parts(z)), 2)
        h = z * np.maximum(modulus + np.tile(f.bias, 2), 0) / (modulus + 1e-5)
        yield h


def full_capacity(f, xs, dt):
    m = f.weight[0] + 1j * f.weight[1]
    w = scipy.linalg.expm(m - m.conj().T)
    augmented = np.block([[w.real, w.imag], [-w.imag, w.real]])
    h = f.start
    for x in xs:
        z = h @ augmented + x @ f.input_weight
        modulus = np.tile(np.hypot(*parts(z)), 2)
        h = z * np.maximum(modulus + np.tile(f.bias, 2), 0) / modulus
        yield h


def unitary(network, outputs, units=1, **options):
    """A reference whose thresholds are negative mostly: the state stays small, and its errors too.

    ``units`` are the numbers that the next layer sees of one unit, two where it is complex.
    """

    def reference(input_size, hidden_size, rng):
        cell = random_cell(network, input_size, units * hidden_size, rng, **options)
        cell = eqx.tree_at(lambda cell: cell.field.bias, cell, 0.3 * cell.field.bias - 0.2)
        return cell, of_cell(cell, outputs)

    return reference


def of_cell(cell, outputs):
    field = jax.tree.map(lambda a: np.asarray(a) if eqx.is_array(a) else a, cell.field)
    return lambda xs: np.array(list(outputs(field, xs, cell.dt)))


def gated_antisymmetric(f, xs, dt):
    m = f.weight.T
    a = m - m.T - f.gamma * np.eye(f.hidden_size)
    h = np.zeros(f.hidden_size)
    for x in xs:
        g1, g2 = np.split(f.input_weight.T @ x + f.bias, 2)
        h = h + dt * sigma(a @ h + g1) * np.tanh(a @ h + g2)
        yield h


def system(matrix, f):
    skew, symmetric = matrix - matrix.T, matrix + matrix.T
    return f.beta * skew + (1 - f.beta) * symmetric - f.gamma * np.eye(f.hidden_size)


def lipschitz(f, xs, dt):
    a, w = system(f.linear_weight, f), system(f.weight, f)
    h = np.zeros(f.hidden_size)
    for x in xs:
        z = x @ f.input_weight + f.bias
        h = h + dt * f.alpha * (h @ a) + dt * np.tanh(h @ w + z)
        yield h


def gated_lipschitz(f, xs, dt):
    a, w = system(f.linear_weight, f), system(f.weight, f)
    h = np.zeros(f.hidden_size)
    for x in xs:
        gate, z = np.split(x @ f.input_weight + f.bias, 2)
        q1 = f.alpha * (h @ a) + np.tanh(h @ w + z)
        h = h + dt * q1 * sigma(h @ w + gate)
        yield h


def incremental(f, xs, dt):
    h = np.zeros(f.hidden_size)
    for x in xs:
        arg = x @ f.input_weight + f.bias + h @ f.weight
        g = h
        for eta in f.steplengths:
            g = eta * (np.maximum(g @ f.weight + arg, 0) - h) + (1 - eta) * g
        h = g
        yield h


def incremental_reference(input_size, hidden_size, rng):
    """With step lengths that are such, and weights that do not let the state grow."""
    cell = random_cell(zoo.IncrementalRNN, input_size, hidden_size, rng, steps=3)
    lengths = jax.numpy.asarray(rng.uniform(0.05, 0.3, size=3))
    cell = eqx.tree_at(
        lambda cell: (cell.field.steplengths, cell.field.weight),
        cell,
        (lengths, 0.4 * cell.field.weight),
    )
    return cell, of_cell(cell, incremental)


def esn(f, xs, dt):
    h = np.zeros(f.hidden_size)
    for x in xs:
        h = h * (1 - dt) + np.tanh(x @ f.input_weight + f.bias + h @ f.weight) * dt
        yield h


def eusn(f, xs, dt):
    kernel = f.weight - f.weight.T - f.gamma * np.eye(f.hidden_size)
    h = np.zeros(f.hidden_size)
    for x in xs:
        h = h + dt * np.tanh(x @ f.input_weight + f.bias + h @ kernel)
        yield h


REFERENCES = {
    "exprnn": unitary(zoo.expRNN, exprnn),
    "scornn": unitary(zoo.scoRNN, scornn, negative=2),
    "urnn": unitary(zoo.uRNN, urnn, units=2, seed=3),
    "fullcapacityurnn": unitary(zoo.FullCapacityuRNN, full_capacity, units=2),
    "gatedantisymmetricrnn": equation(zoo.GatedAntisymmetricRNN, gated_antisymmetric, gamma=0.03),
    "lipschitzrnn": equation(zoo.LipschitzRNN, lipschitz, beta=0.7, gamma=0.1, alpha=0.8),
    "lipschitzgatedrnn": equation(
        zoo.LipschitzGatedRNN, gated_lipschitz, beta=0.7, gamma=0.1, alpha=0.8
    ),
    "incrementalrnn": incremental_reference,
    "esn": equation(zoo.ESN, esn, dt=0.3),
    "eusn": equation(zoo.EuSN, eusn, dt=0.1),
}
