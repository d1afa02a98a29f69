"""QUNN against dense matrices, theorems of its circuit, and a count of what is trained."""

import collections
import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate
import scipy.linalg
import scipy.optimize
import scipy.stats
import torch
from jax.flatten_util import ravel_pytree

import odernn
from odernn._field import DelayedDrive
from odernn.fields import PauliHamiltonian
from odernn.zoo import QUNN

from .references.weights import random_cell

X, Z = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])
SHARINGS, FEEDBACK = ("global", "site"), (False, True)
S = 1 / (4 - 4 ** (1 / 3))


def _cell(rng, qubits=3, inputs=2, **options):
    """A QUNN with every array drawn anew, N(0, 1/4)."""
    chosen = {"sharing": "site", "encoding": "fixed", "feedback": False, **options}
    return random_cell(QUNN, inputs, qubits, rng, **chosen)


def _state(field, rng):
    y = rng.normal(size=(*field.initial_state().shape, 2)) @ np.array([1, 0 if field.real else 1j])
    return jnp.asarray(y / np.linalg.norm(y))


# --- Dense matrices -----------------------------------------------------------------------------


def _string(site, qubits, *paulis):
    """The product of Pauli operators on neighbouring qubits as a matrix; qubit 0 comes first."""
    left, right = 2**site, 2 ** (qubits - site - len(paulis))
    return functools.reduce(np.kron, [np.eye(left), *paulis, np.eye(right)])


def _strings(qubits):
    """X_i, Z_i and Z_i Z_{i+1}."""
    sites, bonds = range(qubits), range(qubits - 1)
    return (
        np.array([_string(i, qubits, X) for i in sites]),
        np.array([_string(i, qubits, Z) for i in sites]),
        np.array([_string(i, qubits, Z, Z) for i in bonds]),
    )


def _magnetization(psi):
    strings = _strings(len(psi).bit_length() - 1)[1]
    return np.einsum("a,iab,b->i", psi.conj(), strings, psi).real


class _Dense:
    """The Hamiltonian of a field under a constant drive, by its definition."""

    def __init__(self, field, rng):
        self.field, m = field, field.qubits
        self.phases = rng.normal(size=(field.memory, m))
        self.past = rng.uniform(-1, 1, size=(field.memory - 1, m))
        self.x, self.z, self.zz = _strings(m)

    @property
    def drive(self):
        """What a step of the field sees: the oldest phases first."""
        each = [jnp.asarray(p) for p in self.phases[::-1]]
        u = tuple(each) if len(each) > 1 else each[0]
        return DelayedDrive(u, jnp.asarray(self.past)) if self.field.delays else u

    def parts(self, psi):
        """Matrices of "transverse j" and "diagonal j", the oldest first."""
        f, m = self.field, self.field.qubits
        a = np.ones(m) if f.disorder is None else np.asarray(f.disorder)
        j = np.ones(m - 1) if f.bond_disorder is None else np.asarray(f.bond_disorder)
        for lag in reversed(range(f.memory)):
            z = np.asarray(f.theta_z)[lag] * a + np.asarray(f.theta_data)[lag] * self.phases[lag]
            if f.feedback:
                seen = self.past[lag - 1] if lag else _magnetization(psi)
                z = z + np.asarray(f.theta_feedback)[lag] * seen
            yield np.tensordot(np.broadcast_to(np.asarray(f.theta_x)[lag], m), self.x, 1)
            yield (
                np.tensordot(z, self.z, 1)
                + np.tensordot(np.asarray(f.theta_zz)[lag] * j, self.zz, 1)
            )

    def rate(self, psi):
        return -1j * sum(self.parts(psi)) @ psi

    def solution(self, psi, span):
        options = {"method": "DOP853", "rtol": 3e-14, "atol": 1e-14}
        found = scipy.integrate.solve_ivp(
            lambda _, psi: self.rate(psi), (0, span), np.asarray(psi), **options
        )
        return found.y[:, -1]


