"""Training steps of minim and PyTorch, eager and compiled, side by side: the same modules, weights and
batches, threads pinned and equal, in alternating processes. A time is the median step, data loading,
backward and optimizer (Adam) included; peak memory is what the process grew by: minim's whole process,
PyTorch's from just before the module was made, as Python is not its.
"""
import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np

import harness

CONTENDERS = ("minim", "torch", "compiled")
WARM = 5  # steps before the clock counts


def peak(pid="self"):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def export(name, batch, count, folder):
    import torch
    import training_models
    warnings.filterwarnings("ignore")  # the exporter's advice
    module, samples, labels = training_models.make(name, count)
    torch.onnx.export(module, samples[:batch], f"{folder}/model.onnx", dynamo=False, opset_version=17,
                      do_constant_folding=False, training=torch.onnx.TrainingMode.TRAINING)
    np.save(f"{folder}/x.npy", samples.numpy())
    np.save(f"{folder}/y.npy", labels.numpy())


def torch_process(name, contender, precision, batch, steps, threads):
    """Runs in a process of its own; prints the step times and the peak."""
    import torch
    import training_models
    torch.set_num_threads(threads)
    before = peak()
    module, samples, labels = training_models.make(name, batch * steps)
    model = torch.compile(module) if contender == "compiled" else module
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    loss_of = torch.nn.functional.cross_entropy if labels.dtype == torch.int64 else torch.nn.functional.mse_loss
    times = []
    for i in range(steps):
        start = time.perf_counter()
        x, y = samples[i * batch:(i + 1) * batch], labels[i * batch:(i + 1) * batch]
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        times.append(time.perf_counter() - start)
    print(json.dumps({"ms": statistics.median(times[WARM:]) * 1e3, "mib": peak() - before}))


def of_torch(args, name, contender, precision, batch, threads):
    command = [*harness.pinned(threads), sys.executable, os.path.abspath(__file__), "--process",
               json.dumps([name, contender, precision, batch, args.steps, threads])]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise harness.Failed(f"{contender} {name}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def of_minim(args, folder, name, precision, batch, threads):
    loss = "mse" if name == "unet" else "cross_entropy"
    with open(f"{folder}/train.toml", "w") as file:
        file.write(f'[data]\ntrain_samples="x.npy"\ntrain_labels="y.npy"\nshuffle=false\n'
                   f'[model]\nonnx="model.onnx"\n[train]\nloss="{loss}"\nbatch={batch}\n'
                   f'precision="{precision}"\nthreads={threads}\n[optimizer]\nlearning_rate=0.001\n'
                   f'[output]\nonnx="out.onnx"\nlog="log.jsonl"\n')
    child = subprocess.Popen([*harness.pinned(threads), args.minim, "train", f"{folder}/train.toml"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    mib = 0
    while child.poll() is None:
        try:
            mib = peak(child.pid)
        except (FileNotFoundError, StopIteration):  # it just ended
            pass
        time.sleep(0.02)
    if child.returncode:
        raise harness.Failed(f"minim {name}: {child.stderr.read().strip()}")
    at = [json.loads(line)["seconds"] for line in open(f"{folder}/log.jsonl")]
    return {"ms": statistics.median(np.diff(at)[WARM:]) * 1e3, "mib": mib}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--process", help=argparse.SUPPRESS)
    parser.add_argument("--minim", default="build/release/minim")
    parser.add_argument("--models", default="mlp,cnn,lstm,transformer,unet")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--batches", default="64")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="build/compare/training.csv")
    args = parser.parse_args()
    if args.process:
        return torch_process(*json.loads(args.process))
    os.makedirs(os.path.dirname(args.out), exist_ok=True)
    contenders = args.contenders.split(",")
    fields = ["model", "precision", "batch", "threads", *(f"{c}_{what}" for c in contenders
                                                          for what in ("ms", "mib"))]
    with open(args.out, "w", newline="") as out:
        table = csv.DictWriter(out, fields)
        table.writeheader()
        for name in args.models.split(","):
            for batch in map(int, args.batches.split(",")):
                with tempfile.TemporaryDirectory() as folder:
                    export(name, batch, batch * args.steps, folder)
                    for precision in args.precisions.split(","):
                        for threads in map(int, args.threads.split(",")):
                            row = {"model": name, "precision": precision, "batch": batch, "threads": threads}
                            measure(args, contenders, folder, row)
                            table.writerow(row)
                            out.flush()


def measure(args, contenders, folder, row):
    name, precision, batch, threads = (row[k] for k in ("model", "precision", "batch", "threads"))
    found, failed = {contender: [] for contender in contenders}, {}
    for _ in range(args.rounds):
        for contender in contenders:
            if contender in failed:
                continue
            try:
                found[contender].append(
                    of_minim(args, folder, name, precision, batch, threads) if contender == "minim" else
                    of_torch(args, name, contender, precision, batch, threads))
            except harness.Failed as error:
                failed[contender] = str(error)
    for contender, results in found.items():
        for what in ("ms", "mib"):
            if contender not in failed:
                row[f"{contender}_{what}"] = round(statistics.median(r[what] for r in results), 3)
    text = ", ".join(failed[c] if c in failed else
                     f"{c} {row[f'{c}_ms']:.2f} ms {row[f'{c}_mib']:.0f} MiB" for c in contenders)
    peers = [row[f"{c}_ms"] for c in contenders if c != "minim" and c not in failed]
    if peers and "minim" not in failed:
        text += f"; {row['minim_ms'] / min(peers):.2f} of the best"
    print(f"{name} {precision} batch {batch} threads {threads}: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
