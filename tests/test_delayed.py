"""Fields that read their own past: a delay equation of the user's, and QUNN with feedback."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import odernn
from odernn import Delayed, InputError, zoo
from odernn.analysis import classify

from .references.quantum import FORMS, VARIANTS, of_variant

DT = 0.3


class Feedback(odernn.AbstractField):
    """h'(s) = -h(s) + tanh(h(s - delays)) W + x(s) V."""

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    delays: int = eqx.field(static=True)
    weight: jax.Array
    input_weight: jax.Array

    def __init__(self, input_size, hidden_size, delays, *, key):
        self.input_size, self.hidden_size, self.delays = input_size, hidden_size, delays
        a, b = jax.random.split(key)
        self.weight = jax.random.normal(a, (hidden_size, hidden_size))
        self.input_weight = jax.random.normal(b, (input_size, hidden_size))

    @property
    def order(self):
        return 1 + self.delays

    def drive(self, x):
        return x @ self.input_weight

    def record(self, y):
        return jnp.tanh(y)

    def __call__(self, time, y, u):
        return u.drive + u.past[-1] @ self.weight - y


def _euler(rate, y, dt):
    return y + dt * rate(y)


def _rk4(rate, y, dt):
    a = rate(y)
    b = rate(y + dt / 2 * a)
    c = rate(y + dt / 2 * b)
    return y + dt / 6 * (a + 2 * b + 2 * c + rate(y + dt * c))


def _backward_euler(rate, y, dt):
    return (y + dt * rate(0 * y)) / (1 + dt)


METHODS = {
    "Euler": (odernn.Euler(), _euler),
    "RK4": (odernn.RK4(), _rk4),
    "BackwardEuler": (odernn.BackwardEuler(), _backward_euler),
    "Substeps": (
        odernn.Substeps(odernn.Euler(), 2),
        lambda rate, y, dt: _euler(rate, _euler(rate, y, dt / 2), dt / 2),
    ),
}


def _loop(field, inner, y, xs, intervals):
    """The delay equation as one would write it by hand; before the start it stood still."""
    states, hs = [y] * (field.delays + 1), []
    for x, interval in zip(xs, intervals, strict=True):
        source = x @ field.input_weight + jnp.tanh(states[0]) @ field.weight
        y = inner(lambda y, source=source: source - y, y, DT * interval)
        states = [*states[1:], y]
        hs.append(y)
    return jnp.stack(hs)


def _cell(key, delays=2, method=None, **options):
    return odernn.Cell(
        Feedback(3, 4, delays, key=key), odernn.Euler() if method is None else method, DT, **options
    )


@pytest.fixture
def xs(rng):
    return jnp.asarray(rng.normal(size=(9, 3)))


@pytest.fixture
def start(rng):
    return jnp.asarray(rng.normal(size=4))


def _close(a, b, tolerance=1e-12):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=tolerance), a, b)


# --- A delay equation ---------------------------------------------------------------------------


@pytest.mark.parametrize("delays", [1, 3])
@pytest.mark.parametrize("name", METHODS)
def test_a_delay_equation_is_a_loop(name, delays, key, rng, xs, start):
    method, inner = METHODS[name]
    cell = _cell(key, delays, method)
    assert cell.method == Delayed(method)
    intervals = rng.uniform(0.5, 1.5, size=len(xs))
    times = np.concatenate([[0.0], np.cumsum(intervals)])
    hs, last = odernn.Layer(cell, odernn.Scan())(xs, times=times, initial_state=start)
    wanted = _loop(cell.field, inner, start, xs, intervals)
    # A solver stops at its tolerance.
    _close(hs, wanted, 1e-12 if method.explicit else 1e-8)
    _close(last["past"], jnp.tanh(hs[-2 : -2 - delays : -1]))
    assert not np.allclose(hs[delays:], _loop(cell.field, inner, 0 * start, xs, intervals)[delays:])


def test_a_delayed_method_is_the_one_inside(key):
    method = odernn.Substeps(odernn.RK4(), 2)
    cell = _cell(key, 2, method)
    for name in ("stages", "order", "explicit", "symplectic", "stability"):
        assert getattr(cell.method, name) == getattr(method, name)
    assert not cell.method.reversible
    assert cell.n == method.nesting(cell.field)
    measured = classify(_cell(key, 2))
    assert (measured.n, measured.t) == (1, 3) == (_cell(key, 2).n, _cell(key, 2).t)


