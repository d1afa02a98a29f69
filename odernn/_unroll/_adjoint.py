"""The state adjoint through time, and one batched product for all parameters."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from .._results import InputError
from .._typing import PyTree, State
from ._base import AbstractUnroll, Prepare, Step, in_parts, read, steps, together, write
from ._linear import Program, evaluate, fold, inner_program, turned

_STATES = "odernn_adjoint_states"
_BLOCK_VALUES = 2**17
"""Values of an example that a block may have: with more of them shorter blocks are faster."""
_SECOND_ORDER = (
    "Adjoint() gives first derivatives in reverse mode only: take Scan() for higher derivatives."
)


class Adjoint(AbstractUnroll):
    """Solve for the adjoint of the state alone through time; all parameters follow at once.

    With the loss l and ``a_k = dl / dy_k``, the loop backwards is ``a_k = (dl/dy_k direct) +
    J_k^T a_{k+1}``; the gradient of the parameters is the one batched product
    ``sum_k a_{k+1}^T dPhi(y_k, x_k) / dtheta``, computed outside the loop.

    The forward pass stores the states only. Going back, block by block, the local derivatives of
    all steps of a block are recomputed in one batched call and folded into few factors; then the
    loop runs; then come the products for the parameters. Memory: the states, and the local
    derivatives of one block. Gradients equal those of ``Scan()`` to rounding.

    **Arguments**: ``block``, the number of steps of a block, about: the library prefers an
    equal division near it, and shorter blocks where a step alone has very many values (the
    synapses of a liquid network). Raises ``InputError`` unless it is a whole number of at least 1.
    Reverse mode and first derivatives only.
    """

    block: int = eqx.field(static=True, default=32)

    def __check_init__(self):
        if isinstance(self.block, bool) or not isinstance(self.block, int) or self.block < 1:
            raise InputError(f"block = {self.block!r}: give a whole number of steps.")

    def __call__(
        self, step: Step, prepare: Prepare, y0: State, inputs: PyTree
    ) -> tuple[State, State]:
        local = LocalStep(step, y0, eqx.filter_eval_shape(prepare, inputs))
        run = jax.checkpoint(
            partial(run_block, local, prepare),
            prevent_cse=False,
            policy=_keep_states,
        )
        wanted = min(self.block, max(1, _BLOCK_VALUES // local.values))
        return in_parts(run, y0, inputs, block_size(steps(inputs), wanted))


def block_size(length: int, wanted: int) -> int:
    """A size near the wanted one that divides the length, else the wanted one."""
    if length <= 2 * wanted:
        return length
    near = sorted(range(wanted // 2 + 1, 2 * wanted), key=lambda size: abs(size - wanted))
    return next((size for size in near if length % size == 0), wanted)


def _kept(states: jax.Array) -> jax.Array:
    """Mark states to be stored; complex ones in two parts, as JAX can only store real numbers."""
    if not jnp.iscomplexobj(states):
        return checkpoint_name(states, _STATES)
    return lax.complex(*(checkpoint_name(a, _STATES) for a in (states.real, states.imag)))


def _keep_states(primitive: Any, /, *_: Any, **parameters: Any) -> bool:
    """The policy of what is stored. JAX's own trips over operations with a parameter ``prim``."""
    return primitive.name == "name" and parameters["name"] == _STATES


