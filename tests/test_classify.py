"""The class n-t of step functions: known answers, traps, and what cells declare of themselves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy.sparse.linalg import cg

import odernn
from odernn import InputError, fields, zoo
from odernn.analysis import Class, classify

H = 4
W = jnp.asarray(np.random.default_rng(0).normal(size=(H, H)))
ONE = jax.ShapeDtypeStruct((H,), jnp.float64)
PAIR = {"h": ONE, "v": ONE}
sigma, tanh = jax.nn.sigmoid, jnp.tanh


def gru(h, x):
    r, z = sigma(W @ h + x), sigma(W.T @ h - x)
    g = tanh(x + r * (W @ h))
    return (1 - z) * g + z * h


def lstm(y, x):
    h, c = y
    i, f, o = sigma(W @ h + x), sigma(W.T @ h), sigma(x - W @ h)
    c = f * c + i * tanh(W @ h + x)
    return (o * tanh(c), c)


def oscillator(y, x):
    v = y["v"] + 0.1 * (tanh(W @ y["h"] + x) - y["h"] - y["v"])
    return {"h": y["h"] + 0.1 * v, "v": v}


def rk_substeps(h, x):
    return lax.scan(lambda h, _: (h + 0.1 * tanh(W @ h + x), None), h, None, length=3)[0]


def nested_scans(h, x):
    return lax.scan(lambda h, _: (rk_substeps(h, x), None), h, None, length=4)[0]


def relaxation(h, x):
    """The fused step of liquid time constants."""
    a = sigma(W @ h + x)
    return (h + 0.1 * a * x) / (1 + 0.1 * a)


def until_small(h, x):
    return lax.while_loop(lambda h: jnp.max(jnp.abs(h)) > 1, lambda h: 0.5 * h, h)


def times_of_input(body):
    """As many turns as the input says."""
    return lambda h, x: lax.while_loop(
        lambda carry: carry[0] < x[0], lambda carry: (carry[0] + 1, body(carry[1])), (0.0, h)
    )[1]


def as_often_as_state(h, x):
    """The number of turns is found once, so that their levels do not add up."""
    return lax.fori_loop(0, h[0].astype(int), lambda _, h: W @ h, h)


def part(h, x):
    return lax.dynamic_slice(h, (jnp.argmax(x),), (2,))


@jax.custom_jvp
def bent(h):
    return tanh(W @ tanh(h))


bent.defjvp(lambda primals, tangents: (bent(*primals), tangents[0]))


@jax.custom_vjp
def straight_through(h):
    return jnp.sign(h)


straight_through.defvjp(lambda h: (jnp.sign(h), None), lambda _, g: (g,))


@jax.jit
def softplus(h):
    """Not JAX's function of that name."""
    return tanh(tanh(h))


