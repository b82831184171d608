"""The promises of serving, checked in one run: each line PASS or FAIL with its figure. The server has the first
processor, the client the second. Writes build/headlines/results.md; exit code 1 if a line failed.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import threading
import time
import urllib.error

import numpy as np

import harness
from serving import ROOT, WIDE_MLP, Server, train_cnn, write_mlp

WORK = os.path.join(ROOT, "build/headlines")
SHRUNK = os.path.join(ROOT, "build/shrink/resnet/shrunk/1")
TINY, TALL = (16, 2), (1024, 5120, 5120, 16)


class NotMeasured(Exception):
    """Something that a line needs is not here; the text says what, and how to get it."""


def model(name):
    return os.path.join(WORK, name)


def json_request(width):
    return {"inputs": [{"name": "x", "shape": [1, width], "datatype": "FP32", "data": [0.5] * width}]}


def wrk(url, script=None):
    """Answers a second over 32 connections."""
    if not shutil.which("wrk"):
        raise NotMeasured("wrk is not installed: script/bootstrap --bench")
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c32", "-d2s", *(["-s", script] if script else []), url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text:
        raise NotMeasured(f"{url}: {text}")
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith("Requests/sec")))


class Nginx:
    """A static answer as long as the tiny model's, from one worker on the first processor."""

    def __enter__(self):
        if not shutil.which("nginx", path="/usr/sbin:/usr/bin"):
            raise NotMeasured("nginx is not installed: script/bootstrap --bench")
        folder = model("nginx")
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/nginx.conf", "w") as file:
            file.write(f"""worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder};
  server {{ listen 127.0.0.1:18124; location / {{ return 200 '{"x" * 300}'; }} }} }}""")
        self.child = subprocess.Popen(["taskset", "-c", "0", "/usr/sbin/nginx", "-c", f"{folder}/nginx.conf"],
                                      stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        return "http://127.0.0.1:18124/"

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()


def overhead(options):
    """Arrival to the socket, less the run, at half of what the tiny model can do."""
    with Server(options.minim, model("tiny"), "--cache", "none") as server:
        most = server.load("tiny", "--concurrency", 32, "--seconds", 2)["requests_per_second"]
    with Server(options.minim, model("tiny"), "--cache", "none") as server:
        server.load("tiny", "--rate", most / 2, "--arrivals", "poisson", "--seconds", options.seconds)
        phases = server.phases("tiny")
    # Quantiles of parts added up are at most above the quantile of the sum.
    p50, p99 = (phases["total"][q] + phases["send"][q] - phases["compute"]["p50_us"] for q in ("p50_us", "p99_us"))
    return (p50 < 40 and p99 < 200,
            f"p50 {p50:.0f} us, p99 at most {p99:.0f} us at {most / 2:.0f} requests a second")


def throughput(options):
    script = model("infer.lua")
    with open(script, "w") as file:
        file.write(f"wrk.method = 'POST'\nwrk.body = '{json.dumps(json_request(TINY[0]))}'\n")
    rates = {"empty": [], "tiny": [], "nginx": []}
    with Server(options.minim, model("tiny"), "--cache", "none") as server, Nginx() as static:
        for _ in range(3):
            rates["empty"].append(wrk(server.url + "/v2/health/live"))
            rates["tiny"].append(wrk(server.url + "/v2/models/tiny/infer", script))
            rates["nginx"].append(wrk(static))
    empty, tiny, static = (statistics.median(rates[name]) for name in rates)
    return (tiny >= 0.8 * empty,
            f"{tiny:.0f} a second, {tiny / empty:.0%} of the empty handler's {empty:.0f}: JSON in and out and the run take "
            f"{1e6 / tiny - 1e6 / empty:.0f} us; nginx, static: {static:.0f}")


def cache(options):
    """One sample, asked for again and again, with the cache and without."""
    sample = model("sample.npy")
    np.save(sample, np.full((1, TALL[0]), 0.5, np.float32))
    with Server(options.minim, model("tall")) as server:
        server.load("tall", "--samples", sample, "--cache", "--requests", 10)
        hit = [server.load("tall", "--samples", sample, "--cache", "--seconds", 1) for _ in range(3)]
        inside = server.phases("tall")["cache"]["p50_us"]
        miss = [server.load("tall", "--samples", sample, "--seconds", 1) for _ in range(3)]
    hit_us, miss_us = (statistics.median(r["latency_us"]["p50"] for r in runs) for runs in (hit, miss))
    return (miss_us >= 10 * hit_us,
            f"{miss_us / hit_us:.0f}x: {hit_us:.0f} us instead of {miss_us / 1e3:.1f} ms; in the server {inside:.0f} us")


def batching(options):
    rates = {"1": [], "64": []}
    for _ in range(3):
        for batch, values in rates.items():
            with Server(options.minim, model("mlp"), "--cache", "none", "--max-batch", batch) as server:
                values.append(server.load("mlp", "--concurrency", 64, "--seconds", 2)["requests_per_second"])
    one, many = (statistics.median(values) for values in rates.values())
    return many >= 5 * one, f"{many / one:.1f}x: {many:.0f} instead of {one:.0f} answers a second"


def reload(options):
    """Reloads of one model while another is asked at a constant rate; the server and the client share both processors."""
    folder = model("two")
    for name in ("other", "reloaded"):
        write_mlp(f"{folder}/{name}/1/model.onnx", (256, 1024, 256))
    failed, done, p99 = [0], [0], {True: [], False: []}
    with Server(options.minim, folder, "--cache", "none", "--model-control", "explicit", "--load-model", "*",
                cpu="0,1") as server:
        for _ in range(5):
            for with_reloads in (False, True):
                stop, reloads = threading.Event(), [0]

                def again():
                    while not stop.is_set() and reloads[0] < 20:
                        try:
                            server.ask("/v2/repository/models/reloaded/load", {})
                        except urllib.error.HTTPError:
                            failed[0] += 1
                        reloads[0] += 1
                        time.sleep(0.05)

                thread = threading.Thread(target=again)
                if with_reloads:
                    thread.start()
                report = server.load("other", "--rate", 500, "--seconds", 4)
                stop.set()
                if with_reloads:
                    thread.join()
                    failed[0] += report["failed"]
                    done[0] += reloads[0]
                p99[with_reloads].append(report["latency_us"]["p99"])
    ratio = statistics.median(p99[True]) / statistics.median(p99[False])
    return (ratio < 1.2 and failed[0] == 0,
            f"p99 {statistics.median(p99[True]):.0f} us beside {done[0]} reloads, "
            f"{statistics.median(p99[False]):.0f} us without: {ratio:.2f}x; {failed[0]} requests failed")


def shrunk_time(options):
    """A ResNet that bench/shrink.py trained and shrank, batch 32, one thread, in turns."""
    if not os.path.exists(f"{SHRUNK}/variants/int8.onnx"):
        raise NotMeasured("no shrunk ResNet: bench/shrink.py --models resnet makes one")
    times = {f"{SHRUNK}/model.onnx": [], f"{SHRUNK}/variants/int8.onnx": []}
    for _ in range(5):
        for path, values in times.items():
            done = subprocess.run([*harness.pinned(1), options.minim, "bench", path, "--batch", "32", "--seconds", "1",
                                   "--json"], capture_output=True, text=True, check=True)
            values.append(json.loads(done.stdout)["median_us"])
    fp32, int8 = (statistics.median(values) for values in times.values())
    with open(f"{SHRUNK}/report.json") as file:
        variant = next(v for v in json.load(file)["variants"] if v["name"] == "int8")
    least, most = variant["relative_loss_interval_95"]
    return (int8 <= 0.4 * fp32 and most < 0.02,
            f"{1 - int8 / fp32:.0%} less time ({fp32 / 1e3:.1f} to {int8 / 1e3:.1f} ms), accuracy loss "
            f"{variant['relative_loss']:.2%} [{least:.2%}, {most:.2%}]")


def shrunk_bytes(_):
    if not os.path.exists(f"{SHRUNK}/variants/int8.onnx"):
        raise NotMeasured("no shrunk ResNet: bench/shrink.py --models resnet makes one")
    fp32, int8 = (os.path.getsize(f"{SHRUNK}/{name}") for name in ("model.onnx", "variants/int8.onnx"))
    return (int8 <= 0.25 * fp32,
            f"{1 - int8 / fp32:.1%} fewer ({fp32:,} to {int8:,}); scales, zero points and biases take the rest")


def warm(options):
    """The first answer of a model that is loaded and warm, and of one that must be loaded first."""
    folder = model("explicit")
    write_mlp(f"{folder}/mlp/1/model.onnx", (256, 1024, 1024, 16))
    body, cold, first = json_request(256), [], []
    for _ in range(5):
        with Server(options.minim, folder, "--cache", "none", "--model-control", "explicit") as server:
            server.ask("/v2/health/live")
            start = time.perf_counter()
            server.ask("/v2/repository/models/mlp/load", {})
            server.ask("/v2/models/mlp/infer", body)
            cold.append(time.perf_counter() - start)
        with Server(options.minim, folder, "--cache", "none") as server:
            server.ask("/v2/health/live")
            start = time.perf_counter()
            server.ask("/v2/models/mlp/infer", body)
            first.append(time.perf_counter() - start)
    cold, first = statistics.median(cold) * 1e3, statistics.median(first) * 1e3
    return first <= 0.1 * cold, f"{1 - first / cold:.0%} faster: {first:.2f} instead of {cold:.1f} ms"


def cnn_rate(options):
    with Server(options.minim, model("cnn"), "--cache", "none") as server:
        most = server.load("cnn", "--concurrency", 32, "--seconds", options.seconds)["requests_per_second"]
    return most >= 500, f"{most:.0f} a second on one processor"


def cnn_latency(options):
    with Server(options.minim, model("cnn"), "--cache", "none") as server:
        report = server.load("cnn", "--rate", 500, "--arrivals", "poisson", "--seconds", options.seconds)
    p95 = report["latency_us"]["p95"] / 1e3
    return p95 < 5, f"p95 {p95:.2f} ms at 500 requests a second"


def many_models(options):
    folder = model("fifty")
    for i in range(50):
        write_mlp(f"{folder}/m{i}/1/model.onnx", (64, 256, 8 + i), seed=i)
    failed, right = [], []  # lists: threads may append at once
    with Server(options.minim, folder, "--cache", "none") as server:

        def ask(i):
            for _ in range(20):
                try:
                    shape = server.ask(f"/v2/models/m{i}/infer", json_request(64))["outputs"][0]["shape"]
                    (right if shape == [1, 8 + i] else failed).append(shape)
                except OSError as error:
                    failed.append(error)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        held = server.held()
    return len(right) == 1000, f"{len(right)} of 1000 answers from 50 models, {held:.0f} MiB held"


LINES = (
    ("server overhead p50 under 40 us, p99 under 200 us", overhead),
    ("tiny model at 80 % of the empty handler", throughput),
    ("cache hit 10x faster than a 5 ms model", cache),
    ("batching 5 to 10x where bytes bind", batching),
    ("reloads move another model's p99 under 1.2x", reload),
    ("INT8 takes 60 % off a FLOP-bound model, loss under 2 %", shrunk_time),
    ("model bytes -75 %", shrunk_bytes),
    ("warm first answer 90 % faster than cold", warm),
    ("500 predictions a second", cnn_rate),
    ("p95 under 5 ms for the CNN", cnn_latency),
    ("50 models served at once", many_models),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minim", default=os.path.join(ROOT, "build/release/minim"))
    parser.add_argument("--only", default="", help="lines whose text holds this")
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement under load")
    options = parser.parse_args()
    os.makedirs(WORK, exist_ok=True)
    train_cnn(options.minim, model("cnn/1/model.onnx"))
    for name, sizes in (("tiny", TINY), ("mlp", WIDE_MLP), ("tall", TALL)):
        write_mlp(model(f"{name}/1/model.onnx"), sizes)
    rows, ok = ["| | promise | measured |", "| --- | --- | --- |"], True
    for text, check in LINES:
        if options.only not in text:
            continue
        try:
            passed, figure = check(options)
        except NotMeasured as error:
            passed, figure = False, f"not measured: {error}"
        ok &= passed
        rows.append(f"| {'PASS' if passed else 'FAIL'} | {text} | {figure} |")
        print(f"{'PASS' if passed else 'FAIL'}  {text}: {figure}", flush=True)
    with open(f"{WORK}/results.md", "w") as file:
        file.write("\n".join(rows) + "\n")
    raise SystemExit(0 if ok else 1)


if __name__ == "__main__":
    main()
