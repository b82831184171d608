"""Resident memory of one model at batch 1, minim beside each installed peer, in MiB.

"held" is anonymous memory after warm-up, so that nobody's code counts; "peak" is all resident memory,
loading included. Both are what the process grew by from just before the model was loaded, but for
minim's peak, which is the whole process of `minim bench`.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

import engines
import harness
import suite
import variants

SECONDS, PAUSE = 0.5, 0.02  # that minim runs; between looks at it


def status(pid="self"):
    """(held, peak) of a process in MiB."""
    with open(f"/proc/{pid}/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return tuple(int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "VmHWM"))


def of_minim(binary, path, threads, input_file):
    command = [*harness.pinned(threads), binary, "bench", path, "--threads", str(threads), "--input",
               f"x={input_file}", "--seconds", str(SECONDS), "--json"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    while child.poll() is None:
        try:
            peak = status(child.pid)[1]
        except (FileNotFoundError, KeyError, ValueError):  # it just ended
            pass
        time.sleep(PAUSE)
    if child.returncode:
        raise harness.Failed(f"minim ended with {child.returncode}")
    return json.loads(child.stdout.read())["held_bytes"] / 2**20, peak


def of_peer(name, path, threads, input_file):
    command = [*harness.pinned(threads), sys.executable, os.path.abspath(__file__), "--peer", name, path,
               str(threads), input_file]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise harness.Failed(f"{name} ended with {done.returncode}")
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def peer_process(name, path, threads, input_file):
    engine = engines.ENGINES[name]()
    __import__(engine.package)
    x = np.load(input_file)
    before = status()[0]
    engine.load(path, int(threads), "fp32", len(x))
    engine.bind(x)
    for _ in range(3):
        engine.run()
    print(json.dumps([value - before for value in status()]))


def main():
    if sys.argv[1:2] == ["--peer"]:
        return peer_process(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="*", help="names or patterns, comma-separated")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minim", default=os.path.join(suite.ROOT, "build/release/minim"))
    options = parser.parse_args()
    peers = engines.installed()
    names = ["minim", *peers]
    print("| model | file | " + " | ".join(f"{harness.NAMES[n]} held | peak" for n in names) + " |")
    print("| --- | ---" + " | --- | ---" * len(names) + " |")
    for model in suite.ensure(suite.chosen(options.models), options.minim):
        path, cells = suite.path_of(model.name), []
        with tempfile.TemporaryDirectory() as work:
            x = f"{work}/x.npy"
            np.save(x, variants.draw(variants.input_dims(path), 1, 5))
            for name in names:
                try:
                    held, peak = (of_minim(options.minim, path, options.threads, x) if name == "minim"
                                  else of_peer(name, path, options.threads, x))
                    cells += [f"{held:.1f}", f"{peak:.0f}"]
                except harness.Failed:
                    cells += ["", ""]
        print(f"| {model.name} | {os.path.getsize(path) / 2**20:.0f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
