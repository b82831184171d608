"""Runs an ONNX graph of the suite with PyTorch's eager operators, one call per node.

Only what the suite's graphs need; anything else raises NotImplementedError, and the cell is left out.
"""
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper


def tensors(model):
    return {w.name: torch.from_numpy(numpy_helper.to_array(w).copy()) for w in model.graph.initializer}


def numbers(weights, name):
    return tuple(weights[name].reshape(-1).tolist())


def even(pads, op):
    half = len(pads) // 2
    if pads[:half] != pads[half:]:
        raise NotImplementedError(f"{op} with uneven pads")
    return pads[:half]


def conv(node, at, weights):
    pads = even(at.get("pads", [0, 0, 0, 0]), "Conv")
    strides, dilations = at.get("strides", [1, 1]), at.get("dilations", [1, 1])
    weight, bias = weights[node.input[1]], weights.get(node.input[2]) if len(node.input) > 2 else None
    return lambda x: F.conv2d(x, weight, bias, strides, pads, dilations, at.get("group", 1))


def pool(node, at, weights):
    kernel, strides = at["kernel_shape"], at.get("strides", [1, 1])
    pads = at.get("pads", [0, 0, 0, 0])
    if node.op_type == "AveragePool":
        counted = bool(at.get("count_include_pad", 0))
        return lambda x: F.avg_pool2d(x, kernel, strides, even(pads, "AveragePool"), False, counted)
    if pads[:2] == pads[2:]:
        return lambda x: F.max_pool2d(x, kernel, strides, pads[:2])
    spread = (pads[1], pads[3], pads[0], pads[2])
    return lambda x: F.max_pool2d(F.pad(x, spread, value=float("-inf")), kernel, strides)


def gemm(node, at, weights):
    weight, bias = weights[node.input[1]], weights[node.input[2]]
    weight = (weight if at.get("transB") else weight.T).contiguous()
    return lambda x: F.linear(x, weight, bias)


def norm(node, at, weights):
    constant = [weights[name] for name in node.input[1:]]
    epsilon = at.get("epsilon", 1e-5)
    if node.op_type == "BatchNormalization":
        scale, bias, mean, variance = constant
        return lambda x: F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)
    if node.op_type == "InstanceNormalization":
        return lambda x: F.instance_norm(x, None, None, *constant, True, 0.0, epsilon)
    return lambda x: F.layer_norm(x, constant[0].shape, *constant, epsilon)


def reshape(node, at, weights):
    dims = numbers(weights, node.input[1])
    return lambda x: x.reshape([x.shape[i] if d == 0 else d for i, d in enumerate(dims)])


def reorder(values, order):
    """Gates of ONNX to PyTorch's order, along the first axis."""
    pieces = values.chunk(len(order))
    return torch.cat([pieces[i] for i in order])


def recurrent(node, at, weights):
    """One layer as torch.nn.LSTM or GRU; the direction axis that ONNX has is put back."""
    w, r, b = (weights[name][0] for name in node.input[1:4])
    kind, order = (torch.nn.LSTM, [0, 2, 3, 1]) if node.op_type == "LSTM" else (torch.nn.GRU, [1, 0, 2])
    layer = kind(w.shape[1], r.shape[1])
    halves = b.chunk(2)
    for name, value in (("weight_ih_l0", w), ("weight_hh_l0", r), ("bias_ih_l0", halves[0]),
                        ("bias_hh_l0", halves[1])):
        getattr(layer, name).data = reorder(value, order)
    return Recurrent(layer)


class Recurrent(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0].unsqueeze(1)


def gather(node, at, weights):
    axis, index = at.get("axis", 0), weights[node.input[1]]
    if index.dim():
        raise NotImplementedError("Gather of many")
    return lambda x: x.select(axis, int(index))


def resize(node, at, weights):
    scales = numbers(weights, node.input[2])[2:]
    return lambda x: F.interpolate(x, scale_factor=scales, mode=at["mode"])


def axes(node, at, weights):
    return at["axes"] if "axes" in at else [int(a) for a in numbers(weights, node.input[1])]