@pytest.mark.parametrize("feedback", FEEDBACK)
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("qubits", [2, 6])
def test_every_flow_is_the_exponential_of_its_pauli_strings(qubits, sharing, feedback, rng):
    field = _cell(rng, qubits, memory=2, sharing=sharing, feedback=feedback).field
    dense, psi, dt = _Dense(field, rng), _state(field, rng), 0.7
    parts = list(dense.parts(np.asarray(psi)))
    assert len(field.parts) == len(parts) == 4
    for name, matrix in zip(field.parts, parts, strict=True):
        flow = field.flow(name, 0.0, psi, dense.drive, dt)
        wanted = scipy.linalg.expm(-1j * dt * matrix) @ psi
        np.testing.assert_allclose(flow, wanted, rtol=0, atol=1e-12)
        rate = field.part(name, 0.0, psi, dense.drive)
        np.testing.assert_allclose(rate, -1j * matrix @ psi, rtol=0, atol=1e-12)
    wanted = dense.rate(np.asarray(psi))
    element = field.generator(0.0, psi, dense.drive)
    np.testing.assert_allclose(field.product(element, psi), wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(field(0.0, psi, dense.drive), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("feedback", FEEDBACK)
def test_a_runge_kutta_step_is_that_of_numpy(feedback, rng):
    field = _cell(rng, memory=2, sharing="global", feedback=feedback).field
    dense, start, dt = _Dense(field, rng), _state(field, rng), 0.3
    y = np.asarray(start)
    k = [dense.rate(y)]
    for c in (0.5, 0.5, 1.0):
        k.append(dense.rate(y + dt * c * k[-1]))
    y = y + dt / 6 * (k[0] + 2 * k[1] + 2 * k[2] + k[3])
    step = odernn.RK4().step(field, 0.0, start, dense.drive, dt)
    np.testing.assert_allclose(step, y, rtol=0, atol=1e-14)


# --- Order --------------------------------------------------------------------------------------


def _slope(sizes, errors):
    assert min(errors) > 1e-14, "rounding"
    return np.polyfit(np.log(sizes), np.log(errors), 1)[0]


@pytest.mark.parametrize("order", [2, 4])
def test_the_splitting_of_an_exponential_has_its_order(order, rng):
    field = _cell(rng, 6, splitting=order).field
    dense, psi = _Dense(field, rng), _state(field, rng)
    matrix = sum(dense.parts(np.asarray(psi)))
    element = field.generator(0.0, psi, dense.drive)
    sizes, errors = 0.2 / 2.0 ** np.arange(3), []
    for dt in sizes:
        found = field.exponential(jax.tree.map(lambda a, dt=dt: dt * a, element), psi)
        errors.append(np.linalg.norm(found - scipy.linalg.expm(-1j * dt * matrix) @ psi))
    assert _slope(sizes, errors) == pytest.approx(order + 1, abs=0.1)


def _suzuki(parts):
    """Suzuki's composition of five Strang steps."""
    strang = odernn.Strang().composition(parts)
    shares = (S, S, 1 - 4 * S, S, S)
    return odernn.Splitting([(part, share * a) for share in shares for part, a in strang])


SPLITTINGS = [
    pytest.param(method, order, memory, feedback, {}, id=f"{name}-{memory}-{feedback}")
    for name, order, method in (
        ("lie", 1, lambda parts: odernn.LieTrotter()),
        ("strang", 2, lambda parts: odernn.Strang()),
        ("suzuki", 4, _suzuki),
    )
    for memory in (1, 2)
    for feedback in FEEDBACK
]
LIE_GROUP = [
    pytest.param(lambda parts, m=m: m, m.order, 1, True, {}, id=f"{type(m).__name__}-{m.order}")
    for kind in (odernn.CrouchGrossman, odernn.CommutatorFree)
    for m in map(kind, (1, 2, 3, 4))
]
OTHERS = [
    pytest.param(lambda parts: odernn.CommutatorFree(4), 4, 2, True, {}, id="with-lags"),
    # An exponential that is of second order only is no better in a method of fourth order.
    pytest.param(lambda parts: odernn.CommutatorFree(4), 2, 1, True, {"splitting": 2}, id="coarse"),
]


@pytest.mark.parametrize(
    ("method", "order", "memory", "feedback", "options"), [*SPLITTINGS, *LIE_GROUP, *OTHERS]
)
def test_the_slope_is_the_order(method, order, memory, feedback, options, rng):
    field = _cell(rng, memory=memory, feedback=feedback, **options).field
    dense, start, span = _Dense(field, rng), _state(field, rng), 1.0
    method = method(field.parts)

    @jax.jit
    def end(count, dt):
        return jax.lax.fori_loop(
            0, count, lambda k, y: method.step(field, 0.0, y, dense.drive, dt), start
        )

    wanted = dense.solution(start, span)
    counts = np.array([24, 48, 96]) * {1: 8, 2: 4, 3: 4, 4: 1}[order]
    errors = [np.linalg.norm(end(n, jnp.asarray(span / n)) - wanted) for n in counts]
    assert _slope(1 / counts, errors) == pytest.approx(order, abs=0.15)


def test_suzukis_composition_has_order_four():
    assert _suzuki(("A", "B")).order == 4


def _calm(cell):
    """The cell with a weak feedback: a strong one makes the states chaotic, rounding errors too."""
    if not cell.field.feedback:
        return cell
    return eqx.tree_at(lambda c: c.field.theta_feedback, cell, replace_fn=lambda a: 0.01 * a)


# --- The norm, and steps that are undone --------------------------------------------------------


@pytest.mark.parametrize("dt", [1.0, 50.0])
@pytest.mark.parametrize("feedback", FEEDBACK)
@pytest.mark.parametrize(
    ("method", "rotations"),
    # Every exponential is Suzuki's composition, which has six.
    [(odernn.LieTrotter(), 1), (odernn.Strang(), 2), (odernn.CrouchGrossman(3), 3 * 6)],
    ids=str,
)
def test_the_norm_is_kept_over_ten_thousand_steps(method, rotations, feedback, dt, rng):
    cell = _cell(rng, feedback=feedback, method=method, dt=dt)
    xs = jnp.asarray(rng.normal(size=(10_000, 2)))

    def step(y, x):
        y = cell(y, x)
        return y, jnp.linalg.norm(y)

    assert cell.initial_state().dtype == jnp.complex128
    last, norms = jax.lax.scan(step, cell.initial_state(), xs)
    # A rotation by a given angle is off by the same rounding error in every step.
    rounding = len(xs) * rotations * cell.field.qubits * 2.0**-53
    np.testing.assert_allclose(norms, 1, rtol=0, atol=rounding)
    assert np.abs(last - cell.initial_state()).max() > 0.1


REVERSIBLE = [
    (odernn.LieTrotter(), 1, False),
    (odernn.LieTrotter(), 1, True),
    (odernn.Strang(), 1, True),
    (odernn.LieTrotter(), 3, False),
    (odernn.CommutatorFree(3), 2, False),
]


@pytest.mark.parametrize(("method", "memory", "feedback"), REVERSIBLE, ids=str)
def test_steps_are_undone(method, memory, feedback, rng):
    cell = _calm(_cell(rng, memory=memory, feedback=feedback, method=method))
    xs = jnp.asarray(rng.normal(size=(500, 2)))
    assert odernn.Layer(cell).drift(xs) < 1e-12


@pytest.mark.parametrize(
    ("method", "memory", "match"),
    [
        (odernn.LieTrotter(), 2, "it forgets the oldest of the past states"),
        (odernn.CrouchGrossman(3), 1, "its generator depends on the state"),
    ],
)
def test_steps_that_cannot_be_undone_are_refused(method, memory, match, rng):
    cell = _cell(rng, memory=memory, feedback=True, method=method)
    with pytest.raises(odernn.InputError, match=match):
        odernn.Layer(cell, odernn.Reversible())
    with pytest.raises(odernn.InputError, match=match):
        odernn.Layer(cell).drift(jnp.zeros((3, 2)))


@pytest.mark.parametrize(("method", "memory", "feedback"), REVERSIBLE[1::2], ids=str)
def test_all_unrolls_give_the_same_gradients(method, memory, feedback, rng):
    drawn = _cell(rng, memory=memory, feedback=feedback, method=method, encoding="trained")
    cell = _calm(drawn)
    xs, weights = jnp.asarray(rng.normal(size=(60, 2))), rng.normal(size=(60, 8))

    def loss(both, unroll):
        return jnp.sum(odernn.Layer(both[0], unroll)(both[1])[0] * weights)

    # Blocks that do not divide the number of steps.
    unrolls = (odernn.Scan(), odernn.Adjoint(block=8), odernn.Reversible(block=8))
    wanted, *others = (eqx.filter_grad(loss)((cell, xs), unroll) for unroll in unrolls)
    for found in others:
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * (1 + np.abs(b).max()))


# --- Another implementation ---------------------------------------------------------------------


def _torch_qunn(p, xs, psi, memory, dt):
    """One string P after the other, exp(-i a P) = cos a - i P sin a; yields the expectations."""
    qubits = len(psi).bit_length() - 1
    x, z, zz = (torch.tensor(s, dtype=psi.dtype) for s in _strings(qubits))

    def means(psi):
        return torch.cat([(psi.conj() @ s @ psi).real for s in (x, z, zz)])

    def phases(x):
        first, second = (x @ p["encoder_weight"] + p["encoder_bias"]).chunk(2)
        return (first * second) @ p["spread"]

    def exponential(weights, strings, psi):
        for angle, string in zip(dt * weights.expand(len(strings)), strings, strict=True):
            psi = torch.cos(angle) * psi - 1j * torch.sin(angle) * (string @ psi)
        return psi

    seen = [means(psi)[qubits : 2 * qubits]] * memory
    for k in range(len(xs)):
        seen = [means(psi)[qubits : 2 * qubits], *seen[:-1]]
        for lag in reversed(range(memory)):
            psi = exponential(p["theta_x"][lag], x, psi)
            field = p["theta_z"][lag] * p.get("disorder", 1.0)
            field = field + p["theta_data"][lag] * phases(xs[max(k - lag, 0)])
            if "theta_feedback" in p:
                # The present one is that of the state as it is now.
                now = seen[lag] if lag else means(psi)[qubits : 2 * qubits]
                field = field + p["theta_feedback"][lag] * now
            coupling = p["theta_zz"][lag] * p.get("bond_disorder", torch.ones(qubits - 1))
            psi = exponential(coupling, zz, exponential(field, z, psi))
        yield means(psi)


@pytest.mark.parametrize("feedback", FEEDBACK)
@pytest.mark.parametrize("sharing", SHARINGS)
def test_torch_gives_the_same_outputs_and_gradients(sharing, feedback, rng):
    options = {"sharing": sharing, "feedback": feedback, "encoding": "trained"}
    cell = _cell(rng, 3, 2, memory=3, dt=0.7, **options)
    xs, weights = rng.normal(size=(7, 2)), rng.normal(size=(7, 8))
    start = _state(cell.field, rng)

    arrays = {k: v for k, v in vars(cell.field).items() if eqx.is_array(v)} | {"xs": xs}
    p = {k: torch.tensor(np.asarray(v), requires_grad=True) for k, v in arrays.items()}
    psi = torch.tensor(np.asarray(start))
    expected = torch.stack(list(_torch_qunn(p, p["xs"], psi, memory=3, dt=0.7)))
    slopes = torch.autograd.grad((expected * torch.tensor(weights)).sum(), list(p.values()))

    def loss(both):
        hs, _ = odernn.Layer(both[0])(both[1], initial_state=start)
        return jnp.sum(hs * weights), hs

    gradient, hs = eqx.filter_grad(loss, has_aux=True)((cell, jnp.asarray(xs)))
    np.testing.assert_allclose(hs, expected.detach(), rtol=0, atol=1e-13)
    for name, theirs in zip(p, slopes, strict=True):
        ours = gradient[1] if name == "xs" else getattr(gradient[0].field, name)
        wanted = theirs.numpy() * (name not in PauliHamiltonian.fixed)
        assert theirs.abs().max() > 1e-3
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-12, err_msg=name)