KNOWN = {
    # No nonlinearity that reaches the state.
    "linear": (lambda h, x: W @ h + jnp.sin(x), "0-1"),
    "affine by parts": (lambda h, x: jnp.concatenate([h[1:] - x[1:], 2 * h[:1]])[::-1], "0-1"),
    "feedforward": (lambda h, x: tanh(W @ x), "0-0"),
    "the same": (lambda h, x: h, "0-1"),
    "of the input only": (lambda h, x: tanh(tanh(W @ x)) + 0.5 * h, "0-1"),
    "gate of the input": (lambda h, x: sigma(x) * h, "0-1"),
    "quotient by the input": (lambda h, x: h / (1 + x**2), "0-1"),
    "choice by the input": (lambda h, x: jnp.where(x > 0, h, -h), "0-1"),
    "output only": (lambda h, x: (W @ h, tanh(h)), "0-1"),
    "not used": (lambda h, x: (tanh(h), W @ h)[1], "0-1"),
    "times zero": (lambda h, x: W @ h + 0.0 * tanh(h), "0-1"),
    "times zeros": (lambda h, x: W @ h + jnp.zeros(H) * tanh(h), "0-1"),
    "never chosen": (lambda h, x: lax.cond(True, lambda h: -h, tanh, h), "0-1"),
    "spectrum": (lambda h, x: jnp.fft.ifft(jnp.fft.fft(h) * lax.complex(x, x)).real, "0-1"),
    "solve": (lambda h, x: jnp.linalg.solve(W, h), "0-1"),
    "solve by iteration": (lambda h, x: cg(lambda v: W @ W.T @ v, h)[0], "0-1"),
    "resolvent": (lambda h, x: jnp.linalg.inv(jnp.eye(H) - 0.1 * W) @ h, "0-1"),
    "means and sums": (lambda h, x: jnp.cumsum(h) - jnp.mean(h), "0-1"),
    "scatter": (lambda h, x: h.at[jnp.array([0, 2])].add(h[1:3]), "0-1"),
    "slice by the input": (lambda h, x: x.at[:2].set(part(h, x)), "0-1"),
    "stopped gradient": (lambda h, x: lax.stop_gradient(h), "0-1"),
    "turns of the input, linear": (times_of_input(lambda h: W @ h), "0-1"),
    # One function.
    "tanh": (lambda h, x: tanh(W @ h + x), "1-1"),
    "sum of two": (lambda h, x: tanh(W @ h + x) + jnp.sin(W.T @ h), "1-1"),
    "gather by the state": (lambda h, x: W[jnp.argmax(h)] + x, "1-1"),
    "slice by the state": (lambda h, x: lax.dynamic_slice(x, (jnp.argmax(h),), (H,)), "1-1"),
    "rounding": (lambda h, x: jnp.round(h), "1-1"),
    "integers": (lambda h, x: (2 * h.astype(int) + 1).astype(h.dtype), "1-1"),
    "logic": (lambda h, x: jnp.where((h > 0) & ~(h > 1), h, x), "1-1"),
    "maximum of all": (lambda h, x: h - jnp.max(h), "1-1"),
    "sort": (lambda h, x: jnp.sort(h), "1-1"),
    "relu by max": (lambda h, x: jnp.maximum(W @ h, 0.0), "1-1"),
    "relu by where": (lambda h, x: jnp.where(W @ h > 0, W @ h, 0.0), "1-1"),
    "relu by product": (lambda h, x: h * (h > 0).astype(h.dtype), "1-1"),
    "custom_vjp": (lambda h, x: straight_through(W @ h), "1-1"),
    "checkpoint": (lambda h, x: jax.checkpoint(tanh)(W @ h), "1-1"),
    "vmap": (lambda h, x: jax.vmap(tanh)(h), "1-1"),
    "turns of the state, linear": (as_often_as_state, "1-1"),
    # Gates.
    "cube": (lambda h, x: h - h**3, "1-1"),
    "product of three": (lambda h, x: h * h * h, "1-1"),
    "norm squared": (lambda h, x: (h @ h) * x, "1-1"),
    "product of all": (lambda h, x: jnp.prod(h) * x, "1-1"),
    "gate and value": (lambda h, x: sigma(W @ h) * tanh(W.T @ h), "1-1"),
    "quotient by the state": (lambda h, x: x / (2 + h), "1-1"),
    "relaxation": (relaxation, "1-1"),
    "solve by the state": (lambda h, x: jnp.linalg.solve(jnp.diag(h), x), "1-1"),
    "solve by iteration, by the state": (lambda h, x: cg(lambda v: h * v, x)[0], "1-1"),
    "condition": (lambda h, x: lax.cond(h[0] > 0, lambda h: -h, lambda h: h, h), "1-1"),
    "condition on the input": (lambda h, x: lax.cond(x[0] > 0, lambda h: -h, tanh, h), "1-1"),
    # Nested.
    "twice": (lambda h, x: tanh(tanh(h)), "2-1"),
    "function of a gate": (lambda h, x: tanh(h * (W @ h)), "2-1"),
    "non-integer power of a function": (lambda h, x: sigma(h) ** 1.5, "2-1"),
    "custom_jvp": (lambda h, x: bent(h), "2-1"),
    "condition, deeper branch": (lambda h, x: lax.cond(x[0] > 0, bent, tanh, h), "2-1"),
    "condition, deeper predicate": (
        lambda h, x: lax.cond(tanh(h)[0] > 0, lambda h: -h, lambda h: h, h),
        "2-1",
    ),
    "jit": (lambda h, x: jax.jit(lambda a: tanh(tanh(a) + h))(W @ h), "2-1"),
    "a name that is not the library's": (lambda h, x: softplus(h), "2-1"),
    "not elementwise": (lambda h, x: jnp.exp(h) / jnp.sum(jnp.exp(h)) * jnp.std(h), "2-1"),
    "fori_loop": (lambda h, x: lax.fori_loop(0, 3, lambda _, h: tanh(W @ h), h), "3-1"),
    "scan": (rk_substeps, "3-1"),
    "nested scans": (nested_scans, "12-1"),
    "million turns": (lambda h, x: lax.fori_loop(0, 10**6, lambda _, h: tanh(h), h), "1000000-1"),
    "stacked outputs": (
        lambda h, x: lax.scan(lambda c, _: (tanh(c), c), h, None, length=7)[1][0],
        "6-1",
    ),
    "map": (lambda h, x: lax.map(tanh, h), "1-1"),
    # No bound.
    "until small": (until_small, "inf-1"),
    "turns of the input": (times_of_input(tanh), "inf-1"),
    # Networks.
    "GRU": (gru, "2-1"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_answers(name):
    step, wanted = KNOWN[name]
    assert str(classify(step, ONE, ONE)) == wanted


def test_number_is_an_activation_of_the_state_only():
    """The same program is of another class when its arguments change places."""

    def step(h, x):
        return tanh(tanh(x)) * h

    assert str(classify(step, ONE, ONE)) == "0-1"
    assert str(classify(lambda h, x: step(x, h), ONE, ONE)) == "2-1"


ACTIVATIONS = [jax.nn.relu, jax.nn.relu6, jax.nn.softplus, jax.nn.silu, jax.nn.gelu, jax.nn.elu]
ACTIVATIONS += [jax.nn.celu, jax.nn.selu, jax.nn.leaky_relu, jax.nn.hard_tanh, jax.nn.mish]
ACTIVATIONS += [jax.nn.log_sigmoid, jax.nn.soft_sign, jax.nn.squareplus, jnp.sinc, jnp.nan_to_num]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda f: f.__name__)
def test_a_function_with_a_name_is_one(activation):
    assert str(classify(lambda h, x: activation(W @ h + x), ONE, ONE)) == "1-1"
    assert str(classify(lambda h, x: activation(activation(h)), ONE, ONE)) == "2-1"
    # Of a function it is the second, whatever it is made of.
    assert str(classify(lambda h, x: x * activation(tanh(h)), ONE, ONE)) == "2-1"


def test_more_of_named_functions():
    def exact_gelu(h, x):
        return jax.nn.gelu(h, approximate=False)

    def like_gelu(h, x):
        return 0.5 * h * (1.0 + tanh(0.8 * (h + 0.04 * h**3)))

    assert str(classify(exact_gelu, ONE, ONE)) == "1-1"
    assert str(classify(like_gelu, ONE, ONE)) == "2-1"
    single = jax.ShapeDtypeStruct((H,), jnp.float32)
    assert str(classify(lambda h, x: jax.nn.gelu(h), single, single)) == "1-1"
    assert str(classify(lambda h, x: jnp.clip(h, -1.0, 1.0), ONE, ONE)) == "1-1"
    # Products and sums keep their own rule, though they have a name.
    assert str(classify(lambda h, x: jnp.square(tanh(h)), ONE, ONE)) == "1-1"
    assert str(classify(lambda h, x: jnp.dot(W, h), ONE, ONE)) == "0-1"
    # These mix the units: more than one elementwise function.
    assert classify(lambda h, x: jax.nn.log_softmax(h), ONE, ONE).n > 1


def shift_register(y, x):
    return {"h": y["h"] + tanh(y["v"] + x), "v": y["h"]}


def dead_block(y, x):
    return {"h": tanh(y["h"] + x), "v": y["h"]}


def clock(y, x):
    """A step length and two counters go along; one of them chooses."""
    warm = y["count"] > 3
    h = jnp.where(warm, tanh(y["h"]) * y["length"], x)
    ticks = y["ticks"] + 1
    return {"h": h, "count": y["count"] + 1, "length": 0.9 * y["length"], "ticks": ticks}


CLOCK = {
    "h": ONE,
    "count": jax.ShapeDtypeStruct((), jnp.int32),
    "length": jax.ShapeDtypeStruct((), jnp.float64),
    "ticks": jax.ShapeDtypeStruct((H,), jnp.int32),
}


def delayed(y, x):
    return jnp.concatenate([tanh(y[-1:] @ W + x), y[:-1]])


def modulus(z, x):
    scale = 1 / (1 + jnp.abs(z))
    return lax.complex(scale * z.real + x, scale * z.imag)


def sds(*shape, dtype=jnp.float64):
    return jax.ShapeDtypeStruct(shape, dtype)


STATES = {
    "LSTM": (lstm, (ONE, ONE), "2-2"),
    "oscillator": (oscillator, PAIR, "1-2"),
    "shift register": (shift_register, PAIR, "1-2"),
    "a block that nothing reads": (dead_block, PAIR, "1-1"),
    "a block that is kept": (lambda y, x: {"h": tanh(y["h"]), "v": y["v"]}, PAIR, "1-2"),
    "order does not matter": (lambda y, x: {"v": tanh(y["h"]), "h": y["v"]}, PAIR, "1-2"),
    "counters": (clock, CLOCK, "1-1"),
    "history": (delayed, sds(3, H), "1-3"),
    "complex": (
        lambda z, x: (0.5 + 1j) * z.conj() + lax.complex(x, x),
        sds(H, dtype=jnp.complex128),
        "0-1",
    ),
    "modulus": (modulus, sds(H, dtype=jnp.complex128), "1-1"),
    "parts": (lambda z, x: lax.complex(z.imag, z.real), sds(H, dtype=jnp.complex128), "0-1"),
    "scalars": (lambda y, x: (tanh(y[0] + y[1]), y[0]), (sds(), sds()), "1-2"),
    "number": (lambda y, x: y - y**3, 0.0, "1-1"),
    "no state": (lambda y, x: (), (), "0-0"),
    "empty state": (lambda y, x: y, sds(0), "0-0"),
    "with an output": (lambda y, x: (lstm(y, x), y[0]), (ONE, ONE), "2-2"),
}


@pytest.mark.parametrize("name", STATES)
def test_states_of_all_kinds(name):
    step, y, wanted = STATES[name]
    assert str(classify(step, y, ONE)) == wanted


def test_hidden_size_sets_the_blocks():
    def step(y, x):
        return tanh(y)

    assert classify(step, sds(12), ONE).t == 1
    assert classify(step, sds(12), ONE, hidden_size=4).t == 3
    assert classify(step, sds(12), ONE, hidden_size=24).t == 0


def test_arrays_stand_for_shapes():
    y, x = np.ones(H), jnp.ones(H)
    assert classify(gru, y, x) == classify(gru, ONE, ONE) == Class(2, 1, False)
    assert classify(jax.jit(gru), y, x) == Class(2, 1, False)
    found = []
    jax.jit(lambda y: found.append(classify(gru, y, x)))(y)
    assert found == [Class(2, 1, False)]


# --- Loops -------------------------------------------------------------------------------------


def random_body(rng, size):
    """A loop's body in which every value takes a few functions of others."""
    wiring = rng.integers(0, size, (size, 2))
    depths = rng.choice([0, 0, 0, 1, 2], (size, 2))

    def body(values, mixed):
        after = []
        for pairs, nested in zip(wiring, depths, strict=True):
            terms = [values[j] for j in pairs]
            for k, depth in enumerate(nested):
                for _ in range(depth):
                    terms[k] = tanh(terms[k])
            after.append(terms[0] * terms[1] if mixed else terms[0] + terms[1])
        return after

    return body


@pytest.mark.parametrize("mixed", [False, True], ids=["sums", "products"])
def test_loops_are_counted_as_if_written_out(rng, mixed):
    for _ in range(5):
        size, offset = int(rng.integers(2, 5)), int(rng.integers(0, 9))
        body = random_body(rng, size)

        def begin(h, x, size=size, offset=offset):
            return [h, *[x] * (size - 2), begin_deep(h, offset)]

        def begin_deep(h, offset):
            for _ in range(offset):
                h = tanh(h)
            return h

        def looped(h, x, body=body, begin=begin):
            return lax.scan(lambda c, _: (body(c, mixed), c[0]), begin(h, x), None, length=23)

        def written_out(h, x, body=body, begin=begin):
            values, outputs = begin(h, x), []
            for _ in range(23):
                outputs.append(values[0])
                values = body(values, mixed)
            return values, outputs

        for i in range(size):
            one = [
                classify(lambda h, x, f=f, i=i: f(h, x)[0][i], ONE, ONE)
                for f in (looped, written_out)
            ]
            assert one[0] == one[1]
        stacked = classify(lambda h, x, f=looped: jnp.sum(f(h, x)[1], 0), ONE, ONE)
        assert stacked == classify(lambda h, x, f=written_out: sum(f(h, x)[1]), ONE, ONE)


def test_loops_far_ahead():
    def overtaken(length):
        """One value begins ahead and grows by 1 a turn, the other grows by 2 and feeds it."""

        def body(carry, _):
            slow, fast = carry
            return (tanh(slow) + fast, tanh(tanh(fast))), None

        def step(h, x):
            slow = h
            for _ in range(20):
                slow = tanh(slow)
            return lax.scan(body, (slow, h), None, length=length)[0][0]

        return classify(step, ONE, ONE).n

    # max(20 + turns, 2 (turns - 1)), of which the second takes over after 22 turns.
    assert [overtaken(k) for k in (1, 21, 22, 23, 10**9)] == [21, 41, 42, 44, 2 * (10**9 - 1)]

    def swapping(h, x):
        return lax.fori_loop(0, 10**9, lambda _, c: (c[1], tanh(c[0])), (h, h))[0]

    assert classify(swapping, ONE, ONE).n == 500_000_000


def test_while_loop_marks_what_grows_only():
    def step(y, x):
        def body(carry):
            i, grows, constant, linear = carry
            return i + 1, tanh(grows), tanh(x) * constant, W @ linear

        start = (0.0, y["h"], x, y["v"])
        _, grows, constant, linear = lax.while_loop(lambda c: c[0] < x[0], body, start)
        return {"h": constant + linear, "v": linear}, grows

    assert str(classify(step, PAIR, ONE)) == "0-1"
    assert str(classify(lambda y, x: {"h": step(y, x)[1], "v": y["v"]}, PAIR, ONE)) == "inf-2"


# --- Checks at run time ------------------------------------------------------------------------


@pytest.mark.parametrize("on_error", ["raise", "nan", "off"])
def test_run_time_checks_do_not_count(on_error):
    def checked(h, x):
        h = eqx.error_if(h, jnp.any(tanh(h) > 3), "large", on_error=on_error)
        return W @ h + x

    assert str(classify(checked, ONE, ONE)) == "0-1"
    assert str(classify(eqx.filter_jit(checked), ONE, ONE)) == "0-1"
    assert str(classify(lambda h, x: jax.vmap(checked)(h[None], x[None])[0], ONE, ONE)) == "0-1"


def test_a_reset_does_count():
    def reset(h, x):
        return lax.cond(jnp.any(h > 3), jnp.zeros_like, lambda h: h, h)

    assert str(classify(reset, ONE, ONE)) == "1-1"


# --- Cells -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.CELLS)
def test_zoo_declares_what_is_measured(name, key):
    cell = zoo.CELLS[name](4, 8, key=key)
    assert classify(cell) == (cell.n, cell.t, not cell.method.explicit)
    assert classify(odernn.Layer(cell)) == classify(cell)


LEAKY = fields.Leaky(3, 5, key=jax.random.key(0))
EXPLICIT = [name for name, m in odernn.METHODS.items() if m.explicit and m.fits(LEAKY)]
IMPLICIT = ["linearlyimpliciteuler", "imexeuler", "ars222", "ark3"]


@pytest.mark.parametrize("name", [name for name in EXPLICIT if name != "adaptive"])
def test_explicit_methods_declare_what_is_measured(name):
    cell = odernn.Cell(LEAKY, odernn.METHODS[name], 0.1)
    assert classify(cell) == (cell.n, cell.t, False)


@pytest.mark.parametrize("name", IMPLICIT)
def test_linear_equations_are_measured(name):
    cell = odernn.Cell(LEAKY, odernn.METHODS[name], 0.1)
    assert classify(cell) == (cell.n, cell.t, True)
    plain = classify(lambda y, x: cell(y, x), cell.initial_state(), jnp.zeros(3))
    assert plain == (cell.n, cell.t, False)


def test_an_adaptive_method_takes_more_than_it_declares():
    cell = odernn.Cell(LEAKY, odernn.Adaptive(max_steps=4), 0.1)
    assert classify(cell).n > cell.n == 6


def test_newton_iterations_have_no_bound_and_the_stages_count():
    cell = odernn.Cell(LEAKY, odernn.Gauss(2), 0.1)
    assert classify(lambda y, x: cell(y, x), cell.initial_state(), jnp.zeros(3)) == (None, 1, False)
    assert classify(cell) == (2, 1, True)
    assert str(classify(cell)) == "2-1 (implicit)"


class Rotation(odernn.AbstractField):
    """A linear field."""

    input_size: int = 2
    hidden_size: int = 2
    depth = 0

    def __call__(self, time, y, u):
        return u + jnp.array([[0.0, 1.0], [-1.0, 0.0]]) @ y


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        (odernn.RK4(), "0-1"),
        (odernn.AdamsBashforth(3), "0-3"),
        (odernn.Leapfrog(), "0-2"),
        (odernn.ImplicitMidpoint(), "0-1 (implicit)"),
        (odernn.BDF(2), "0-2 (implicit)"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, odernn.AbstractMethod) else v,
)
@pytest.mark.parametrize("dt", [0.1, odernn.TrainedStep(0.1)], ids=["number", "trained"])
def test_linear_fields_have_no_nonlinearity(method, wanted, dt):
    cell = odernn.Cell(Rotation(), method, dt)
    assert str(classify(cell)) == wanted
    assert cell.n == 0


