"""What is certified: the best of all theorems, right on states and inputs of its region."""

import json
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import odernn
from odernn import InputError, fields, zoo
from odernn.analysis import (
    Certificate,
    Norm,
    Region,
    all_rates,
    box,
    box_of_data,
    certify,
    diagnose,
    everywhere,
    reachable,
)
from odernn.analysis._table import certificate_kind


def scaled(cell, factor):
    return jax.tree.map(lambda a: factor * a if eqx.is_inexact_array(a) else a, cell)


def jacobians(cell, region, rng, count=300, size=3.0):
    """Step Jacobians at random states and inputs of a region, corners among them."""
    leaves, structure = jax.tree.flatten(cell.initial_state())
    stops = np.cumsum([leaf.size for leaf in leaves])

    def step(v, x):
        parts = jnp.split(v, stops[:-1])
        parts = [p.reshape(leaf.shape) for p, leaf in zip(parts, leaves, strict=True)]
        y = cell.step(structure.unflatten(parts), cell.drive(x), phase="later")
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(y)])

    def drawn(lower, upper):
        lower, upper = np.maximum(lower, -size), np.minimum(upper, size)
        values = rng.uniform(lower, upper, (count, len(lower)))
        corners = np.where(rng.random(values.shape) < 0.5, lower, upper)
        return np.where(rng.random(values.shape) < 0.3, corners, values)

    ys = drawn(region.state_lower, region.state_upper)
    xs = drawn(region.input_lower, region.input_upper)
    return np.asarray(jax.jit(jax.vmap(jax.jacfwd(step)))(ys, xs))


def smallest(matrices, norm):
    """``min ||J v|| / ||v||``."""
    if norm.scale is not None:
        metric = np.diag(norm.scale) if norm.scale.ndim == 1 else norm.scale
        matrices = metric @ matrices @ np.linalg.inv(metric)
    order = {"1": 1, "2": 2, "inf": np.inf}[norm.kind]
    inverse = np.linalg.inv(matrices + 1e-14 * np.eye(matrices.shape[-1]))
    return 1 / np.linalg.norm(inverse, order, axis=(1, 2))


def leaky(method, dt=0.3):
    return lambda key: odernn.Cell(fields.Leaky(2, 4, key=key), method, dt)


CELLS = {
    "rnn": lambda key: zoo.RNN(2, 4, key=key),
    "gru": lambda key: scaled(zoo.GRU(2, 4, key=key), 0.5),
    "lstm": lambda key: scaled(zoo.LSTM(2, 4, key=key), 0.5),
    "cornn": lambda key: scaled(zoo.coRNN(2, 3, key=key), 0.3),
    "ugrnn": lambda key: zoo.UGRNN(2, 4, key=key),
    "scornn": lambda key: zoo.scoRNN(2, 4, key=key),
    "euler": leaky(odernn.Euler()),
    "rk4": leaky(odernn.RK4()),
    "ssprk33": leaky(odernn.SSPRK33()),
    "substeps": leaky(odernn.Substeps(odernn.Heun(), 2)),
    "backward euler": leaky(odernn.BackwardEuler()),
    "gauss": leaky(odernn.Gauss(2)),
    "adams-bashforth": leaky(odernn.AdamsBashforth(2)),
    "etd": leaky(odernn.ETD1()),
    "imex": leaky(odernn.IMEXEuler()),
    "fused": leaky(odernn.FusedEuler()),
    "strang": lambda key: odernn.Cell(fields.Leaky(2, 4, key=key), odernn.Strang(), 0.3),
}


@pytest.mark.parametrize("name", CELLS)
def test_every_rate_holds(name, key, rng):
    cell = CELLS[name](key)
    regions = [everywhere(cell), reachable(cell, 1.0), box(cell, 0.7, (0.0, 0.5))]
    found = 0
    for region in regions if name in ("gru", "lstm", "ugrnn") else regions[::2]:
        matrices = jacobians(cell, region, rng)
        for rates in all_rates(cell, region):
            found += 1
            observed = rates.norm.of_matrices(matrices).max()
            assert observed <= rates.upper + 1e-9, rates
            assert smallest(matrices, rates.norm).min() >= rates.lower - 1e-9, rates
    assert found >= 3


