"""Programs as ONNX graphs: a step, blocks of one length, or a loop over any length."""

from typing import Any

import numpy as np

from .._support.optional import optional_import
from ._program import Program
from ._program_forms import blocks, one_step

_OPSET, _IR = 20, 9


class _Tensor:
    """A named result of a graph, with the operators of arithmetic."""

    def __init__(self, graph: "Namespace", name: str) -> None:
        self.graph, self.name = graph, name

    def __add__(self, other: "_Tensor") -> "_Tensor":
        return self.graph.node("Add", self, other)

    def __sub__(self, other: "_Tensor") -> "_Tensor":
        return self.graph.node("Sub", self, other)

    def __mul__(self, other: "_Tensor") -> "_Tensor":
        return self.graph.node("Mul", self, other)

    def __truediv__(self, other: "_Tensor") -> "_Tensor":
        return self.graph.node("Div", self, other)


class Namespace:
    """Nodes and constants of one graph, with the functions that the forms of programs use (see `_torch_forms`)."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix  # of all names: those of a loop's body must not be those around it
        self.onnx = optional_import("onnx", "export")
        self.nodes: list[Any] = []
        self.constants: dict[tuple, Any] = {}

    def node(self, kind: str, *inputs: _Tensor, **attributes: Any) -> _Tensor:
        """One more node with one result."""
        name = f"{self.prefix}v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, [x.name for x in inputs], [name], **attributes))
        return _Tensor(self, name)

    def constant(self, array: Any, dtype: Any = np.float32) -> _Tensor:
        """A constant; equal ones are one."""
        values = np.array(array, dtype, order="C")
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self.constants:
            self.constants[key] = self.onnx.numpy_helper.from_array(values, f"{self.prefix}c{len(self.constants)}")
        return _Tensor(self, self.constants[key].name)

    def _sizes(self, *numbers: int) -> _Tensor:
        return self.constant(np.array(numbers), np.int64)

    def matmul(self, x: _Tensor, y: _Tensor) -> _Tensor:
        return self.node("MatMul", x, y)

    def gelu(self, x: _Tensor, approximate: str) -> _Tensor:
        return self.node("Gelu", x, approximate=approximate)

    def norm(self, x: _Tensor, scale: _Tensor, shift: _Tensor, eps: float) -> _Tensor:
        return self.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=eps)

    def sigmoid(self, x: _Tensor) -> _Tensor:
        return self.node("Sigmoid", x)

    def tanh(self, x: _Tensor) -> _Tensor:
        return self.node("Tanh", x)

    def relu(self, x: _Tensor) -> _Tensor:
        return self.node("Relu", x)

    def concat(self, parts: list[_Tensor]) -> _Tensor:
        return self.node("Concat", *parts, axis=-1)

    def _cut(self, x: _Tensor, start: int, stop: int, axis: int) -> _Tensor:
        return self.node("Slice", x, self._sizes(start), self._sizes(stop), self._sizes(axis))

    def part(self, x: _Tensor, start: int, stop: int) -> _Tensor:
        return self._cut(x, start, stop, -1)

    def mean_of_time(self, x: _Tensor) -> _Tensor:
        return self.node("ReduceMean", x, self._sizes(1), keepdims=0)

    def sum_groups(self, x: _Tensor, groups: int, axis: int) -> _Tensor:
        split = self.node("Reshape", x, self._sizes(*(0,) * axis, groups, -1))
        return self.node("ReduceSum", split, self._sizes(axis), keepdims=0)

    def _zeros(self, x: _Tensor, before: int, behind: int) -> _Tensor:
        return self.node("Pad", x, self._sizes(0, before, 0, 0, behind, 0))

    def padded(self, x: _Tensor, count: int) -> _Tensor:
        return self._zeros(x, 0, count)

    def in_blocks(self, x: _Tensor, count: int, size: int) -> _Tensor:
        return self.node("Reshape", x, self._sizes(0, count, size, -1))

    def in_rows(self, x: _Tensor, length: int, wanted: int) -> _Tensor:
        return self._cut(self.node("Reshape", x, self._sizes(0, length, -1)), 0, wanted, 1)

    def cumulative(self, x: _Tensor) -> _Tensor:
        return self.node("CumSum", x, self.constant(np.array(2), np.int64))

    def last(self, x: _Tensor) -> _Tensor:
        return self.node("Squeeze", self._cut(x, -1, 2**31 - 1, 2), self._sizes(2))

    def spread(self, x: _Tensor) -> _Tensor:
        return self.node("Unsqueeze", x, self._sizes(2))

    def shifted(self, x: _Tensor, count: int, length: int) -> _Tensor:
        return self._cut(self._zeros(x, count, 0), 0, length, 1)

    def graph(self, name: str, inputs: list[Any], outputs: list[Any]) -> Any:
        """The graph with these inputs and outputs."""
        return self.onnx.helper.make_graph(self.nodes, name, inputs, outputs, list(self.constants.values()))

    def taken(self, name: str) -> _Tensor:
        """An input of the graph."""
        return _Tensor(self, self.prefix + name)

    def named(self, x: _Tensor, name: str) -> None:
        """Give a result the name of an output."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [x.name], [self.prefix + name]))