class LocalStep:
    """A step taken apart: parameters by themselves, products with them, and the rest.

    ``constants`` are all values that depend on parameters only (skew parts, stacked weights),
    computed once. A *head* is a product of one of them with a value that depends on the state; the
    gradient of such a constant is a product of the adjoint at the head with that value, which
    JAX batches over all steps (and over a ``vmap`` outside). Constants that are used in another
    way (damping, step size) are *shared*: each step gives them a gradient of their own shape.
    """

    def __init__(self, step: Step, y0: State, prepared: PyTree):
        self.step = step
        parameters, static = eqx.partition(step, eqx.is_array)
        v = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), prepared)
        self.state_tree = jax.tree.structure(y0)

        def call(parameters, y, v):
            after = eqx.combine(parameters, static)(y, v)
            same = jax.tree.structure(after) == self.state_tree
            shapes = same and [(a.shape, a.dtype) for a in jax.tree.leaves(after)] == [
                (a.shape, a.dtype) for a in jax.tree.leaves(y)
            ]
            if not shapes:
                raise InputError(
                    "the step returns a state of another structure, shape or dtype than it takes: "
                    f"{_describe(y)} became {_describe(after)}."
                )
            return jax.tree.leaves(after)

        closed = jax.make_jaxpr(call)(parameters, y0, v)
        self.program, self.constants = _hoist(
            closed, jax.tree.leaves(parameters), jax.tree.leaves((y0, v))
        )
        self.heads, self.shared = _heads(self.program, self.constants)
        # A matrix that is contracted along its rows is differentiated in transposed form: XLA
        # computes that gradient without a copy of the adjoints in another order.
        self.turned = [turned(eqn, p, along=0) for p, _, eqn in self.heads.values()]
        self.matrices = [
            self.constants[i] if other is None else self.constants[i].T
            for (_, i, _), other in zip(self.heads.values(), self.turned, strict=True)
        ]

    @property
    def values(self) -> int:
        """Number of values that a step computes, at least one."""
        variables: list[Any] = [v for eqn in self.program.eqns for v in eqn.outvars]
        return max(1, sum(math.prod(v.aval.shape) for v in variables))

    def evaluate(
        self, constants: list, y: list, v: list, offsets: list, shared: list | None = None
    ) -> tuple[list, list]:
        """Return the next state and the operand of every head; offsets are added to the heads.

        ``shared`` stands in for the shared constants, except in heads: what a constant contributes
        there is counted by the head.
        """
        outside = list(constants)
        for i, value in zip(self.shared, shared or [], strict=shared is not None):
            outside[i] = value
        variables = self.program.invars
        environment = dict(zip(variables, [*outside, *y, *v], strict=True))
        operands: list = []
        for eqn in self.program.eqns:
            values = [x.val if isinstance(x, Literal) else environment[x] for x in eqn.invars]
            if id(eqn) in self.heads:
                position, index, _ = self.heads[id(eqn)]
                values[position] = constants[index]
                operands.append(values[1 - position])
                results = [evaluate(eqn, values)[0] + offsets[len(operands) - 1]]
            else:
                results = evaluate(eqn, values)
            environment.update(zip(eqn.outvars, results, strict=True))
        outvars = self.program.outvars
        return [x.val if isinstance(x, Literal) else environment[x] for x in outvars], operands

    def head(self, i: int, matrix: Any, operand: Any) -> Any:
        """The product of head ``i``, with ``matrices[i]``."""
        position, _, eqn = list(self.heads.values())[i]
        values = [matrix, operand] if position == 0 else [operand, matrix]
        return evaluate(self.turned[i] or eqn, values)[0]

    def linearise(self, constants: list, y: list, v: list) -> tuple[list, list, Program]:
        """Return the folded transposed derivative of a step: coefficients, operands, program.

        Operands are what each parameter matrix is multiplied with. The program takes the adjoint of
        the next state and gives those of: state, drive, shared constants, heads.
        """
        inexact = [_is_inexact(x) for x in v]
        offsets = [
            jnp.zeros(e.outvars[0].aval.shape, e.outvars[0].aval.dtype)
            for _, _, e in self.heads.values()
        ]

        def function(y, floats, shared, offsets):
            floats = iter(floats)
            drive = [next(floats) if f else x for x, f in zip(v, inexact, strict=True)]
            return self.evaluate(constants, y, drive, offsets, shared)

        floats = [x for x, f in zip(v, inexact, strict=True) if f]
        shared = [constants[i] for i in self.shared]
        after, pull, operands = jax.vjp(function, y, floats, shared, offsets, has_aux=True)
        closed = jax.make_jaxpr(lambda *a: jax.tree.leaves(pull(list(a))))(*after)
        coefficients, program = fold(closed)
        return coefficients, operands, program


