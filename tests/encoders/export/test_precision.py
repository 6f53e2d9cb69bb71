"""Reduced graphs keep their names and float32 ends, round what they should and nothing else, and give nearly the same vectors."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.bundle.canaries import synthetic_clips
from encoders.bundle.card import read_card
from encoders.export.precision import REDUCED, reduce_precision

HALF = TensorProto.FLOAT16


def run(model, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, inputs)[0]


def types_of(model):
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize("reduced", REDUCED)
def test_products_run_in_half_and_norms_in_single(exported_bundle, reduced):
    for name in ("video.onnx", "text.onnx", "fusion.onnx"):
        before = onnx.load(exported_bundle / name)
        after = reduce_precision(before, "fp16", reduced=reduced)
        onnx.checker.check_model(after, full_check=True)
        types = types_of(after)
        seen = set()
        for node in after.graph.node:
            found = {types[one] for one in (*node.input, *node.output) if one}
            if node.op_type in ("MatMul", "Gemm", "Conv"):
                assert found == {HALF}, node.name
            if node.op_type in ("LayerNormalization", "ReduceL2", "ReduceMean"):
                assert HALF not in found, node.name
            if (
                node.op_type == "Softmax"
            ):  # without a cast on either side an attention can be one kernel
                assert (found == {HALF}) == (reduced == "most"), node.name
            seen |= {node.op_type} if HALF in found else set()
        rounded = "Relu" if name == "fusion.onnx" else "Gelu"
        assert (rounded in seen) == (reduced == "most")
        assert [one.name for one in after.graph.input] == [one.name for one in before.graph.input]
        assert types[after.graph.output[0].name] == TensorProto.FLOAT


@pytest.mark.parametrize("reduced", REDUCED)
def test_half_precision_moves_the_vectors_a_little(exported_bundle, reduced):
    frames = synthetic_clips(read_card(exported_bundle).sampling, 3, name="reduced")
    model = onnx.load(exported_bundle / "video.onnx")
    expected = run(model, {"frames": frames})
    found = run(reduce_precision(model, "fp16", reduced=reduced), {"frames": frames})
    difference = np.abs(found - expected).max()
    assert 1e-6 < difference < 5e-3
    same = run(reduce_precision(model, "fp32"), {"frames": frames})
    np.testing.assert_array_equal(same, expected)


def test_every_uint8_tensor_is_cast_at_the_input(exported_bundle):
    after = reduce_precision(onnx.load(exported_bundle / "video.onnx"), "fp32")
    types = types_of(after)
    assert [name for name, element in types.items() if element == TensorProto.UINT8] == ["frames"]
    (user,) = [node for node in after.graph.node if "frames" in node.input]
    assert user.op_type == "Cast"


def small_graph(weight, *, op="MatMul"):
    value = helper.make_tensor_value_info
    return helper.make_model(
        helper.make_graph(
            [helper.make_node(op, ["x", "w"], ["y"], name="one")],
            "small",
            [value("x", TensorProto.FLOAT, ["n", 2])],
            [value("y", TensorProto.FLOAT, ["n", 2])],
            initializer=[numpy_helper.from_array(np.asarray(weight, np.float32), "w")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )


def test_weights_that_half_cannot_hold_become_its_largest_and_bf16_keeps_them():
    weight = [[-3e38, 1.0], [0.1, 70000.0]]
    after = reduce_precision(small_graph(weight), "fp16")
    (kept,) = after.graph.initializer
    np.testing.assert_array_equal(
        numpy_helper.to_array(kept), np.array([[-65504, 1], [0.1, 65504]], np.float16)
    )
    (kept,) = reduce_precision(small_graph(weight), "bf16").graph.initializer
    assert kept.data_type == TensorProto.BFLOAT16
    np.testing.assert_allclose(numpy_helper.to_array(kept).astype(np.float64), weight, rtol=2**-8)


def test_an_elementwise_graph_without_products_is_left_alone():
    before = small_graph([[1.0, 2.0]], op="Add")
    assert reduce_precision(before, "fp16").graph.node == before.graph.node


def test_unknown_precisions_and_control_flow_are_refused():
    with pytest.raises(ValueError, match="precision is 'int8'"):
        reduce_precision(small_graph([[1.0, 2.0]]), "int8")
    with pytest.raises(ValueError, match="reduced is 'all'"):
        reduce_precision(small_graph([[1.0, 2.0]]), "fp16", reduced="all")
    value = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])
    constant = helper.make_node(
        "Constant", [], ["z"], value=numpy_helper.from_array(np.ones(1, np.float32))
    )
    branch = helper.make_graph([constant], "branch", [], [value])
    node = helper.make_node(
        "If", ["c"], ["z"], name="choice", then_branch=branch, else_branch=branch
    )
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("c", TensorProto.BOOL, [])], [value]
    )
    with pytest.raises(ValueError, match="'choice'"):
        reduce_precision(helper.make_model(graph), "fp16")
