"""What every measurement shares: pinned processes, one interface for minim and its peers."""
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = {"minim": "minim", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "PyTorch"}
PRECISIONS = ("fp32", "bf16", "int8")
NOISE = 0.03  # a smaller difference of medians is none
os.environ.setdefault("MINIM_TUNING", "off")  # kernels by cost models: what a user gets who measures nothing first
LEAST_CALLS = 5  # in one measurement, warm-up included, however slow the model


class Failed(Exception):
    """A contender cannot take part in a cell; the text says why."""


def pinned(threads):
    """The last CPUs: the first usually takes the interrupts."""
    cpus = sorted(os.sched_getaffinity(0))
    if threads > len(cpus):
        sys.exit(f"{threads} threads asked for, {len(cpus)} CPUs allowed")
    return ["taskset", "-c", ",".join(map(str, cpus[-threads:]))]


class Minim:
    """minim is timed by its own bench verb, a process a measurement."""

    def __init__(self, binary, threads):
        self.binary, self.threads = binary, threads

    def load(self, path, precision, input_file):
        # A file that says BF16 or INT8 itself runs as it says.
        own = precision if os.path.basename(path) == "fp32.onnx" else "fp32"
        self.model = [path, "--threads", str(self.threads), "--input", f"x={input_file}", "--precision", own]

    def call(self, *arguments, limit=None):
        command = [*pinned(self.threads), self.binary, *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"took more than {limit} s") from error
        if done.returncode:
            raise Failed((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
        return done.stdout

    def time(self, seconds, limit=None):
        text = self.call("bench", *self.model, "--seconds", str(seconds), "--json", limit=limit)
        return json.loads(text)["median_us"]

    def answer(self):
        with tempfile.TemporaryDirectory() as work:
            self.call("run", *self.model, "--output-dir", work)
            return np.load(os.path.join(work, os.listdir(work)[0]))

    def alive(self):
        return True

    def close(self):
        pass


class Peer:
    """A peer lives in a process of its own, so that its idle threads belong to no one else."""

    def __init__(self, engine, threads):
        self.threads = threads
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [*pinned(threads), sys.executable, os.path.join(HERE, "peer.py"), engine], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)

    def ask(self, **command):
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self.process.wait()
            raise Failed(f"its process ended ({code})")
        reply = json.loads(line)
        if "unavailable" in reply:
            raise Failed(reply["unavailable"])
        return reply

    def load(self, path, precision, input_file):
        self.ask(do="load", path=path, threads=self.threads, precision=precision, input=input_file)

    def time(self, seconds, limit=None):  # a peer is never cut off
        return self.ask(do="time", seconds=seconds)["us"]

    def answer(self):
        with tempfile.TemporaryDirectory() as work:
            self.ask(do="answer", to=f"{work}/y.npy")
            return np.load(f"{work}/y.npy")

    def alive(self):
        return self.process.poll() is None

    def close(self):
        if self.alive():
            self.process.stdin.close()
            self.process.wait()


class Pool:
    """Contenders by (engine, threads): starting a peer takes seconds, so it stays for many cells."""

    def __init__(self, minim):
        self.minim, self.held, self.answers = minim, {}, {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for one in self.held.values():
            one.close()

    def get(self, engine, threads, role="contender"):
        key = engine, threads, role
        if key not in self.held or not self.held[key].alive():
            self.held[key] = Minim(self.minim, threads) if engine == "minim" else Peer(engine, threads)
        return self.held[key]


def in_turns(contenders, rounds, seconds):
    """{name: a time a round}; A B A B, and every other round backwards."""
    samples = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders)[:: -1 if number % 2 else 1]
        for name in order:
            samples[name].append(contenders[name].time(seconds))
    return samples


def alternate(contenders, rounds, seconds):
    """{name: median of its rounds}"""
    return {name: statistics.median(values) for name, values in in_turns(contenders, rounds, seconds).items()}


def geometric_mean(values):
    return float(np.exp(np.mean(np.log(values))))


def git(*arguments, folder=ROOT):
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True)
    return done.stdout.strip()


def processor():
    with open("/proc/cpuinfo") as file:
        lines = file.read().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")),
                 platform.machine())
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    has = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile") if name in flags]
    return f"{model}, {os.cpu_count()} CPUs, {' '.join(has)}"


def provenance(versions):
    """Machine, commit and versions: without them a number says nothing."""
    dirty = "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return {"machine": processor(), "commit": git("rev-parse", "--short=10", "HEAD") + dirty,
            "python": platform.python_version(), **versions}