def run_block(
    local: LocalStep, prepare: Prepare, y_in: State, inputs: PyTree, known: State | None = None
) -> tuple[State, State]:
    """Run a block of steps: a plain loop whose gradient is the adjoint's.

    Returns (last state, states). Where the states are ``known`` already, no loop is run.

    The loop itself is cut off from differentiation. The gradient enters through ``_attach``: it
    hands the adjoint of every step to the values that the step was made of, and these are computed
    from parameters and drive by ordinary batched operations, which JAX differentiates. In the
    forward pass those values are not used and the compiler drops them.
    """
    cut = lax.stop_gradient
    prepared = prepare(inputs)
    size = steps(inputs)
    y_leaves, v_leaves = jax.tree.leaves(y_in), jax.tree.leaves(prepared)
    if known is None:
        states = loop(local, cut(local.constants), cut(y_leaves), cut(v_leaves), size)
    else:
        states = cut(jax.tree.leaves(known))
    states = [_kept(a) for a in states]
    before = [
        jnp.concatenate([y[None], s[:-1]]) for y, s in zip(cut(y_leaves), states, strict=True)
    ]

    coefficients, operands, varying, program = _linearisation(
        local, cut(local.constants), before, cut(v_leaves)
    )

    floats = [v for v in v_leaves if _is_inexact(v)]
    shared = [
        jnp.broadcast_to(local.constants[i], (size, *local.constants[i].shape))
        for i in local.shared
    ]
    heads = [
        jax.vmap(partial(local.head, i), in_axes=(None, 0))(matrix, cut(operand))
        for i, (matrix, operand) in enumerate(zip(local.matrices, operands, strict=True))
    ]
    attach = _attach(program, varying)
    out = attach(y_leaves, floats, shared, heads, together(states), cut(coefficients))
    tree = local.state_tree
    return jax.tree.unflatten(tree, [a[-1] for a in out]), jax.tree.unflatten(tree, out)


def loop(local: LocalStep, constants: list, y: list, v: list, size: int) -> list:
    """Return the states after each step of a block, stacked."""
    none = [jnp.zeros((), e.outvars[0].aval.dtype) for _, _, e in local.heads.values()]
    buffers = [jnp.zeros((size, *leaf.shape), leaf.dtype) for leaf in y]

    def body(carry, k):
        y, buffers = carry
        y, _ = local.evaluate(constants, y, read(v, k), none)
        return (y, write(buffers, y, k)), None

    (_, buffers), _ = lax.scan(body, (y, buffers), jnp.arange(size))
    return buffers


def _attach(program: Program, varying: list[bool]) -> Callable:
    """Return ``attach(y_in, drive, shared, heads, states, coefficients) -> states``.

    Its backward pass solves for the adjoint of the state and gives each step's share of it to the
    step's drive, shared constants and heads.
    """

    def pick(coefficients, k):
        return [read(c, k) if v else c for c, v in zip(coefficients, varying, strict=True)]

    @jax.custom_vjp
    def attach(y_in, drive, shared, heads, states, coefficients):
        return states

    def forward(y_in, drive, shared, heads, states, coefficients):
        return states, (coefficients, (y_in, drive, shared, heads))

    def backward(saved, adjoints):
        coefficients, arguments = saved
        # The coefficients are cut off from differentiation, so a second derivative would be wrong
        # without a word: what they were made of must not be differentiated again.
        eqxi.nondifferentiable(arguments, msg=_SECOND_ORDER)
        size = adjoints[0].shape[0]
        y, *rest = map(len, arguments)

        def body(carry, k):
            adjoint, buffers = carry
            total = [a + read(b, k) for a, b in zip(adjoint, adjoints, strict=True)]
            earlier = program(pick(coefficients, k), total)[:y]
            return (earlier, write(buffers, total, k)), None

        start = [jnp.zeros(a.shape[1:], a.dtype) for a in adjoints]
        buffers = [jnp.zeros_like(a) for a in adjoints]
        (first, totals), _ = lax.scan(body, (start, buffers), jnp.arange(size), reverse=True)
        axes = [0 if v else None for v in varying]
        results = jax.vmap(program, in_axes=(axes, 0))(coefficients, totals)[y:]
        first, results = eqxi.nondifferentiable((first, results), msg=_SECOND_ORDER)
        groups = []
        for count in rest:
            groups.append(results[:count])
            results = results[count:]
        return first, *groups, None, None

    attach.defvjp(forward, backward)
    return attach