# --- Universality -------------------------------------------------------------------------------


def _couplings(cell):
    return cell.field.disorder, cell.field.bond_disorder


def _apart(cell, rng):
    """The cell with couplings that are random, but well apart: nothing is nearly symmetric."""

    def draw(count):
        sizes = np.linspace(0.5, 1.5, count) + rng.uniform(-0.1, 0.1, count)
        return jnp.asarray(rng.permutation(sizes) * rng.choice([-1, 1], count))

    qubits = cell.field.qubits
    return eqx.tree_at(_couplings, cell, (draw(qubits), draw(qubits - 1)))


def _generators(field):
    """-i G of every angle of the Hamiltonian without input, as a matrix."""

    def at(field):
        return field.theta_x, field.theta_z, field.theta_zz

    angles, unravel = ravel_pytree(at(field))

    def matrix(angles):
        one = eqx.tree_at(at, field, unravel(angles))
        element = one.hamiltonian(0, jnp.zeros(field.qubits))
        basis = jnp.eye(2**field.qubits, dtype=field.initial_state().dtype)
        return jax.vmap(lambda psi: one.product(element, psi))(basis).T

    return np.asarray(jax.vmap(matrix)(jnp.eye(angles.size)))


def _lie_dimension(generators):
    """Dimension of the real Lie algebra: brackets with the generators until there are no new."""
    size = generators[0].size
    basis, waiting = np.empty((0, 2 * size)), collections.deque(generators)
    while waiting:
        # The shortest brackets first: long ones are nearly dependent.
        matrix = waiting.popleft()
        v = np.stack([matrix.real, matrix.imag]).ravel()
        length = np.linalg.norm(v)
        for _ in range(2):
            v = v - basis.T @ (basis @ v)
        if np.linalg.norm(v) > 1e-7 * max(1, length):
            v = v / np.linalg.norm(v)
            basis = np.vstack([basis, v])
            real, imaginary = v.reshape(2, *matrix.shape)
            found = real + 1j * imaginary
            waiting += [g @ found - found @ g for g in generators]
    return len(basis)


