"""ONNX's `light` image classifiers with weights that mean something.

The files carry constant weights: all outputs equal, activations that grow without bound or vanish.
Here weights are seeded He-normal, the batch dim is symbolic, and each BatchNormalization's
statistics are those of its own input on a seeded batch, as after training.
"""
import os

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper, version_converter

OPSET = 17
BATCH = 2  # of the pass that measures statistics


def folder():
    """Where light_X.onnx are: the unpacked conformance archive, or the onnx package itself."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    package = os.path.join(os.path.dirname(onnx.__file__), "backend/test/data/light")
    places = [os.path.join(root, "build/onnx-cases/data/light"), package]
    return next((place for place in places if os.path.isdir(place)), None)



class Reweigher:
    def __init__(self, name, seed):
        self.model = onnx.load(os.path.join(folder(), f"light_{name}.onnx"))
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.weights = {}

    def build(self):
        self.model.ir_version = 8  # from 4 on, weights need not be inputs
        self.model = version_converter.convert_version(self.model, OPSET)
        self.restore_softmax()
        self.unpack_weights()
        self.free_batch()
        self.weights = {w.name: numpy_helper.to_array(w) for w in self.model.graph.initializer}
        self.draw_and_measure()
        self.store_weights()
        onnx.checker.check_model(self.model)
        return onnx.shape_inference.infer_shapes(self.model)

    def restore_softmax(self):
        """The converter wraps an old Softmax in Shape, Flatten and Reshape; over [N,C,1,1] it needs none."""
        nodes = self.model.graph.node
        made = {node.output[0]: node for node in nodes}
        for reshape in [n for n in nodes if n.op_type == "Reshape"]:
            shape, softmax = made.get(reshape.input[1]), made.get(reshape.input[0])
            if shape is None or shape.op_type != "Shape":
                continue
            flatten = made[softmax.input[0]]
            softmax.CopyFrom(helper.make_node("Softmax", [flatten.input[0]], [reshape.output[0]], axis=1))
            for extra in (shape, flatten, reshape):
                nodes.remove(extra)

    def unpack_weights(self):
        """ConstantOfShape nodes become initializers, so that they can be replaced."""
        graph = self.model.graph
        shapes = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
        for node in [n for n in graph.node if n.op_type == "ConstantOfShape"]:
            zeros = np.zeros(shapes[node.input[0]], np.float32)
            graph.initializer.append(numpy_helper.from_array(zeros, node.output[0]))
            graph.node.remove(node)
        used = {name for node in graph.node for name in node.input}
        kept = [w for w in graph.initializer if w.name in used]
        names = {w.name for w in kept}
        inputs = [i for i in graph.input if i.name in used and i.name not in names]
        del graph.initializer[:], graph.input[:]
        graph.initializer.extend(kept)
        graph.input.extend(inputs)

    def free_batch(self):
        """The batch becomes the symbol N; a Reshape copies it instead of saying 1."""
        graph = self.model.graph
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "N"
        del graph.value_info[:]
        shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
        for weight in graph.initializer:
            if weight.name in shapes:
                dims = numpy_helper.to_array(weight).copy()
                dims[0] = 0
                weight.CopyFrom(numpy_helper.from_array(dims, weight.name))
        self.rename(graph.input[0].name, "x")
        self.rename(graph.output[0].name, "y")

    def rename(self, old, new):
        for node in self.model.graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]
        for value in (*self.model.graph.input, *self.model.graph.output):
            value.name = new if value.name == old else value.name

    def draw_and_measure(self):
        """Node by node: draw a node's weights, then run it, so that the next sees real values."""
        dims = [d.dim_value or BATCH for d in self.model.graph.input[0].type.tensor_type.shape.dim]
        values = {"x": self.rng.standard_normal(dims).astype(np.float32)}
        readers = {}
        for index, node in enumerate(self.model.graph.node):
            readers.update({name: index for name in node.input})
        for index, node in enumerate(self.model.graph.node):
            self.draw(node, values)
            values.update(self.run(node, values))
            for name in [n for n in values if readers.get(n, -1) <= index]:
                del values[name]

    def draw(self, node, values):
        if node.op_type in ("Conv", "Gemm"):
            self.draw_product(node)
        elif node.op_type == "BatchNormalization":
            self.draw_norm(node, values[node.input[0]])
        else:
            for name in node.input:
                if name in self.weights and self.weights[name].dtype == np.float32:
                    self.weights[name] = self.near(1 if node.op_type != "Add" else 0, name)

    def near(self, value, name):
        drawn = value + 0.1 * self.rng.standard_normal(self.weights[name].shape)
        return drawn.astype(np.float32)

    def draw_product(self, node):
        weights = node.input[1]
        dims = self.weights[weights].shape
        scale = np.sqrt(2.0 / np.prod(dims[1:]))
        self.weights[weights] = (scale * self.rng.standard_normal(dims)).astype(np.float32)
        if len(node.input) > 2:
            self.weights[node.input[2]] = self.near(0, node.input[2])

    def draw_norm(self, node, x):
        scale, bias, mean, variance = node.input[1:]
        self.weights[scale], self.weights[bias] = self.near(1, scale), self.near(0, bias)
        self.weights[mean] = x.mean((0, 2, 3))
        self.weights[variance] = x.var((0, 2, 3)) + np.float32(1e-3)

    def run(self, node, values):
        feed = {name: values[name] if name in values else self.weights[name]
                for name in node.input if name}
        inputs = [helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in feed.items()]
        outputs = [helper.make_empty_tensor_value_info(node.output[0])]
        single = helper.make_model(helper.make_graph([node], "one", inputs, outputs), ir_version=8,
                                   opset_imports=[helper.make_opsetid("", OPSET)])
        session = ort.InferenceSession(single.SerializeToString(), providers=["CPUExecutionProvider"])
        return {node.output[0]: session.run([node.output[0]], feed)[0]}

    def store_weights(self):
        for weight in self.model.graph.initializer:
            weight.CopyFrom(numpy_helper.from_array(self.weights[weight.name], weight.name))
