"""Compares minim with its own binary of another commit: paired runs, an interval, a verdict.

Runs come in pairs whose order alternates, so that a drift of the machine hits both. A cell is slower
when the whole 99 % bootstrap interval of the median ratio says so, by more than noise, and a
second measurement agrees.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np

import harness
import suite
import variants

PAIRS, RESAMPLES = 12, 2000
FORMS = {"fp32": "fp32", "bf16": "fp32", "int8": "int8-minim"}


def build(commit):
    """minim of `commit`, built in a tree of its own under build/against."""
    name = harness.git("rev-parse", "--short=10", f"{commit}^{{commit}}")
    if not name:
        sys.exit(f"--against: '{commit}' is no commit")
    folder = os.path.join(harness.ROOT, "build/against", name)
    if not os.path.isdir(folder):
        os.makedirs(folder)
        archive = os.path.join(folder, "source.tar")
        run("git", "-C", harness.ROOT, "archive", "--output", archive, name)
        run("tar", "-xf", archive, "-C", folder)
        os.remove(archive)
    environment = {**os.environ, "CCACHE_BASEDIR": folder, "CCACHE_NOHASHDIR": "1"}
    print(f"building {name} in {folder}", flush=True)
    run("cmake", "--preset", "release", cwd=folder, env=environment)
    run("cmake", "--build", "build/release", "--target", "minim", cwd=folder, env=environment)
    return os.path.join(folder, "build/release/minim"), name


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} failed:\n{(done.stderr or done.stdout)[-2000:]}")


class Binary(harness.Minim):
    """Binaries from before `bench --input` draw their inputs themselves; then both do."""

    def load(self, path, precision, input_file, batch, takes_input):
        super().load(path, precision, input_file)
        if not takes_input:
            at = self.model.index("--input")
            self.model[at:at + 2] = ["--batch", str(batch)]


def takes_input(binary):
    text = subprocess.run([binary, "bench", "--help"], capture_output=True, text=True).stdout
    return "--input" in text


def paired_ratios(new, old, seconds):
    ratios = []
    for pair in range(PAIRS):
        first, second = (new, old) if pair % 2 else (old, new)
        times = {id(first): first.time(seconds), id(second): second.time(seconds)}
        ratios.append(times[id(new)] / times[id(old)])
    return np.array(ratios)


def interval(ratios, seed=1):
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = rng.choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.005, 0.995])
    return float(np.median(ratios)), float(low), float(high)


def verdict(median, low, high):
    if low > 1 and median > 1 + harness.NOISE:
        return "slower"
    if high < 1 and median < 1 - harness.NOISE:
        return "faster"
    return "no difference seen"


def judge(new, old, seconds):
    """A finding must be seen twice; the second measurement is the one reported."""
    found = interval(paired_ratios(new, old, seconds))
    if verdict(*found) != "no difference seen":
        found = interval(paired_ratios(new, old, seconds), seed=2)
    return found


def measure(options, binaries, cell, work, given):
    model, precision, batch, threads = cell
    path = suite.path_of(model.name, FORMS[precision])
    if not os.path.exists(path):
        return None
    input_file = f"{work}/x.npy"
    np.save(input_file, variants.draw(variants.input_dims(suite.path_of(model.name)), batch, 5))
    pair = [Binary(binary, threads) for binary in binaries]
    for one in pair:
        one.load(path, precision, input_file, batch, given)
    return judge(*pair, options.seconds)


def compare(options, cells):
    """Prints a line a cell; returns 1 if any is slower than it was."""
    old, name = build(options.against)
    binaries = [options.minim, old]
    given = all(takes_input(binary) for binary in binaries)
    slower, ratios = 0, []
    with tempfile.TemporaryDirectory() as work:
        for cell in cells:
            label = f"{cell[0].name} {cell[1]} batch {cell[2]} threads {cell[3]}"
            try:
                found = measure(options, binaries, cell, work, given)
            except harness.Failed as error:
                print(f"{label}: not compared: {error}", flush=True)
                continue
            if found is None:
                continue
            said = verdict(*found)
            slower += said == "slower"
            ratios.append(found[0])
            print(f"{label}: {found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}] of {name}: {said}", flush=True)
    if ratios:
        print(f"geometric mean {harness.geometric_mean(ratios):.3f} of {len(ratios)} cells; {slower} slower")
    return 1 if slower else 0
