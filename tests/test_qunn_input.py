"""Bad input to a chain of qubits: one line that says which argument, its value, why, what to do."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import odernn
from odernn import InputError, zoo

KEY = jax.random.key(0)


def _qunn(qubits=3, **options):
    return zoo.QUNN(2, qubits, key=KEY, **options)


def _short(x):
    return x[:1]


def _broken(x):
    return x @ jnp.zeros((7, 3), x.dtype)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"qubits": 0}, "qubits = 0: give a whole number of at least 1"),
        ({"qubits": True}, "qubits = True: give a whole number"),
        ({"qubits": 2.5}, r"qubits = 2\.5: give a whole number"),
        ({"qubits": 1}, "qubits = 1: give at least 2, neighbours are coupled"),
        ({"memory": 0}, "memory = 0: give a whole number of at least 1"),
        ({"memory": True}, "memory = True: give a whole number"),
        ({"features": 0}, "features = 0: give a whole number of at least 1"),
        ({"precession": float("nan")}, "precession = nan: give a finite number, radians per unit"),
        ({"precession": True}, "precession = True: give a finite number"),
        (
            {"precession": 1.0, "sharing": "global"},
            "needs an angle for each qubit: give sharing='site'",
        ),
        ({"splitting": 3}, "splitting = 3: its order is 2 or 4"),
        ({"splitting": True}, "splitting = True: its order is 2 or 4"),
        ({"sharing": "globl"}, "unknown sharing 'globl': did you mean 'global'"),
        ({"encoding": "trainde"}, "unknown encoding 'trainde': did you mean 'trained'"),
        ({"observables": "locals"}, "unknown observables 'locals': did you mean 'local'"),
        ({"init": "oficial"}, "unknown init 'oficial': did you mean 'official'"),
        ({"memmory": 2}, "unknown argument of QUNN 'memmory': did you mean 'memory'"),
        (
            {"encoding": _short},
            r"encoding gives the shape \(1,\) for an input of shape \(2,\).*3 qubits, \(3,\)",
        ),
        (
            {"encoding": _broken},
            r"encoding = .*_broken.* fails on an input of shape \(2,\): .*\(7,\)",
        ),
    ],
)
def test_arguments(options, message):
    with pytest.raises(InputError, match=message) as caught:
        _qunn(**options)
    assert "\n" not in str(caught.value)


def test_no_inputs():
    with pytest.raises(InputError, match="input_size = 0: give a whole number of at least 1"):
        zoo.QUNN(0, 3, key=KEY)


def test_more_qubits_than_this_machine_holds_are_refused_before_anything_is_drawn():
    # 2^60 amplitudes of two numbers of four bytes.
    with pytest.raises(InputError, match=r"qubits = 60: .*2\^60 amplitudes, 8 EiB.*GiB; give at"):
        _qunn(60)


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "nan at step 3, channel 1, is the first"), (np.inf, "inf at step 3")],
)
def test_inputs_that_are_not_finite(value, message):
    xs = np.zeros((6, 2))
    xs[3, 1] = xs[5, 0] = value
    with pytest.raises(InputError, match=f"xs is not finite in 2 places: {message}"):
        odernn.Layer(_qunn(memory=2))(jnp.asarray(xs))


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("factor", [0.0, 1.5, np.nan])
def test_a_state_to_start_from_whose_norm_is_not_one(factor, real):
    layer = odernn.Layer(_qunn(real=real))
    start, xs = layer.cell.field.initial_state(), jnp.ones((4, 2))
    with pytest.raises(InputError, match="initial_state: a quantum state has norm 1, divide it"):
        layer(xs, initial_state=factor * start)
    with pytest.raises(InputError, match="initial_state: a quantum state has norm 1, divide it"):
        odernn.Layer(layer.cell, initial_state=factor * start)(xs)

    @eqx.filter_jit
    def run(y):
        return layer(xs, initial_state=y)[0]

    assert np.isfinite(run(start)).all()
    with pytest.raises(eqx.EquinoxRuntimeError, match="a quantum state has norm 1"):
        run(factor * start)


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({}, jnp.ones(4)),
        ({}, jnp.ones((2, 8))),
        ({"real": True}, jnp.ones(8)),
        ({"feedback": True, "memory": 2}, {"y": jnp.ones(8)}),
        ({"feedback": True, "memory": 2}, {"y": jnp.ones(8), "past": jnp.ones((2, 3))}),
    ],
)
def test_a_state_to_start_from_of_another_structure(options, start):
    cell = _qunn(**options)
    with pytest.raises(InputError, match=r"initial_state has the structure .*this cell's state is"):
        odernn.Layer(cell, initial_state=start)
    with pytest.raises(InputError, match=r"initial_state has the structure .*this cell's state is"):
        odernn.Layer(cell)(jnp.ones((4, 2)), initial_state=start)


@pytest.mark.parametrize(
    ("memory", "method", "message"),
    [
        (1, odernn.CommutatorFree(2), "its generator depends on the state"),
        (2, odernn.LieTrotter(), "a step of .* has no inverse"),
        (1, odernn.Euler(), "a step of Euler has no inverse"),
    ],
)
def test_what_cannot_be_undone(memory, method, message):
    cell = _qunn(feedback=True, memory=memory, method=method)
    with pytest.raises(InputError, match=message):
        odernn.Layer(cell, odernn.Reversible())


@pytest.mark.parametrize(
    "method",
    [
        *(odernn.GaussSeidelEuler(), odernn.StormerVerlet(), odernn.FusedEuler()),
        *(odernn.IMEXEuler(), odernn.ETD1()),
    ],
    ids=lambda method: type(method).__name__,
)
def test_methods_for_other_fields(method):
    name = type(method).__name__
    with pytest.raises(InputError, match=f"{name} does not fit PauliHamiltonian.*take"):
        _qunn(method=method)


def test_an_interpolation_in_place_of_the_lags():
    with pytest.raises(InputError, match="reads the last 2 inputs as they are: leave it out"):
        _qunn(memory=2, interpolation=odernn.LinearInput())


def test_inputs_of_one_step_that_lack_the_lags():
    cell = _qunn(memory=2)
    with pytest.raises(InputError, match=r"this cell takes an input of shape \(2, 2\)"):
        cell(cell.initial_state(), jnp.ones(2))
    with pytest.raises(InputError, match="past has the shape .*reads 1 inputs before"):
        odernn.Layer(cell)(jnp.ones((4, 2)), past=jnp.ones((2, 2)))