def test_of_a_linear_equation_the_measure_counts_and_not_the_declaration():
    class Wary(Rotation):
        depth = 1

    cell = odernn.Cell(Wary(), odernn.ImplicitMidpoint(), 0.1)
    assert classify(cell) == (0, 1, True)
    assert cell.n == 1


class Phases(odernn.AbstractField):
    """Hidden units that are the parts of half as many complex numbers."""

    input_size: int = 2
    hidden_size: int = 6

    def __call__(self, time, y, u):
        return 1j * y

    def initial_state(self):
        return jnp.zeros(3, jnp.complex128)


def test_complex_numbers_of_half_the_hidden_size_are_a_block():
    cell = odernn.Cell(Phases(), odernn.Midpoint(), 0.1)
    assert classify(cell).t == cell.t == 1
    assert classify(odernn.Cell(Phases(), odernn.AdamsBashforth(2), 0.1)).t == 2


class Stacked(odernn.AbstractField):
    """Two blocks in one array."""

    input_size: int = 2
    hidden_size: int = 3
    order = 2

    def __call__(self, time, y, u):
        return tanh(y[::-1])

    def initial_state(self):
        return jnp.zeros(6)


def test_the_hidden_size_of_a_cell_is_its_own():
    cell = odernn.Cell(Stacked(), odernn.Leapfrog(), 0.1)
    assert classify(cell) == (cell.n, cell.t, False) == (1, 4, False)


