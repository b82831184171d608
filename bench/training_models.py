"""The modules of the training benchmark: each with its samples and labels, seeded."""
import torch
from torch import nn


class Recurrent(nn.Module):
    def __init__(self, inputs=64, width=128, layers=2, classes=4, cell=nn.LSTM):
        super().__init__()
        self.layers = cell(inputs, width, layers, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.layers(x)[0][:, -1])


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        same = stride == 1 and inputs == outputs
        self.skip = nn.Identity() if same else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return torch.relu(self.body(x) + self.skip(x))


class ResNet(nn.Module):
    """Three stages over 28x28 pixels of 0 to 255; 0.3 M parameters."""

    def __init__(self, width=32, classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.stages = nn.Sequential(Residual(width, width, 1), Residual(width, 2 * width, 2),
                                    Residual(2 * width, 4 * width, 2))
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x):
        return self.head(self.stages(self.stem(x / 255)).mean((2, 3)))


class Encoder(nn.Module):
    def __init__(self, inputs=32, width=128, layers=4, tokens=64):
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.place = nn.Parameter(torch.randn(tokens, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True,
                                           activation="gelu", norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.layers(self.embed(x) + self.place).mean(1))


class VisionTransformer(nn.Module):
    """Over the 4x4 patches of 28x28 pixels of 0 to 255."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder(inputs=16, width=64, layers=4, tokens=49)

    def forward(self, x):
        patches = (x / 255).reshape(-1, 7, 4, 7, 4).transpose(2, 3).reshape(-1, 49, 16)
        return self.encoder(patches)


class Attention(nn.Module):
    """Over the places of an image, with a residual."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, 3, c, h * w).unbind(1)
        scores = (q.transpose(1, 2) @ k) * c**-0.5
        return x + self.out((v @ scores.softmax(-1).transpose(1, 2)).reshape(n, c, h, w))


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.SiLU(),
                         nn.Conv2d(outputs, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.SiLU())


class Unet(nn.Module):
    """Two levels, attention at the bottom."""

    def __init__(self, width=32):
        super().__init__()
        self.first, self.second = block(1, width), block(width, 2 * width)
        self.bottom = nn.Sequential(block(2 * width, 2 * width), Attention(2 * width))
        self.pool = nn.MaxPool2d(2)
        self.up2 = nn.ConvTranspose2d(2 * width, 2 * width, 2, stride=2)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.join2, self.join1 = block(4 * width, 2 * width), block(2 * width, width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        one = self.first(x)
        two = self.second(self.pool(one))
        up = self.join2(torch.cat([self.up2(self.bottom(self.pool(two))), two], 1))
        return self.out(self.join1(torch.cat([self.up1(up), one], 1)))


def mlp():
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(),
                         nn.Linear(128, 2))


def cnn():
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(1568, 128), nn.ReLU(), nn.Linear(128, 10))


# name: (module, shape of a sample, number of classes or None for an image to an image)
MODELS = {
    "mlp": (mlp, (64,), 2),
    "cnn": (cnn, (1, 28, 28), 10),
    "lstm": (Recurrent, (20, 64), 4),
    "transformer": (Encoder, (64, 32), 10),
    "unet": (Unet, (1, 32, 32), None),
}


def make(name, count):
    """The module and `count` samples with their labels."""
    torch.manual_seed(7)
    build, shape, classes = MODELS[name]
    module = build().train()
    samples = torch.rand(count, *shape)
    labels = samples * 2 - 1 if classes is None else torch.randint(0, classes, (count,))
    return module, samples, labels