@pytest.mark.parametrize(
    ("couplings", "dimensions"),
    [("random", (15, 63, 255)), ("site", (15, 63, 255)), ("uniform", (9, 38, 135))],
)
def test_the_generators_generate_all_of_su_d(couplings, dimensions, rng):
    sharing = "site" if couplings == "site" else "global"
    for qubits, dimension in zip((2, 3, 4), dimensions, strict=True):
        cell = _cell(rng, qubits, sharing=sharing)
        if couplings == "random":
            cell = _apart(cell, rng)
        if couplings == "uniform":
            cell = eqx.tree_at(_couplings, cell, replace_fn=jnp.ones_like)
        assert _lie_dimension(_generators(cell.field)) == dimension


@pytest.mark.parametrize(
    ("qubits", "sharing", "layers"),
    [(2, "global", 10), (2, "site", 6), (3, "global", 30), (3, "site", 12)],
)
def test_one_step_becomes_any_unitary_matrix(qubits, sharing, layers, rng):
    drawn = _cell(rng, qubits, inputs=1, memory=layers, sharing=sharing)
    angles, fixed = eqx.partition(drawn, odernn.trained(drawn))
    count, unravel = ravel_pytree(angles)[0].size, ravel_pytree(angles)[1]
    basis, zero = jnp.eye(2**qubits, dtype=complex), jnp.zeros(drawn.input_shape)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def infidelity(angles, fixed, target):
        cell = eqx.combine(unravel(angles), fixed)
        matrix = jax.vmap(lambda psi: cell(psi, zero))(basis).T
        return 1 - jnp.abs(jnp.vdot(target, matrix)) ** 2 / len(basis) ** 2

    for _ in range(3):
        target = jnp.asarray(scipy.stats.unitary_group.rvs(len(basis), random_state=rng))
        fixed = _apart(fixed, rng) if sharing == "global" else fixed

        def both(angles, fixed=fixed, target=target):
            return tuple(map(np.asarray, infidelity(jnp.asarray(angles), fixed, target)))

        start = rng.normal(size=count)
        assert both(start)[0] > 0.1
        assert scipy.optimize.minimize(both, start, jac=True, method="BFGS").fun < 1e-8