def test_the_order_of_what_does_not_depend_on_the_past(key, start):
    """With the past switched off it is the method's own; the input is interpolated in the step."""

    def error(count):
        field = Feedback(1, 4, 2, key=key)
        field = eqx.tree_at(lambda f: f.weight, field, 0 * field.weight)
        cell = odernn.Cell(field, odernn.RK4(), 1 / count, odernn.CubicInput())
        stamps = np.arange(-2, count + 1)[:, None] / count
        hs, _ = odernn.Layer(cell, odernn.Scan())(
            jnp.sin(stamps[3:]), past=jnp.sin(stamps[:3]), initial_state=start
        )
        forced = (np.sin(1) - np.cos(1) + np.exp(-1)) / 2 * np.asarray(field.input_weight[0])
        return np.abs(hs[-1] - start * np.exp(-1) - forced).max()

    assert np.log2(error(8) / error(16)) > 3.7


@pytest.mark.parametrize("interpolation", [odernn.LinearInput(), odernn.CubicInput()])
def test_records_are_held_where_the_input_is_interpolated(interpolation, key, xs, start):
    field = Feedback(3, 4, 2, key=key)
    field = eqx.tree_at(lambda f: f.input_weight, field, 0 * field.input_weight)
    held, other = (
        odernn.Layer(odernn.Cell(field, odernn.RK4(), DT, kind))(xs, initial_state=start)
        for kind in (None, interpolation)
    )
    _close(other, held)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_masked_step_is_not_recorded(reverse, key, xs, start):
    layer = odernn.Layer(_cell(key), odernn.Scan(), reverse=reverse)
    mask = np.array([True, False, True, True, False, False, True, True, False])
    hs, last = layer(jnp.where(mask[:, None], xs, jnp.nan), mask=mask, initial_state=start)
    wanted, wanted_last = layer(xs[mask], initial_state=start)
    _close(hs[mask], wanted)
    _close(last, wanted_last)


def test_a_batch_of_sequences_of_several_lengths(key, rng):
    batch, lengths = jnp.asarray(rng.normal(size=(3, 9, 3))), jnp.array([9, 2, 5])
    layer = odernn.Layer(_cell(key, 3))
    hs, last = jax.vmap(lambda xs, n: layer(xs, length=n))(batch, lengths)
    for i, n in enumerate(lengths):
        wanted, wanted_last = layer(batch[i, :n])
        _close(hs[i, :n], wanted)
        _close(jax.tree.map(lambda a, i=i: a[i], last), wanted_last)


@pytest.mark.parametrize(
    "unroll", [odernn.Scan(), odernn.Scan(checkpoint=4), odernn.Adjoint(block=4)]
)
def test_gradients_are_those_of_the_loop(unroll, key, xs, start):
    cell = _cell(key, 2, odernn.RK4())

    def by_layer(both):
        layer = odernn.Layer(both[0], unroll, initial_state=both[1])
        return jnp.sum(jnp.sin(3 * layer(both[2])[0]))

    def by_hand(both):
        return jnp.sum(jnp.sin(3 * _loop(both[0].field, _rk4, *both[1:], np.ones(len(xs)))))

    got, wanted = (eqx.filter_grad(f)((cell, start, xs)) for f in (by_layer, by_hand))
    _close(got, wanted, 1e-11)
    assert all(np.abs(a).max() > 1e-3 for a in jax.tree.leaves(wanted))


@pytest.mark.parametrize("interpolation", [None, odernn.LinearInput()])
def test_streaming_is_the_whole_sequence(interpolation, key, xs):
    cell = _cell(key, 3, interpolation=interpolation)
    layer, samples = odernn.Layer(cell), cell.interpolation.samples
    hs, last = layer(xs)
    y, padded = cell.initial_state(), jnp.concatenate([*[xs[:1]] * (samples - 1), xs])
    for k in range(len(xs)):
        y = cell(y, padded[k : k + samples].reshape(cell.input_shape))
        _close(cell.output(y), hs[k])
    _close(y, last)
    first, between = layer(xs[:4])
    second, end = layer(
        xs[4:], initial_state=between, past=None if samples == 1 else xs[5 - samples : 4]
    )
    _close(jnp.concatenate([first, second]), hs)
    _close(end, last)