@pytest.mark.parametrize("name", ["rnn", "gru", "cornn", "ssprk33", "etd", "ugrnn"])
def test_the_certificate_is_close_to_the_worst_that_is_found(name, key, rng):
    # Not a theorem, but a bound twice too large would be of no use.
    cell = CELLS[name](key)
    region = box(cell, 1.0, 1.0)
    certificate = certify(cell, region)
    observed = certificate.norm.of_matrices(jacobians(cell, region, rng, 2000)).max()
    assert certificate.upper <= 1.35 * observed


def test_an_elman_network_is_as_contractive_as_its_matrix(key):
    cell = zoo.RNN(2, 5, key=key)
    weight = cell.field.weight / jnp.linalg.norm(cell.field.weight, 2)
    inside = eqx.tree_at(lambda c: c.field.weight, cell, 0.8 * weight)
    certificate = certify(inside, norm="2")
    assert certificate and certificate.upper == pytest.approx(0.8, abs=1e-9)
    assert certificate.lower == 0 and certificate.kind == "conditional"
    assert certificate.region == "all states and inputs"
    outside = certify(eqx.tree_at(lambda c: c.field.weight, cell, 1.05 * weight), norm="2")
    assert outside.upper == pytest.approx(1.05, abs=1e-9) and outside.kind == "none"


def test_the_largest_step_is_the_largest(key):
    for make in (odernn.Euler, odernn.SSPRK43):
        cell = odernn.Cell(fields.GradientFlow(2, 4, strength=3.0, key=key), make(), 0.3)
        limit = certify(cell).dt_max
        assert limit == pytest.approx(cell.method.circle_radius * 2 / 3, rel=1e-6)
        assert certify(odernn.replace(cell, dt=0.999 * limit)).upper <= 1 + 1e-9
    # Measured, not given by a formula: the enclosure's.
    cell = scaled(zoo.coRNN(2, 3, key=key), 0.2)
    certificate = certify(cell, norm=Norm("2", _energy(cell)))
    assert certificate.upper <= 1 and certificate.dt_max > cell.dt
    assert certify(odernn.replace(cell, dt=certificate.dt_max), norm=certificate.norm).upper <= 1
    beyond = odernn.replace(cell, dt=1.01 * certificate.dt_max)
    assert certify(beyond, norm=certificate.norm).upper > 1


def _energy(cell):
    """A metric in which the undriven oscillator decays."""
    one = np.eye(cell.hidden_size)
    return np.block([[one, 0.4 * one], [0 * one, 0.9 * one]])


def test_states_within_reach_where_all_states_are_too_many(key):
    cell = scaled(zoo.GRU(2, 4, key=key), 0.3)
    assert not certify(cell, "all")
    certificate = certify(cell)
    assert certificate.upper <= 1
    assert certificate.region == "states within reach, y in [-1, 1]; inputs in [-inf, inf]"
    assert certify(cell, "reachable").upper == certificate.upper
    # A memory that may grow for ever has no certificate; with bounded inputs it has.
    lstm = scaled(zoo.LSTM(2, 4, key=key), 0.3)
    nothing = certify(lstm)
    assert not nothing and nothing.upper == math.inf and nothing.horizon() == 0
    assert "unbounded" in str(nothing) and "Try a box" in str(nothing)
    assert certify(lstm, reachable(lstm, 1.0)).upper < 1


def test_stages_outside_of_the_box_count(key):
    # h' = h^2 on [-1, 0.1]: one stage of RK4 leaves the box upwards, where the field expands more.
    class Square(odernn.AbstractField):
        input_size: int = eqx.field(static=True, default=1)
        hidden_size: int = eqx.field(static=True, default=1)

        def __call__(self, time, y, u):
            return y**2 + u

    region = box(odernn.Cell(Square(), odernn.Euler(), 1.0), (-1.0, 0.1), (2.0, 2.0))
    for method in (odernn.Euler(), odernn.Midpoint(), odernn.RK4()):
        cell = odernn.Cell(Square(), method, 1.0)
        worst = float(jax.jacfwd(lambda y, c=cell: c(y, jnp.array([2.0])))(jnp.array([0.1]))[0, 0])
        for rates in all_rates(cell, region):
            assert rates.upper >= worst, rates
    assert worst > 3  # Euler's own is 1.2: what the field does in the box is not enough