# --- What is trained ----------------------------------------------------------------------------


class _Encoding(eqx.Module):
    weight: jax.Array

    def __call__(self, x):
        return jnp.tanh(x @ self.weight)


@pytest.mark.parametrize("feedback", FEEDBACK)
@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_number_of_parameters_depends_on_the_memory_alone(sharing, feedback):
    for inputs, qubits, memory, features in itertools.product((1, 64), (2, 5), (1, 4), (1, 3)):
        step = {
            ("global", True): 5,
            ("global", False): 4,
            ("site", True): 5 * qubits - 1,
            ("site", False): 4 * qubits - 1,
        }[sharing, feedback]
        encoders = (
            ("fixed", 0),
            ("trained", 2 * features * (inputs + 1)),
            ("linear", inputs * qubits),
            (_Encoding(jnp.ones((inputs, qubits))), inputs * qubits),
        )
        for encoding, encoder in encoders:
            cell = eqx.filter_eval_shape(
                QUNN,
                inputs,
                qubits,
                memory=memory,
                sharing=sharing,
                feedback=feedback,
                encoding=encoding,
                features=features,
                key=jax.random.key(0),
            )
            assert odernn.parameter_count(cell) == step * memory + encoder


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("encoding", ["fixed", "trained", "linear"])
def test_an_optimiser_step_leaves_what_is_fixed(sharing, encoding, rng):
    cell = _cell(rng, memory=2, sharing=sharing, encoding=encoding, feedback=True)
    weights, rest = eqx.partition(cell, odernn.trained(cell))
    optimiser = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1))

    @eqx.filter_jit
    @eqx.filter_grad
    def slope(weights, xs):
        return jnp.sum(odernn.Layer(eqx.combine(weights, rest))(xs)[0] ** 2)

    state = optimiser.init(weights)
    # The same numbers serve sequences of any length.
    for length in (1, 9):
        gradient = slope(weights, jnp.asarray(rng.normal(size=(length, 2))))
        change, state = optimiser.update(gradient, state, weights)
        weights = eqx.apply_updates(weights, change)
    after = eqx.combine(weights, rest)
    arrays = {k: v for k, v in vars(cell.field).items() if eqx.is_array(v)}
    fixed = {"disorder", "bond_disorder"} if sharing == "global" else set()
    fixed |= {"spread"} if encoding != "linear" else set()
    assert fixed == set(PauliHamiltonian.fixed) & set(arrays)
    for name, before in arrays.items():
        same = np.isclose(getattr(after.field, name), before, rtol=0, atol=1e-6)
        assert np.all(same) if name in fixed else not np.any(same), name


