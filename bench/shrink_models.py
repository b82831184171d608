"""The models of shrink.py: trained once, seeded, on data that anyone can have. build/shrink/data/SET has the samples
and labels, build/shrink/NAME/model.onnx the FP32 model: one input `x`, one output, a leading dim N."""
import csv
import gzip
import os
import re
import subprocess
import warnings
from dataclasses import dataclass
from typing import Callable

import numpy as np
import onnx

import tasks
from harness import ROOT

FOLDER = os.path.join(ROOT, "build/shrink")
IMAGES = "/usr/share/datasets/fashion-mnist"
CALIBRATION = 512  # samples, spread over the training part
SEED = 1
PARTS = ("train", "calibration", "test")


def split(folder, train, test):
    """Writes samples and labels of each part."""
    every = np.linspace(0, len(train[1]) - 1, CALIBRATION).astype(int)
    calibration = train[0][every], train[1][every]
    for part, (x, y) in zip(PARTS, (train, calibration, test)):
        np.save(f"{folder}/{part}-x.npy", x)
        np.save(f"{folder}/{part}-y.npy", y.astype(np.int64))


def idx(name, head, shape):
    with gzip.open(f"{IMAGES}/{name}-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=head).reshape(shape)


def fashion(folder):
    def part(name):
        return idx(f"{name}-images-idx3", 16, (-1, 1, 28, 28)), idx(f"{name}-labels-idx1", 8, -1)
    split(folder, part("train"), part("t10k"))


def btc(folder):
    """As in tasks.py: the last fifth is tested, and no window of the training part reaches into it."""
    tasks.btc(folder)
    x, y = np.load(f"{folder}/windows.npy"), np.load(f"{folder}/up.npy")
    tested = int(tasks.TESTED * len(y) + 0.5)
    known = len(y) - tested - tasks.WINDOW - tasks.AHEAD
    split(folder, (x[:known], y[:known]), (x[-tested:], y[-tested:]))
    for name in ("windows", "up"):
        os.remove(f"{folder}/{name}.npy")


def number(text):
    try:
        return float(text)
    except ValueError:
        return None


def encoded(rows, known, column):
    """A column's features: its number, or 1 for each of its texts; as `minim train` encodes a table."""
    values = [row[column] for row in rows]
    numbers = [number(v) for v in values]
    if column == "senior_citizen" or all(n is None for n in numbers):
        texts = sorted({v for v, k in zip(values, known) if k})
        return [[float(v == text) for v in values] for text in texts]
    mean = np.mean([n for n, k in zip(numbers, known) if k and n is not None])
    return [[mean if n is None else n for n in numbers]]


def telco(folder):
    with tasks.raw("telco-churn.csv.xz") as source:
        rows = list(csv.DictReader(source))
    known = np.random.default_rng(SEED).permutation(len(rows)) >= 0.2 * len(rows)
    columns = [c for c in rows[0] if c != "churn"]
    x = np.array([f for c in columns for f in encoded(rows, known, c)], np.float32).T.copy()
    y = np.array([row["churn"] == "Yes" for row in rows], np.int64)
    split(folder, (x[known], y[known]), (x[~known], y[~known]))


DATA = {"fashion": fashion, "btc": btc, "telco": telco}


def path_of(data, part):
    return f"{FOLDER}/data/{data}/{part}.npy"


def prepare(data):
    folder = f"{FOLDER}/data/{data}"
    if not os.path.exists(path_of(data, "test-y")):  # the last one written
        os.makedirs(folder, exist_ok=True)
        DATA[data](folder)


def retargeted(recipe, data, epochs):
    """The recipe's text, on the arrays of `data`, with one thread."""
    parts = re.split(r"(?m)^(?=\[)", open(recipe).read())
    parts = [p for p in parts if not p.startswith(("[data]", "[output]"))]
    lines = [f'{part}_{what} = "{path_of(data, f"{part}-{letter}")}"'
             for part in ("train", "test") for what, letter in (("samples", "x"), ("labels", "y"))]
    text = re.sub(r"(?m)^(epochs|threads|seed) *=.*\n", "", "".join(parts))
    text = text.replace("[train]\n", f"[train]\nepochs = {epochs}\nthreads = 1\nseed = {SEED}\n")
    text = text.replace('onnx = "model.onnx"', 'onnx = "untrained.onnx"')
    return (text + "\n[data]\n" + "\n".join(lines) +
            '\n[output]\nonnx = "trained.onnx"\nlog = "train.jsonl"\n')


def by_recipe(recipe, epochs, export=None):
    """Trains with `minim train`, the recipe's own layers or a PyTorch module exported for training."""
    def train(folder, data, minim):
        if export:
            import torch
            torch.manual_seed(SEED)
            export(f"{folder}/untrained.onnx")
        with open(f"{folder}/recipe.toml", "w") as file:
            file.write(retargeted(recipe, data, epochs))
        subprocess.run([minim, "train", f"{folder}/recipe.toml"], check=True)
        return onnx.load(f"{folder}/trained.onnx")
    return train


def images(module):
    def export(path):
        import training_models
        tasks.export(getattr(training_models, module)(), (1, 28, 28), path)
    return export


def recurrent(cell, width, layers):
    def export(path):
        from torch import nn
        import training_models
        module = training_models.Recurrent(5, width, layers, classes=2, cell=getattr(nn, cell))
        tasks.export(module, (tasks.WINDOW, 5), path)
    return export


def boosted(folder, data, minim):
    """Trees of scikit-learn. Their file answers labels, too: only the probabilities are kept."""
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier
    x, y = np.load(path_of(data, "train-x")), np.load(path_of(data, "train-y"))
    trees = GradientBoostingClassifier(n_estimators=200, max_depth=4, learning_rate=0.05, subsample=0.7,
                                       random_state=SEED).fit(x, y)
    model = to_onnx(trees, x[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3})
    del model.graph.output[0]
    return model


def standard(model):
    """The model with input `x` and a leading dim N; shapes of values in between are left to be inferred."""
    graph = model.graph
    old = graph.input[0].name
    for node in graph.node:
        node.input[:] = ["x" if name == old else name for name in node.input]
    graph.input[0].name = "x"
    for value in (graph.input[0], *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    del graph.value_info[:]
    onnx.checker.check_model(model)
    return model


@dataclass(frozen=True)
class Case:
    name: str
    data: str
    metric: str  # as `minim shrink --metric` calls it
    train: Callable  # (folder, data, minim) -> onnx.ModelProto
    max_loss: float = 0.02
    least_agreement: float = 0  # classes that a variant has to share with FP32
    most_apart: float = 1  # mean difference of probabilities that is allowed
    dynamic: bool = False  # ONNX Runtime quantizes it dynamically
    steps: str = "prune,distill,quantize"  # what --recipe asks for

    @property
    def folder(self):
        return f"{FOLDER}/{self.name}"

    @property
    def model(self):
        return f"{self.folder}/model.onnx"

    def part(self, name):
        return path_of(self.data, name)

    def ready(self):
        return os.path.exists(f"{self.folder}/done")

    def make(self, minim):
        prepare(self.data)
        if self.ready():
            return
        warnings.filterwarnings("ignore")  # the exporters' advice
        os.makedirs(self.folder, exist_ok=True)
        model = standard(self.train(self.folder, self.data, minim))
        onnx.save(model, self.model)
        open(f"{self.folder}/done", "w").close()


def bars(name, cell, width, layers, epochs):
    recipe = f"{ROOT}/bench/recipes/btc_direction.toml"
    return Case(name, "btc", "log-loss", by_recipe(recipe, epochs, recurrent(cell, width, layers)),
                least_agreement=0.99, most_apart=0.01, dynamic=True)


CASES = {case.name: case for case in (
    Case("cnn", "fashion", "accuracy", by_recipe(f"{ROOT}/examples/fashion_mnist.toml", 3)),
    Case("telco", "telco", "auc", by_recipe(f"{ROOT}/examples/telco_churn.toml", 20)),
    Case("telco-trees", "telco", "auc", boosted, steps=""),
    bars("btc-lstm-32", "LSTM", 32, 1, 1),
    bars("btc-lstm", "LSTM", 128, 2, 1),
    bars("btc-gru", "GRU", 128, 2, 1),
    Case("transformer", "fashion", "accuracy", by_recipe(
        f"{ROOT}/bench/recipes/fashion_vit.toml", 2, images("VisionTransformer"))),
    Case("resnet", "fashion", "accuracy", by_recipe(
        f"{ROOT}/bench/recipes/fashion_resnet.toml", 1, images("ResNet"))),
)}
