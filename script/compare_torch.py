"""Compares minim with PyTorch on modules exported by torch.onnx.export with a dynamic batch axis.

Both exporters are tried: TorchScript's, and the current one, torch.export (six seconds a module). The
file is made at one batch size and run at another; numbers must agree to 1e-4 of the largest output. A
module is skipped if the exporter refuses it, or if ONNX Runtime reads the file differently too.
"""
import argparse
import re
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import torch

from torch_modules import MODULES, silence

warnings.filterwarnings("ignore")
ort.set_default_logger_severity(4)
BOUND = 1e-4


def flat(value):
    return [v for one in value for v in flat(one)] if isinstance(value, (tuple, list)) else [value]


def export(module, inputs, path, current):
    names = [f"x{i}" for i in range(len(inputs))]
    if current:
        batch = torch.export.Dim("batch", min=1, max=64)
        # A module of *inputs takes the shapes as one tuple for its one parameter.
        shapes = tuple({0: batch} for _ in inputs)
        how = dict(dynamic_shapes=(shapes,) if hasattr(module, "function") else shapes,
                   dynamo=True, external_data=False)
    else:
        how = dict(dynamic_axes={name: {0: "batch"} for name in names}, dynamo=False, opset_version=17)
    with silence():
        torch.onnx.export(module, inputs, path, input_names=names, **how)
    return names


def run(minim, path, names, inputs, work):
    arguments = [minim, "run", path, "--output-dir", work]
    for name, value in zip(names, inputs):
        np.save(f"{work}/{name}.npy", value.numpy())
        arguments += ["--input", f"{name}={work}/{name}.npy"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    outputs = [o.name.replace("/", "_") for o in onnx.load(path).graph.output]
    return [np.load(f"{work}/{name}.npy") for name in outputs]


def larger(value):
    """The same rows in another order and number: a batch the exporter has not seen."""
    return torch.cat([value, value.flip(0)[:3]])


def mismatch(ours, theirs):
    if len(ours) != len(theirs):
        return f"{len(ours)} outputs instead of {len(theirs)}"
    for a, b in zip(ours, theirs):
        if a.shape != b.shape:
            return f"shape {a.shape} instead of {b.shape}"
        error = np.abs(a.astype(np.float64) - b).max() / max(np.abs(b).max(), 1e-6)
        if not error <= BOUND:
            return f"differs by {error:.2g} of the largest output"
    return ""


def runtime_disagrees(path, names, inputs, expected):
    try:
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        answers = session.run(None, {n: v.numpy() for n, v in zip(names, inputs)})
    except Exception as error:  # whatever it finds wrong with the file
        return str(error).strip().splitlines()[0]
    return mismatch(answers, expected)


def check(minim, name, current, work):
    """"agrees", "skipped" with a printed reason, or "FAILED"."""
    torch.manual_seed(5)
    module, inputs = MODULES[name]()
    module = module.eval()
    path = f"{work}/model.onnx"
    try:
        names = export(module, inputs, path, current)
    except Exception as error:
        print(f"skipped {name}: not exported: {str(error).strip().splitlines()[0][:120]}", flush=True)
        return "skipped"
    batch = [larger(value) for value in inputs]
    with torch.no_grad():
        expected = [value.numpy() for value in flat(module(*batch))]
    try:
        problem = mismatch(run(minim, path, names, batch, work), expected)
    except RuntimeError as error:
        problem = str(error)[:300]
    if not problem:
        return "agrees"
    if why := runtime_disagrees(path, names, batch, expected):
        print(f"skipped {name}: ONNX Runtime cannot either: {why[:160]} (minim: {problem})", flush=True)
        return "skipped"
    print(f"FAILED {name}: {problem}", flush=True)
    return "FAILED"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("minim")
    parser.add_argument("--only", default="", help="a regular expression of names")
    parser.add_argument("--exporter", choices=["TorchScript", "torch.export"], help="default: both")
    options = parser.parse_args()
    failed = False
    for label in [options.exporter] if options.exporter else ["TorchScript", "torch.export"]:
        with tempfile.TemporaryDirectory() as work:
            results = [check(options.minim, name, label == "torch.export", work)
                       for name in MODULES if re.search(options.only, name)]
        agree, failures = results.count("agrees"), results.count("FAILED")
        failed |= failures > 0
        print(f"PyTorch, {label}: {agree} agree, {failures} failed, {results.count('skipped')} skipped",
              flush=True)
    sys.exit(failed)


main()
