"""The peers, each with the same three calls: load, bind an input, run.

A peer is called as a careful user of its Python package would: inputs and outputs are bound once,
so that one call costs what the engine costs plus a few microseconds of Python.
"""
import os

import numpy as np


class Unavailable(Exception):
    """This engine does not offer that precision or that file here; the text says why."""


class OnnxRuntime:
    package = "onnxruntime"
    label = "ONNX Runtime"

    def load(self, path, threads, precision, batch):
        import onnxruntime as ort
        if precision == "bf16":
            raise Unavailable("no BF16 kernels for CPUs")
        ort.set_default_logger_severity(4)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_free_dimension_override_by_name("N", batch)
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def bind(self, x):
        import onnxruntime as ort
        y = self.session.run(None, {"x": x})[0]
        self.binding = self.session.io_binding()
        self.values = ort.OrtValue.ortvalue_from_numpy(x), ort.OrtValue.ortvalue_from_numpy(y)
        self.binding.bind_ortvalue_input("x", self.values[0])
        self.binding.bind_ortvalue_output(self.session.get_outputs()[0].name, self.values[1])

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def answer(self):
        return self.values[1].numpy()


class OpenVino:
    package = "openvino"
    label = "OpenVINO"

    def load(self, path, threads, precision, batch):
        import openvino
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise Unavailable("no BF16 arithmetic on this processor")
        model = core.read_model(path)
        model.reshape([batch, *list(model.input(0).partial_shape)[1:]])
        hint = "bf16" if precision == "bf16" else "f32"
        self.model = core.compile_model(model, "CPU", {
            "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint, "ENABLE_CPU_PINNING": False})

    def bind(self, x):
        import openvino
        self.request = self.model.create_infer_request()
        self.x = openvino.Tensor(x, shared_memory=True)
        self.request.set_input_tensor(self.x)
        self.run()

    def run(self):
        self.request.start_async()
        self.request.wait()

    def answer(self):
        return self.request.get_output_tensor(0).data


class Torch:
    package = "torch"
    label = "PyTorch"

    def load(self, path, threads, precision, batch):
        import torch
        from onnx_torch import Graph
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        if precision == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            raise Unavailable("no BF16 arithmetic on this processor")
        self.low = precision == "bf16"
        if precision == "int8":
            path = os.path.join(os.path.dirname(path), "fp32.onnx")
        try:
            self.model = Graph(path).eval()
        except NotImplementedError as error:
            raise Unavailable(f"no eager form: {error}") from error
        if precision == "int8":
            self.quantize(torch)

    def quantize(self, torch):
        import warnings
        if not len(self.model.layers):
            raise Unavailable("dynamic INT8 is offered for recurrent layers only")
        warnings.simplefilter("ignore")
        kinds = {torch.nn.LSTM, torch.nn.GRU}
        torch.ao.quantization.quantize_dynamic(self.model, kinds, dtype=torch.qint8, inplace=True)

    def bind(self, x):
        import torch
        self.x = torch.from_numpy(x)
        self.run()

    def run(self):
        import torch
        if not self.low:
            self.y = self.model(self.x)
            return
        with torch.autocast("cpu", torch.bfloat16):
            self.y = self.model(self.x)

    def answer(self):
        return self.y.float().numpy()


ENGINES = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "torch": Torch}


def installed():
    from importlib import metadata
    versions = {}
    for name, engine in ENGINES.items():
        try:
            versions[name] = metadata.version(engine.package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def relative_error(ours, theirs):
    """The largest difference, relative to the largest magnitude; infinite for NaN."""
    ours = np.asarray(ours, np.float64).reshape(-1)
    theirs = np.asarray(theirs, np.float64).reshape(-1)
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return float("inf")
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))
