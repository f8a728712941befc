"""ONNX operators for JAX's primitives: a table, and a function for each one that is not one operator."""

from collections.abc import Callable, Sequence
from string import ascii_lowercase
from typing import Any

import numpy as np

from collectiverl.exchange.onnx_graph import EMPTY, Graph, Value
from collectiverl.types import UserError

Op = Callable[[Graph, Any, list[Value]], Any]  # of the graph, JAX's equation, and the values that it reads


def _axes(values: Sequence[int]) -> np.ndarray:
    return np.asarray(values, np.int64)


def _same(kind: str) -> Op:
    return lambda graph, equation, given: graph.op(kind, *given)


def _nothing(graph: Graph, equation: Any, given: list[Value]) -> Value:
    return given[0]


# -- elementwise ---------------------------------------------------------------------------------------------


def _ne(graph: Graph, equation: Any, given: list[Value]) -> Value:
    if given[0] is given[1]:  # how JAX asks whether a number is nan
        return graph.op("IsNaN", given[0])
    return graph.op("Not", graph.op("Equal", *given))


def _select(graph: Graph, equation: Any, given: list[Value]) -> Value:
    which, no, yes = given
    return graph.op("Where", which, yes, no)


def _cast(graph: Graph, equation: Any, given: list[Value]) -> Value:
    new = np.dtype(equation.params["new_dtype"])
    if equation.invars[0].aval.dtype == new:
        return given[0]
    return graph.op("Cast", given[0], to=graph.onnx.helper.np_dtype_to_tensor_dtype(new))


def _power(graph: Graph, equation: Any, given: list[Value]) -> Value:
    exponent = equation.params.get("y", 2)  # of `integer_pow`; `square` has none
    if exponent == 2:
        return graph.op("Mul", given[0], given[0])
    return graph.op("Pow", given[0], np.array(exponent, np.float32))


def _clamp(graph: Graph, equation: Any, given: list[Value]) -> Value:
    low, x, high = given
    return graph.op("Min", graph.op("Max", x, low), high)


# -- shapes --------------------------------------------------------------------------------------------------


def _reshape(graph: Graph, equation: Any, given: list[Value]) -> Value:
    sizes = [size if isinstance(size, int) else -1 for size in equation.outvars[0].aval.shape]
    return graph.op("Reshape", given[0], _axes(sizes))


