"""A JAX function as an ONNX graph: each primitive of its jaxpr becomes one or a few ONNX operators.

It covers what the networks of this package are made of. A primitive that is missing is named in the error; its
operator belongs in the tables of `exchange.onnx_ops`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend import core

from collectiverl.artifacts.extras import extra
from collectiverl.types import UserError

OPSET, IR_VERSION = 18, 9  # what onnxruntime reads since 1.14 (2023)
BATCH = "n"  # name of the axis of environments, whose length is free
INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # parameters that hold the function of a call
EMPTY = None  # the value of an array without entries
Value = str | np.ndarray | None  # name of a tensor; a constant; EMPTY


class Graph:
    """The operators so far, and the constants that they read."""

    def __init__(self, batch: Any, batched: str):
        """`batch` is the symbol for the number of environments, `batched` a tensor whose first axis has it."""
        self.onnx = extra("onnx", "onnx")
        self.batch, self.batched = batch, batched
        self.nodes: list[Any] = []
        self.constants: dict[tuple[Any, ...], tuple[str, np.ndarray]] = {}

    def op(self, kind: str, *inputs: Value, outputs: int = 1, **attributes: Any) -> Any:
        """Adds an operator; the name of its output, or a list of names."""
        names = [f"{kind.lower()}_{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        read = [self.name(value) for value in inputs]
        self.nodes.append(self.onnx.helper.make_node(kind, read, names, **attributes))
        return names[0] if outputs == 1 else names

    def name(self, value: Value) -> str:
        """The tensor's name; a constant gets one, the same for equal constants."""
        assert value is not None  # EMPTY has no name
        if isinstance(value, str):
            return value
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        return self.constants.setdefault(key, (f"constant_{len(self.constants)}", array))[0]

    def integers(self, values: Sequence[Any]) -> Value:
        """A vector of int64: a constant, unless it has the number of environments in it."""
        if all(isinstance(value, int) for value in values):
            return np.asarray(values, np.int64)
        count = self.op("Shape", self.batched, start=0, end=1)
        parts = [
            np.asarray([v], np.int64) if isinstance(v, int) else self._times(count, v // self.batch)
            for v in values
        ]
        return self.op("Concat", *parts, axis=0)

    def _times(self, count: str, factor: int) -> str:
        return count if factor == 1 else self.op("Mul", count, np.asarray([factor], np.int64))


def to_onnx(
    function: Callable[..., Sequence[jax.Array]],
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Sequence[str],
    metadata: Mapping[str, str],
) -> Any:
    """An ONNX model of a function of float arrays, whose first axis is the number of environments.

    Args:
        inputs: shapes of the arguments for one environment, by the names that the model gives them.
        outputs: names of the results.
        metadata: key and value pairs that the model carries.

    Raises:
        UserError: the function has a primitive that has no translation, or onnx is not installed.
    """
    (batch,) = export.symbolic_shape(BATCH)
    shapes = [jax.ShapeDtypeStruct((batch, *shape), jnp.float32) for shape in inputs.values()]
    closed = jax.jit(function).trace(*shapes).jaxpr
    graph = Graph(batch, next(iter(inputs)))
    found = run(graph, closed.jaxpr, [np.asarray(c) for c in closed.consts], list(inputs))
    for name, value in zip(outputs, found, strict=True):
        graph.nodes.append(graph.onnx.helper.make_node("Identity", [graph.name(value)], [name]))
    helper, kind = graph.onnx.helper, graph.onnx.TensorProto.FLOAT

    def described(name: str, shape: Sequence[Any]) -> Any:
        return helper.make_tensor_value_info(name, kind, [BATCH, *shape[1:]])

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            [described(name, (batch, *shape)) for name, shape in inputs.items()],
            [described(n, v.aval.shape) for n, v in zip(outputs, closed.jaxpr.outvars, strict=True)],
            [graph.onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.values()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="collectiverl",
    )
    helper.set_model_props(model, dict(metadata))
    graph.onnx.checker.check_model(model, full_check=True)
    return model


def run(graph: Graph, jaxpr: Any, consts: Sequence[Value], args: Sequence[Value]) -> list[Value]:
    """Adds the operators of a jaxpr; its results."""
    from collectiverl.exchange.onnx_ops import OPS  # it adds operators to a `Graph`

    values: dict[Any, Value] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

    def read(atom: Any) -> Value:
        return np.asarray(atom.val) if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        given = [read(atom) for atom in equation.invars]
        shapes = [variable.aval.shape for variable in equation.outvars]
        name, inner = equation.primitive.name, next((p for p in INNER if p in equation.params), None)
        if all(0 in shape for shape in shapes):
            found: Any = [EMPTY] * len(shapes)
        elif name == "scan":
            found = _unrolled(graph, equation, given)
        elif inner:
            found = _called(graph, equation.params[inner], given)
        elif _is_known(given, shapes):
            found = _computed(equation, given)
        elif name in OPS:
            found = OPS[name](graph, equation, given)
        else:
            raise UserError(
                f"--format onnx: there is no ONNX operator for JAX's {name} yet; choose --format jax"
            )
        found = found if isinstance(found, list) else [found]
        values |= dict(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _called(graph: Graph, function: Any, given: Sequence[Value]) -> list[Value]:
    """A call is replaced by what it calls."""
    if hasattr(function, "consts"):
        return run(graph, function.jaxpr, [np.asarray(c) for c in function.consts], given)
    return run(graph, function, (), given)


def _is_known(given: Sequence[Value], shapes: Sequence[tuple[Any, ...]]) -> bool:
    static = all(isinstance(size, int) for shape in shapes for size in shape)
    return static and all(isinstance(value, np.ndarray) for value in given)


def _computed(equation: Any, given: Sequence[Any]) -> list[Value]:
    """What depends on weights alone is computed now."""
    found = equation.primitive.bind(*map(jnp.asarray, given), **equation.params)
    return [np.asarray(x) for x in (found if equation.primitive.multiple_results else [found])]


def _unrolled(graph: Graph, equation: Any, given: list[Value]) -> list[Value]:
    """A loop of a known number of steps, one step after another."""
    params = equation.params
    first, length, body = params["num_consts"], params["length"], params["jaxpr"]
    consts, rest = given[:first], given[first:]
    carry, columns = rest[: params["num_carry"]], rest[params["num_carry"] :]
    rows: list[list[Value]] = []
    for i in range(length):
        place = length - 1 - i if params["reverse"] else i
        found = _called(graph, body, [*consts, *carry, *(_row(graph, c, place) for c in columns)])
        carry = found[: params["num_carry"]]
        rows.append(found[params["num_carry"] :])
    if params["reverse"]:
        rows.reverse()
    return [*carry, *(_stacked(graph, column) for column in zip(*rows, strict=True))]


def _row(graph: Graph, column: Value, place: int) -> Value:
    if isinstance(column, np.ndarray):
        return column[place]
    return graph.op("Gather", column, np.asarray(place, np.int64), axis=0)


def _stacked(graph: Graph, column: Sequence[Value]) -> Value:
    rows = [graph.op("Unsqueeze", row, np.asarray([0], np.int64)) for row in column]
    return graph.op("Concat", *rows, axis=0)
