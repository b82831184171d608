"""Compares minim's answers on com.microsoft's operators with ONNX Runtime's, call by call.

Floats must agree to 1e-5 of the largest element, quantized tensors to one step. The dynamically
quantized LSTM must stay within 5 %: ONNX Runtime rounds its activations, minim does not.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

minim = sys.argv[1]
rng = np.random.default_rng(7)


def f32(*shape, low=-1.0, high=1.0):
    return rng.uniform(low, high, shape).astype(np.float32)


def ints(dtype, *shape, low=None, high=None):
    info = np.iinfo(dtype)
    low, high = info.min if low is None else low, info.max if high is None else high
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)


def i32(*values):
    return np.array(values, np.int32)


def scale(value):
    return np.array(value, np.float32)


def u8(value):
    return np.array(value, np.uint8)


def i8(value):
    return np.array(value, np.int8)


def normalisations():
    x, s, g, b, c = f32(2, 3, 8), f32(2, 3, 8), f32(8), f32(8), f32(8)
    yield "SkipLayerNormalization", [x, s, g, b, c], 4, {}, (0, 3)
    yield "SkipLayerNormalization", [x, f32(1, 3, 8), g], 1, {"epsilon": 0.01}
    yield "SkipSimplifiedLayerNormalization", [x, s, g, c], 4, {}, (0, 3)
    yield ".SimplifiedLayerNormalization", [x, g], 2, {"axis": -1, "epsilon": 1e-5}
    ids, words = ints(np.int32, 2, 3, low=0, high=8), [f32(9, 8), f32(6, 8)]
    segments = ints(np.int32, 2, 3, low=0, high=1)
    mask = i32([1, 1, 0], [1, 1, 1])
    yield "EmbedLayerNormalization", [ids, segments, *words, f32(2, 8), g, b, mask], 3, {}
    yield "EmbedLayerNormalization", [ids, None, *words, None, g, b, None, i32([2, 1, 0], [3, 4, 5])], 2, {}


def attention():
    x, w, b = f32(2, 3, 8), f32(8, 24), f32(24)
    mask = i32([1, 1, 0], [1, 0, 1])
    yield "Attention", [x, w, b, mask], 1, {"num_heads": 2}
    yield "Attention", [x, w, b, i32(2, 3)], 1, {"num_heads": 4}
    yield "Attention", [x, w, b, i32(3, 2, 1, 0)], 1, {"num_heads": 2}
    yield "Attention", [x, w, b], 1, {"num_heads": 2, "unidirectional": 1, "scale": 0.3}
    yield "Attention", [x, f32(8, 20), f32(20)], 1, {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 4]}
    past = f32(2, 2, 2, 4, 4)
    yield "Attention", [x, w, b, None, past], 2, {"num_heads": 2, "unidirectional": 1}
    yield "Attention", [x, w, b, mask, None, f32(2, 2, 3, 3)], 1, {"num_heads": 2}
    q, k, v = f32(2, 3, 8), f32(2, 5, 8), f32(2, 5, 12)
    keys = i32([1, 1, 1, 0, 0], [1, 1, 1, 1, 1])
    yield "MultiHeadAttention", [q, k, v, f32(28), keys], 1, {"num_heads": 2}
    yield "MultiHeadAttention", [q, k, v, None, i32(3, 5)], 1, {"num_heads": 4, "mask_filter_value": -50.0}
    qx, qw = ints(np.uint8, 2, 3, 8), ints(np.int8, 8, 24, low=-60, high=60)
    yield "QAttention", [qx, qw, b, scale(0.01), scale(0.02), i32(3, 2), u8(120), i8(0)], 1, {"num_heads": 2}
    heads = f32(2, 2, 4, 4), f32(2, 2, 4, 4)
    yield "MultiHeadAttention", [q, f32(2, 3, 8), f32(2, 3, 8), None, None, f32(1, 2, 3, 7), *heads], 3, {
        "num_heads": 2, "unidirectional": 1}
    yield "MultiHeadAttention", [q, f32(2, 2, 5, 4), f32(2, 2, 5, 4)], 1, {"num_heads": 2}


def grouped():
    two = {"num_heads": 4, "kv_num_heads": 2}
    caches = [f32(16, 8), f32(16, 8)]
    q, k, v = f32(2, 5, 64), f32(2, 5, 32), f32(2, 5, 32)
    past = [f32(2, 2, 6, 16), f32(2, 2, 6, 16)]
    token = [f32(2, 1, 64), f32(2, 1, 32), f32(2, 1, 32)]
    none, total = [None, None], lambda n: np.array([n], np.int32)
    yield "GroupQueryAttention", [q, k, v, *none, i32(4, 4), total(5)], 3, two
    yield "GroupQueryAttention", [*token, *past, i32(6, 6), total(7)], 3, two
    yield "GroupQueryAttention", [*token, *past, i32(6, 3), total(7)], 3, two
    yield "GroupQueryAttention", [q, k, v, *none, i32(4, 4), total(5), *caches], 3, {
        **two, "do_rotary": 1, "local_window_size": 2, "softcap": 3.0}
    yield "GroupQueryAttention", [*token, *past, i32(6, 3), total(7), *caches], 3, {
        **two, "do_rotary": 1, "rotary_interleaved": 1, "local_window_size": 3, "scale": 0.4}
    yield "GroupQueryAttention", [f32(2, 5, 128), *none, *none, i32(4, 4), total(5), *caches], 3, {
        **two, "do_rotary": 1}
    yield "GroupQueryAttention", [*token, *past, i32(6, 6), total(7)], 3, {**two, "smooth_softmax": 1}
    x, positions = f32(2, 3, 5, 16), ints(np.int64, 2, 5, low=0, high=15)
    yield "RotaryEmbedding", [x, positions, *caches], 1, {}
    yield "RotaryEmbedding", [f32(2, 5, 48), np.array([3], np.int64), *caches], 1, {"interleaved": 1}


def quantized():
    a, b = ints(np.uint8, 3, 8), ints(np.uint8, 8)
    pair = [a, scale(0.02), u8(120), b, scale(0.03), u8(110), scale(0.05), u8(128)]
    signed = [ints(np.int8, 3, 8), scale(0.02), i8(3), ints(np.int8, 3, 8), scale(0.03), i8(-5), scale(0.05), i8(1)]
    for op in "QLinearAdd", "QLinearMul":
        yield op, pair, 1, {}
        yield op, signed, 1, {}
    one = [a, scale(0.03), u8(120)]
    yield "QLinearSigmoid", [*one, scale(1 / 256), u8(0)], 1, {}
    yield "QLinearLeakyRelu", [*one, scale(0.02), u8(100)], 1, {"alpha": 0.1}
    yield "QLinearSoftmax", [*one, scale(1 / 256), u8(0)], 1, {"axis": -1, "opset": 13}
    yield "QLinearConcat", [scale(0.04), u8(100), *one, a[:, :2], scale(0.05), u8(3)], 1, {"axis": 1}
    image = [ints(np.uint8, 1, 3, 6, 6), scale(0.03), u8(120), scale(0.02), u8(100)]
    yield "QLinearGlobalAveragePool", image, 1, {"channels_last": 0}
    yield "QLinearAveragePool", image, 1, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0]}
    last = [ints(np.uint8, 1, 6, 6, 3), *image[1:]]
    yield "QLinearGlobalAveragePool", last, 1, {"channels_last": 1}
    weights = ints(np.int8, 4, 3, 3, 3, low=-60, high=60), f32(4, low=0.01, high=0.02), np.zeros(4, np.int8)
    bias = ints(np.int32, 4, low=-999, high=999)
    yield "QLinearConv", [*last[:3], *weights, scale(0.2), u8(100), bias], 1, {
        "channels_last": 1, "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    yield "NhwcMaxPool", [last[0]], 1, {"kernel_shape": [3, 3], "strides": [2, 2]}
    yield "QuantizeLinear", [f32(3, 4), scale(0.01), u8(120)], 1, {}
    yield "DequantizeLinear", [a, scale(0.01), u8(120)], 1, {}
    w = ints(np.int8, 8, 5, low=-60, high=60)  # in the range that does not saturate 16 bits
    yield "DynamicQuantizeMatMul", [f32(3, 8), w, f32(5, low=0.01, high=0.02), None, f32(5)], 1, {}
    yield "MatMulIntegerToFloat", [a, w, scale(0.02), f32(5, low=0.01, high=0.02), u8(120), None, f32(5)], 1, {}
    x, zeros = f32(3, 40), ints(np.uint8, 6, 2)
    packed = [ints(np.uint8, 6, 3, 8), f32(6, 3, low=0.01, high=0.02)]
    small = {"N": 6, "K": 40, "block_size": 16, "bits": 4}
    yield "MatMulNBits", [x, *packed], 1, small
    yield "MatMulNBits", [x, *packed, zeros, None, f32(6)], 1, small
    yield "MatMulNBits", [x, ints(np.uint8, 6, 3, 16), packed[1], ints(np.uint8, 6, 3)], 1, {**small, "bits": 8}
    gemm = [a, scale(0.02), u8(120), ints(np.int8, 5, 8, low=-60, high=60), scale(0.03), i8(0), ints(np.int32, 5, low=-99, high=99)]
    yield "QGemm", [*gemm, scale(0.2), u8(128)], 1, {"transB": 1}
    yield "QGemm", gemm, 1, {"transB": 1}
    lstm = [f32(4, 2, 6), ints(np.int8, 1, 6, 20, low=-60, high=60), ints(np.int8, 1, 5, 20, low=-60, high=60), f32(1, 40), None, None, None, None,
            f32(1, 20, low=0.005, high=0.01), np.zeros((1, 20), np.int8), scale([0.008]), np.zeros(1, np.int8)]
    yield "DynamicQuantizeLSTM", lstm, 3, {"hidden_size": 5}


def fused():
    yield "FusedMatMul", [f32(2, 4, 3), f32(2, 5, 4)], 1, {"transA": 1, "transB": 1, "alpha": 0.5}
    yield "FusedMatMul", [f32(2, 4, 3), f32(5, 4, 3)], 1, {"transBatchA": 1, "transBatchB": 1, "transB": 1}
    yield "FusedGemm", [f32(3, 4), f32(4, 5), f32(5)], 1, {"activation": "Relu"}
    yield "FusedConv", [f32(1, 2, 6, 6), f32(4, 2, 3, 3), f32(4)], 1, {
        "activation": "LeakyRelu", "activation_params": [0.1], "pads": [1, 1, 1, 1]}
    for op in "Gelu", "QuickGelu", "FastGelu":
        yield op, [f32(3, 8, low=-4, high=4)], 1, {}
    yield "BiasGelu", [f32(3, 8), f32(8)], 1, {}


def model_of(op, inputs, outputs):
    """One node; total_sequence_length and quantized weights are constants as exporters write them."""
    def value(name, array):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
    given = {f"x{i}": array for i, array in enumerate(inputs) if array is not None}
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    return given, names, results, value


def run_both(op, inputs, outputs, attributes, named, work):
    domain = "" if op.startswith(".") else "com.microsoft"
    given, names, results, value = model_of(op, inputs, outputs)
    results = [name if i in named else "" for i, name in enumerate(results)]
    node = helper.make_node(op.lstrip("."), names, results, domain=domain, **attributes)
    constants = [name for name in given if len(given) > 2 and name not in ("x0", "x1", "x2", "x3", "x4")]
    if op == "DynamicQuantizeLSTM":
        constants += ["x1", "x2"]
    graph = helper.make_graph(
        [node], "case", [value(name, array) for name, array in given.items() if name not in constants],
        [helper.make_empty_tensor_value_info(name) for name in results if name],
        [onnx.numpy_helper.from_array(given[name], name) for name in constants])
    model = helper.make_model(graph, ir_version=9, opset_imports=[
        helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])
    path = os.path.join(work, "model.onnx")
    onnx.save(model, path)
    feeds = {name: array for name, array in given.items() if name not in constants}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    theirs = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds)
    command = [minim, "run", path, "--output-dir", work]
    for name, array in feeds.items():
        np.save(f"{work}/{name}.npy", array)
        command += ["--input", f"{name}={work}/{name}.npy"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return [np.load(f"{work}/{name}.npy") for name in results if name], theirs


def distance(op, ours, theirs):
    """The largest difference, and whether it is small enough."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return f"{ours.dtype}{ours.shape}, not {theirs.dtype}{theirs.shape}", False
    error = np.abs(ours.astype(np.float64) - theirs).max(initial=0)
    if ours.dtype.kind in "iu":
        return f"{error:g} steps", error <= 1
    bound = 0.05 if op == "DynamicQuantizeLSTM" else 1e-5
    return f"{error:.1e}", error <= bound * max(1.0, np.abs(theirs).max(initial=0))


def main():
    failed = 0
    for family in normalisations, attention, grouped, quantized, fused:
        for number, (op, inputs, outputs, attributes, *named) in enumerate(family()):
            with tempfile.TemporaryDirectory() as work:
                try:
                    ours, theirs = run_both(op, inputs, outputs, attributes, named[0] if named else range(outputs), work)
                except subprocess.CalledProcessError as error:
                    failed += 1
                    print(f"FAILED {op} {attributes}: {error.stderr.strip()}")
                    continue
                except Exception as error:  # ONNX Runtime refuses the call: nothing to compare with
                    print(f"skipped {op} {attributes}: {str(error).splitlines()[0][:200]}")
                    continue
            for i, (mine, other) in enumerate(zip(ours, theirs)):
                text, good = distance(op, mine, other)
                failed += not good
                print(f"{'ok' if good else 'FAILED'} {family.__name__} {number} {op} output {i}: {text}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
