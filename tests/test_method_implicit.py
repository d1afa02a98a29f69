"""Implicit one-step methods: order, stability, invariants, what is not solved, gradients."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest
from scipy.integrate import solve_ivp

import odernn
from odernn import ButcherTableau, InputError

from . import cases

ORDERS = {
    "backwardeuler": 1,
    "implicitmidpoint": 2,
    "trapezoid": 2,
    "sdirk2": 2,
    "gauss2": 4,
    "gauss3": 6,
    "radauiia2": 3,
    "radauiia3": 5,
}
METHODS = {name: cases.METHODS[name] for name in ORDERS}
SYMPLECTIC = ("implicitmidpoint", "gauss2", "gauss3")
L_STABLE = ("backwardeuler", "sdirk2", "radauiia2", "radauiia3")
EVERY = [*ORDERS, "linearlyimpliciteuler", "fusedeuler"]
RELAXING = [
    name
    for name, make in cases.FIELDS.items()
    if isinstance(make(jax.random.key(0)), odernn._field.AbstractRelaxationField)
]


class _Scalar(odernn.AbstractField):
    """A field of one number, given by a function of (time, y)."""

    function: object = eqx.field(static=True)
    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=1)

    def __call__(self, time, y, u):
        return self.function(time, y)


class _Affine(_Scalar):
    depth = 0


class _Pendulum(odernn.AbstractField):
    """q' = p, p' = -sin q."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=2)

    def __call__(self, time, y, u):
        return jnp.stack([y[1], -jnp.sin(y[0])])


