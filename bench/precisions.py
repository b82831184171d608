"""Does training in 16 bits end where FP32 does? Trains a task (telco, btc, vit) or a recipe of yours in each precision
with several seeds and compares a metric of the test set after the last epoch, seed by seed: the mean difference to
FP32 with its 95 % interval (Student's t over the paired differences), and how many steps were skipped after the first
tenth.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys

from tasks import TASKS, Task

# 97.5 % quantiles of Student's t, by degrees of freedom
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
METRICS = {"test_accuracy": ("accuracy, %", 100), "test_auc": ("AUC", 1), "test_loss": ("loss", 1)}


def put(text, section, key, value):
    """The recipe with a key set that it has."""
    parts = re.split(r"(?m)^(?=\[)", text)
    for i, part in enumerate(parts):
        if part.startswith(f"[{section}]"):
            parts[i], found = re.subn(rf"(?m)^{key} *=.*$", f"{key} = {value}", part)
            if found:
                return "".join(parts)
    sys.exit(f"the recipe has no '{key}' in [{section}] to set")


def train(minim, task, precision, seed, epochs, folder):
    """The metric after the last epoch, and the share of steps skipped after the first tenth."""
    text = put(open(task.recipe).read(), "train", "seed", seed)
    text = put(put(text, "output", "onnx", '"trained.onnx"'), "output", "log", '"train.jsonl"')
    if epochs:
        text = put(text, "train", "epochs", epochs)
    with open(f"{folder}/recipe.toml", "w") as file:
        file.write(text)
    done = subprocess.run([minim, "train", f"{folder}/recipe.toml", "--precision", precision],
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    lines = [json.loads(line) for line in open(f"{folder}/train.jsonl")]
    warm = lines[len(lines) // 10]["skipped_steps"]
    skipped = (lines[-1]["skipped_steps"] - warm) / (len(lines) - len(lines) // 10)
    return task.scale * lines[-1][task.metric], skipped


def interval(differences):
    """(mean, half width of the 95 % interval)"""
    n = len(differences)
    return statistics.mean(differences), T[n - 1] * statistics.stdev(differences) / n**0.5


def show(task, results):
    digits = 2 if task.scale == 100 else 4
    print(f"\n| precision | {task.label}, mean of seeds | to FP32 | skipped after warm-up |\n| --- | --- | --- | --- |")
    for precision, found in results.items():
        apart = ""
        if precision != "fp32":
            mean, half = interval([a[0] - b[0] for a, b in zip(found, results["fp32"])])
            apart = f"{mean:+.{digits}f} [{mean - half:+.{digits}f}, {mean + half:+.{digits}f}]"
        print(f"| {precision} | {statistics.mean(a for a, _ in found):.{digits}f} | {apart} | "
              f"{100 * statistics.mean(s for _, s in found):.2f} % |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", nargs="?", default="examples/fashion_mnist.toml",
                        help=f"{', '.join(TASKS)}, or a recipe whose paths are absolute")
    parser.add_argument("--minim", default="build/release/minim")
    parser.add_argument("--precisions", default="bf16,fp16")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--metric", choices=METRICS, default="test_accuracy", help="of a recipe of yours")
    args = parser.parse_args()
    if args.seeds - 1 not in T:
        parser.error(f"--seeds {args.seeds}: expected 2 to {max(T) + 1}")
    task = TASKS.get(args.task) or Task(args.task, args.metric, *METRICS[args.metric])
    folder = os.path.abspath(f"build/precisions/{os.path.basename(args.task)}")
    task.prepare(folder)
    results = {precision: [] for precision in ("fp32", *args.precisions.split(","))}
    for seed in range(1, args.seeds + 1):
        task.seed(folder, seed)
        for precision, found in results.items():
            found.append(train(os.path.abspath(args.minim), task, precision, seed, args.epochs, folder))
            print(f"seed {seed} {precision}: {task.label} {found[-1][0]:.4f}, {100 * found[-1][1]:.2f} % skipped",
                  flush=True)
    show(task, results)


if __name__ == "__main__":
    sys.exit(main())