def test_it_is_stored(key, xs, tmp_path):
    layer = odernn.Layer(_cell(key, 2, odernn.Heun()))
    odernn.save(layer, tmp_path)
    again = odernn.load(tmp_path, classes=[Feedback])
    assert eqx.tree_equal(again, layer)
    _close(again(xs), layer(xs), 0)


def test_another_method_is_delayed_too(key):
    layer = odernn.Layer(_cell(key))
    assert odernn.replace(layer, method=odernn.RK4()).cell.method == Delayed(odernn.RK4())
    assert odernn.replace(layer, dt=0.7).cell.method == Delayed(odernn.Euler())


def test_what_cannot_be_delayed(key):
    leaky = odernn.fields.Leaky(3, 4, key=key)
    with pytest.raises(InputError, match="Delayed does not fit Leaky, which reads no past state"):
        odernn.Cell(leaky, Delayed(odernn.Euler()))
    for method in (
        odernn.AdamsBashforth(2),
        odernn.AlgebraicallyReversible(odernn.RK4()),
        Delayed(odernn.Euler()),
        "Euler",
    ):
        with pytest.raises(InputError, match=r"method = .*Delayed takes a one-step method"):
            Delayed(method)
    for method in (odernn.GaussSeidelEuler(), odernn.AdamsBashforth(2), odernn.Leapfrog()):
        name = type(method).__name__
        with pytest.raises(InputError, match=f"{name} does not fit Feedback.*take"):
            _cell(key, 2, method)
    with pytest.raises(InputError, match="a step of Feedback has no inverse: .* the oldest"):
        odernn.Layer(_cell(key), odernn.Reversible())


# --- QUNN ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(VARIANTS)), ids=lambda n: str(VARIANTS[n]))
def test_a_qunn_is_the_dense_circuit(number, rng):
    make = of_variant(**VARIANTS[number], **FORMS[number % len(FORMS)])
    cell, reference = make(2, 3, rng)
    xs = rng.normal(size=(8, 2))
    past = np.zeros((cell.field.memory - 1, 2)) if cell.field.memory > 1 else None
    hs, _ = odernn.Layer(cell, odernn.Scan())(xs, past=past)
    _close(hs, reference(xs))


def test_the_feedback_of_a_past_state_is_seen(rng, key):
    cell = zoo.QUNN(2, 3, memory=3, feedback=True, dt=0.5, key=key)
    xs = jnp.asarray(rng.normal(size=(8, 2)))

    def run(values):
        there = eqx.tree_at(lambda c: c.field.theta_feedback, cell, values)
        return odernn.Layer(there, odernn.Scan())(xs)[0]

    slope = jax.jacobian(run)(cell.field.theta_feedback)
    assert np.all(np.abs(slope[3:]).max(axis=(0, 1)) > 1e-4)


def test_a_delayed_qunn_is_one_still(key):
    plain, delayed = (zoo.QUNN(2, 3, memory=memory, feedback=True, key=key) for memory in (1, 3))
    assert isinstance(delayed.method, Delayed) and not isinstance(plain.method, Delayed)
    assert zoo.QUNN.matches(plain) and zoo.QUNN.matches(delayed)
    assert not zoo.QUNN.matches(odernn.replace(delayed, method=odernn.RK4()))
    ours, all_of_them = (odernn.citation(cell).split("\n\n") for cell in (plain, delayed))
    assert set(ours) < set(all_of_them)  # and the one of delay equations


@pytest.mark.parametrize("method", [odernn.LieTrotter(), odernn.Strang()])
def test_feedback_of_the_present_state_alone_is_undone(method, key, rng):
    """The diagonal flow does not change what it reads."""
    cell = zoo.QUNN(2, 3, feedback=True, method=method, dt=0.5, key=key)
    xs = jnp.asarray(rng.normal(size=(40, 2)))

    def gradient(unroll):
        def loss(cell):
            return jnp.sum(jnp.sin(odernn.Layer(cell, unroll)(xs)[0]))

        return eqx.filter_grad(loss)(cell)

    got, wanted = gradient(odernn.Reversible(block=8)), gradient(odernn.Scan())
    _close(got, wanted, 1e-11)
    assert np.abs(wanted.field.theta_feedback).max() > 1e-3
