"""Prints "TIER MEDIAN_US" of ONNX Runtime, one thread, batch 1, for each variant in a model folder."""
import sys
import time

import numpy as np
import onnxruntime as ort

folder, tiers = sys.argv[1], sys.argv[2:]
x = np.random.default_rng(1).uniform(0, 255, (1, 1, 28, 28)).astype(np.float32)
for tier in tiers:
    path = f"{folder}/model.onnx" if tier == "fp32" else f"{folder}/variants/{tier}.onnx"
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    samples = []
    for _ in range(3000):
        start = time.perf_counter()
        session.run(None, {name: x})
        samples.append(time.perf_counter() - start)
    print(tier, round(float(np.median(samples[100:])) * 1e6, 1))