# --- Real and imaginary parts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observables", "dtype", "tolerance"),
    [
        ("local", "float64", 1e-13),
        ("probabilities", "float64", 1e-13),
        ("amplitudes", "float64", 1e-13),
        ("local", "float32", 1e-5),
    ],
)
def test_the_real_form_is_the_complex_one(observables, dtype, tolerance, rng):
    options = {"memory": 3, "feedback": True, "observables": observables, "encoding": "trained"}
    cell = _cell(rng, **options)
    other = QUNN(2, 3, sharing="site", real=True, key=jax.random.key(0), **options)
    arrays = [a.astype(dtype) for a in jax.tree.leaves(eqx.filter(cell, eqx.is_inexact_array))]
    xs = jnp.asarray(rng.normal(size=(9, 2)), dtype)
    weights = jnp.asarray(rng.normal(size=(9, cell.hidden_size)), dtype)

    def loss(arrays, xs, form):
        own, rest = eqx.partition(form, eqx.is_inexact_array)
        cell = eqx.combine(jax.tree.unflatten(jax.tree.structure(own), arrays), rest)
        hs, state = odernn.Layer(cell)(xs)
        return jnp.sum(hs * weights), (hs, state["y"])

    gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
    one, (hs, psi) = gradient(arrays, xs, cell)
    two, (hs_real, parts) = gradient(arrays, xs, other)
    assert jnp.finfo(psi.dtype).dtype == dtype and parts.dtype == dtype
    np.testing.assert_allclose(parts, jnp.stack([psi.real, psi.imag]), rtol=0, atol=tolerance)
    np.testing.assert_allclose(hs_real, hs, rtol=0, atol=tolerance)
    for a, b in zip(jax.tree.leaves(two), jax.tree.leaves(one), strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * (1 + np.abs(b).max()))


# --- Lags, time stamps, observables -------------------------------------------------------------


@pytest.mark.parametrize("feedback", FEEDBACK)
def test_a_step_reads_the_last_inputs_and_no_others(feedback, rng):
    memory, k = 3, 6
    cell = _cell(rng, memory=memory, feedback=feedback)
    layer, xs = odernn.Layer(cell), rng.normal(size=(8, 2))
    _, before = layer(xs[:k])
    window = jnp.asarray(xs[k - memory + 1 : k + 1])
    after = cell(before, window)
    _, wanted = layer(xs[: k + 1])
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)
    for lag in range(memory):
        moved, kept = (
            cell.method.current(cell(before, x)) for x in (window.at[-1 - lag].add(1.0), window)
        )
        assert np.abs(moved - kept).max() > 1e-2


