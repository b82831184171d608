"""A long run of `minim serve` under everything at once: models of several policies, FP32 and INT8 tiers, the cache, JSON
and binary tensors, one to four rows, reloads, models that come and go, clients that hang up in the middle of a request or
before its answer. Every answer is compared, bit by bit, with what the same tier answers one row alone. At the end:
wrong answers, failed requests, resident memory, the server's exit code; then thousands of connections at once.
  bench/soak                                             half an hour, then 10,000 connections
  ASAN_OPTIONS=quarantine_size_mb=1 bench/soak --minutes 5 --minim build/asan/minim
                                                         the same with a sanitizer's build
"""
import argparse
import asyncio
import json
import os
import random
import resource
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving import ROOT, Server

WORK = os.path.join(ROOT, "build/soak")
SAMPLES = 64
CLIENTS = 32
POLICIES = {
    "mlp": 'policy = "adaptive"\nlatency_target_ms = 20000',
    "cnn": 'policy = "time-window"\nwindow_ms = 2\nmin_batch = 4',
    "table": 'policy = "work-conserving"',
}
RSS_SLACK = 1.1  # the end over the middle; what allocators keep differs by some per cent
LONGEST_ANSWER = 60  # seconds


# Models, and what they should answer.

def save(name, nodes, inputs, weights):
    values = [helper.make_tensor_value_info(*one) for one in inputs]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(nodes, name, values, [output],
                              [numpy_helper.from_array(value, key) for key, value in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, os.path.join(WORK, name + ".onnx"))


def make_models(minim):
    """Each with its samples: {model: {input: array}}."""
    rng = np.random.default_rng(1)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    node = helper.make_node
    save("mlp", [node("Gemm", ["x", "a", "b"], ["h"]), node("Relu", ["h"], ["r"]),
                 node("Gemm", ["r", "c", "d"], ["l"]), node("Softmax", ["l"], ["y"])],
         [("x", TensorProto.FLOAT, ["N", 64])],
         {"a": normal(64, 256) / 8, "b": normal(256), "c": normal(256, 10) / 16, "d": normal(10)})
    save("cnn", [node("Conv", ["x", "k", "b"], ["c"], pads=[1, 1, 1, 1]), node("Relu", ["c"], ["r"]),
                 node("GlobalAveragePool", ["r"], ["p"]), node("Flatten", ["p"], ["f"]),
                 node("Gemm", ["f", "w", "v"], ["y"])],
         [("x", TensorProto.FLOAT, ["N", 3, 12, 12])],
         {"k": normal(64, 3, 3, 3) / 5, "b": normal(64), "w": normal(64, 10) / 8, "v": normal(10)})
    save("table", [node("Gather", ["e", "id"], ["row"]), node("Gemm", ["x", "w", "v"], ["h"]),
                   node("Add", ["row", "h"], ["y"])],
         [("x", TensorProto.FLOAT, ["N", 8]), ("id", TensorProto.INT64, ["N"])],
         {"e": normal(100, 10), "w": normal(8, 10), "v": normal(10)})
    samples = {"mlp": {"x": normal(SAMPLES, 64)}, "cnn": {"x": normal(SAMPLES, 3, 12, 12)},
               "table": {"x": normal(SAMPLES, 8), "id": rng.integers(0, 100, SAMPLES)}}
    for name, inputs in samples.items():
        folder, source = os.path.join(WORK, "models", name), os.path.join(WORK, name + ".onnx")
        if name == "table":
            os.makedirs(os.path.join(folder, "1"))
            shutil.copy(source, os.path.join(folder, "1/model.onnx"))
        else:
            data = os.path.join(WORK, name + ".npy")
            np.save(data, inputs["x"])
            subprocess.run([minim, "shrink", source, "--data", data, "--goal", "bytes", "--max-loss", "0.5",
                            "--out", folder], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(os.path.join(folder, "minim.toml"), "w") as file:
            file.write(f"[batching]\nmax_queue_rows = 40000\n{POLICIES[name]}\n")
    shutil.copytree(os.path.join(WORK, "models/table"), os.path.join(WORK, "models/comes and goes"))
    return samples


# One request: its bytes, and the bytes that its answer's tensor should have.

def body(inputs, binary, parameters):
    """The wire form of {name: array}, whose first axis counts rows."""
    tensors, tail = [], b""
    for name, value in inputs.items():
        datatype = {"float32": "FP32", "int64": "INT64"}[value.dtype.name]
        tensor = {"name": name, "shape": value.shape, "datatype": datatype}
        if binary:
            tensor["parameters"] = {"binary_data_size": value.nbytes}
            tail += value.tobytes()
        else:
            tensor["data"] = value.ravel().tolist()
        tensors.append(tensor)
    head = json.dumps({"inputs": tensors, "parameters": {**parameters, "binary_data_output": binary}}).encode()
    return head + tail, len(head) if binary else None


def wire(model, *parts):
    content, head_size = body(*parts)
    extra = f"Inference-Header-Content-Length: {head_size}\r\n" if head_size else ""
    return (f"POST /v2/models/{model.replace(' ', '%20')}/infer HTTP/1.1\r\nHost: x\r\n{extra}"
            f"Content-Length: {len(content)}\r\n\r\n").encode() + content


def values_of(head, content):
    """The answer's notes, and its tensor's bytes."""
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
    size = int(fields.get("Inference-Header-Content-Length", len(content)))
    answer = json.loads(content[:size])
    output = answer["outputs"][0]
    data = content[size:] if "data" not in output else np.array(output["data"], dtype=np.float32).tobytes()
    return answer["parameters"], data


class Line:
    """A keep-alive connection that is opened when it is needed."""

    def __init__(self, port):
        self.port, self.reader, self.writer = port, None, None

    async def connect(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, request):
        return await asyncio.wait_for(self.exchange(request), LONGEST_ANSWER)

    async def exchange(self, request):
        if self.writer is None:
            await self.connect()
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return head, await self.reader.readexactly(length)

    def reset(self):
        """Closes so that the server sees a reset, not an end."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        self.writer = None


class Soak:
    def __init__(self, server, samples):
        self.server, self.samples, self.expected = server, samples, {}
        self.port = int(server.url.rsplit(":", 1)[1])
        self.draw = random.Random(2)
        self.stop = False
        self.answers, self.wrong, self.failed, self.resets, self.reloads, self.hits, self.batched = [0] * 7
        self.complaints = []

    def complain(self, text):
        if len(self.complaints) < 20:
            self.complaints.append(text)

    async def learn(self):
        """What each tier answers each sample alone."""
        line = Line(self.port)
        alone = {"use_cache": False, "use_batching": False}
        for model, inputs in self.samples.items():
            request = f"GET /v2/models/{model} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            for tier in json.loads((await line.ask(request))[1])["parameters"]["tiers"]:
                answers = []
                for i in range(SAMPLES):
                    rows = {name: value[i:i + 1] for name, value in inputs.items()}
                    head, content = await line.ask(wire(model, rows, True, {**alone, "tier": tier}))
                    assert head.startswith(b"HTTP/1.1 200"), content
                    answers.append(values_of(head, content)[1])
                self.expected[model, tier] = answers
        line.reset()

    def tiers(self, model):
        return [tier for name, tier in self.expected if name == model]

    def request(self):
        """A random request, its model and its samples."""
        draw, model = self.draw, self.draw.choice(list(self.samples))
        start = draw.randrange(SAMPLES)
        rows = [(start + k) % SAMPLES for k in range(draw.choice((1, 1, 1, 2, 4)))]
        parameters = {"use_cache": draw.random() < 0.5}
        if draw.random() < 0.7:
            parameters["tier"] = draw.choice(self.tiers(model))
        if draw.random() < 0.1:
            parameters["use_batching"] = False
        inputs = {name: value[rows] for name, value in self.samples[model].items()}
        return wire(model, inputs, draw.random() < 0.6, parameters), model, rows

    def check(self, head, content, model, rows):
        self.answers += 1
        if not head.startswith(b"HTTP/1.1 200"):
            self.failed += 1
            return self.complain(f"{model}: {head[9:12].decode()} {content[:300].decode(errors='replace')}")
        notes, data = values_of(head, content)
        self.hits += notes["cache_hit"]
        self.batched += notes["batch_size"] > len(rows)
        known = self.expected.get((model, notes["tier"]))
        expected = b"".join(known[i] for i in rows) if known else None
        if data != expected or "fallback" in notes:
            self.wrong += 1
            self.complain(f"{model}: rows {rows}: {notes}: {np.frombuffer(data, np.float32)}, expected "
                          f"{expected and np.frombuffer(expected, np.float32)}")

    async def client(self):
        line = Line(self.port)
        while not self.stop:
            request, model, rows = self.request()
            try:
                head, content = await line.ask(request)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                self.failed += 1
                self.complain(f"{model}: no answer: {error!r}")
                line = Line(self.port)
                await asyncio.sleep(0.1)
                continue
            self.check(head, content, model, rows)

    async def quitter(self):
        """Hangs up in the middle of a request, or before its answer."""
        while not self.stop:
            line, (request, _, _) = Line(self.port), self.request()
            await line.connect()
            line.writer.write(request[:self.draw.randrange(1, 2 * len(request))])
            await asyncio.sleep(self.draw.random() * 0.01)
            line.reset()
            self.resets += 1
            await asyncio.sleep(0.02)

    async def manage(self, model, calls):
        line = Line(self.port)
        path = f"/v2/repository/models/{model.replace(' ', '%20')}/{{}} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        while not self.stop:
            for call in calls:
                head, content = await line.ask(("POST " + path.format(call)).encode())
                self.reloads += 1
                if not head.startswith(b"HTTP/1.1 200"):
                    self.failed += 1
                    self.complain(f"{call} {model}: {content[:300]}")
                await asyncio.sleep(2)

    async def run(self, seconds):
        await self.learn()
        tasks = [self.client() for _ in range(CLIENTS)] + [self.quitter() for _ in range(4)]
        tasks += [self.manage(model, ["load"]) for model in self.samples]
        tasks.append(self.manage("comes and goes", ["unload", "load"]))
        running = [asyncio.ensure_future(task) for task in tasks]
        readings = {}
        for tenth in range(1, 11):
            readings[tenth] = await self.resident_over(seconds / 10)
            if tenth in (1, 5, 10):
                print(f"{tenth * 10:3} %: {readings[tenth]:.1f} MiB resident, {self.answers} answers, {self.wrong} "
                      f"wrong, {self.failed} failed", flush=True)
        self.stop = True
        for result in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(result, Exception):
                self.failed += 1
                self.complain(repr(result))
        return readings

    async def resident_over(self, seconds):
        """The median: a reload holds a model twice for a moment."""
        values, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(min(1, seconds / 20))
            values.append(self.server.held("VmRSS"))
        return statistics.median(values)

    async def crowd(self, count, rounds):
        """All connections open, all requests in flight."""
        lines = [Line(self.port) for _ in range(count)]

        async def one(line):
            request, model, rows = self.request()
            self.check(*await line.ask(request), model, rows)

        for start in range(0, count, 500):  # below the listener's backlog
            await asyncio.gather(*(line.connect() for line in lines[start:start + 500]))
        for _ in range(rounds):
            for result in await asyncio.gather(*(one(line) for line in lines), return_exceptions=True):
                if isinstance(result, Exception):
                    self.failed += 1
                    self.complain(repr(result))
        for line in lines:
            line.writer.close()


def allow_descriptors(count):
    needed, (_, most) = count + 200, resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < needed:
        sys.exit(f"soak: {count} connections need `ulimit -n {needed}` here and in the server; at most {most} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed if most == resource.RLIM_INFINITY else most, most))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="of mixed traffic")
    parser.add_argument("--connections", type=int, default=10000, help="at once, afterwards; 0: none")
    parser.add_argument("--rounds", type=int, default=5, help="requests on each of them")
    parser.add_argument("--cache", default="memory://?bytes=4MiB", help="as of minim serve")
    parser.add_argument("--minim", default=os.path.join(ROOT, "build/release/minim"), help="the binary")
    options = parser.parse_args()
    allow_descriptors(options.connections)
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(os.path.join(WORK, "models"))
    minim = os.path.abspath(options.minim)
    samples = make_models(minim)
    server = Server(minim, os.path.join(WORK, "models"), "--model-control", "explicit", "--load-model", "*", "--cache",
                    options.cache, "--drain-seconds", "30", cpu=None)
    soak = Soak(server, samples)
    readings = asyncio.run(soak.run(options.minutes * 60))
    print(f"{soak.answers} answers ({soak.hits} from the cache, {soak.batched} batched), {soak.reloads} loads and "
          f"unloads, {soak.resets} hang-ups")
    if options.connections:
        before = soak.answers
        asyncio.run(soak.crowd(options.connections, options.rounds))
        print(f"{soak.answers - before} answers over {options.connections} connections at once; "
              f"{server.held('VmRSS'):.1f} MiB resident")
    dead, code = server.child.poll(), server.stop()
    flat = readings[10] <= readings[5] * RSS_SLACK
    problems = [text for bad, text in ((soak.wrong, f"{soak.wrong} wrong answers"),
                                       (soak.failed, f"{soak.failed} failed requests"),
                                       (dead is not None, "the server died"),
                                       (code != 0, f"the server's exit code is {code}"),
                                       (not flat, "resident memory grew in the second half")) if bad]
    for complaint in soak.complaints:
        print("  " + complaint)
    if problems:
        print(server.said())
    print("FAIL: " + ", ".join(problems) if problems else "PASS: no wrong answer, no failed request, memory flat")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
