"""RNN, GRU, LSTM by PyTorch; coRNN, LEM and the antisymmetric network by their equations."""

import numpy as np

from odernn import zoo

from .weights import equation, sigma


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
    "cornn": equation(zoo.coRNN, cornn, dt=0.076, gamma=2.7, epsilon=4.7),
    "lem": equation(zoo.LEM, lem, dt=0.31),
    "antisymmetricrnn": equation(zoo.AntisymmetricRNN, antisymmetric, gamma=0.03),
}