def unsqueeze(node, at, weights):
    def run(x):
        for axis in sorted(axes(node, at, weights)):
            x = x.unsqueeze(axis)
        return x
    return run


def mean(node, at, weights):
    over, keep = axes(node, at, weights), bool(at.get("keepdims", 1))
    return lambda x: x.mean(over, keep)


def squeeze(node, at, weights):
    over = axes(node, at, weights)
    return lambda x: x.squeeze(over)


def softmax(node, at, weights):
    axis = at.get("axis", -1)
    return lambda x: torch.softmax(x, axis)


def simple(function):
    return lambda node, at, weights: function


UNARY = {  # of their first input; the others are weights
    "Conv": conv, "MaxPool": pool, "AveragePool": pool, "Gemm": gemm, "BatchNormalization": norm,
    "InstanceNormalization": norm, "LayerNormalization": norm, "Reshape": reshape, "LSTM": recurrent,
    "GRU": recurrent, "Gather": gather, "Resize": resize, "Unsqueeze": unsqueeze, "ReduceMean": mean,
    "Squeeze": squeeze, "Softmax": softmax, "Relu": simple(torch.relu), "Sigmoid": simple(torch.sigmoid),
    "Gelu": simple(F.gelu), "Dropout": simple(lambda x: x), "Identity": simple(lambda x: x),
    "Transpose": lambda node, at, weights: lambda x: x.permute(at["perm"]),
    "GlobalAveragePool": simple(lambda x: F.adaptive_avg_pool2d(x, 1)),
    "Flatten": simple(lambda x: torch.flatten(x, 1)),
}
MANY = {
    "Add": torch.add, "Mul": torch.mul, "MatMul": torch.matmul, "Sum": lambda *x: sum(x[1:], x[0]),
}


class Graph(torch.nn.Module):
    """Steps are (function, names of its inputs, name of its output), bound once."""

    def __init__(self, path):
        super().__init__()
        model = onnx.load(path)
        self.weights = tensors(model)
        self.layers = torch.nn.ModuleList()
        self.steps = []
        for node in model.graph.node:
            self.add(node, {a.name: helper.get_attribute_value(a) for a in node.attribute})
        self.drops = self.last_uses()

    def add(self, node, at):
        at = {k: v.decode() if isinstance(v, bytes) else v for k, v in at.items()}
        if node.op_type == "Constant":
            self.weights[node.output[0]] = torch.from_numpy(np.array(numpy_helper.to_array(at["value"])))
            return
        if node.op_type in UNARY and all(name in self.weights for name in node.input):
            made = UNARY[node.op_type](node, at, self.weights)
            self.weights[node.output[0]] = made(self.weights[node.input[0]])
            return
        if node.op_type in UNARY:
            function, names = UNARY[node.op_type](node, at, self.weights), [node.input[0]]
        elif node.op_type == "Concat":
            axis, names = at["axis"], list(node.input)
            function = lambda *x, axis=axis: torch.cat(x, axis)  # noqa: E731
        elif node.op_type in MANY:
            function, names = MANY[node.op_type], list(node.input)
        else:
            raise NotImplementedError(node.op_type)
        if isinstance(function, torch.nn.Module):
            self.layers.append(function)
            function = LayerAt(self.layers, len(self.layers) - 1)
        self.steps.append((function, names, node.output[0]))

    def last_uses(self):
        """Per step, the values nobody reads afterwards: eager modules free theirs as well."""
        seen, drops = set(self.weights) | {"y"}, []
        for _, names, _ in reversed(self.steps):
            drops.append([n for n in dict.fromkeys(names) if n not in seen])
            seen.update(names)
        return drops[::-1]

    def forward(self, x):
        values = {**self.weights, "x": x}
        for (function, names, output), drop in zip(self.steps, self.drops):
            values[output] = function(*[values[name] for name in names])
            for name in drop:
                del values[name]
        return values["y"]


class LayerAt:
    """Looked up when called: dynamic quantization replaces the module's children."""

    def __init__(self, layers, index):
        self.layers, self.index = layers, index

    def __call__(self, x):
        return self.layers[self.index](x)