def model(program: Program, form: str, length: int | None) -> Any:
    """The ONNX model of a program in a form; see `export_onnx`."""
    onnx = optional_import("onnx", "export")
    graph = {"step": step_graph, "blocks": block_graph, "scan": scan_graph}[form](program, length)
    made = onnx.helper.make_model(
        graph, producer_name="ssmreduce", ir_version=_IR, opset_imports=[onnx.helper.make_opsetid("", _OPSET)]
    )
    onnx.checker.check_model(made)
    return made


def step_graph(program: Program, length: int | None = None, prefix: str = "") -> Any:
    """``u`` (batch, width) and ``state`` (batch, states) to ``y`` and ``next_state``."""
    xp = Namespace(prefix)
    y, state = one_step(program, xp, xp.taken("u"), xp.taken("state"))
    xp.named(state, "next_state")
    xp.named(y, "y")
    inputs = [_real(xp, "u", "batch", program.width), _real(xp, "state", "batch", program.states)]
    outputs = [_real(xp, "y", "batch", program.outputs), _real(xp, "next_state", "batch", program.states)]
    return xp.graph("step", inputs, outputs)


def block_graph(program: Program, length: int | None) -> Any:
    """``u`` (batch, length, width) to ``y``."""
    assert length is not None
    xp = Namespace()
    xp.named(blocks(program, xp, xp.taken("u"), length), "y")
    shape = ("batch",) if program.pooled else ("batch", length)
    return xp.graph(
        "blocks", [_real(xp, "u", "batch", length, program.width)], [_real(xp, "y", *shape, program.outputs)]
    )


def scan_graph(program: Program, length: int | None = None) -> Any:
    """``u`` (batch, length, width) of any length to ``y``, by a loop over the steps."""
    body, xp = _scan_body(program), Namespace()
    u = xp.taken("u")
    batch = xp.node("Slice", xp.node("Shape", u), xp._sizes(0), xp._sizes(1))
    zeros = xp.node("ConstantOfShape", xp.node("Concat", batch, xp._sizes(program.states), axis=0))
    axes = {"scan_input_axes": [1], "scan_output_axes": [1]}
    loop = xp.onnx.helper.make_node("Scan", [zeros.name, "u"], ["last", "steps"], num_scan_inputs=1, body=body, **axes)
    xp.nodes.append(loop)
    found = xp.taken("steps")
    if program.pooled:
        found = xp.node("Squeeze", xp._cut(found, -1, 2**31 - 1, 1), xp._sizes(1))
    xp.named(found, "y")
    shape = ("batch",) if program.pooled else ("batch", "length")
    inputs = [_real(xp, "u", "batch", "length", program.width)]
    return xp.graph("scan", inputs, [_real(xp, "y", *shape, program.outputs)])


def _scan_body(program: Program) -> Any:
    """The step with its states first, as a loop takes them."""
    step = step_graph(program, prefix="step_")
    ordered = [step.input[1], step.input[0]], [step.output[1], step.output[0]]
    return optional_import("onnx", "export").helper.make_graph(
        list(step.node), "step", *ordered, list(step.initializer)
    )


def _real(xp: Namespace, name: str, *shape: Any) -> Any:
    return xp.onnx.helper.make_tensor_value_info(xp.prefix + name, xp.onnx.TensorProto.FLOAT, shape)
