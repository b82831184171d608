"""Low-precision files of a suite model: by `minim shrink` and by ONNX Runtime's own quantizer."""
import json
import logging
import os
import shutil
import subprocess

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import (
    CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_dynamic, quantize_static)

logging.disable(logging.WARNING)  # the quantizer's advice, a line a weight
CALIBRATION, TEST = 16, 32  # samples
FORMS = ("bf16", "int8-dynamic", "int8")
SEED = 11


def draw(dims, count, seed):
    """Inputs are standard normal, as after the usual standardisation."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.standard_normal((count, *dims)).astype(np.float32)


def input_dims(path):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.get_inputs()[0].shape[1:]


def shrink(minim, folder):
    """bf16-minim.onnx, int8-minim.onnx and int8-dynamic-minim.onnx; returns why one is missing."""
    source, work = f"{folder}/fp32.onnx", f"{folder}/shrink"
    os.makedirs(work, exist_ok=True)
    arguments = [minim, "shrink", source, "--out", work, "--max-loss", "1", "--goal", "bytes", "--time-budget", "0"]
    for kind, count in (("data", TEST), ("calibration", CALIBRATION)):
        np.save(f"{work}/{kind}.npy", draw(input_dims(source), count, SEED + count))
        arguments += [f"--{kind}", f"{work}/{kind}.npy"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    reasons = [done.stderr.strip()] if done.returncode else keep(work, folder)
    shutil.rmtree(work)
    return reasons


def keep(work, folder):
    reasons = []
    with open(f"{work}/1/report.json") as file:
        variants = {variant["name"]: variant for variant in json.load(file)["variants"]}
    for name in FORMS:
        if variants[name]["kept"]:
            shutil.move(f"{work}/1/{variants[name]['file']}", f"{folder}/{name}-minim.onnx")
        else:
            reasons.append(f"{name}: {variants[name]['reason']}")
    return reasons


class Reader(CalibrationDataReader):
    def __init__(self, rows):
        self.rows = iter(rows)

    def get_next(self):
        row = next(self.rows, None)
        return None if row is None else {"x": row[None]}


def has_vnni():
    with open("/proc/cpuinfo") as file:
        return "vnni" in file.read()


def ort_static(source, out, samples):
    """QDQ, per channel; weights of 7 bits where products of 8 would saturate, as its guide says."""
    prepared = f"{out}.prepared"
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(prepared, out, Reader(samples), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=not has_vnni())
    os.remove(prepared)


def ort_dynamic(source, out):
    quantize_dynamic(source, out, per_channel=True, reduce_range=not has_vnni())


def suite_static(folder):
    samples = draw(input_dims(f"{folder}/fp32.onnx"), CALIBRATION, SEED + CALIBRATION)
    ort_static(f"{folder}/fp32.onnx", f"{folder}/int8-ort.onnx", samples)


def suite_dynamic(folder):
    ort_dynamic(f"{folder}/fp32.onnx", f"{folder}/int8-dynamic-ort.onnx")


def make(minim, folder, forms):
    """Makes the named forms; prints a line for each that cannot be made."""
    reasons = shrink(minim, folder) if "minim" in forms else []
    for form, function in (("ort-static", suite_static), ("ort-dynamic", suite_dynamic)):
        if form not in forms:
            continue
        try:
            function(folder)
        except Exception as error:  # the quantizer's own limits
            reasons.append(f"{form}: {str(error).splitlines()[0][:160]}")
    return reasons
