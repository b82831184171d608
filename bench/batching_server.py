"""Batching on the running server: `minim serve` with each policy in turn, open-loop arrivals (Poisson, bursts, a slow
swing) over keep-alive connections, and how many answers come within the target. A request counts from when it should
have been sent, so a client that cannot keep up does not flatter the server. Writes build/batching/server.md.
  bench/batching              the simulation (a number: requests per cell)
  bench/batching --server     this
"""
import argparse
import asyncio
import json
import math
import os
import random
import subprocess
import time

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK = os.path.join(ROOT, "build/batching")
POLICIES = {
    "adaptive": ["--batching", "adaptive"],
    "work-conserving": ["--batching", "work-conserving"],
    "fixed-size 8": ["--batching", "fixed-size", "--max-batch", "8"],
    "fixed-size 32": ["--batching", "fixed-size", "--max-batch", "32"],
    "window 2 ms": ["--batching", "time-window", "--window-ms", "2"],
    "window 10 ms": ["--batching", "time-window", "--window-ms", "10"],
}
LOADS = (0.5, 1.0, 2.0)
CONNECTIONS = 256


def arrivals(kind, rate, seconds, target):
    """Times from 0 to `seconds`, as bench/simulator/arrivals.cc draws them."""
    draw, at, now, on, until = random.Random(1), [], 0.0, False, 0.0
    most = rate * {"poisson": 1, "burst": 3, "diurnal": 1.8}[kind]
    while True:
        now += draw.expovariate(most)
        if now >= seconds:
            return at
        here = rate
        if kind == "burst":
            while now >= until:
                on = not on
                until += draw.expovariate(1 / (5 * target if on else 15 * target))
            here = rate * (3 if on else 1 / 3)
        elif kind == "diurnal":
            here = rate * (1 + 0.8 * math.sin(2 * math.pi * now / seconds * 3))
        if draw.random() * most <= here:
            at.append(now)


def cnn(minim):
    """The small CNN of examples/fashion_mnist.toml, trained once."""
    path = os.path.join(WORK, "cnn/1/model.onnx")
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.path.join(ROOT, "examples/fashion_mnist.toml")) as file:
            recipe = file.read().replace("epochs = 4", "epochs = 1").replace('"fashion_mnist.onnx"', f'"{path}"')
        recipe = recipe.replace('log = "fashion_mnist.jsonl"', "")
        with open(os.path.join(WORK, "cnn.toml"), "w") as file:
            file.write(recipe)
        subprocess.run([minim, "train", os.path.join(WORK, "cnn.toml")], check=True, stdout=subprocess.DEVNULL)
    return (1, 1, 28, 28)


def mlp(_):
    """1024-4096-4096-16: bound by the bytes of its weights, so that batches pay."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    path = os.path.join(WORK, "mlp/1/model.onnx")
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        rng, sizes, nodes, weights, x = np.random.default_rng(1), (1024, 4096, 4096, 16), [], [], "x"
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
    return (1, 1024)


MODELS = {"cnn": (cnn, 10e-3), "mlp": (mlp, 50e-3)}


class Server:
    def __init__(self, minim, model, flags, target):
        self.child = subprocess.Popen(
            [minim, "serve", os.path.join(WORK, model), "--port", "0", "--cache-bytes", "0", "--instances", "1",
             "--http-threads", "1", "--latency-target-ms", str(target * 1e3), *flags], stdout=subprocess.PIPE, text=True)
        for line in self.child.stdout:
            if "http://" in line:
                self.port = int(line.split("http://")[1].split()[0].rstrip("/").split(":")[1].split("/")[0])
                break

    def held(self):
        with open(f"/proc/{self.child.pid}/status") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("RssAnon"))

    def close(self):
        self.child.terminate()
        self.child.wait()


def wire(model, name, shape):
    x = np.random.default_rng(0).uniform(0, 1, shape).astype("<f4").tobytes()
    head = json.dumps({"inputs": [{"name": name, "shape": shape, "datatype": "FP32",
                                   "parameters": {"binary_data_size": len(x)}}],
                       "parameters": {"binary_data_output": True}}).encode()
    return (f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(head) + len(x)}\r\n"
            f"Inference-Header-Content-Length: {len(head)}\r\n\r\n").encode() + head + x


class Load:
    """Requests at given times, over connections that are free by then; more are opened when none is."""

    def __init__(self, port, request):
        self.port, self.request, self.free, self.open = port, request, [], 0

    async def ask(self):
        if self.free:
            reader, writer = self.free.pop()
        elif self.open < CONNECTIONS:
            self.open += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        else:
            return None  # as many in flight as this client may have
        writer.write(self.request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        self.free.append((reader, writer))
        return int(head[9:12])

    async def one(self, due, results):
        status = await self.ask()
        results.append((status, time.perf_counter() - due))

    async def run(self, at):
        results, tasks, start = [], [], time.perf_counter() + 0.1
        for offset in at:
            wait = start + offset - time.perf_counter()
            if wait > 0.0005:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self.one(start + offset, results)))
        await asyncio.gather(*tasks)
        return results


def capacity(port, request):
    """Answers per second with 64 requests always in flight."""
    async def measure():
        load, done, end = Load(port, request), [0], time.perf_counter() + 2

        async def client():
            while time.perf_counter() < end:
                await load.ask()
                done[0] += 1
        await asyncio.gather(*(client() for _ in range(64)))
        return done[0] / 2
    return asyncio.run(measure())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", action="store_true", help="measure the server (else: the simulation)")
    parser.add_argument("--minim", default=os.path.join(ROOT, "build/release/minim"))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seconds", type=float, default=4, help="per cell")
    options = parser.parse_args()
    os.makedirs(WORK, exist_ok=True)
    lines = ["| model | target ms | capacity /s | policy | arrivals | "
             + " | ".join(f"in time at {load} /s | p99 ms" for load in LOADS) + " | memory MiB |",
             "| --- | --- | --- | --- | --- | " + " | ".join("---: | ---:" for _ in LOADS) + " | ---: |"]
    print("\n".join(lines), flush=True)
    for model in options.models.split(","):
        make, target = MODELS[model]
        shape = make(options.minim)
        request = wire(model, "x", shape)
        server = Server(options.minim, model, POLICIES["work-conserving"], target)
        capacity(server.port, request)
        most = capacity(server.port, request)
        server.close()
        for policy, flags in POLICIES.items():
            for kind in ("poisson", "burst", "diurnal"):
                cells = []
                server = Server(options.minim, model, flags, target)
                for load in LOADS:
                    results = asyncio.run(Load(server.port, request).run(
                        arrivals(kind, load * most, options.seconds, target)))
                    answered = sorted(seconds for status, seconds in results if status == 200)
                    in_time = sum(seconds <= target for seconds in answered) / options.seconds
                    p99 = answered[int(0.99 * (len(answered) - 1))] * 1e3 if answered else 0
                    cells.append(f"{in_time:.0f} | {p99:.1f}")
                held = server.held()
                server.close()
                lines.append(f"| {model} | {target * 1e3:.0f} | {most:.0f} | {policy} | {kind} | " + " | ".join(cells)
                             + f" | {held:.0f} |")
                print(lines[-1], flush=True)
    with open(os.path.join(WORK, "server.md"), "w") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
