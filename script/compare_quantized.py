"""Compares minim with ONNX Runtime on models that ONNX Runtime's own tools quantized.

Small networks with seeded weights go through quantize_dynamic and quantize_static (QDQ and QOperator
form, per tensor and per channel). 99.9 % of outputs must agree within one quantization step of the
output, or 1e-2 relative. Weights have 7 bits (reduce_range), as ONNX Runtime's documentation asks for
on processors without VNNI, where its products of u8 and s8 saturate in 16 bits. Of an LSTM minim
quantizes the weights only: there it must be no further from the float model than ONNX Runtime is.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static)

minim = sys.argv[1]
rng = np.random.default_rng(3)
ort.set_default_logger_severity(3)


def weight(*dims):
    fan_in = int(np.prod(dims[1:])) or 1
    return (rng.normal(size=dims) * np.sqrt(2.0 / fan_in)).astype(np.float32)


def model(nodes, weights, input_dims, output):
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_dims)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def mlp():
    nodes = [helper.make_node("MatMul", ["x", "w0"], ["h0"]), helper.make_node("Add", ["h0", "b0"], ["a0"]),
             helper.make_node("Relu", ["a0"], ["r0"]),
             helper.make_node("Gemm", ["r0", "w1", "b1"], ["h1"], transB=1),
             helper.make_node("Sigmoid", ["h1"], ["s1"]), helper.make_node("MatMul", ["s1", "w2"], ["y"])]
    weights = {"w0": weight(64, 128), "b0": weight(128), "w1": weight(96, 128), "b1": weight(96),
               "w2": weight(96, 10)}
    return model(nodes, weights, ["N", 64], "y"), (64, 64)


def convolutions():
    nodes = [helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1]),
             helper.make_node("Relu", ["c0"], ["r0"]),
             helper.make_node("MaxPool", ["r0"], ["m0"], kernel_shape=[2, 2], strides=[2, 2]),
             helper.make_node("Conv", ["m0", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], group=8),
             helper.make_node("LeakyRelu", ["c1"], ["r1"], alpha=0.1),
             helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"]),
             helper.make_node("Add", ["c2", "m0"], ["s2"]),
             helper.make_node("GlobalAveragePool", ["s2"], ["g"]), helper.make_node("Flatten", ["g"], ["f"]),
             helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], transB=1)]
    weights = {"w0": weight(8, 3, 3, 3), "b0": weight(8), "w1": weight(8, 1, 3, 3), "b1": weight(8),
               "w2": weight(8, 8, 1, 1), "b2": weight(8), "w3": weight(5, 8), "b3": weight(5)}
    return model(nodes, weights, ["N", 3, 16, 16], "y"), (32, 3, 16, 16)


def recurrent():
    nodes = [helper.make_node("LSTM", ["x", "w", "r", "b"], ["h", "", ""], hidden_size=24),
             helper.make_node("Squeeze", ["h", "one"], ["q"]), helper.make_node("MatMul", ["q", "w1"], ["y"])]
    weights = {"w": weight(1, 96, 12), "r": weight(1, 96, 24), "b": weight(1, 192),
               "one": np.array([1], np.int64), "w1": weight(24, 3)}
    return model(nodes, weights, [10, "N", 12], "y"), (10, 4, 12)


class Reader(CalibrationDataReader):
    def __init__(self, dims):
        self.batches = iter([{"x": sample(dims, seed)} for seed in range(8)])

    def get_next(self):
        return next(self.batches, None)


def sample(dims, seed):
    return np.random.default_rng(100 + seed).normal(size=dims).astype(np.float32)


def variants(path, dims, work):
    dynamic = f"{work}/dynamic.onnx"
    for per_channel in (False, True):
        quantize_dynamic(path, dynamic, per_channel=per_channel, reduce_range=True)
        yield f"dynamic{', per channel' if per_channel else ''}", dynamic
    if len(dims) == 3:
        return  # static quantization leaves LSTM alone
    static = f"{work}/static.onnx"
    for form in (QuantFormat.QDQ, QuantFormat.QOperator):
        for per_channel in (False, True):
            quantize_static(path, static, Reader(dims), quant_format=form, per_channel=per_channel,
                            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=True)
            yield f"static {form.name}{', per channel' if per_channel else ''}", static


def ours(path, x, work):
    np.save(f"{work}/x.npy", x)
    subprocess.run([minim, "run", path, "--input", f"x={work}/x.npy", "--output-dir", work], check=True,
                   stdout=subprocess.DEVNULL)
    return np.load(f"{work}/y.npy")


def theirs(path, x):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


failed = False
with tempfile.TemporaryDirectory() as work:
    for name, make in (("mlp", mlp), ("convolutions", convolutions), ("lstm", recurrent)):
        made, dims = make()
        path = os.path.join(work, "float.onnx")
        onnx.save(made, path)
        for what, file in variants(path, dims, work):
            x = sample(dims, 99)
            a, b = ours(file, x, work), theirs(file, x)
            step = (b.max() - b.min()) / 255
            if name == "lstm":
                exact = theirs(path, x)
                a_error, b_error = np.abs(a - exact).max() / step, np.abs(b - exact).max() / step
                failed |= not a_error <= b_error
                print(f"{name}, {what}: {'ok' if a_error <= b_error else 'FAILED'}: {a_error:.3f} steps from "
                      f"the float model, ONNX Runtime {b_error:.3f}")
                continue
            close = (np.abs(a - b) <= np.maximum(step, 1e-2 * np.abs(b))).mean()
            failed |= close < 0.999
            print(f"{name}, {what}: {'ok' if close >= 0.999 else 'FAILED'}: {close:.3%} agree, largest "
                  f"difference {np.abs(a - b).max() / step:.3f} steps")
sys.exit(int(failed))