def _broadcast(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """New axes of length 1, then the lengths that differ."""
    shape, kept = equation.outvars[0].aval.shape, equation.params["broadcast_dimensions"]
    old = equation.invars[0].aval.shape
    x, new = given[0], [axis for axis in range(len(shape)) if axis not in kept]
    if new:
        x = graph.op("Unsqueeze", x, _axes(new))
    before = dict(zip(kept, old, strict=True))
    wanted = [1 if before.get(axis, 1) == size else size for axis, size in enumerate(shape)]
    if all(isinstance(size, int) and size == 1 for size in wanted):
        return x
    return graph.op("Expand", x, graph.integers(wanted))


def _transpose(graph: Graph, equation: Any, given: list[Value]) -> Value:
    return graph.op("Transpose", given[0], perm=list(equation.params["permutation"]))


def _squeeze(graph: Graph, equation: Any, given: list[Value]) -> Value:
    return graph.op("Squeeze", given[0], _axes(equation.params["dimensions"]))


def _concatenate(graph: Graph, equation: Any, given: list[Value]) -> Value:
    parts = [value for value in given if value is not EMPTY]
    return graph.op("Concat", *parts, axis=equation.params["dimension"])


def _stack(graph: Graph, equation: Any, given: list[Value]) -> Value:
    axis = equation.params["axis"]
    return graph.op("Concat", *(graph.op("Unsqueeze", value, _axes([axis])) for value in given), axis=axis)


def _split(graph: Graph, equation: Any, given: list[Value]) -> list[Value]:
    """Parts of length 0 are left out."""
    sizes, axis = equation.params["sizes"], equation.params["axis"]
    some = [size for size in sizes if size]
    names = [given[0]] if len(some) == 1 else None
    left = iter(names or graph.op("Split", given[0], _axes(some), outputs=len(some), axis=axis))
    return [next(left) if size else EMPTY for size in sizes]


def _slice(graph: Graph, equation: Any, given: list[Value]) -> Value:
    params, old = equation.params, equation.invars[0].aval.shape
    return _sliced(graph, given[0], old, params["start_indices"], params["limit_indices"], params["strides"])


def _dynamic_slice(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Where the place is known, as in an unrolled loop."""
    x, *places = given
    if not all(isinstance(place, np.ndarray) for place in places):
        raise UserError("--format onnx: a place in an array that depends on the input cannot be exported yet")
    old, sizes = equation.invars[0].aval.shape, equation.params["slice_sizes"]
    starts = [int(place) if isinstance(size, int) else 0 for place, size in zip(places, sizes, strict=True)]  # type: ignore[arg-type]
    limits = [s + n if isinstance(n, int) else n for s, n in zip(starts, sizes, strict=True)]
    return _sliced(graph, x, old, starts, limits, None)


def _sliced(graph: Graph, x: Value, old: Any, starts: Any, limits: Any, strides: Any) -> Value:
    steps = strides or (1,) * len(old)
    cut = [a for a in range(len(old)) if starts[a] != 0 or limits[a] != old[a] or steps[a] != 1]
    bounds = ([part[axis] for axis in cut] for part in (starts, limits))
    return graph.op("Slice", x, *map(_axes, bounds), _axes(cut), _axes([steps[a] for a in cut])) if cut else x


def _gather(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Entries along one axis, by a list of their places, `x[..., places, :]`; or one slice at a known place."""
    how, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    x, places = given
    if isinstance(places, np.ndarray) and places.ndim == 1 and not how.operand_batching_dims:
        return _slice_at(graph, equation, x, places)
    shape = equation.invars[0].aval.shape
    if not how.collapsed_slice_dims and not how.operand_batching_dims:
        return _row_at(graph, equation, x, places)
    (axis,) = how.start_index_map
    whole = all(size == shape[a] for a, size in enumerate(sizes) if a != axis)
    if how.collapsed_slice_dims != (axis,) or how.operand_batching_dims or sizes[axis] != 1 or not whole:
        raise UserError(f"--format onnx: this kind of indexing cannot be exported yet ({how})")
    last = equation.invars[1].aval.ndim - 1
    if isinstance(places, np.ndarray):
        index: Value = places.astype(np.int64).squeeze(-1)
    else:
        index = graph.op("Squeeze", places, _axes([last]))
    found = graph.op("Gather", x, index, axis=axis)
    # ONNX puts the axes of the list where the old axis was, JAX where `offset_dims` leaves room
    count = equation.outvars[0].aval.ndim
    listed = [a for a in range(count) if a not in how.offset_dims]
    placed = iter(range(axis, axis + last))
    kept = iter([*range(axis), *range(axis + last, count)])
    order = [next(placed) if a in listed else next(kept) for a in range(count)]
    return found if order == sorted(order) else graph.op("Transpose", found, perm=order)


def _row_at(graph: Graph, equation: Any, x: Value, places: Value) -> Value:
    """What a dynamic slice of length 1 along the first axis becomes when its place differs by environment."""
    how, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    shape, count = equation.invars[0].aval.shape, equation.outvars[0].aval.ndim
    last = equation.invars[1].aval.ndim - 1
    behind = how.offset_dims == tuple(range(last, count))
    if how.start_index_map[0] != 0 or sizes != (1, *shape[1:]) or not behind:
        raise UserError(f"--format onnx: this kind of indexing cannot be exported yet ({how})")
    first = graph.op("Gather", places, np.zeros((), np.int64), axis=last)  # the others can only be 0
    return graph.op("Unsqueeze", graph.op("Gather", x, first, axis=0), _axes([last]))


def _slice_at(graph: Graph, equation: Any, x: Value, places: np.ndarray) -> Value:
    """What a dynamic slice becomes when it is mapped over environments."""
    how, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    old = equation.invars[0].aval.shape
    starts, limits = [0] * len(old), list(sizes)
    for axis, place in zip(how.start_index_map, places, strict=True):
        starts[axis] = min(max(int(place), 0), old[axis] - sizes[axis])
        limits[axis] = starts[axis] + sizes[axis]
    found = _sliced(graph, x, old, starts, limits, None)
    gone = how.collapsed_slice_dims
    return graph.op("Squeeze", found, _axes(gone)) if gone else found


# -- sums ----------------------------------------------------------------------------------------------------


def _reduce(kind: str) -> Op:
    return lambda graph, equation, given: graph.op(kind, given[0], _axes(equation.params["axes"]), keepdims=0)


def _argmax(graph: Graph, equation: Any, given: list[Value]) -> Value:
    (axis,) = equation.params["axes"]
    kind = graph.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(equation.params["index_dtype"]))
    return graph.op("Cast", graph.op("ArgMax", given[0], axis=axis, keepdims=0), to=kind)


def _products(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Any product of two arrays is an Einsum."""
    (left, right), (batch_left, batch_right) = equation.params["dimension_numbers"]
    letters, ranks = iter(ascii_lowercase), [atom.aval.ndim for atom in equation.invars]
    names: list[dict[int, str]] = [{}, {}]
    for pairs in (zip(batch_left, batch_right, strict=True), zip(left, right, strict=True)):
        for a, b in pairs:
            names[0][a] = names[1][b] = next(letters)
    free = [[axis for axis in range(rank) if axis not in names[i]] for i, rank in enumerate(ranks)]
    for i, axes in enumerate(free):
        names[i] |= {axis: next(letters) for axis in axes}
    terms = ["".join(names[i][axis] for axis in range(rank)) for i, rank in enumerate(ranks)]
    out = "".join([*(names[0][a] for a in batch_left), *(names[i][a] for i in (0, 1) for a in free[i])])
    return graph.op("Einsum", *given, equation=f"{terms[0]},{terms[1]}->{out}")


NAMES = {  # of operators, for primitives that are one
    **{
        name: name.title() for name in ("add", "sub", "mul", "div", "max", "min", "pow", "neg", "abs", "sign")
    },
    **{
        name: name.title()
        for name in ("exp", "log", "sqrt", "tanh", "sin", "cos", "asinh", "and", "or", "not")
    },
    **{"add_any": "Add", "logistic": "Sigmoid", "eq": "Equal", "lt": "Less", "gt": "Greater"},
    **{"le": "LessOrEqual", "ge": "GreaterOrEqual"},
}
OPS: dict[str, Op] = {
    **{name: _same(kind) for name, kind in NAMES.items()},
    "rsqrt": lambda graph, _, given: graph.op("Reciprocal", graph.op("Sqrt", given[0])),
    "log1p": lambda graph, _, given: graph.op("Log", graph.op("Add", given[0], np.ones((), np.float32))),
    "ne": _ne,
    "select_n": _select,
    "convert_element_type": _cast,
    "integer_pow": _power,
    "square": _power,
    "clamp": _clamp,
    "stop_gradient": _nothing,
    "copy": _nothing,
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "concatenate": _concatenate,
    "stack": _stack,
    "split": _split,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "argmax": _argmax,
    "dot_general": _products,
}
