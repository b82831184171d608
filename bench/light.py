"""Times ONNX's nine `light` models, FP32, batch 1, one thread: minim against ONNX Runtime.

usage: bench/light.py build/release/minim FOLDER_WITH_light_X.onnx
Runs alternate (A B A B), medians of medians; prints a Markdown table with the ratio. Needs
onnxruntime and numpy (script/venv numpy onnxruntime).
"""
import glob
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import onnxruntime as ort

minim, folder = sys.argv[1], sys.argv[2]
ROUNDS, SECONDS = 3, 1.0


def time_minim(path):
    out = subprocess.run([minim, "bench", path, "--json", "--seconds", str(SECONDS)],
                         capture_output=True, text=True, check=True).stdout
    return json.loads(out)["median_us"]


def time_ort(session, feed):
    samples, start = [], time.perf_counter()
    while time.perf_counter() - start < SECONDS or len(samples) < 5:
        begin = time.perf_counter()
        session.run(None, feed)
        samples.append((time.perf_counter() - begin) * 1e6)
    return statistics.median(samples)


print("| model | minim us | ONNX Runtime us | minim / ORT |\n| --- | --- | --- | --- |")
ratios = []
for path in sorted(glob.glob(f"{folder}/light_*.onnx")):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0]
    x = np.random.default_rng(1).uniform(0, 1, [d if isinstance(d, int) else 1 for d in first.shape])
    feed = {first.name: x.astype(np.float32)}
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(time_minim(path))
        theirs.append(time_ort(session, feed))
    a, b = statistics.median(ours), statistics.median(theirs)
    ratios.append(a / b)
    name = os.path.basename(path)[6:-5]
    print(f"| {name} | {a:.0f} | {b:.0f} | {a / b:.2f} |", flush=True)
print(f"| geometric mean | | | {np.exp(np.mean(np.log(ratios))):.2f} |")
