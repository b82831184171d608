"""Builds the suite's models under build/suite/NAME: fp32.onnx and its low-precision forms.

Weights are seeded, so that every machine measures the same files. Run it through bench/suite.
"""
import argparse
import fnmatch
import os
import shutil
import sys
import time
from typing import Callable, NamedTuple

import onnx

import light
import models
import variants

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "build/suite")
CONV, SEQUENCE, NO_GATE = ("minim", "ort-static"), ("minim", "ort-static", "ort-dynamic"), ("ort-static",)
SMALL, LIGHT, HEAVY = "small", "light convolutions", "heavy"


class Model(NamedTuple):
    name: str
    kind: str  # what geometric means are taken over
    build: Callable[[], onnx.ModelProto]
    forms: tuple  # the low-precision files that are made; none of a tree ensemble
    archived: bool = False  # its architecture comes from ONNX's `light` models


def classifier(name, seed, kind):
    return Model(name, kind, lambda: light.Reweigher(name, seed).build(), CONV, True)


SUITE = [
    Model("mlp", SMALL, models.mlp, SEQUENCE),
    Model("trees", SMALL, models.trees, ()),
    Model("lstm", SMALL, models.lstm, ("minim", "ort-dynamic")),
    Model("gru", SMALL, models.gru, ("minim", "ort-dynamic")),
    classifier("squeezenet", 21, LIGHT),
    classifier("shufflenet", 22, LIGHT),
    Model("unet", HEAVY, models.unet, NO_GATE),  # minim's accuracy gate wants classes
    Model("transformer-64", HEAVY, lambda: models.transformer(64), SEQUENCE),
    Model("transformer-128", HEAVY, lambda: models.transformer(128), SEQUENCE),
    classifier("resnet50", 23, HEAVY),
    classifier("densenet121", 24, HEAVY),
    classifier("vgg19", 25, HEAVY),
]


def chosen(patterns):
    """Suite models whose name matches any of the comma-separated patterns."""
    found = [m for m in SUITE if any(fnmatch.fnmatch(m.name, p) for p in patterns.split(","))]
    if not found:
        sys.exit(f"no model is called '{patterns}'; there are: {', '.join(m.name for m in SUITE)}")
    return found


def path_of(name, form="fp32"):
    return os.path.join(FOLDER, name, f"{form}.onnx")


def build(model, minim):
    folder = os.path.join(FOLDER, model.name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    onnx.save(model.build(), path_of(model.name))
    reasons = variants.make(minim, folder, model.forms)
    with open(os.path.join(folder, "done"), "w") as file:  # a build that was cut off is repeated
        file.writelines(reason + "\n" for reason in reasons)
    return reasons


def ready(model):
    return os.path.exists(os.path.join(FOLDER, model.name, "done"))


def ensure(selected, minim, again=False):
    """Builds what is missing; returns the models that are there."""
    there = []
    for model in selected:
        if model.archived and light.folder() is None:
            print(f"skipped {model.name}: neither the conformance archive nor the onnx package has it")
            continue
        if again or not ready(model):
            start = time.time()
            reasons = build(model, minim)
            print(f"{model.name}: made in {time.time() - start:.0f} s", flush=True)
            for reason in reasons:
                print(f"  without {reason}", flush=True)
        there.append(model)
    return there


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="*", help="names or patterns, comma-separated")
    parser.add_argument("--minim", default=os.path.join(ROOT, "build/release/minim"))
    parser.add_argument("--again", action="store_true", help="also what is there already")
    options = parser.parse_args()
    if not os.access(options.minim, os.X_OK):
        sys.exit(f"{options.minim} is not built; run cmake --build build/release --target minim")
    ensure(chosen(options.models), options.minim, options.again)


if __name__ == "__main__":
    main()
