"""Linear operators: their matrix functions against exact series and SciPy, gradients, precision."""

from fractions import Fraction
from math import factorial

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import odernn
from odernn import InputError

_TINY_TO_LARGE = [0.0, -30.0, 30.0, 0.9999, 1.0, -1.0001, 3.5, 3.6, -5.0, 8.0, 10.7, -14.0]
_TINY_TO_LARGE += [sign * 10.0**-e for e in range(1, 13) for sign in (1, -1)]


def _series(k, z, derivative=False):
    """phi_k(z) = sum_j z^j / (j + k)!, or its derivative, without rounding."""
    z, terms = Fraction(z), range(200)
    if derivative:
        return float(sum((j * z ** (j - 1) / factorial(j + k) for j in terms if j), Fraction(0)))
    return float(sum((z**j / factorial(j + k) for j in terms), Fraction(0)))


def _augmented(k, matrix):
    """phi_k of a matrix by SciPy: a corner of the exponential of [[M, I, 0], [0, 0, I], ...]."""
    size = len(matrix)
    large = np.kron(np.eye(k + 1, k=1), np.eye(size)).astype(matrix.dtype)
    large[:size, :size] = matrix
    return scipy.linalg.expm(large)[:size, k * size :]


def _operators(rng):
    """Operators with the state that each acts on."""
    flat, square = jnp.asarray(rng.normal(size=4)), jnp.asarray(rng.normal(size=(4, 4)))
    blocks = {"q": flat, "p": flat[::-1] + 1}
    small, each = rng.normal(size=(2, 2)), rng.normal(size=(2, 2, 4))
    return {
        "number": (odernn.Diagonal(-0.7), flat),
        "diagonal": (odernn.Diagonal(flat[::-1]), flat),
        "diagonal on blocks": (odernn.Diagonal(flat[::-1]), blocks),
        "complex": (odernn.Diagonal(_complex(flat, square[0])), _complex(flat, square[1])),
        "complex number": (odernn.Diagonal(-0.3 + 2j), _complex(flat, square[1])),
        "dense": (odernn.Dense(square), flat),
        "skew": (odernn.Skew(square), flat),
        "skew-Hermitian": (odernn.Skew(_complex(square, square.T)), _complex(flat, -flat)),
        "blocks": (odernn.Blocks(jnp.asarray(small), ("q", "p")), blocks),
        "blocks by unit": (odernn.Blocks(jnp.asarray(each), ("q", "p")), blocks),
    }


def _complex(real, imaginary):
    return jax.lax.complex(real, imaginary)


KINDS = list(_operators(np.random.default_rng(0)))


def _as_matrix(operator, y):
    """The matrix that acts on the flattened state, and that state."""
    flat, unravel = jax.flatten_util.ravel_pytree(y)
    columns = [jax.flatten_util.ravel_pytree(operator.apply(unravel(e)))[0] for e in _unit(flat)]
    return np.stack(columns, axis=1), np.asarray(flat)


def _unit(flat):
    return jnp.eye(len(flat), dtype=flat.dtype)


@pytest.mark.parametrize("k", range(4))
def test_functions_of_numbers_from_tiny_to_large(k):
    wanted = np.array([_series(k, z) for z in _TINY_TO_LARGE])
    slopes = np.array([_series(k, z, derivative=True) for z in _TINY_TO_LARGE])
    zs = jnp.asarray(_TINY_TO_LARGE)

    def diagonal(z):
        return odernn.Diagonal(z).phi(k, 1.0).values

    def dense(z):
        return odernn.Dense(z[None, None]).phi(k, 1.0).matrix[0, 0]

    def block(z):
        return odernn.Blocks(z[None, None], ("y",)).phi(k, 1.0).matrix[0, 0]

    for function in (diagonal, dense, block):
        got, slope = jax.jit(jax.vmap(jax.value_and_grad(function)))(zs)
        np.testing.assert_allclose(got, wanted, rtol=5e-14)
        np.testing.assert_allclose(slope, slopes, rtol=5e-14)


@pytest.mark.parametrize("kind", ["diagonal", "dense"])
@pytest.mark.parametrize("k", range(4))
def test_functions_of_numbers_in_single_precision(k, kind):
    zs = np.array([z for z in _TINY_TO_LARGE if abs(z) < 15], np.float32)
    if kind == "diagonal":
        got = odernn.Diagonal(jnp.asarray(zs)).phi(k, 1.0).values
    else:
        got = jax.vmap(lambda z: odernn.Dense(z[None, None]).phi(k, 1.0).matrix[0, 0])(zs)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, [_series(k, float(z)) for z in zs], rtol=2e-5)


@pytest.mark.parametrize("dt", [1e-12, 1e-3, 0.4, 3.0, 20.0])
@pytest.mark.parametrize("kind", KINDS)
def test_functions_of_matrices_equal_those_of_scipy(kind, dt, rng):
    operator, y = _operators(rng)[kind]
    matrix, flat = _as_matrix(operator, y)
    for k in range(4):
        got = jax.flatten_util.ravel_pytree(operator.phi(k, dt).apply(y))[0]
        wanted = _augmented(k, dt * matrix)
        scale = np.abs(wanted).max() * np.abs(flat).max()
        np.testing.assert_allclose(got, wanted @ flat, rtol=0, atol=2e-12 * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_resolvents_solve_their_equation(kind, rng):
    operator, y = _operators(rng)[kind]
    solved = operator.resolvent(0.3).apply(y)
    again = jax.tree.map(lambda a, b: a - 0.3 * b, solved, operator.apply(solved))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), again, y)


