"""The suite's own models; light.py has the image classifiers. Each takes `x` and answers `y`."""
import numpy as np

from net import Net

TREES, DEPTH, TREE_FEATURES = 500, 6, 32


def mlp():
    net = Net(1)
    h = net.node("Relu", net.gemm("x", 64, 256))
    h = net.node("Relu", net.gemm(h, 256, 128))
    return net.model([64], net.gemm(h, 128, 1), [1])


def trees():
    """Full binary trees in level order; the left child of node i is 2i + 1, as ever."""
    net = Net(2)
    inner, leaves = 2**DEPTH - 1, 2**DEPTH
    nodes = inner + leaves
    index = np.tile(np.arange(nodes), TREES)
    branch = index < inner
    thresholds = np.where(branch, net.rng.standard_normal(TREES * nodes), 0)
    features = np.where(branch, net.rng.integers(0, TREE_FEATURES, TREES * nodes), 0)
    owner = np.repeat(np.arange(TREES), nodes)
    y = net.node(
        "TreeEnsembleRegressor", "x", domain="ai.onnx.ml", n_targets=1, post_transform="NONE",
        nodes_treeids=owner.tolist(), nodes_nodeids=index.tolist(),
        nodes_featureids=features.tolist(), nodes_values=thresholds.astype(np.float32).tolist(),
        nodes_modes=np.where(branch, "BRANCH_LEQ", "LEAF").tolist(),
        nodes_truenodeids=np.where(branch, 2 * index + 1, 0).tolist(),
        nodes_falsenodeids=np.where(branch, 2 * index + 2, 0).tolist(),
        target_treeids=owner[~branch].tolist(), target_nodeids=index[~branch].tolist(),
        target_ids=[0] * (TREES * leaves),
        target_weights=(0.1 * net.rng.standard_normal(TREES * leaves)).astype(np.float32).tolist())
    return net.model([TREE_FEATURES], y, [1])


def recurrent(op, gates, seed):
    """Two layers and a Linear on the last step, laid out as PyTorch exports batch_first."""
    features, hidden, steps, classes = 64, 128, 20, 4
    net = Net(seed)
    h = net.node("Transpose", "x", perm=[1, 0, 2])
    for size in (features, hidden):
        # Recurrent weights at the scale PyTorch draws them: He's would saturate every gate.
        weights = [net.const(net.rng.standard_normal((1, gates * hidden, n)) / np.sqrt(3 * hidden))
                   for n in (size, hidden)]
        extra = {"linear_before_reset": 1} if op == "GRU" else {}
        h = net.node(op, h, *weights, net.near(0, 1, 2 * gates * hidden), outputs=3 if op == "LSTM" else 2,
                     hidden_size=hidden, **extra)[0]
        h = net.node("Squeeze", h, net.const([1], np.int64))
    last = net.node("Gather", h, net.const(-1, np.int64), axis=0)
    return net.model([steps, features], net.gemm(last, hidden, classes), [classes])


def lstm():
    return recurrent("LSTM", 4, 3)


def gru():
    return recurrent("GRU", 3, 4)


def attention(net, x, tokens, width, heads):
    def split(value, perm):
        return net.node("Transpose", net.reshape(value, 0, tokens, heads, width // heads), perm=perm)

    query = split(net.linear(x, width, width), [0, 2, 1, 3])
    key = split(net.linear(x, width, width), [0, 2, 3, 1])
    value = split(net.linear(x, width, width), [0, 2, 1, 3])
    scores = net.node("Mul", net.node("MatMul", query, key), net.const((width // heads) ** -0.5))
    mixed = net.node("MatMul", net.node("Softmax", scores, axis=-1), value)
    merged = net.reshape(net.node("Transpose", mixed, perm=[0, 2, 1, 3]), 0, tokens, width)
    return net.linear(merged, width, width)


def norm(net, x, width):
    return net.node("LayerNormalization", x, net.near(1, width), net.near(0, width), axis=-1)


def transformer(tokens):
    """Six layers, norm after the sum, GELU; the mean over tokens goes to ten classes."""
    width, heads, inner, classes = 384, 6, 1536, 10
    net, x = Net(5), "x"
    for _ in range(6):
        x = norm(net, net.node("Add", x, attention(net, x, tokens, width, heads)), width)
        h = net.node("Gelu", net.linear(x, width, inner))
        x = norm(net, net.node("Add", x, net.linear(h, inner, width)), width)
    pooled = net.node("ReduceMean", x, net.const([1], np.int64), keepdims=0)
    return net.model([tokens, width], net.gemm(pooled, width, classes), [classes])


class UNet:
    """Two levels down and up, group norm and SiLU, attention at the bottom: a small denoiser."""

    def __init__(self):
        self.net = Net(6)

    def norm(self, x, channels, side):
        """GroupNorm as PyTorch exports it before opset 21: an InstanceNorm between reshapes."""
        net, groups = self.net, 8
        h = net.node("InstanceNormalization", net.reshape(x, 0, groups, -1),
                     net.const(np.ones(groups)), net.const(np.zeros(groups)))
        h = net.node("Mul", net.reshape(h, 0, channels, side, side), net.near(1, channels, 1, 1))
        return net.node("Add", h, net.near(0, channels, 1, 1))

    def block(self, x, channels, filters, side):
        for inputs in (channels, filters):
            h = self.norm(self.net.conv(x, inputs, filters), filters, side)
            x = self.net.node("Mul", h, self.net.node("Sigmoid", h))
        return x

    def middle(self, x, channels, side):
        net, tokens = self.net, side * side
        flat = net.node("Transpose", net.reshape(x, 0, channels, tokens), perm=[0, 2, 1])
        mixed = net.node("Add", flat, attention(net, norm(net, flat, channels), tokens, channels, 4))
        return net.reshape(net.node("Transpose", mixed, perm=[0, 2, 1]), 0, channels, side, side)

    def up(self, x, skip, channels, filters, side):
        net = self.net
        grown = net.node("Resize", x, "", net.const([1, 1, 2, 2]), mode="nearest",
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        return self.block(net.node("Concat", grown, skip, axis=1), channels + filters, filters, side)

    def build(self):
        net = self.net
        top = self.block("x", 3, 32, 64)
        half = self.block(net.conv(top, 32, 32, stride=2), 32, 64, 32)
        low = self.block(net.conv(half, 64, 64, stride=2), 64, 128, 16)
        low = self.middle(low, 128, 16)
        x = self.up(low, half, 128, 64, 32)
        x = self.up(x, top, 64, 32, 64)
        return net.model([3, 64, 64], net.conv(x, 32, 1, size=1), [1, 64, 64])


def unet():
    return UNet().build()
