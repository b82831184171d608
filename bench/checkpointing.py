"""What a budget of memory costs a training step: its time and loss at several budgets, with values of the
forward pass made again, kept in BF16, or kept in 8 or 4 bits. The runs of a round alternate; times are medians
over steps and rounds. Writes build/compare/checkpointing.{csv,svg}.
"""
import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

import numpy as np

import chart
import harness
import training

WARM = 3  # steps before the clock counts
STORAGES = ("whole", "half", "int8", "int4")


def recipe(folder, name, batch, memory):
    loss = "mse" if name == "unet" else "cross_entropy"
    path = f"{folder}/train.toml"
    with open(path, "w") as file:
        file.write(f'[data]\ntrain_samples="x.npy"\ntrain_labels="y.npy"\nshuffle=false\n[model]\nonnx="model.onnx"\n'
                   f'[train]\nloss="{loss}"\nbatch={batch}\n[output]\nonnx="out.onnx"\nlog="log.jsonl"\n'
                   f'[memory]\n{memory}\n')
    return path


def run(args, folder, name, memory):
    """(arena MiB, state MiB, ms a step, last loss); harness.Failed with minim's message."""
    path = recipe(folder, name, args.batch, memory)
    done = subprocess.run([*harness.pinned(1), args.minim, "train", path], capture_output=True, text=True)
    if done.returncode:
        raise harness.Failed(done.stderr.strip())
    arena, state = map(float, re.search(r"needs ([\d.]+) MiB .* and ([\d.]+) MiB", done.stdout).groups())
    lines = [json.loads(line) for line in open(f"{folder}/log.jsonl")]
    steps = np.diff([line["seconds"] for line in lines])[WARM:]
    return arena, state, statistics.median(steps) * 1e3, lines[-1]["step_loss"]


def least(args, folder, name, storage):
    """MiB of the smallest budget, as the refusal of an impossible one says."""
    try:
        run(args, folder, name, f'budget_mib=0.001\nstorage="{storage}"')
    except harness.Failed as error:
        return int(re.search(r"least found is (\d+)", str(error)).group(1)) / 2**20
    raise harness.Failed(f"{name}: a step fits 0.001 MiB")


def settings(args, folder, name):
    """(storage, budget as a share of what everything kept takes, [memory] section)"""
    arena, state, _, _ = run(args, folder, name, "budget_mib=0")
    found = [("whole", 1.0, "budget_mib=0"), ("sqrt", 0.0, "sqrt_checkpoints=true")]
    for storage in STORAGES:
        smallest = least(args, folder, name, storage) + 0.001
        for share in (*args.shares, 0):
            budget = max(smallest, state + share * arena)
            if share and budget == smallest:
                continue
            found.append((storage, (budget - state) / arena, f'budget_mib={budget:.4f}\nstorage="{storage}"'))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minim", default="build/release/minim")
    parser.add_argument("--models", default="transformer,unet")
    parser.add_argument("--shares", type=lambda text: [float(s) for s in text.split(",")], default=[0.75, 0.5, 0.4])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", default="build/compare/checkpointing.csv")
    args = parser.parse_args()
    os.makedirs(os.path.dirname(args.out), exist_ok=True)
    rows = []
    for name in args.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            training.export(name, args.batch, args.batch * args.steps, folder)
            choices = settings(args, folder, name)
            found = [[run(args, folder, name, memory) for _, _, memory in choices] for _ in range(args.rounds)]
            for i, (storage, _, _) in enumerate(choices):
                arena, state, _, loss = found[0][i]
                ms = statistics.median(r[i][2] for r in found)
                rows.append({"model": name, "storage": storage, "arena_mib": arena, "state_mib": state,
                             "arena_share": round(arena / found[0][0][0], 3), "ms": round(ms, 2),
                             "time_ratio": round(statistics.median(r[i][2] / r[0][2] for r in found), 3),
                             "loss": loss})
                print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    with open(args.out, "w", newline="") as out:
        table = csv.DictWriter(out, rows[0])
        table.writeheader()
        table.writerows(rows)
    svg = os.path.splitext(args.out)[0] + ".svg"
    with open(svg, "w") as out:
        out.write(chart.checkpoint_chart(rows))
    print(f"wrote {args.out} and {svg}")


if __name__ == "__main__":
    sys.exit(main())
