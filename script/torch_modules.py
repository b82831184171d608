"""Small PyTorch modules of many kinds, each with its inputs: what people export to ONNX."""
import contextlib
import os
import sys

import torch
import torch.nn.functional as F
from torch import nn


@contextlib.contextmanager
def silence():
    """The exporters print graphs and advice, partly from C++."""
    sys.stdout.flush()
    held = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for file in (1, 2):
        os.dup2(nowhere, file)
    try:
        yield
    finally:
        sys.stdout.flush()
        for file, old in zip((1, 2), held):
            os.dup2(old, file)
        for file in (*held, nowhere):
            os.close(file)


class Apply(nn.Module):
    """A function of tensors, with the modules it uses, as one module."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def floats(*dims):
    return torch.randn(*dims)


def ids(high, *dims):
    return torch.randint(0, high, dims)


def recurrent(kind, **options):
    return Apply(lambda m, x: m.r(x)[0], r=kind(12, 16, batch_first=True, **options)), (floats(4, 9, 12),)


def last_state(kind, **options):
    def forward(m, x):
        state = m.r(x)[1]
        return m.head((state[0] if isinstance(state, tuple) else state)[-1])
    return Apply(forward, r=kind(12, 16, batch_first=True, **options), head=nn.Linear(16, 3)), (floats(4, 9, 12),)


def given_state():
    return (Apply(lambda m, x, h, c: m.r(x, (h.transpose(0, 1), c.transpose(0, 1)))[0],
                  r=nn.LSTM(12, 16, 2, batch_first=True)), (floats(4, 9, 12), floats(4, 2, 16), floats(4, 2, 16)))


def conv_net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU(0.1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)), (floats(4, 3, 20, 20),)


def depthwise():
    return nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 24, 1),
        nn.Hardswish(), nn.Conv2d(24, 24, 5, stride=2, padding=2, groups=24), nn.SiLU(),
        nn.Conv2d(24, 12, 1, groups=4)), (floats(4, 8, 15, 15),)


def squeeze_excite():
    return (Apply(lambda m, x: x * torch.sigmoid(m.up(F.relu(m.down(x.mean((2, 3), keepdim=True))))),
                  down=nn.Conv2d(8, 2, 1), up=nn.Conv2d(2, 8, 1)), (floats(4, 8, 7, 7),))


def residual():
    def forward(m, x):
        return F.relu(m.short(x) + m.b2(m.c2(F.relu(m.b1(m.c1(x))))))
    return Apply(forward, c1=nn.Conv2d(6, 12, 3, 2, 1), b1=nn.BatchNorm2d(12), c2=nn.Conv2d(12, 12, 3, 1, 1),
                 b2=nn.BatchNorm2d(12), short=nn.Conv2d(6, 12, 1, 2)), (floats(4, 6, 14, 14),)


def unet():
    def forward(m, x):
        top = F.gelu(m.a(x))
        low = F.gelu(m.b(F.max_pool2d(top, 2)))
        return m.out(torch.cat([m.up(low), top], 1))
    return Apply(forward, a=nn.Conv2d(3, 8, 3, padding=1), b=nn.Conv2d(8, 16, 3, padding=1),
                 up=nn.ConvTranspose2d(16, 8, 2, stride=2), out=nn.Conv2d(16, 2, 1)), (floats(4, 3, 16, 16),)


def autoencoder():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1), nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 3, 2, 1, output_padding=1), nn.Sigmoid()), (floats(4, 1, 16, 16),)


def temporal():
    def forward(m, x):
        for conv, d in ((m.c1, 1), (m.c2, 2), (m.c3, 4)):
            x = x + F.relu(conv(F.pad(x, (2 * d, 0))))
        return m.head(x[:, :, -1])
    layers = {f"c{i + 1}": nn.Conv1d(8, 8, 3, dilation=2**i) for i in range(3)}
    return Apply(forward, **layers, head=nn.Linear(8, 2)), (floats(4, 8, 25),)


def encoder(**options):
    layer = nn.TransformerEncoderLayer(24, 4, 48, batch_first=True, dropout=0.0, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), (floats(4, 7, 24),)


def decoder():
    layer = nn.TransformerDecoderLayer(24, 4, 48, batch_first=True, dropout=0.0)
    return nn.TransformerDecoder(layer, 1), (floats(4, 5, 24), floats(4, 7, 24))


def self_attention():
    return (Apply(lambda m, x: m.a(x, x, x)[0], a=nn.MultiheadAttention(24, 4, batch_first=True)),
            (floats(4, 7, 24),))


def cross_attention():
    return (Apply(lambda m, q, kv: m.a(q, kv, kv, need_weights=True),
                  a=nn.MultiheadAttention(24, 4, batch_first=True)), (floats(4, 5, 24), floats(4, 9, 24)))


def product_attention(causal):
    return (Apply(lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal)),
            tuple(floats(4, 2, 6, 8) for _ in range(3)))


def masked_attention():
    def forward(m, q, k, v, keep):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None, :] > 0)
    return Apply(forward), (*(floats(4, 2, 6, 8) for _ in range(3)), torch.tensor([[1.0, 1, 1, 1, 0, 0]] * 4))


def embedding_pool():
    def forward(m, words):
        keep = (words > 0).unsqueeze(-1).float()
        return m.head((m.e(words) * keep).sum(1) / keep.sum(1).clamp(min=1))
    return Apply(forward, e=nn.Embedding(50, 12), head=nn.Linear(12, 4)), (ids(50, 4, 11),)


def tabular():
    """Embedded categories beside numbers, as in a recommender."""
    def forward(m, category, numbers):
        return torch.sigmoid(m.head(torch.cat([m.e(category).flatten(1), m.n(numbers)], -1))).squeeze(-1)
    return Apply(forward, e=nn.Embedding(20, 4), n=nn.LayerNorm(6),
                 head=nn.Sequential(nn.Linear(18, 16), nn.GELU(), nn.Linear(16, 1))), (ids(20, 4, 3), floats(4, 6))


def gated():
    return nn.Sequential(nn.Linear(10, 32), nn.GLU(), nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 8),
                         nn.GELU("tanh"), nn.Linear(8, 3), nn.LogSoftmax(-1)), (floats(4, 10),)


def activations():
    kinds = (nn.ELU(), nn.SELU(), nn.Softplus(), nn.Mish(), nn.Hardsigmoid(), nn.PReLU(8), nn.Tanh(), nn.CELU(),
             nn.Softsign(), nn.Hardtanh(), nn.Softmin(-1), nn.Tanhshrink(), nn.LogSigmoid(), nn.Threshold(0.1, 0.2))
    return Apply(lambda m, x: torch.cat([a(x) for a in m.all], -1), all=nn.ModuleList(kinds)), (floats(4, 8),)


def upsample(mode, **options):
    return Apply(lambda m, x: F.interpolate(m.c(x), mode=mode, **options), c=nn.Conv2d(3, 4, 3)), (
        floats(4, 3, 9, 9),)


def mixture():
    """Soft gating, and a branch per element by where."""
    def forward(m, x):
        gate = torch.softmax(m.gate(x), -1)
        mixed = torch.stack([e(x) for e in m.experts], 1)
        y = (gate.unsqueeze(-1) * mixed).sum(1)
        return torch.where(y > 0, y * 2, torch.exp(y) - 1)
    return Apply(forward, gate=nn.Linear(8, 3), experts=nn.ModuleList(nn.Linear(8, 5) for _ in range(3))), (
        floats(4, 8),)


def best_of():
    def forward(m, x):
        values, index = torch.topk(m.score(x).squeeze(-1), 3, dim=1)
        chosen = torch.gather(x, 1, index.unsqueeze(-1).expand(-1, -1, x.shape[2]))
        return values, index, chosen
    return Apply(forward, score=nn.Linear(6, 1)), (floats(4, 9, 6),)


def sparse_experts():
    """Each row goes to its best expert, by an index."""
    def forward(m, x):
        best = m.gate(x).argmax(-1)
        return torch.einsum("bi,bij->bj", x, m.e.weight.view(4, 8, 5)[best])
    return Apply(forward, gate=nn.Linear(8, 4), e=nn.Embedding(4, 40)), (floats(4, 8),)


def statistics():
    def forward(m, x):
        return (x.cumsum(1), x.std(1), x.var(-1, unbiased=False), x.amax(1), torch.logsumexp(x, -1), x.norm(dim=-1),
                torch.sort(x, -1)[0], x.mean(-1))
    return Apply(forward), (floats(4, 6, 5),)


def positions():
    """Sinusoids made from arange, as in diffusion models."""
    def forward(m, t):
        angle = t.float().unsqueeze(-1) * torch.exp(-torch.arange(8) * 0.5)
        return m.l(torch.cat([angle.sin(), angle.cos()], -1))
    return Apply(forward, l=nn.Linear(16, 6)), (ids(100, 4),)


def rotary():
    def forward(m, x):
        angle = torch.arange(x.shape[1])[:, None] * (10000.0 ** (-torch.arange(0, 8, 2) / 8))
        cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin
    return Apply(forward), (floats(4, 6, 8),)


def patches():
    def forward(m, x):
        tokens = m.cut(x).flatten(2).transpose(1, 2)
        x = torch.cat([m.cls.weight.expand(x.shape[0], 1, -1), tokens], 1)
        return m.head(m.norm(x)[:, 0])
    return Apply(forward, cut=nn.Conv2d(3, 16, 4, 4), cls=nn.Embedding(1, 16), norm=nn.LayerNorm(16),
                 head=nn.Linear(16, 5)), (floats(4, 3, 16, 16),)


def windows():
    def forward(m, x):
        return m.l(x.unfold(1, 4, 2).flatten(2)).roll(1, 1).flip(-1)
    return Apply(forward, l=nn.Linear(12, 6)), (floats(4, 10, 3),)


def norms():
    return (Apply(lambda m, x: m.i(m.g(x)) + m.l(x), g=nn.GroupNorm(2, 8), i=nn.InstanceNorm2d(8, affine=True),
                  l=nn.LayerNorm([8, 5, 5])), (floats(4, 8, 5, 5),))


MODULES = {
    "LSTM": lambda: recurrent(nn.LSTM),
    "LSTM, two layers, both directions": lambda: recurrent(nn.LSTM, num_layers=2, bidirectional=True),
    "LSTM, projected": lambda: recurrent(nn.LSTM, proj_size=8),
    "LSTM, last state": lambda: last_state(nn.LSTM, num_layers=2),
    "LSTM, given state": given_state,
    "GRU": lambda: recurrent(nn.GRU),
    "GRU, two layers, both directions": lambda: recurrent(nn.GRU, num_layers=2, bidirectional=True),
    "GRU, last state": lambda: last_state(nn.GRU),
    "RNN tanh": lambda: recurrent(nn.RNN),
    "RNN relu, both directions": lambda: recurrent(nn.RNN, nonlinearity="relu", bidirectional=True),
    "RNN, last state": lambda: last_state(nn.RNN, num_layers=3),
    "TransformerEncoder": encoder,
    "TransformerEncoder, norm first, GELU": lambda: encoder(norm_first=True, activation="gelu"),
    "TransformerDecoder": decoder,
    "MultiheadAttention": self_attention,
    "MultiheadAttention, cross, weights": cross_attention,
    "scaled_dot_product_attention": lambda: product_attention(False),
    "scaled_dot_product_attention, causal": lambda: product_attention(True),
    "scaled_dot_product_attention, masked": masked_attention,
    "convolutional net": conv_net,
    "depthwise and grouped": depthwise,
    "squeeze and excite": squeeze_excite,
    "residual block": residual,
    "UNet": unet,
    "autoencoder": autoencoder,
    "temporal convolutions": temporal,
    "Conv3d": lambda: (nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.AvgPool3d(2)),
                       (floats(4, 2, 6, 6, 6),)),
    "ConvTranspose1d": lambda: (nn.ConvTranspose1d(4, 6, 4, 2, 1, groups=2), (floats(4, 4, 9),)),
    "norms": norms,
    "Embedding, masked mean": embedding_pool,
    "EmbeddingBag": lambda: (nn.EmbeddingBag(30, 8, mode="sum"), (ids(30, 4, 6),)),
    "tabular": tabular,
    "gated MLP": gated,
    "activations": activations,
    "interpolate nearest": lambda: upsample("nearest", scale_factor=2.0),
    "interpolate bilinear": lambda: upsample("bilinear", size=(13, 17), align_corners=False),
    "interpolate bilinear, aligned": lambda: upsample("bilinear", scale_factor=3.0, align_corners=True),
    "interpolate bicubic": lambda: upsample("bicubic", scale_factor=2.0, align_corners=False),
    "adaptive pooling": lambda: (nn.Sequential(nn.AdaptiveAvgPool2d((3, 3)), nn.AdaptiveMaxPool2d(1)),
                                 (floats(4, 5, 12, 12),)),
    "pixel shuffle": lambda: (nn.Sequential(nn.Conv2d(3, 12, 3), nn.PixelShuffle(2)), (floats(4, 3, 8, 8),)),
    "padding": lambda: (nn.Sequential(nn.ReflectionPad2d(2), nn.ReplicationPad2d(1), nn.Conv2d(2, 3, 3)),
                        (floats(4, 2, 6, 6),)),
    "grid_sample": lambda: (Apply(lambda m, x, g: F.grid_sample(x, g.tanh(), align_corners=False)),
                            (floats(4, 2, 8, 8), floats(4, 5, 5, 2))),
    "einsum": lambda: (Apply(lambda m, a, b: torch.einsum("bhid,bhjd->bhij", a, b).softmax(-1)),
                       (floats(4, 2, 5, 6), floats(4, 2, 7, 6))),
    "mixture, where": mixture,
    "sparse experts": sparse_experts,
    "topk and gather": best_of,
    "statistics": statistics,
    "positions": positions,
    "rotary embedding": rotary,
    "image patches": patches,
    "windows": windows,
}
