"""Trains the same models in minim and PyTorch, from equal weights and batches, step for step.

Each module is exported to ONNX before its first step; minim trains the file without shuffling. Every
one of 100 losses must agree to 1e-4, relative.
"""
import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch
from torch import nn

from torch_modules import silence

warnings.filterwarnings("ignore")
STEPS, BATCH, BOUND = 100, 16, 1e-4


class Recurrent(nn.Module):
    def __init__(self, kind, layers=2):
        super().__init__()
        self.layers = kind(8, 16, layers, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.layers(x)[0][:, -1])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.layer(self.embed(x)).mean(1))


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
        self.bottom = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.SiLU())
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.out = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x):
        skip = self.down(x)
        return self.out(torch.cat([skip, self.up(self.bottom(skip))], 1))


def cases():
    """name, module, samples, labels (None: the module's own input), optimizer, its TOML."""
    def classes(count):
        return torch.randint(0, count, (BATCH * STEPS,))

    vectors = torch.randn(BATCH * STEPS, 8)
    images = torch.rand(BATCH * STEPS, 1, 16, 16)
    series = torch.randn(BATCH * STEPS, 10, 8)
    mlp = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))
    cnn = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(),
                        nn.Linear(256, 10))
    optim = torch.optim
    recipes = [
        ("sgd", lambda p: optim.SGD(p, 0.05), 'name="sgd"\nlearning_rate=0.05\nmomentum=0'),
        ("sgd nesterov", lambda p: optim.SGD(p, 0.02, momentum=0.9, nesterov=True, weight_decay=0.01),
         'name="sgd"\nlearning_rate=0.02\nmomentum=0.9\nnesterov=true\nweight_decay=0.01'),
        ("adam", lambda p: optim.Adam(p, 0.002), 'name="adam"\nlearning_rate=0.002'),
        ("adamw", lambda p: optim.AdamW(p, 0.002, weight_decay=0.1),
         'name="adamw"\nlearning_rate=0.002\nweight_decay=0.1'),
        ("adagrad", lambda p: optim.Adagrad(p, 0.02, lr_decay=0.01),
         'name="adagrad"\nlearning_rate=0.02\nrate_decay=0.01'),
        ("rmsprop", lambda p: optim.RMSprop(p, 0.001, momentum=0.5),
         'name="rmsprop"\nlearning_rate=0.001\nmomentum=0.5'),
    ]
    for recipe in recipes:
        yield "mlp", mlp, vectors, classes(4), recipe
    yield "cnn", cnn, images, classes(10), recipes[1]
    yield "cnn", cnn, images, classes(10), recipes[3]
    yield "lstm", Recurrent(nn.LSTM), series, classes(4), recipes[2]
    yield "gru", Recurrent(nn.GRU), series, classes(4), recipes[2]
    yield "transformer", Encoder(), series, classes(4), recipes[3]
    yield "unet", Unet(), images, images * 2 - 1, recipes[2]


def train_torch(module, samples, labels, make):
    optimizer = make(module.parameters())
    losses = []
    for i in range(STEPS):
        x, y = samples[i * BATCH:(i + 1) * BATCH], labels[i * BATCH:(i + 1) * BATCH]
        loss = (nn.functional.cross_entropy if y.dtype == torch.int64 else nn.functional.mse_loss)(
            module(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_minim(minim, module, samples, labels, toml, work):
    with silence():
        torch.onnx.export(module, samples[:BATCH], f"{work}/model.onnx", dynamo=False,
                          opset_version=17, do_constant_folding=False,
                          training=torch.onnx.TrainingMode.TRAINING)
    np.save(f"{work}/x.npy", samples.numpy())
    np.save(f"{work}/y.npy", labels.numpy())
    loss = "cross_entropy" if labels.dtype == torch.int64 else "mse"
    with open(f"{work}/train.toml", "w") as file:
        file.write(f'[data]\ntrain_samples="x.npy"\ntrain_labels="y.npy"\nshuffle=false\n'
                   f'[model]\nonnx="model.onnx"\n[train]\nloss="{loss}"\nbatch={BATCH}\n'
                   f'[optimizer]\n{toml}\nclip_norm=1\n'
                   f'[output]\nonnx="out.onnx"\nlog="log.jsonl"\n')
    done = subprocess.run([minim, "train", f"{work}/train.toml"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return [json.loads(line)["step_loss"] for line in open(f"{work}/log.jsonl")]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minim")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(os.cpu_count() or 1)
    failed = 0
    for name, module, samples, labels, (recipe, make, toml) in cases():
        title = f"{name}, {recipe}"
        if args.only not in title:
            continue
        module = copy.deepcopy(module).train()
        with tempfile.TemporaryDirectory() as work:
            try:
                ours = train_minim(args.minim, module, samples, labels, toml, work)
                theirs = train_torch(module, samples, labels, make)
            except RuntimeError as error:
                print(f"{title}: FAILED: {error}")
                failed += 1
                continue
        apart = np.abs(np.array(ours) / np.array(theirs) - 1)
        good = len(ours) == STEPS and apart.max() <= BOUND
        failed += not good
        print(f"{title}: {'agrees' if good else 'FAILED'}: losses {theirs[0]:.4f} -> "
              f"{theirs[-1]:.4f}, apart by at most {apart.max():.1e} (step {apart.argmax()})")
    print(f"{failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