def _hoist(closed: ClosedJaxpr, parameters: list, rest: list) -> tuple[Jaxpr, list]:
    """Evaluate what depends on parameters only; return the rest as a program of the results."""
    arguments = len(parameters)
    flat = jax.make_jaxpr(lambda *a: _inline(closed, a))(*parameters, *rest)
    variables = flat.jaxpr.invars
    known = dict(
        zip(
            [*flat.jaxpr.constvars, *variables[:arguments]],
            [*flat.consts, *parameters],
            strict=True,
        )
    )
    remaining = []
    for eqn in flat.jaxpr.eqns:
        if all(isinstance(v, Literal) or v in known for v in eqn.invars) and not eqn.effects:
            values = [v.val if isinstance(v, Literal) else known[v] for v in eqn.invars]
            known.update(zip(eqn.outvars, evaluate(eqn, values), strict=True))
        else:
            remaining.append(eqn)
    used = {v for eqn in remaining for v in eqn.invars if not isinstance(v, Literal)}
    used |= {v for v in flat.jaxpr.outvars if not isinstance(v, Literal)}
    needed = [v for v in known if v in used]

    def program(*values):
        environment = dict(zip([*needed, *variables[arguments:]], values, strict=True))
        return _execute(remaining, environment, flat.jaxpr.outvars)

    constants = [known[v] for v in needed]
    return jax.make_jaxpr(program)(*constants, *rest).jaxpr, constants


def _execute(eqns: list, environment: dict, outvars: list) -> list:
    """Evaluate equations, nested ``jit`` calls in place."""

    def get(v):
        return v.val if isinstance(v, Literal) else environment[v]

    for eqn in eqns:
        values = [get(v) for v in eqn.invars]
        inner = inner_program(eqn)
        results = evaluate(eqn, values) if inner is None else _inline(inner, values)
        environment.update(zip(eqn.outvars, results, strict=True))
    return [get(v) for v in outvars]


def _inline(closed: ClosedJaxpr, values) -> list:
    variables = [*closed.jaxpr.constvars, *closed.jaxpr.invars]
    environment = dict(zip(variables, [*closed.consts, *values], strict=True))
    return _execute(closed.jaxpr.eqns, environment, closed.jaxpr.outvars)


def _heads(program: Jaxpr, constants: list) -> tuple[dict, list[int]]:
    """Find the products with constants; return them and the constants used in another way.

    A constant that JAX does not trace needs no gradient and is left out.

    Heads are a dict from the equation's identity to (position of the constant among the operands,
    index of the constant, equation).
    """
    index = {
        v: i
        for i, (v, value) in enumerate(zip(program.invars, constants, strict=False))
        if isinstance(value, Tracer) and _is_inexact(value)
    }
    heads: dict[int, tuple[int, int, Any]] = {}
    shared: set[int] = set()
    for eqn in program.eqns:
        held = [
            (p, index[v])
            for p, v in enumerate(eqn.invars)
            if not isinstance(v, Literal) and v in index
        ]
        if eqn.primitive.name == "dot_general" and len(held) == 1:
            heads[id(eqn)] = (*held[0], eqn)
        else:
            shared |= {i for _, i in held}
    shared |= {index[v] for v in program.outvars if not isinstance(v, Literal) and v in index}
    return heads, sorted(shared)


def _linearisation(
    local: LocalStep, constants: list, before: list, v: list
) -> tuple[list, list, list[bool], Program]:
    """Linearise all steps of a block in one batched call.

    Returns coefficients, operands, which coefficients depend on state or drive (the others are the
    same for all steps and are computed once), and the program they belong to.
    """
    box: list[Program] = []

    def residuals(constants, y, v):
        coefficients, operands, program = local.linearise(constants, y, v)
        box.append(program)
        return coefficients, operands

    one = [[jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for a in stack] for stack in (before, v)]
    closed, shapes = jax.make_jaxpr(residuals, return_shape=True)(constants, *one)
    count = len(shapes[0])
    varying = _varying(closed.jaxpr, len(constants))[:count]
    outward = [0 if vary else None for vary in varying] + [0] * len(shapes[1])
    inward = [None] * len(constants) + [0] * (len(before) + len(v))
    run = jax.vmap(lambda *a: jaxpr_as_fun(closed)(*a), inward, outward)
    values = run(*constants, *before, *v)
    return values[:count], values[count:], varying, box[0]


def _varying(jaxpr: Jaxpr, fixed: int) -> list[bool]:
    """Tell which results depend on arguments after the first ``fixed``."""
    depends = set(jaxpr.invars[fixed:])
    for eqn in jaxpr.eqns:
        if any(not isinstance(x, Literal) and x in depends for x in eqn.invars):
            depends.update(eqn.outvars)
    return [not isinstance(x, Literal) and x in depends for x in jaxpr.outvars]


def _is_inexact(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.inexact)


def _describe(state: State) -> str:
    return str(jax.tree.map(lambda a: f"{a.dtype}{list(a.shape)}", state))