@pytest.mark.parametrize("method", [odernn.LieTrotter(), odernn.CommutatorFree(2)], ids=str)
def test_time_stamps_scale_the_angles(method, rng):
    cell = _cell(rng, memory=2, feedback=True, method=method)
    layer, xs = odernn.Layer(cell), rng.normal(size=(5, 2))
    hs, _ = layer(xs, times=2.0 * np.arange(6))
    doubled = odernn.replace(layer, dt=2.0)
    np.testing.assert_allclose(hs, doubled(xs)[0], rtol=0, atol=1e-13)
    lengths = rng.uniform(0.2, 2, size=5)
    hs, _ = layer(xs, times=np.concatenate([[0], np.cumsum(lengths)]))

    @jax.jit
    def step(y, x, length):
        angles = [a for a in vars(cell.field) if a.startswith("theta")]
        scaled = eqx.tree_at(
            lambda c: [getattr(c.field, name) for name in angles],
            cell,
            replace_fn=lambda a: length * a,
        )
        return scaled(y, x)

    y = cell.initial_state()
    for k, length in enumerate(lengths):
        y = step(y, jnp.asarray(xs[[max(k - 1, 0), k]]), length)
        np.testing.assert_allclose(hs[k], cell.output(y), rtol=0, atol=1e-13)


@pytest.mark.parametrize("real", [False, True])
def test_observables_are_what_they_say(real, rng):
    qubits = 4
    psi = rng.normal(size=(2, 2**qubits))
    psi /= np.linalg.norm(psi)
    amplitudes = psi[0] + 1j * psi[1]
    local = np.concatenate(_strings(qubits))
    wanted = {
        "local": np.einsum("a,iab,b->i", amplitudes.conj(), local, amplitudes).real,
        "probabilities": np.abs(amplitudes) ** 2,
        "amplitudes": psi.ravel(),
    }
    assert len(wanted["local"]) == 3 * qubits - 1
    for observables, values in wanted.items():
        cell = _cell(rng, qubits, observables=observables, real=real)
        assert cell.hidden_size == len(values)
        seen = cell.output(jnp.asarray(psi if real else amplitudes))
        np.testing.assert_allclose(seen, values, rtol=0, atol=1e-14)


# --- Isometry -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [odernn.Strang(), odernn.CommutatorFree(4)], ids=str)
def test_a_step_is_an_isometry_unless_there_is_feedback(method, rng):
    x = jnp.asarray(rng.normal(size=2))
    for feedback in FEEDBACK:
        cell = _cell(rng, feedback=feedback, method=method, real=True)
        y = _state(cell.field, rng)
        jacobian = jax.jacobian(lambda y, cell=cell: cell(y, x))(y).reshape(16, 16)
        off = np.abs(np.linalg.svd(jacobian, compute_uv=False) - 1).max()
        assert off > 1e-2 if feedback else off < 1e-13


def test_gradients_neither_grow_nor_vanish_through_500_steps(rng):
    layer = odernn.Layer(_cell(rng, memory=3, real=True))
    xs = jnp.asarray(rng.normal(size=(500, 2)))
    y, adjoint = _state(layer.cell.field, rng), jnp.asarray(rng.normal(size=(2, 8)))
    for steps in (1, 500):
        _, back = jax.vjp(lambda y, n=steps: layer(xs[:n], initial_state=y)[1], y)
        gradient = back(adjoint)[0]
        size = jnp.linalg.norm(adjoint)
        np.testing.assert_allclose(jnp.linalg.norm(gradient), size, rtol=1e-10)
        assert jnp.linalg.norm(gradient - adjoint) > 0.1 * size


# --- Two qubits, by hand ------------------------------------------------------------------------


def _product(bloch):
    """The product of states of one qubit with these vectors (<X>, <Y>, <Z>) of length 1."""
    states = [
        np.array([np.sqrt((1 + z) / 2), (x + 1j * y) / np.sqrt(2 * (1 + z))]) for x, y, z in bloch
    ]
    return functools.reduce(np.kron, states)


