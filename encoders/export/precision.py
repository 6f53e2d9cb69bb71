"""Converts a float32 graph to lower precision: casts around what may be rounded; norms stay in float32.

Softmax is rounded with the elementwise work: casts around it would keep TensorRT from fusing an attention into one kernel, which
sums in float32 within. `products` leaves it in float32.

TensorRT builds strongly typed networks only (since release 11), so the precision must stand in the graph itself. It also takes
uint8 only where it is cast at once, so frames are cast at the input.
"""

from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from encoders.bundle.engine_records import REDUCED, Precision, Reduced

_ELEMENT_TYPE = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_FP16_MAX = float(np.finfo(np.float16).max)
_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})
# Run in low precision where an input comes from a product; what leads to a product stays exact until there.
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Relu", "Gelu", "Erf", "Sigmoid", "Softmax", "Tanh"})
# Move numbers and compute nothing: they take the type of what they move.
_MOVES = frozenset(
    {"Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Concat", "Expand", "Gather", "Split"}
    | {"Identity", "Flatten"}
)


def reduce_precision(
    model: ModelProto, precision: Precision, *, reduced: Reduced = "most"
) -> ModelProto:
    """A new graph with the same inputs, outputs and float32 results; ValueError for control flow and missing types."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision is {precision!r}; choose one of {get_args(Precision)}")
    if reduced not in REDUCED:
        raise ValueError(f"reduced is {reduced!r}; choose one of {REDUCED}")
    rewriter = _Rewriter(model, _ELEMENT_TYPE.get(precision), reduced)
    for node in model.graph.node:
        rewriter.add(node)
    return rewriter.finish()


class _Rewriter:
    """Walks the nodes in order. A float tensor exists as `name` (float32), `name__low`, or both with a cast between."""

    def __init__(self, model: ModelProto, low_type: int | None, reduced: Reduced) -> None:
        self._model = model
        self._low_type = low_type
        self._elementwise = _ELEMENTWISE if reduced == "most" else frozenset()
        self._types = _element_types(model)
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._low_weights: list[TensorProto] = []
        self._nodes: list[NodeProto] = []
        self._native_low: set[str] = set()
        self._available: set[str] = set(self._weights)
        self._renamed: dict[str, str] = {}
        for value in model.graph.input:
            self._available.add(value.name)
            if value.type.tensor_type.elem_type == TensorProto.UINT8:
                self._cast_input(value.name)

    def add(self, node: NodeProto) -> None:
        """Take a node over, in the precision that its kind and its inputs ask for."""
        if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
            raise ValueError(f"node {node.name!r} ({node.op_type}) holds a graph of its own")
        is_low = self._low_type is not None and self._runs_low(node)
        new = NodeProto()
        new.CopyFrom(node)
        del new.input[:], new.output[:]
        new.input.extend(self._input(name, is_low=is_low) for name in node.input)
        for name in node.output:
            if is_low and self._is_float(name):
                self._native_low.add(name)
                name = _low(name)
            new.output.append(name)
            self._available.add(name)
        self._nodes.append(new)

    def finish(self) -> ModelProto:
        for value in self._model.graph.output:
            self._input(value.name, is_low=False)
        used = {name for node in self._nodes for name in node.input}
        kept = [tensor for name, tensor in self._weights.items() if name in used]
        graph = helper.make_graph(
            self._nodes,
            self._model.graph.name,
            list(self._model.graph.input),
            list(self._model.graph.output),
            initializer=[*kept, *self._low_weights],
        )
        return helper.make_model(
            graph,
            opset_imports=list(self._model.opset_import),
            ir_version=self._model.ir_version,
            producer_name=self._model.producer_name,
        )

    def _runs_low(self, node: NodeProto) -> bool:
        if node.op_type in _PRODUCTS:
            return all(self._is_float(name) for name in node.input if name)
        floats = [name for name in node.input if name and self._is_float(name)]
        if node.op_type in self._elementwise:
            return any(name in self._native_low for name in floats)
        moved = [name for name in floats if name not in self._weights]
        return node.op_type in _MOVES and bool(moved) and set(moved) <= self._native_low

    def _input(self, name: str, *, is_low: bool) -> str:
        name = self._renamed.get(name, name)
        if not name or not self._is_float(name):
            return name
        wanted = _low(name) if is_low else name
        if wanted in self._available:
            return wanted
        if is_low and name in self._weights:
            self._low_weights.append(self._rounded(self._weights[name]))
        else:
            source, element = (name, self._low_type) if is_low else (_low(name), TensorProto.FLOAT)
            self._nodes.append(
                helper.make_node("Cast", [source], [wanted], name=f"{wanted}__cast", to=element)
            )
        self._available.add(wanted)
        return wanted

    def _rounded(self, weight: TensorProto) -> TensorProto:
        values = numpy_helper.to_array(weight)
        if self._low_type == TensorProto.FLOAT16:
            values = np.clip(values, -_FP16_MAX, _FP16_MAX)  # -3e38 stands for "masked"
        assert self._low_type is not None
        dtype = helper.tensor_dtype_to_np_dtype(self._low_type)
        return numpy_helper.from_array(values.astype(dtype), _low(weight.name))

    def _cast_input(self, name: str) -> None:
        """uint8 -> float32 at once; every later uint8 tensor is then float32, and its own cast changes nothing."""
        floats = f"{name}__float"
        self._renamed[name] = floats
        self._types[floats] = TensorProto.FLOAT
        self._available.add(floats)
        self._nodes.append(
            helper.make_node("Cast", [name], [floats], name=f"{floats}__cast", to=TensorProto.FLOAT)
        )
        for other, element in self._types.items():
            if element == TensorProto.UINT8 and other != name:
                self._types[other] = TensorProto.FLOAT

    def _is_float(self, name: str) -> bool:
        name = self._renamed.get(name, name)
        if name not in self._types:
            raise ValueError(f"the graph says no type of tensor {name!r}")
        return self._types[name] == TensorProto.FLOAT


def _low(name: str) -> str:
    return f"{name}__low"


def _element_types(model: ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    values: Iterable[Sequence] = (graph.input, graph.value_info, graph.output)
    types = {value.name: value.type.tensor_type.elem_type for group in values for value in group}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}