def test_step_lengths_are_no_blocks_even_of_a_single_unit(key):
    cell = odernn.Cell(fields.Leaky(1, 1, key=key), odernn.AdamsBashforth(3), 0.1)
    assert classify(cell) == (cell.n, cell.t, False) == (1, 3, False)


@pytest.mark.parametrize("interpolation", [odernn.LinearInput(), odernn.CubicInput()])
def test_interpolation_changes_nothing(interpolation):
    cell = odernn.Cell(LEAKY, odernn.RK4(), 0.1, interpolation)
    assert str(classify(cell)) == "4-1"


# --- Cells of others ---------------------------------------------------------------------------


def test_equinox(key):
    assert classify(eqx.nn.GRUCell(3, 5, key=key)) == (2, 1, False)
    assert classify(eqx.nn.LSTMCell(3, 5, key=key)) == (2, 2, False)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("GRUCell", "2-1"), ("LSTMCell", "2-2"), ("OptimizedLSTMCell", "2-2"), ("SimpleCell", "1-1")],
)
def test_flax(name, wanted):
    nnx = pytest.importorskip("flax.nnx")
    assert str(classify(getattr(nnx, name)(3, 5, rngs=nnx.Rngs(0)))) == wanted


def test_a_flax_cell_of_ones_own():
    nnx = pytest.importorskip("flax.nnx")

    class Counting(nnx.RNNCellBase):
        def __init__(self):
            self.calls = nnx.Variable(jnp.zeros(()))

        def initialize_carry(self, input_shape, rngs=None, carry_init=None):
            return jnp.zeros(H)

        def __call__(self, carry, inputs):
            self.calls[...] += 1
            return tanh(W @ carry + inputs), None

    cell = Counting()
    assert str(classify(cell, ONE, ONE)) == "1-1"
    assert cell.calls[...] == 0
    with pytest.raises(InputError, match="^y is missing: "):
        classify(cell)