@pytest.mark.parametrize("qubits", [2, 5])
@pytest.mark.parametrize("real", [False, True])
def test_every_qubit_starts_between_x_and_y(qubits, real, rng):
    y = np.asarray(_cell(rng, qubits, real=real).initial_state())
    psi = _product([(np.sqrt(0.5), np.sqrt(0.5), 0.0)] * qubits)
    np.testing.assert_allclose(y[0] + 1j * y[1] if real else y, psi, rtol=0, atol=1e-15)


def test_a_step_of_two_qubits(rng):
    # A rotation about x by 2a, then each spin about z by 2 z_i + 2c <Z> of the other: of product
    # states <X_1 + i Y_1> becomes exp(2i z_1) <X_1 + i Y_1> (cos 2c + i sin 2c <Z_2>).
    cell = _cell(rng, 2, 3, dt=0.8)
    f, dt, x = cell.field, 0.8, jnp.asarray(rng.normal(size=3))
    bloch = rng.normal(size=(2, 3))
    bloch /= np.linalg.norm(bloch, axis=1, keepdims=True)

    def run(x):
        return cell.output(cell(jnp.asarray(_product(bloch)), x))

    a, c = np.asarray(f.theta_x[0]) * dt, float(f.theta_zz[0, 0]) * dt
    spin = bloch[:, 0] + 1j * (bloch[:, 1] * np.cos(2 * a) - bloch[:, 2] * np.sin(2 * a))
    up = bloch[:, 1] * np.sin(2 * a) + bloch[:, 2] * np.cos(2 * a)
    z = np.asarray(f.theta_z[0] + f.theta_data[0] * (x @ f.spread)) * dt
    spin = spin * np.exp(2j * z) * (np.cos(2 * c) + 1j * np.sin(2 * c) * up[::-1])
    wanted = np.concatenate([spin.real, up, [np.prod(up)]])
    np.testing.assert_allclose(run(x), wanted, rtol=0, atol=1e-14)
    # So the response to the input is of first order: d<X>/dz = -2 <Y>.
    response = (-2 * dt * spin.imag * np.asarray(f.theta_data[0]))[:, None] * f.spread.T
    wanted = np.concatenate([response, np.zeros((3, 3))])
    np.testing.assert_allclose(jax.jacobian(run)(x), wanted, rtol=0, atol=1e-14)


def test_qubits_start_to_precess_at_evenly_spaced_angles():
    at_rest, turning = (
        QUNN(1, 4, memory=2, precession=angle, key=jax.random.key(0)).field.theta_x
        for angle in (0.0, 1.5)
    )
    np.testing.assert_allclose(turning[0] - at_rest[0], [0, 0.5, 1, 1.5], atol=1e-6)
    np.testing.assert_array_equal(turning[1], at_rest[1])


def test_a_qubit_that_precesses_tells_when_an_input_came():
    """The response of <X> and <Z> to one pulse is the cosine and the sine of its time."""
    angle, weak, steps = 0.4, 1e-3, 12

    cell = QUNN(1, 2, precession=angle, encoding=lambda x: x * jnp.ones(2), key=jax.random.key(0))
    clean = {"theta_x": [[0.0, angle]], "theta_z": [[0.0, 0.0]], "theta_zz": [[0.0]]}
    for name, value in clean.items():
        cell = eqx.tree_at(lambda c, n=name: getattr(c.field, n), cell, jnp.asarray(value))
    pulses = weak * jnp.eye(steps + 1, steps, -1)[..., None]
    without, *after = jax.vmap(lambda xs: odernn.Layer(cell)(xs)[0][-1])(pulses)
    response = (np.stack(after) - without) / weak
    k = np.arange(steps)
    # exp(-i a X) turns by 2a about x; a step turns about x first, then by twice the phase about z.
    np.testing.assert_allclose(response[:, 0], -np.sqrt(2), rtol=1e-2)
    np.testing.assert_allclose(
        response[:, 1], -np.sqrt(2) * np.cos(2 * angle * (k + 1)), atol=1.5e-2
    )
    np.testing.assert_allclose(
        response[:, 3], np.sqrt(2) * np.sin(2 * angle * (steps - 1 - k)), atol=1.5e-2
    )
