"""The basic networks by their equations; `test_recovery.py` has PyTorch's, with gradients."""

import numpy as np

from odernn import zoo

from .weights import equation, sigma


def elman(f, xs, dt):
    h = np.zeros(f.hidden_size)
    for x in xs:
        h = np.tanh(h @ f.weight + x @ f.input_weight + f.bias)
        yield h


def gru(f, xs, dt):
    h = np.zeros(f.hidden_size)
    (vr, vz, vg), (wr, wz, wg) = (np.split(w, 3, axis=1) for w in (f.input_weight, f.weight))
    br, bz, bg = np.split(f.bias, 3)
    for x in xs:
        r, z = sigma(x @ vr + h @ wr + br), sigma(x @ vz + h @ wz + bz)
        n = np.tanh(x @ vg + bg + r * (h @ wg + f.candidate_bias))
        h = (1 - z) * n + z * h
        yield h


def lstm(f, xs, dt):
    h = c = np.zeros(f.hidden_size)
    for x in xs:
        i, forget, g, o = np.split(x @ f.input_weight + h @ f.weight + f.bias, 4)
        c = sigma(forget) * c + sigma(i) * np.tanh(g)
        h = sigma(o) * np.tanh(c)
        yield h


def cornn(f, xs, dt):
    h = v = np.zeros(f.hidden_size)
    for x in xs:
        force = np.tanh(h @ f.weight + v @ f.velocity_weight + x @ f.input_weight + f.bias)
        v = v + dt * (force - f.gamma * h - f.epsilon * v)
        h = h + dt * v
        yield h


def lem(f, xs, dt):
    h = z = np.zeros(f.hidden_size)
    for x in xs:
        i = np.split(x @ f.input_weight + f.bias + f.recurrent_bias, 4)
        r = np.split(h @ f.weight, 3)
        fast, slow = dt * sigma(i[0] + r[0]), dt * sigma(i[1] + r[1])
        z = (1 - slow) * z + slow * np.tanh(i[2] + r[2])
        h = (1 - fast) * h + fast * np.tanh(z @ f.slow_weight + i[3])
        yield h


def antisymmetric(f, xs, dt):
    m = f.weight.T
    h = np.zeros(f.hidden_size)
    for x in xs:
        inner = (m - m.T - f.gamma * np.eye(f.hidden_size)) @ h + f.input_weight.T @ x
        h = h + dt * np.tanh(inner + f.bias)
        yield h


REFERENCES = {
    "rnn": equation(zoo.RNN, elman),
    "gru": equation(zoo.GRU, gru),
    "lstm": equation(zoo.LSTM, lstm),
    "cornn": equation(zoo.coRNN, cornn, dt=0.076, gamma=2.7, epsilon=4.7),
    "lem": equation(zoo.LEM, lem, dt=0.31),
    "antisymmetricrnn": equation(zoo.AntisymmetricRNN, antisymmetric, gamma=0.03),
}