def test_flax_linen():
    linen = pytest.importorskip("flax.linen")
    cell = linen.LSTMCell(5)
    with pytest.raises(InputError, match=r"Linen LSTMCell.*lambda y, x: cell\.apply"):
        classify(cell)
    y, x = (sds(5, dtype=jnp.float32),) * 2, sds(3, dtype=jnp.float32)
    params = jax.eval_shape(cell.init, jax.random.key(0), y, x)
    params = jax.tree.map(lambda a: jnp.ones(a.shape, a.dtype), params)
    assert str(classify(lambda y, x: cell.apply(params, y, x)[0], y, x)) == "2-2"


# --- What is no step ---------------------------------------------------------------------------


def test_a_class_prints_itself():
    assert [str(c) for c in (Class(2, 1), Class(None, 3), Class(1, 2, True))] == [
        "2-1",
        "inf-3",
        "1-2 (implicit)",
    ]


def test_examples_are_needed():
    with pytest.raises(InputError, match="^y is missing: "):
        classify(gru)
    with pytest.raises(InputError, match="^x is missing: .*ShapeDtypeStruct"):
        classify(gru, ONE)


def test_what_is_no_step(key):
    layer = odernn.Layer(zoo.RNN(3, 5, key=key))
    model = odernn.Model([layer], odernn.LastStep(5, 2, key=key))
    with pytest.raises(InputError, match=r"step is a Model: .*model\.layers\[0\]\.cell"):
        classify(model)
    with pytest.raises(InputError, match=r"step is a Bidirectional: .*layer\.forward"):
        classify(odernn.Bidirectional(layer, layer))
    with pytest.raises(InputError, match="step is a float, which takes no step"):
        classify(0.5, ONE, ONE)
    with pytest.raises(InputError, match="step is a RK4, which takes no step"):
        classify(odernn.RK4(), ONE, ONE)
    with pytest.raises(InputError, match="step is a Leaky, which takes no step: give a Cell"):
        classify(LEAKY, ONE, ONE)


@pytest.mark.parametrize(
    "step",
    [
        lambda h, x: h[:2],
        lambda h, x: (h[:2], h),
        lambda h, x: (h, h, h),
        lambda h, x: {"h": h},
        lambda h, x: None,
    ],
)
def test_the_state_must_come_back(step):
    with pytest.raises(InputError, match=r"the step returns .* no state like the one it takes, f"):
        classify(step, ONE, ONE)


@pytest.mark.parametrize("size", [0, -1, 2.0, True])
def test_bad_hidden_size(size):
    with pytest.raises(InputError, match="hidden_size = .* whole number"):
        classify(gru, ONE, ONE, hidden_size=size)


def test_mutable_arrays_are_refused():
    def step(h, x):
        kept = jax.new_ref(jnp.zeros_like(h))
        kept[...] = tanh(h)
        return kept[...]

    with pytest.raises(InputError, match="mutable array"):
        classify(step, ONE, ONE)
