"""The learning tasks that precisions.py knows by name: data from $MINIM_TEST_DATA or a Debian package, put into a
folder beside the recipe; a model that a recipe cannot list is exported from PyTorch, for each seed with weights of
its own."""
import csv
import datetime
import lzma
import math
import os
import warnings
from dataclasses import dataclass
from typing import Callable

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
WINDOW, AHEAD = 60, 10  # bars
TESTED = 0.2  # as in the recipe


def raw(name):
    """The lines of a compressed table."""
    folder = os.environ.get("MINIM_TEST_DATA")
    if not folder:
        raise SystemExit(f"MINIM_TEST_DATA is not set: it is the folder that holds {name}")
    return lzma.open(os.path.join(folder, name), "rt")


def telco(folder):
    with raw("telco-churn.csv.xz") as source, open(f"{folder}/telco-churn.csv", "w") as out:
        out.write(source.read())


def features(bars):
    """[bars, 5]: what a bar says relative to the one before or to itself."""
    opened, high, low, close, volume = (bars[:, i] for i in range(5))
    change = np.diff(np.log(close), prepend=math.log(close[0]))
    return np.stack([change, np.log(close / opened), np.log(high / low), np.log1p(volume),
                     np.log1p(volume) - np.log1p(np.roll(volume, 1))], 1).astype(np.float32)


def btc(folder):
    """Windows of bars without a gap in time, and whether the close is higher AHEAD bars later."""
    with raw("btcusd-1min.csv.xz") as source:
        rows = list(csv.DictReader(source))
    bars = np.array([[float(row[k] or 0) for k in ("open", "high", "low", "close", "volume")] for row in rows])
    minutes = np.array([datetime.datetime.fromisoformat(row["date"]).timestamp() // 60 for row in rows])
    length = WINDOW + AHEAD
    first = np.arange(1, len(rows) - length + 1)
    first = first[minutes[first + length - 1] - minutes[first] == length - 1]
    values = features(bars)
    np.save(f"{folder}/windows.npy", np.stack([values[i:i + WINDOW] for i in first]))
    last = first + WINDOW - 1
    up = (bars[last + AHEAD, 3] > bars[last, 3]).astype(np.int64)
    np.save(f"{folder}/up.npy", up)
    tested = int(TESTED * len(up) + 0.5)
    p = up[:-tested - length].mean()
    loss = -np.where(up[-tested:] == 1, math.log(p), math.log(1 - p)).mean()
    print(f"{len(up)} windows; the share of rises in the training part alone has a test log-loss of {loss:.4f}")


def export(module, shape, path):
    import torch
    warnings.filterwarnings("ignore")  # the exporter's advice
    torch.onnx.export(module.train(), torch.rand(2, *shape), path, dynamo=False, opset_version=17,
                      do_constant_folding=False, training=torch.onnx.TrainingMode.TRAINING,
                      input_names=["input"], output_names=["logits"],
                      dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}})


def lstm(path):
    import training_models
    export(training_models.Recurrent(inputs=5, width=32, layers=1, classes=2), (WINDOW, 5), path)


def vit(path):
    import training_models
    export(training_models.VisionTransformer(), (28, 28), path)


@dataclass
class Task:
    recipe: str
    metric: str  # of the log
    label: str
    scale: float = 1
    data: Callable = lambda folder: None
    model: Callable = None  # exports one to a path

    def prepare(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.data(folder)

    def seed(self, folder, seed):
        if self.model:
            import torch
            torch.manual_seed(seed)
            self.model(f"{folder}/model.onnx")


TASKS = {
    "telco": Task(f"{HERE}/../examples/telco_churn.toml", "test_auc", "AUC", data=telco),
    "btc": Task(f"{HERE}/recipes/btc_direction.toml", "test_loss", "log-loss", data=btc, model=lstm),
    "vit": Task(f"{HERE}/recipes/fashion_vit.toml", "test_accuracy", "accuracy, %", scale=100, model=vit),
}
