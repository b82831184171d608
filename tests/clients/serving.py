"""A running `minim serve` with small models, for the tests of clients beside this file.

The models: identity_FP32 and so on for every datatype, add_sub, cnn, a softmax over rows of any
length, one whose rows cannot be put together, and one with a blank in its name.
"""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MINIM = os.environ.get("MINIM_BINARY", "build/release/minim")

DTYPES = {
    "BOOL": (TensorProto.BOOL, np.bool_), "BYTES": (TensorProto.STRING, np.object_),
    "UINT8": (TensorProto.UINT8, np.uint8), "UINT16": (TensorProto.UINT16, np.uint16),
    "UINT32": (TensorProto.UINT32, np.uint32), "UINT64": (TensorProto.UINT64, np.uint64),
    "INT8": (TensorProto.INT8, np.int8), "INT16": (TensorProto.INT16, np.int16),
    "INT32": (TensorProto.INT32, np.int32), "INT64": (TensorProto.INT64, np.int64),
    "FP16": (TensorProto.FLOAT16, np.float16), "BF16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    "FP32": (TensorProto.FLOAT, np.float32), "FP64": (TensorProto.DOUBLE, np.float64),
}
NOT_AS_JSON = ("FP16", "BF16")


def sample(datatype):
    """Two rows of three values that try the datatype's ends."""
    if datatype == "BYTES":
        return np.array([[b"", b"one", b"x" * 70], [b"a\0b", "\u00e9".encode(), b"6"]],
                        dtype=object)
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    numpy_type = DTYPES[datatype][1]
    if "INT" in datatype:
        info = np.iinfo(numpy_type)
        return np.array([[info.min, 0, 1], [2, 3, info.max]], dtype=numpy_type)
    return np.array([[-1.5, 0, 0.25], [1e4, 3, -0.0]]).astype(numpy_type)


def save(root, name, nodes, inputs, outputs, weights=(), version=1):
    infos = [[helper.make_tensor_value_info(*value) for value in values]
             for values in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", *infos,
                              [numpy_helper.from_array(w, n) for n, w in dict(weights).items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = pathlib.Path(root) / name / str(version) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def make_repository(root):
    for name, (onnx_type, _) in DTYPES.items():
        save(root, "identity_" + name, [helper.make_node("Identity", ["x"], ["y"])],
             [("x", onnx_type, ["N", 3])], [("y", onnx_type, ["N", 3])])
    int32, fp32 = TensorProto.INT32, TensorProto.FLOAT
    save(root, "add_sub", [helper.make_node("Add", ["a", "b"], ["sum"]),
                           helper.make_node("Sub", ["a", "b"], ["difference"])],
         [("a", int32, ["N", 4]), ("b", int32, ["N", 4])],
         [("sum", int32, ["N", 4]), ("difference", int32, ["N", 4])])
    rng = np.random.default_rng(1)
    weights = {"w": rng.normal(size=(4, 1, 3, 3)).astype(np.float32),
               "dense": rng.normal(size=(4, 10)).astype(np.float32)}
    save(root, "cnn", [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
                       helper.make_node("Relu", ["c"], ["r"]),
                       helper.make_node("GlobalAveragePool", ["r"], ["p"]),
                       helper.make_node("Flatten", ["p"], ["f"]),
                       helper.make_node("Gemm", ["f", "dense"], ["scores"])],
         [("x", fp32, ["N", 1, 8, 8])], [("scores", fp32, ["N", 10])], weights)
    save(root, "softmax", [helper.make_node("Softmax", ["x"], ["y"], axis=-1)],
         [("x", fp32, ["N", "T"])], [("y", fp32, ["N", "T"])])
    save(root, "fixed", [helper.make_node("Neg", ["x"], ["y"])],
         [("x", fp32, [2, 3])], [("y", fp32, [2, 3])])
    save(root, "with blank", [helper.make_node("Neg", ["x"], ["y"])],
         [("x", fp32, ["N", 3])], [("y", fp32, ["N", 3])])


class Server:
    """Started once per test class; its folder and process go with it."""

    def __init__(self, *flags):
        self.root = tempfile.mkdtemp(prefix="minim-clients-")
        make_repository(self.root)
        self.process = subprocess.Popen([MINIM, "serve", self.root, "--port", "0",
                                         "--model-control", "explicit", "--load-model", "*",
                                         *flags],
                                        stdout=subprocess.PIPE, text=True)
        started = ""
        for line in self.process.stdout:
            started += line
            if line.startswith("listening on"):
                break
        self.http = re.search(r"listening on http://(\S+)", started)[1]
        self.grpc = re.search(r"gRPC on (\S+)", started)[1]

    def stop(self):
        self.process.terminate()
        code = self.process.wait(timeout=60)
        self.process.stdout.close()
        shutil.rmtree(self.root)
        return code


def cnn_reference(root, x):
    import onnxruntime
    session = onnxruntime.InferenceSession(pathlib.Path(root) / "cnn" / "1" / "model.onnx",
                                           providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]
