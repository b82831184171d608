"""Builds small ONNX graphs with seeded He-normal weights."""
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference

OPSET = 20  # the first with Gelu, which every peer fuses from there


class Net:
    """One graph under construction: `node` appends an operator and returns its output's name."""

    def __init__(self, seed):
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.nodes, self.weights, self.count = [], [], 0

    def name(self, stem):
        self.count += 1
        return f"{stem}_{self.count}"

    def const(self, values, dtype=np.float32):
        name = self.name("w")
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def he(self, *dims, fan_in):
        return self.const(self.rng.standard_normal(dims) * np.sqrt(2.0 / fan_in))

    def near(self, value, *dims):
        """Biases and scales as training leaves them: near a value, none of them equal."""
        return self.const(value + 0.1 * self.rng.standard_normal(dims))

    def node(self, op, *inputs, outputs=1, **attributes):
        names = [self.name(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def linear(self, x, columns, rows):
        """MatMul + Add on the last axis, as PyTorch exports a Linear of a sequence."""
        product = self.node("MatMul", x, self.he(columns, rows, fan_in=columns))
        return self.node("Add", product, self.near(0, rows))

    def gemm(self, x, columns, rows):
        return self.node("Gemm", x, self.he(rows, columns, fan_in=columns), self.near(0, rows), transB=1)

    def conv(self, x, channels, filters, size=3, stride=1):
        return self.node("Conv", x, self.he(filters, channels, size, size, fan_in=channels * size * size),
                         self.near(0, filters), pads=[size // 2] * 4, strides=[stride] * 2,
                         kernel_shape=[size] * 2)

    def reshape(self, x, *dims):
        return self.node("Reshape", x, self.const(dims, np.int64))

    def model(self, input_dims, output, output_dims):
        """One input `x` and one output `y`; the leading dim of both is the symbol N."""
        self.nodes.append(helper.make_node("Identity", [output], ["y"]))
        graph = helper.make_graph(
            self.nodes, "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *input_dims])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", *output_dims])], self.weights)
        model = helper.make_model(graph, ir_version=9, opset_imports=[
            helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)])
        checker.check_model(model)
        return shape_inference.infer_shapes(model)
