"""Does training in 16 bits end where FP32 does? Trains a recipe in each precision with several seeds and
compares the final test accuracies, seed by seed: the mean difference to FP32 in points with its 95 % interval
(Student's t over the paired differences), and how many steps were skipped after the first tenth.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

# 97.5 % quantiles of Student's t, by degrees of freedom
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def train(minim, recipe, precision, seed, overrides, work):
    """The final test accuracy in points, and the share of steps skipped after the first tenth."""
    text = open(recipe).read()
    for key, value in {"seed": seed, "onnx": f'"{work}/model.onnx"', "log": f'"{work}/log.jsonl"', **overrides}.items():
        text, found = re.subn(rf"(?m)^{key} *=.*$", f"{key} = {value}", text)
        if not found:
            sys.exit(f"{recipe}: has no '{key}' to set")
    path = f"{work}/recipe.toml"
    open(path, "w").write(text)
    done = subprocess.run([minim, "train", path, "--precision", precision], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    lines = [json.loads(line) for line in open(f"{work}/log.jsonl")]
    warm = lines[len(lines) // 10]["skipped_steps"]
    skipped = (lines[-1]["skipped_steps"] - warm) / (len(lines) - len(lines) // 10)
    return 100 * lines[-1]["test_accuracy"], skipped


def interval(differences):
    """(mean, half width of the 95 % interval)"""
    n = len(differences)
    return statistics.mean(differences), T[n - 1] * statistics.stdev(differences) / n**0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="examples/fashion_mnist.toml")
    parser.add_argument("--minim", default="build/release/minim")
    parser.add_argument("--precisions", default="bf16,fp16")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int)
    args = parser.parse_args()
    if args.seeds - 1 not in T:
        parser.error(f"--seeds {args.seeds}: expected 2 to {max(T) + 1}")
    overrides = {"epochs": args.epochs} if args.epochs else {}
    results = {precision: [] for precision in ("fp32", *args.precisions.split(","))}
    for seed in range(1, args.seeds + 1):
        for precision, found in results.items():
            with tempfile.TemporaryDirectory() as work:
                found.append(train(os.path.abspath(args.minim), args.recipe, precision, seed, overrides, work))
            print(f"seed {seed} {precision}: {found[-1][0]:.2f} %, {100 * found[-1][1]:.2f} % skipped", flush=True)
    print("\n| precision | accuracy, mean of seeds | to FP32, points | skipped after warm-up |\n| --- | --- | --- | --- |")
    for precision, found in results.items():
        apart = ""
        if precision != "fp32":
            mean, half = interval([a[0] - b[0] for a, b in zip(found, results["fp32"])])
            apart = f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"
        print(f"| {precision} | {statistics.mean(a for a, _ in found):.2f} % | {apart} | "
              f"{100 * statistics.mean(s for _, s in found):.2f} % |")


if __name__ == "__main__":
    sys.exit(main())