def test_eigenvalues_are_no_certificate(key):
    # The antisymmetric network's own argument: every eigenvalue inside, and yet a norm above one.
    rotations = jax.random.normal(key, (6, 6))
    cell = zoo.AntisymmetricRNN(2, 6, key=key)
    field = eqx.tree_at(lambda f: f.weight, cell.field, rotations)
    field = fields.Antisymmetric(2, 6, gamma=0.3, key=key)
    cell = odernn.Cell(eqx.tree_at(lambda f: f.weight, field, 0.5 * rotations), cell.method, 0.02)
    xs = 0.5 * jax.random.normal(key, (100, 2))
    measured = diagnose(cell, xs, advice=False, fixed_points=False)
    assert measured.outside == 0 and abs(measured.eigenvalues).max() <= 1
    assert measured.norms.max() > 1
    certificate = certify(cell)
    assert certificate.upper > 1 and certificate.kind == "none"


def test_fields_that_are_stable_whatever_their_parameters(key):
    for make in (zoo.ContractingRNN, zoo.ContractingUGRNN, zoo.ContractingCoRNN):
        certificate = certify(scaled(make(2, 4, key=key), 30.0))
        assert certificate.structural and certificate.upper <= 1
        assert certificate.kind == "contractive for all parameters"
    rotation = certify(scaled(zoo.SelectiveRotationRNN(2, 4, key=key), 30.0))
    assert rotation.kind == "isometry" and rotation.horizon() == math.inf
    assert rotation.dt_max == math.inf and rotation.corridor(10**6) == (1.0, 1.0)
    # What it says is no longer true of another method.
    field = fields.Conservative(2, 4, key=key)
    assert certify(odernn.Cell(field, odernn.Euler(), 0.1)).upper > 1
    assert certify(odernn.Cell(field, odernn.ImplicitMidpoint(), 0.1)).kind == "isometry"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("selectiverotationrnn", "isometry"),
        ("mingru", "contractive for all parameters"),
        ("rnn", "conditional"),
        ("originallstm", "none"),
    ],
)
def test_the_kinds_of_the_table(name, kind):
    assert certificate_kind(zoo.CELLS[name]) == kind


# --- regions -----------------------------------------------------------------------------------


def test_the_box_that_data_fill(key, rng):
    cell = zoo.LSTM(2, 4, key=key)
    xs = rng.uniform(-1, 1, (6, 50, 2))
    region = box_of_data(cell, xs)
    _, states = jax.vmap(lambda xs: _run(cell, xs))(xs)
    flat = np.concatenate([states["c"], states["h"]], axis=-1).reshape(-1, 8)
    np.testing.assert_allclose(region.state_upper, np.maximum(flat.max(axis=0), 0), atol=1e-12)
    np.testing.assert_allclose(region.input_lower, xs.min(axis=(0, 1)))
    assert region.text.startswith("the box that these data fill: states, c in [")
    by_data = certify(cell, xs)
    assert by_data.region == region.text
    assert by_data.upper < certify(cell, reachable(cell, 1.0)).upper
    wider = box_of_data(cell, xs, margin=0.5)
    assert (wider.state_upper > region.state_upper).all()


def _run(cell, xs):
    def step(y, x):
        y = cell(y, x)
        return y, y

    return jax.lax.scan(step, cell.initial_state(), xs)


def test_a_layer_is_its_cell(key):
    cell = zoo.RNN(2, 4, key=key)
    assert certify(odernn.Layer(cell)).to_dict() == certify(cell).to_dict()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"region": "everything"}, "region = 'everything': give 'all', 'reachable'"),
        ({"region": 3.0}, "region = 3.0"),
        ({"region": np.zeros((5, 7))}, r"xs has the shape \(5, 7\): give \(time, 2\)"),
        ({"region": np.full((5, 2), np.nan)}, "not finite"),
        ({"norm": "3"}, "norm = '3': give '1', '2', 'inf'"),
        ({"norm": Norm("inf", np.eye(4))}, "a inf-norm takes weights"),
    ],
)
def test_what_cannot_be_certified(given, words, key):
    with pytest.raises(InputError, match=words):
        certify(zoo.RNN(2, 4, key=key), **given)


