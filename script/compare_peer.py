"""Compares minim's answers on 10,000 test images with ONNX Runtime's, file by file.

FP32 and BF16 must agree to 1e-5 (of the largest logit). INT8: 99.9 % of outputs within 1e-2 relative
and 99.9 % of classes equal. INT8 files are judged against ONNX Runtime with its own fusions off:
without VNNI its integer kernels saturate in 16 bits; the figure with fusions on is printed beside.
"""
import gzip
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as ort

minim, folder = sys.argv[1], sys.argv[2]
images = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz"
x = np.frombuffer(gzip.open(images).read()[16:], np.uint8).reshape(-1, 1, 28, 28).astype(np.float32)


def run_ort(path, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[i:i + 100]})[0] for i in range(0, len(x), 100)])


def run_minim(path, work):
    np.save(f"{work}/x.npy", x)
    subprocess.run([minim, "run", path, "--input", f"input={work}/x.npy", "--output-dir", work],
                   check=True, stdout=subprocess.DEVNULL)
    return np.load(f"{work}/logits.npy")


failed = False
with tempfile.TemporaryDirectory() as work:
    for file in ["model.onnx", "variants/bf16.onnx", "variants/int8.onnx", "variants/int8-dynamic.onnx"]:
        path = os.path.join(folder, file)
        if not os.path.exists(path):
            print(f"{file}: not there (it did not pass the gate)")
            continue
        ours = run_minim(path, work)
        plain = run_ort(path, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
        fused = run_ort(path, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
        same = (ours.argmax(1) == plain.argmax(1)).mean()
        same_fused = (ours.argmax(1) == fused.argmax(1)).mean()
        error = np.abs(ours - plain)
        close = (error <= 1e-2 * np.maximum(np.abs(plain), 0.1)).mean()
        good = same >= 0.999 and close >= 0.999
        if "int8" not in file:
            good = good and error.max() <= 1e-5 * np.abs(plain).max()
        failed |= not good
        print(f"{file}: {'ok' if good else 'FAILED'}: largest difference {error.max():.2e}, "
              f"{close:.4%} within 1e-2, classes equal {same:.4%} (fusions on: {same_fused:.4%})")
sys.exit(failed)