@pytest.mark.parametrize("kind", KINDS)
def test_precision_of_the_state_is_kept(kind, rng):
    operator, y = _operators(rng)[kind]

    def single(tree):
        return jax.tree.map(lambda a: a.astype("complex64" if a.dtype.kind == "c" else "f4"), tree)

    for step in (0.3, jnp.float32(0.3)):
        arrays, static = eqx.partition(operator, eqx.is_array)
        small = eqx.combine(single(arrays), static)
        for made in (small, small.phi(0, step), small.phi(2, step), small.resolvent(step)):
            got = made.apply(single(y))
            assert [a.dtype for a in jax.tree.leaves(got)] == [
                a.dtype for a in jax.tree.leaves(single(y))
            ]
    # Coefficients in double precision, and real ones on a complex state, take the state's type.
    complex_state = jax.tree.map(lambda a: a.astype("complex64"), y)
    assert {a.dtype for a in jax.tree.leaves(operator.phi(1, 0.3).apply(complex_state))} == {
        np.dtype("complex64")
    }


@pytest.mark.parametrize("kind", [k for k in KINDS if "complex" not in k and "Herm" not in k])
def test_gradients_equal_finite_differences(kind, rng):
    operator, y = _operators(rng)[kind]
    operator, dt = jax.tree.map(jnp.asarray, (operator, 0.4))
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), (operator, dt))

    @jax.jit
    def loss(both):
        operator, dt = both
        made = [operator.phi(k, dt) for k in range(4)] + [operator.resolvent(dt)]
        values = jax.tree.leaves([m.apply(y) for m in made])
        return sum(jnp.sum(jnp.sin(v + i)) for i, v in enumerate(values))

    def moved(step):
        return jax.tree.map(lambda a, d: a + step * d, (operator, dt), direction)

    slope = (loss(moved(1e-5)) - loss(moved(-1e-5))) / 2e-5
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), jax.grad(loss)((operator, dt)), direction)
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("size", [5, 64])
@pytest.mark.parametrize("scale", [1.0, 1e3])
@pytest.mark.parametrize("imaginary", [False, True])
def test_rotations_keep_the_norm(size, scale, imaginary, rng):
    matrix = jnp.asarray(rng.normal(size=(size, size)) * scale)
    matrix = _complex(matrix, matrix[::-1]) if imaginary else matrix
    y = jnp.asarray(rng.normal(size=size)).astype(matrix.dtype)
    turn = odernn.Skew(matrix).exponential(0.3)
    end = jax.jit(lambda y: jax.lax.fori_loop(0, 10_000, lambda _, y: turn.apply(y), y))(y)
    assert abs(jnp.linalg.norm(end) / jnp.linalg.norm(y) - 1) < 1e-12
    assert jnp.abs(end - y).max() > 0.1


def test_exponentials_of_huge_norm():
    # Far beyond what JAX's own function takes (NaN from 4e5 on), and then not a wrong number.
    decay = odernn.Dense(jnp.diag(jnp.array([-1e6, -1.0])))
    np.testing.assert_allclose(decay.exponential(1.0).matrix, np.diag([0, np.exp(-1)]), atol=1e-9)
    np.testing.assert_allclose(decay.phi(1, 1.0).matrix[0, 0], 1e-6, rtol=1e-6)
    assert np.isnan(odernn.Dense(jnp.array([[-1e9]])).exponential(1.0).matrix).all()


def test_zero_has_gradients(rng):
    def total(operator, y):
        made = [operator.phi(k, 0.1).apply(y) for k in range(4)]
        return sum(jnp.sum(a) for a in jax.tree.leaves(made))

    for operator, y in _operators(rng).values():
        real = jax.tree.map(lambda a: a.real, y)
        zero = jax.tree.map(lambda a: jnp.zeros(jnp.shape(a)), operator)
        gradient = jax.grad(total)(zero, real)
        assert all(np.isfinite(a).all() for a in jax.tree.leaves(gradient))
        # The first derivative of phi_k at zero is 1 / (k + 1)!.
        along = jax.jvp(
            lambda o, real=real: total(o, real), (zero,), (jax.tree.map(jnp.ones_like, zero),)
        )[1]
        ones = jax.tree.map(jnp.ones_like, zero)
        slope = sum(jnp.sum(a) for a in jax.tree.leaves(ones.apply(real)))
        wanted = 0.1 * slope * sum(1 / factorial(k + 1) for k in range(4))
        np.testing.assert_allclose(along, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: odernn.Dense(jnp.ones((2, 3))), r"shape \(2, 3\): Dense takes a square one"),
        (lambda: odernn.Skew(jnp.ones(3)), r"shape \(3,\): Skew takes a square one"),
        (lambda: odernn.Blocks(jnp.eye(3), ("h", "v")), r"shape \(3, 3\) for .*\(2, 2\)"),
        (lambda: odernn.Blocks(jnp.ones(2), ("h", "v")), r"shape \(2,\) for the blocks"),
    ],
)
def test_wrong_shapes_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_names_may_be_a_list():
    assert odernn.Blocks(jnp.eye(2), ["h", "v"]).names == ("h", "v")
