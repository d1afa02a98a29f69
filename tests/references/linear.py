"""Linear state spaces and memories of history: the discrete updates as their authors write them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_triangular
from scipy.signal import cont2discrete

from odernn.zoo import _linear as zoo

from .weights import random_cell


def encoded(f, xs):
    return xs if f.encoder is None else xs @ f.encoder + f.encoder_bias


def matrices(f):
    """B (state, hidden) and C (hidden, state), complex and as the authors have them."""
    b, c = np.split(f.input_weight, 2, axis=1), np.split(f.output_weight, 2)
    return (b[0] + 1j * b[1]).T, (c[0] + 1j * c[1]).T


def oscillators(f, xs, transition):
    """LinOSS: (z, x)+ = M (z, x) + F, M and F of the step, the frequencies and B u."""
    b, c = matrices(f)
    stiffness, step = np.maximum(f.stiffness, 0), 1 / (1 + np.exp(-f.step_logit))
    z = x = np.zeros(f.state_size, complex)
    for u in encoded(f, xs):
        (m11, m12, m21, m22), (f1, f2) = transition(stiffness, step, b @ u)
        z, x = m11 * z + m12 * x + f1, m21 * z + m22 * x + f2
        yield (c @ x).real + f.feedthrough_weight * u


def linoss_im(f, xs, dt):
    def transition(a, step, bu):
        schur = 1 / (1 + step**2 * a)
        m11, m21 = 1 - step**2 * a * schur, step * schur
        return (m11, -step * a * schur, m21, schur), (m11 * bu * step, m21 * bu * step)

    return oscillators(f, xs, transition)


def linoss_imex(f, xs, dt):
    def transition(a, step, bu):
        return (1, -step * a, step, 1 - step**2 * a), (bu * step, bu * step**2)

    return oscillators(f, xs, transition)


def lru(f, xs, dt):
    b, c = matrices(f)
    eigenvalues = np.exp(-np.exp(f.nu) + 1j * np.exp(f.theta))
    h = np.zeros(f.state_size, complex)
    for u in encoded(f, xs):
        h = eigenvalues * h + (b * np.exp(f.log_gamma)[:, None]) @ u
        yield (c @ h).real + f.feedthrough_weight * u


def s4d(f, xs, dt):
    """By the convolution with the kernel of each channel, without any state."""
    us, length = encoded(f, xs), len(xs)
    a = -np.exp(f.poles[0]) + 1j * f.poles[1]
    dta = a * np.exp(f.log_step)[:, None]
    c = (f.output_weight[0] + 1j * f.output_weight[1]) * np.expm1(dta) / a
    powers = np.exp(dta[:, :, None] * np.arange(length))
    kernel = 2 * np.einsum("hn,hnl->hl", c, powers).real
    for k in range(length):
        yield np.einsum("hl,lh->h", kernel[:, : k + 1], us[k::-1]) + f.feedthrough_weight * us[k]


def s5(f, xs, dt):
    b, c = matrices(f)
    eigenvalues, step = f.real + 1j * f.imaginary, np.exp(f.log_step)
    transition = np.exp(eigenvalues * step)
    h = np.zeros(f.state_size, complex)
    for u in encoded(f, xs):
        h = transition * h + (1 / eigenvalues * (transition - 1))[:, None] * b @ u
        yield 2 * (c @ h).real + f.feedthrough_weight * u


def delay(order, theta):
    """The state-space matrices of the Legendre delay."""
    q = np.arange(order)
    r = (2 * q + 1)[:, None] / theta
    j, i = np.meshgrid(q, q)
    return np.where(i < j, -1, (-1.0) ** (i - j + 1)) * r, (-1.0) ** q[:, None] * r


def lmu(f, xs, dt):
    order = f.memory_size
    a, b = delay(order, f.theta)
    a, b, *_ = cont2discrete((a, b, np.eye(order), np.zeros((order, 1))), dt=1.0, method="zoh")
    h, m = np.zeros(f.hidden_size), np.zeros(order)
    for x in xs:
        u = f.input_encoder @ x + f.hidden_encoder @ h + f.memory_encoder @ m
        m = a @ m + b[:, 0] * u
        h = np.tanh(f.input_weight.T @ x + f.weight.T @ h + f.memory_weight.T @ m)
        yield h


def hippo(f, xs, dt):
    n = np.arange(f.hidden_size)
    b = np.sqrt(2 * n + 1)
    a = np.where(n[:, None] > n, np.outer(b, b), np.diag(n + 1))
    c, one = np.zeros(f.hidden_size), np.eye(f.hidden_size)
    for k, x in enumerate(xs, start=1):
        signal = x[0] if f.input_weight is None else f.input_weight @ x
        right = (one - a / (2 * k)) @ c + b / k * signal
        c = solve_triangular(one + a / (2 * k), right, lower=True)
        yield c


def as_numpy(tree):
    return jax.tree.map(lambda a: np.asarray(a) if eqx.is_array(a) else a, tree)


def reference(network, outputs, alter=lambda field: field, **options):
    """As ``equation``, of a field that ``alter`` has made stable."""

    def make(input_size, hidden_size, rng):
        cell = random_cell(network, input_size, hidden_size, rng, **options)
        cell = eqx.tree_at(lambda c: c.field, cell, alter(cell.field))
        field = as_numpy(cell.field)
        return cell, lambda xs: np.array(list(outputs(field, xs, cell.dt)))

    return make


def damped(field):
    return eqx.tree_at(lambda f: f.real, field, -jnp.abs(field.real))


def weak_feedback(field):
    return eqx.tree_at(lambda f: f.memory_encoder, field, 0.1 * field.memory_encoder)


REFERENCES = {
    "linossim": reference(zoo.LinOSSIM, linoss_im),
    "linossimex": reference(zoo.LinOSSIMEX, linoss_imex, state_size=7),
    "lru": reference(zoo.LRU, lru, state_size=3),
    "s4d": reference(zoo.S4D, s4d, state_size=6),
    "s5": reference(zoo.S5, s5, damped),
    "lmu": reference(zoo.LMU, lmu, weak_feedback, memory_size=4, theta=13.0),
    "hippolegs": reference(zoo.HiPPOLegS, hippo),
}