def test_what_is_no_cell(key):
    model = odernn.Model([odernn.Layer(zoo.RNN(2, 4, key=key))], odernn.LastStep(4, 1, key=key))
    with pytest.raises(InputError, match=r"cell is a Model.*model.layers\[0\].cell"):
        certify(model)
    with pytest.raises(InputError, match="cell is a int"):
        certify(3)
    other = box(zoo.RNN(3, 9, key=key), 1.0)
    with pytest.raises(InputError, match="region has 9 states and 3 inputs, the cell 4 and 2"):
        certify(zoo.RNN(2, 4, key=key), other)
    for bounds, words in (
        ((1.0, -1.0), "a lower bound is above"),
        ({"h": 1.0}, "one for each leaf"),
        ([1.0, 2.0], "2 bounds for 4 numbers|structure"),
        ("wide", "give numbers"),
    ):
        with pytest.raises(InputError, match=words):
            box(zoo.RNN(2, 4, key=key), bounds)


# --- what a certificate says -------------------------------------------------------------------


def make(lower, upper, **changes):
    given = {
        "norm": Norm("2"),
        "theorem": "a theorem",
        "assumptions": ("an assumption",),
        "region": "all states and inputs",
        "structural": False,
        "dt": 0.5,
        "dt_max": 0.75,
    }
    return Certificate(lower, upper, **(given | changes))


def test_corridor_and_horizon():
    certificate = make(0.5, 1.1)
    assert certificate.corridor(2) == pytest.approx((0.25, 1.21))
    assert certificate.corridor(0) == (1.0, 1.0)
    assert make(0.0, 2.0).corridor(10**6) == (0.0, math.inf)
    assert certificate.horizon() == 3 and 0.5**3 >= 0.1 > 0.5**4
    assert make(0.999, 1.01).horizon() == int(math.log(10) / math.log(1.01))
    assert make(1.0, 1.0).horizon() == math.inf
    assert make(0.0, 0.5).horizon() == 0
    assert make(1 - 1e-12, 1 + 1e-12).horizon(2) == math.inf
    with pytest.raises(InputError, match="kappa = 0.5"):
        certificate.horizon(0.5)
    with pytest.raises(InputError, match="steps = -1"):
        certificate.corridor(-1)
    with pytest.raises(InputError, match="steps = 1.5"):
        certificate.corridor(1.5)


def test_a_certificate_as_text_and_as_json():
    text = str(make(0.5, 1.0))
    for words in (
        "0.5 <= |J v| / |v| <= 1",
        "2-norm",
        "a theorem",
        "stays true up to 0.75",
        "an assumption",
    ):
        assert words in text
    assert "for any other" in str(make(1.0, 1.0, dt_max=math.inf))
    assert "not known" in str(make(1.0, 1.0, dt_max=None))
    said = json.loads(json.dumps(make(0.5, math.inf, dt_max=math.inf).to_dict(), allow_nan=False))
    assert said["upper"] is None and said["dt_max"] is None and said["dt_max_is_infinite"]
    assert said["certified"] and said["theorem"] == "a theorem"


def test_norms(rng):
    matrices = rng.normal(size=(20, 3, 3))
    vectors = rng.normal(size=(5000, 3))
    weights, metric = np.array([0.5, 1.0, 3.0]), rng.normal(size=(3, 3))
    norms = [Norm(k, s) for k in ("1", "2", "inf") for s in (None, weights)]
    for norm in (*norms, Norm("2", metric)):
        reached = norm.of(vectors @ np.swapaxes(matrices, 1, 2)) / norm.of(vectors)
        bound = norm.of_matrices(matrices)
        assert (reached.max(axis=1) <= bound + 1e-12).all()
        assert (reached.max(axis=1) >= 0.85 * bound).all()
    assert Norm("inf", weights).condition == 6.0 and Norm("2").condition == 1.0
    assert "weights 0.5 to 3" in str(Norm("inf", weights)) and "matrix" in str(Norm("2", metric))


def test_a_region_knows_whether_inputs_are_bounded(key):
    cell = zoo.RNN(2, 4, key=key)
    assert not everywhere(cell).bounded_inputs
    assert box(cell, np.inf, 1.0).bounded_inputs and isinstance(box(cell), Region)
