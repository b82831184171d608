"""What the measurements of a running server share: a pinned `minim serve`, `minim load` against it, models to serve."""
import json
import math
import os
import re
import subprocess
import tempfile
import urllib.error
import urllib.request

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Server:
    """`minim serve PATH` with one instance and one HTTP thread on one processor; clients belong on another. With
    cpu=None it has the whole machine, and as many threads as it likes."""

    def __init__(self, minim, path, *flags, cpu="0"):
        self.minim, self.log = minim, tempfile.TemporaryFile("w+")
        pinned = ["taskset", "-c", cpu] if cpu else []
        single = ["--instances", "1", "--http-threads", "1"] if cpu else []
        self.child = subprocess.Popen([*pinned, minim, "serve", path, "--port", "0", "--no-grpc", *single, *flags],
                                      stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.url = None
        for line in self.child.stdout:
            if "http://" in line:
                self.url = re.search("http://[^ ,;/]+", line)[0]
                break
        if self.url is None:
            raise SystemExit(f"{path}: {self.said()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Its exit code."""
        self.child.terminate()
        return self.child.wait(timeout=60)

    def said(self):
        """On stderr, so far."""
        self.log.seek(0)
        return self.log.read().strip()

    def held(self, kind="RssAnon"):
        """MiB: of its own memory, or by another line of /proc/PID/status."""
        with open(f"/proc/{self.child.pid}/status") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith(kind))

    def ask(self, path, body=None):
        """GET, or POST of a JSON document; the answer's. A refusal raises urllib.error.HTTPError."""
        request = urllib.request.Request(self.url + path, None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def phases(self, model):
        """Of the tier that serves: {"total": {"p50_us": ...}, ...}."""
        tiers = self.ask(f"/v2/models/{model}/stats")["model_stats"][0]["minim"]
        return max(tiers, key=lambda tier: tier["requests"])["phases"]

    def load(self, model, *flags, cpu="1"):
        """What `minim load --json` says. Refusals are part of it, other failures end the measurement."""
        done = subprocess.run(["taskset", "-c", cpu, self.minim, "load", self.url, "--model", model, "--json",
                               *map(str, flags)], capture_output=True, text=True)
        report = json.loads(done.stdout) if done.stdout else {"failed": 1, "refused": 0}
        if report["failed"] != report["refused"]:
            raise SystemExit(f"{model}: {done.stderr.strip()}")
        return report


def train_cnn(minim, path):
    """The small CNN of examples/fashion_mnist.toml, trained for an epoch."""
    if os.path.exists(path):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(os.path.join(ROOT, "examples/fashion_mnist.toml")) as file:
        recipe = file.read().replace("epochs = 4", "epochs = 1").replace('"fashion_mnist.onnx"', f'"{path}"')
    recipe_file = os.path.join(os.path.dirname(path), "recipe.toml")
    with open(recipe_file, "w") as file:
        file.write(recipe.replace('log = "fashion_mnist.jsonl"', ""))
    subprocess.run([minim, "train", recipe_file], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def write_mlp(path, sizes, seed=1):
    """x FP32[N, first] -> MatMul, Relu, ... -> y FP32[N, last], with weights drawn by `seed`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    if os.path.exists(path):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    rng, nodes, weights, x = np.random.default_rng(seed), [], [], "x"
    for i, (rows, columns) in enumerate(zip(sizes, sizes[1:])):
        w = (rng.standard_normal((rows, columns)) * math.sqrt(2 / rows)).astype(np.float32)
        weights.append(numpy_helper.from_array(w, f"w{i}"))
        last = i == len(sizes) - 2
        nodes.append(helper.make_node("MatMul", [x, f"w{i}"], ["y" if last else f"m{i}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"m{i}"], [f"r{i}"]))
            x = f"r{i}"
    graph = helper.make_graph(
        nodes, "mlp", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", sizes[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", sizes[-1]])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


# Bound by the bytes of its weights, so that batches pay.
WIDE_MLP = (1024, 4096, 4096, 16)