class _RigidBody(odernn.AbstractField):
    """Euler's equations: two quadratic invariants."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=3)

    def __call__(self, time, y, u):
        return jnp.cross(y, y / jnp.array([2.0, 1.0, 2 / 3], y.dtype))


LOGISTIC = _Scalar(lambda time, y: y * (1 - y))
FORCED = _Scalar(lambda time, y: -2 * time * y**2)
STIFF = _Scalar(lambda time, y: -1000 * (y - jnp.cos(time)) - jnp.sin(time))


def _run(field, method, dt, steps, start, time=0.0):
    """All states after ``steps`` steps, by a loop that XLA compiles."""

    def body(y, k):
        y = method.step(field, time + k * dt, y, jnp.zeros(1, y.dtype), dt)
        return y, y

    return jax.jit(lambda y: jax.lax.scan(body, y, jnp.arange(steps, dtype=y.dtype))[1])(start)


@pytest.mark.parametrize("name", ORDERS)
def test_order_from_the_tableau_and_as_measured(name):
    method = METHODS[name]
    assert method.order == ORDERS[name]
    steps = 16 if method.order < 5 else 2
    for field, exact in (
        (LOGISTIC, 1 / (1 + (1 / 0.3 - 1) * np.exp(-2))),
        (FORCED, 1 / (1 / 0.3 + 4)),
    ):
        ends = [
            _run(field, method, 2 / n, n, jnp.array([0.3]))[-1, 0] for n in (2 * steps, 4 * steps)
        ]
        errors = [abs(float(end) - exact) for end in ends]
        assert abs(np.log2(errors[0] / errors[1]) - method.order) < 0.25, (field, errors)


@pytest.mark.parametrize("name", ["linearlyimpliciteuler", "fusedeuler"])
def test_linearly_implicit_methods_have_order_one(name, key):
    field, u = cases.FIELDS["Leaky"](key), jnp.linspace(-1.0, 1.0, 5)
    start = jnp.full(5, 0.4)
    method = cases.METHODS[name]
    assert method.order == 1

    def end(method, steps):
        y = start
        for _ in range(steps):
            y = method.step(field, 0.0, y, u, 1 / steps)
        return y

    exact = end(odernn.RK4(), 200)
    errors = [np.abs(end(method, n) - exact).max() for n in (32, 64)]
    assert abs(np.log2(errors[0] / errors[1]) - 1) < 0.1


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_collocation_has_the_order_of_its_nodes(stages):
    gauss, radau = odernn.Gauss(stages), odernn.RadauIIA(stages)
    assert (gauss.order, radau.order) == (2 * stages, 2 * stages - 1)
    assert gauss.symplectic and gauss.reversible and gauss.algebraically_stable
    assert not radau.symplectic and not radau.reversible and radau.algebraically_stable
    nodes = (1 + np.polynomial.legendre.leggauss(stages)[0]) / 2
    np.testing.assert_allclose([float(c) for c in gauss.tableau.c], nodes, rtol=0, atol=1e-15)
    assert radau.tableau.c[-1] == 1


def test_known_coefficients():
    root = np.sqrt(6)
    a = [[float(v) for v in row] for row in odernn.RadauIIA(3).tableau.a]
    wanted = [  # Hairer, Wanner II, Table IV.5.6
        [(88 - 7 * root) / 360, (296 - 169 * root) / 1800, (-2 + 3 * root) / 225],
        [(296 + 169 * root) / 1800, (88 + 7 * root) / 360, (-2 - 3 * root) / 225],
        [(16 - root) / 36, (16 + root) / 36, 1 / 9],
    ]
    np.testing.assert_allclose(a, wanted, rtol=0, atol=1e-16)
    assert abs(float(odernn.SDIRK2().tableau.a[0][0]) - (1 - np.sqrt(2) / 2)) < 1e-16


@pytest.mark.parametrize("name", ORDERS)
def test_stiff_problem_at_a_large_step(name):
    # dt lambda = -100: an explicit method would be at 1e100.
    hs = _run(STIFF, METHODS[name], 0.1, 50, jnp.array([1.0]))
    exact = np.cos(0.1 * np.arange(1, 51))
    bound = 1e-2 if METHODS[name].order == 1 else 3e-3
    assert np.abs(hs[:, 0] - exact).max() < bound


@pytest.mark.parametrize("name", EVERY)
def test_stability_function_is_that_of_a_step(name):
    method = cases.METHODS[name]
    for z in (-0.3, -4.0, -1e3):
        if name == "fusedeuler":
            step = 1 / (1 - z)
        else:
            field = _Affine(lambda time, y, z=z: z * y)
            step = method.step(field, 0.0, jnp.ones(1), None, 1.0)[0]
        np.testing.assert_allclose(method.stability_function(z), step, rtol=1e-9, atol=1e-13)
    half_plane = -np.geomspace(1e-3, 1e6, 40)[:, None] + 1j * np.linspace(-50, 50, 21)
    assert np.abs(method.stability_function(half_plane)).max() <= 1 + 1e-12
    at_infinity = float(np.abs(method.stability_function(-1e9)))
    assert (at_infinity < 1e-6) == (name in (*L_STABLE, "linearlyimpliciteuler", "fusedeuler"))


@pytest.mark.parametrize("name", ["backwardeuler", "gauss2", "radauiia2", "implicitmidpoint"])
def test_two_solutions_of_a_dissipative_field_come_closer(name, rng):
    method = METHODS[name]
    assert method.algebraically_stable
    field = _Scalar(lambda time, y: -(y**3) - y)
    a, b = (jnp.asarray(rng.normal(size=1)) * 3 for _ in range(2))
    apart = jnp.abs(_run(field, method, 2.0, 10, a) - _run(field, method, 2.0, 10, b))[:, 0]
    assert (np.diff(apart) <= 1e-12).all() and apart[0] <= abs(a - b)[0] + 1e-12


@pytest.mark.parametrize("name", SYMPLECTIC)
def test_quadratic_invariants_are_kept(name):
    start = jnp.array([0.8, 0.1, 0.6])
    hs = _run(_RigidBody(), METHODS[name], 0.5, 500, start)
    weights = jnp.array([[1.0, 1.0, 1.0], [0.5, 1.0, 1.5]])
    drift = jnp.abs(hs**2 @ weights.T - start**2 @ weights.T).max()
    assert drift < 1e-11
    other = _run(_RigidBody(), METHODS["sdirk2"], 0.5, 500, start)
    assert jnp.abs(other**2 @ weights.T - start**2 @ weights.T).max() > 1e-3


@pytest.mark.parametrize("name", ["implicitmidpoint", "gauss2", "gauss3"])
def test_the_cayley_map_and_its_like_keep_the_norm(name, rng):
    """On a skew field; the step of the implicit midpoint rule is its Cayley transform."""
    matrix = rng.normal(size=(5, 5))
    skew = jnp.asarray(matrix - matrix.T)
    field, start = _Affine(lambda time, y: y @ skew), jnp.asarray(rng.normal(size=5))
    hs = _run(field, METHODS[name], 0.3, 10_000, start)
    norms = np.linalg.norm(hs, axis=1)
    np.testing.assert_allclose(norms, np.linalg.norm(start), rtol=0, atol=1e-12)
    if name == "implicitmidpoint":
        one, half = np.eye(5), 0.15 * np.asarray(skew).T
        cayley = np.linalg.solve(one - half, one + half)
        np.testing.assert_allclose(hs[0], cayley @ start, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ORDERS)
def test_the_symplectic_form_is_kept_by_symplectic_methods_alone(name):
    method = METHODS[name]
    omega = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    y = jnp.array([1.1, 0.4])
    step = jax.jacfwd(lambda y: method.step(_Pendulum(), 0.0, y, None, 0.5))(y)
    defect = float(jnp.abs(step.T @ omega @ step - omega).max())
    assert (defect < 1e-10) == method.symplectic == (name in SYMPLECTIC)


@pytest.mark.slow
@pytest.mark.parametrize("name", SYMPLECTIC)
def test_energy_error_stays_bounded(name):
    hs = _run(_Pendulum(), METHODS[name], 0.2, 100_000, jnp.array([1.5, 0.0]))
    energy = hs[:, 1] ** 2 / 2 - jnp.cos(hs[:, 0])
    error = jnp.abs(energy + jnp.cos(1.5))
    early, late = error[:1000].max(), error[-1000:].max()
    assert late < 1.05 * early + 1e-10, (early, late)


@pytest.mark.parametrize("name", ORDERS)
def test_symmetric_steps_are_undone(name, key, rng):
    method = METHODS[name]
    cell = odernn.Cell(cases.FIELDS["LSTM"](key), method, 0.3, odernn.LinearInput())
    if not method.reversible:
        with pytest.raises(InputError, match="has no inverse"):
            cell.check_inverse()
        return
    start = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), cell.initial_state())
    u = cell.drive(jnp.asarray(rng.normal(size=(2, 3))))
    end = cell.step(start, u, elapsed=2.0)
    again = cell.inverse(end, u, elapsed=2.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), again, start)


def test_inverse_at_the_times_of_the_step():
    for method in (odernn.ImplicitMidpoint(), odernn.Trapezoid(), odernn.Gauss(3)):
        field = _Scalar(lambda time, y: jnp.sin(3 * time) * y**2)
        y = jnp.array([0.7])
        end = method.step(field, 0.4, y, None, 0.3)
        back = method.inverse(field, 0.4, end, None, 0.3)
        np.testing.assert_allclose(back, y, rtol=0, atol=1e-14)


def test_a_tableau_that_is_not_symmetric_has_no_inverse(key):
    skew = odernn.ImplicitRungeKutta(ButcherTableau([["1/3"]], [1]))
    with pytest.raises(InputError, match="not symmetric; take"):
        odernn.Cell(cases.FIELDS["Leaky"](key), skew).check_inverse()


def test_affine_fields_take_one_linear_solve(rng):
    matrix = jnp.asarray(rng.normal(size=(1, 1)))
    affine = _Affine(lambda time, y: y @ matrix + jnp.cos(time))
    general = _Scalar(affine.function)
    y = jnp.array([0.3])
    for name, method in METHODS.items():
        one, solution = method.attempt(affine, 0.2, y, None, 0.4)
        assert int(solution.iterations) == 1 and bool(solution.converged), name
        other, _ = method.attempt(general, 0.2, y, None, 0.4)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-14)
    implicit = METHODS["backwardeuler"].step(affine, 0.2, y, None, 0.4)
    once = cases.METHODS["linearlyimpliciteuler"].step(affine, 0.2, y, None, 0.4)
    np.testing.assert_allclose(once, implicit, rtol=0, atol=1e-15)


HARD = _Scalar(lambda time, y: -jnp.exp(3 * y))
ROOTLESS = _Scalar(lambda time, y: y**2 + 1)  # y = dt (y^2 + 1) has no real root for dt > 1/2


def test_what_is_not_solved_is_an_error_that_says_what_to_do():
    y = jnp.zeros(1)
    step = jax.jit(lambda y: odernn.BackwardEuler().step(ROOTLESS, 0.0, y, None, 2.0))
    with pytest.raises(RuntimeError, match="BackwardEuler.*smaller dt.*max_steps.*throw=False"):
        step(y).block_until_ready()
    with pytest.raises(RuntimeError, match="not solved in 2 iterations"):
        odernn.Gauss(2, max_steps=2).step(HARD, 0.0, y + 2, None, 1.0).block_until_ready()
    with pytest.raises(RuntimeError, match="not finite"):
        odernn.SDIRK2().step(LOGISTIC, 0.0, y * jnp.nan, None, 0.1).block_until_ready()


def test_throw_false_returns_the_last_iterate_and_attempt_tells():
    method = odernn.BackwardEuler(throw=False)
    y, solution = method.attempt(ROOTLESS, 0.0, jnp.zeros(1), None, 2.0)
    assert not solution.converged and int(solution.iterations) == method.max_steps
    assert float(solution.residual) > 0.1
    np.testing.assert_array_equal(method.step(ROOTLESS, 0.0, jnp.zeros(1), None, 2.0), y)
    _, solution = method.attempt(LOGISTIC, 0.0, jnp.full(1, 0.3), None, 0.5)
    assert solution.converged and int(solution.iterations) < 8
    assert float(solution.residual) < 1e-15


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("stiffness", [1.0, 1e4])
def test_newton_converges_whatever_the_scale(dtype, size, stiffness):
    # The residual of a stiff field cannot get below rounding times stiffness: updates can.
    field = _Scalar(lambda time, y: -stiffness * (y + size * jnp.tanh(y / size)))
    for name, method in METHODS.items():
        y, solution = method.attempt(field, 0.0, jnp.full(1, size, dtype), None, 1.0)
        assert solution.converged and y.dtype == dtype, (name, solution)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_steps": 0}, "max_steps = 0"),
        ({"max_steps": 2.5}, "max_steps = 2.5"),
        ({"tolerance": 0.0}, "tolerance = 0.0"),
    ],
)
def test_wrong_options_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        odernn.Trapezoid(**arguments)


def test_wrong_tableaux_and_stages_are_refused(key):
    with pytest.raises(InputError, match="take RungeKutta"):
        odernn.ImplicitRungeKutta(odernn.RK4().tableau)
    with pytest.raises(InputError, match="takes a ButcherTableau"):
        odernn.ImplicitRungeKutta([[1]])
    for make in (odernn.Gauss, odernn.RadauIIA):
        for stages in (0, 5, 2.0, True):
            with pytest.raises(InputError, match="stages = "):
                make(stages)


@pytest.mark.parametrize("field", ["Leaky", "Oscillator", "LSTM"])
def test_backward_euler_agrees_with_diffrax(field, key, rng):
    field = cases.FIELDS[field](key)
    y = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), field.initial_state())
    u = field.drive(jnp.asarray(rng.normal(size=3)))
    finder = optimistix.Newton(rtol=1e-12, atol=1e-12)
    solver, term = diffrax.ImplicitEuler(root_finder=finder), diffrax.ODETerm(field)
    state = solver.init(term, 0.0, 0.4, y, u)
    wanted, *_ = solver.step(term, 0.0, 0.4, y, u, state, False)
    got = odernn.BackwardEuler().step(field, 0.0, y, u, 0.4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-11), got, wanted)


def test_radau_agrees_with_scipy_on_van_der_pol():
    def rates(y):
        return [y[1], 50 * (1 - y[0] ** 2) * y[1] - y[0]]

    class VanDerPol(odernn.AbstractField):
        input_size: int = eqx.field(static=True, default=1)
        hidden_size: int = eqx.field(static=True, default=2)

        def __call__(self, time, y, u):
            return jnp.stack(rates(y))

    hs = _run(VanDerPol(), odernn.RadauIIA(3), 0.1, 200, jnp.array([2.0, 0.0]))
    wanted = solve_ivp(
        lambda t, y: rates(y), (0, 20), [2.0, 0.0], method="Radau", rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(hs[-1], wanted.y[:, -1], rtol=1e-6)


@pytest.mark.parametrize("name", RELAXING)
def test_relaxation_is_the_field(name, key, rng):
    field = cases.FIELDS[name](key)
    y = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), field.initial_state())
    u = field.drive(jnp.asarray(rng.normal(size=3)))
    a, b = field.relaxation(0.3, y, u)
    got = jax.tree.map(lambda a, b, y: b - a * y, a, b, y)
    jax.tree.map(
        lambda p, q: np.testing.assert_allclose(p, q, rtol=0, atol=1e-14), got, field(0.3, y, u)
    )
    assert all((leaf >= 0).all() for leaf in jax.tree.leaves(a))
    # Whatever the step, a component ends between its value and where it relaxes to.
    end = cases.METHODS["fusedeuler"].step(field, 0.3, y, u, 1e3)
    jax.tree.map(
        lambda e, y, a, b: np.testing.assert_array_less(
            np.abs(e - (y + b / a) / 2), np.abs(y - b / a) / 2 + 1e-12
        ),
        *(end, y, a, b),
    )


def test_which_fields_relax():
    assert {"Leaky", "Gated", "LSTM", "LEM"} <= set(RELAXING)
