"""Times minim and every installed peer on the suite: model x precision x batch x threads.

Contenders of a cell alternate (A B A B) in one run, on the same CPUs, inputs and threads; a cell's
figure is the median of its rounds' medians. minim's answer is checked against ONNX Runtime's in
FP32. Run it through bench/compare.
"""
import argparse
import os
import sys
import tempfile
import time

import numpy as np
import onnx

import engines
import harness
import report
import suite
import variants
from net import Net

# The largest error, relative to the largest output, that a precision may show. In BF16 it may be
# twice what the fastest peer shows: deep models with seeded weights enlarge what any engine rounds
# (ResNet-50: OpenVINO errs by 0.21 to 0.28).
BOUNDS = {"fp32": 1e-3, "bf16": 5e-2, "int8": 0.5}
PATIENCE = 20  # seconds for trying a second file of minim's, when the first one worked
LONGEST = 40  # seconds of rounds in a cell
INT8_FORMS = ("int8-minim", "int8-dynamic-minim", "int8-ort", "int8-dynamic-ort")


def files(engine, model, precision):
    """(form, path) of each file an engine may use for a precision; it is judged by its fastest."""
    if precision == "fp32" or engine == "torch" or (precision == "bf16" and engine != "minim"):
        return [("fp32", suite.path_of(model.name))]
    forms = ("bf16-minim", "fp32") if precision == "bf16" else INT8_FORMS
    return [(form, suite.path_of(model.name, form)) for form in forms
            if os.path.exists(suite.path_of(model.name, form))]


class Cell:
    """One model, precision, batch and thread count; `row` is its line in the table."""

    def __init__(self, options, pool, model, precision, batch, threads, work):
        self.options, self.pool, self.model, self.precision = options, pool, model, precision
        self.batch, self.threads, self.work = batch, threads, work
        self.probed = 0  # seconds that one call of every contender takes
        self.row = {"model": model.name, "kind": model.kind, "precision": precision, "batch": batch,
                    "threads": threads}

    def measure(self):
        self.input = f"{self.work}/x.npy"
        source = suite.path_of(self.model.name)
        np.save(self.input, variants.draw(variants.input_dims(source), self.batch, 5))
        contenders, reasons = {}, []
        try:
            for engine in ["minim", *self.options.peers]:
                self.enter(engine, contenders, reasons)
            self.check(contenders, reasons)
            figures = harness.alternate(contenders, self.rounds(len(contenders)), self.options.seconds)
        except harness.Failed as error:
            figures = {}
            reasons.append(str(error))
        self.fill(figures, reasons)
        return self.row

    def rounds(self, contenders):
        """Fewer where single calls take seconds, so that no cell takes minutes."""
        least = harness.LEAST_CALLS * self.probed + contenders * self.options.seconds
        return max(1, min(self.options.rounds, int(LONGEST / least)))

    def enter(self, engine, contenders, reasons):
        """Loads the engine with its fastest file; one that cannot take part leaves a reason."""
        choice = files(engine, self.model, self.precision)
        timed = []
        for form, path in choice:
            one = self.pool.get(engine, self.threads)  # a new one if the last file ended its process
            try:
                one.load(path, self.precision, self.input)
                limit = PATIENCE if timed else None
                timed.append((one.time(self.options.seconds / 4, limit), form, path))
            except harness.Failed as error:
                reasons.append(f"{engine} {form}: {error}")
        if not timed:
            if not choice:
                reasons.append(f"{engine}: has no {self.precision} file")
            return
        us, form, path = min(timed)
        self.probed += us / 1e6
        one = self.pool.get(engine, self.threads)
        if len(choice) > 1:
            one.load(path, self.precision, self.input)
        contenders[engine] = one
        self.row[f"{engine}_form"] = form

    def check(self, contenders, reasons):
        """A peer that gives no answer leaves a reason instead."""
        expected = self.pool.answers.get((self.model.name, self.batch))
        if expected is None:
            reference = self.pool.get("onnxruntime", 1, "reference")
            reference.load(suite.path_of(self.model.name), "fp32", self.input)
            expected = self.pool.answers[self.model.name, self.batch] = reference.answer()
        for engine, one in list(contenders.items()):
            try:
                error = engines.relative_error(one.answer(), expected)
            except harness.Failed as failure:
                if engine == "minim":
                    raise
                reasons.append(f"{engine}: {failure}")
                del contenders[engine]
                continue
            self.row[f"{engine}_error"] = float(f"{error:.3g}")

    def wrong(self, best):
        allowed, theirs = BOUNDS[self.precision], self.row.get(f"{best}_error", 0)
        if self.precision == "bf16" and np.isfinite(theirs):
            allowed = max(allowed, 2 * theirs)
        return not self.row["minim_error"] <= allowed

    def fill(self, figures, reasons):
        self.row.update({f"{name}_us": round(us, 2) for name, us in figures.items()})
        self.row["reasons"] = "; ".join(reasons)
        self.row["verdict"] = "failed"
        if "minim" not in figures:
            return
        peers = {name: us for name, us in figures.items() if name != "minim"}
        best = min(peers, key=peers.get, default=None)
        self.row["verdict"] = "WRONG" if self.wrong(best) else "no peer"
        if peers:
            ratio = figures["minim"] / peers[best]
            self.row.update(best_peer=best, ratio=round(ratio, 4))
            if self.row["verdict"] != "WRONG":
                self.row["verdict"] = report.verdict(ratio)


def cells(options):
    """Loading is slow where files are large, so a model's cells follow each other."""
    for model in options.selected:
        for precision in options.precisions:
            if precision != "fp32" and not model.forms:
                continue
            for threads in options.threads:
                for batch in options.batches:
                    yield model, precision, batch, threads


def key(row):
    return row["model"], row["precision"], int(row["batch"]), int(row["threads"])


def show(row, number, total, left):
    figures = ", ".join(f"{name} {float(row[name + '_us']):.4g}" for name in harness.NAMES
                        if row.get(name + "_us"))
    ratio = f"{row['ratio']:.2f} of {row['best_peer']}" if "ratio" in row else "-"
    errors = [f"{name} {row[f'{name}_error']:.1e}" for name in harness.NAMES if f"{name}_error" in row]
    error = f"errors: {', '.join(errors)}" if errors else row["reasons"]
    print(f"[{number}/{total}, {left / 60:.0f} min left] {row['model']} {row['precision']} batch {row['batch']} "
          f"threads {row['threads']}: {figures} us; {ratio}: {row['verdict']} ({error})", flush=True)


def call_costs(options, pool, work):
    """What a call costs that computes nothing: an Identity of one number."""
    path, data = f"{work}/identity.onnx", f"{work}/one.npy"
    net = Net(0)
    onnx.save(net.model([1], "x", [1]), path)
    np.save(data, np.ones((1, 1), np.float32))
    costs = {}
    for engine in ["minim", *options.peers]:
        pool.get(engine, 1).load(path, "fp32", data)
        costs[engine] = round(pool.get(engine, 1).time(0.2), 2)
    return costs


def measure_all(options, table):
    todo = list(cells(options))
    if options.resume:
        done = {key(row) for row in table.rows}
        todo = [c for c in todo if (c[0].name, *c[1:]) not in done]
    start = time.time()
    with tempfile.TemporaryDirectory() as work, harness.Pool(options.minim) as pool:
        table.provenance["call_us"] = call_costs(options, pool, work)
        for number, (model, precision, batch, threads) in enumerate(todo, 1):
            if options.limit and time.time() - start > options.limit:
                print(f"stopped after {options.limit:.0f} s, {len(todo) - number + 1} cells are left; "
                      "go on with --resume")
                return
            row = Cell(options, pool, model, precision, batch, threads, work).measure()
            table.put(row)
            show(row, number, len(todo), (time.time() - start) / number * (len(todo) - number))


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    many = lambda kind: lambda text: [kind(part) for part in text.split(",")]  # noqa: E731
    add = parser.add_argument
    add("--models", default="*", help="names or patterns, comma-separated")
    add("--batches", type=many(int), default=[1, 8, 32])
    add("--threads", type=many(int), default=[1, 2])
    add("--precisions", type=many(str), default=list(harness.PRECISIONS))
    add("--peers", type=many(str), default=list(engines.installed()), help="default: all installed")
    add("--seconds", type=float, default=0.5, help="per contender and round")
    add("--rounds", type=int, default=3)
    add("--quick", action="store_true", help="small models, batch 1, one thread, 0.2 s")
    add("--minim", default=os.path.join(harness.ROOT, "build/release/minim"))
    add("--out", default=os.path.join(harness.ROOT, "build/compare"), help="folder of results.{csv,md,svg}")
    add("--resume", action="store_true", help="keep the cells that are in results.csv")
    add("--limit", type=float, default=0, help="stop after so many seconds")
    add("--render", action="store_true", help="measure nothing: write the table and chart anew")
    add("--readme", action="store_true", help="also rewrite the table in README.md and docs/compare.svg")
    add("--against", metavar="COMMIT", help="compare with our own binary of that commit instead")
    options = parser.parse_args(arguments)
    if options.quick:
        options.models = "mlp,trees,lstm,gru" if options.models == "*" else options.models
        options.batches, options.threads, options.seconds = [1], [1], 0.2
    if not set(options.precisions) <= set(harness.PRECISIONS):
        parser.error(f"--precisions: expected some of {', '.join(harness.PRECISIONS)}")
    if not set(options.peers) <= set(engines.ENGINES):
        parser.error(f"--peers: expected some of {', '.join(engines.ENGINES)}")
    return options


def main():
    options = parse(sys.argv[1:])
    table = report.Table(options.out, resume=options.resume or options.render)
    if not options.render:
        if not os.access(options.minim, os.X_OK):
            sys.exit(f"{options.minim} is not built; run cmake --build build/release --target minim")
        options.selected = suite.ensure(suite.chosen(options.models), options.minim)
        if options.against:
            import against
            sys.exit(against.compare(options, cells(options)))
        table.provenance = harness.provenance(engines.installed())
        measure_all(options, table)
    table.write()
    print(table.summary())
    if options.readme:
        table.write_readme()
    sys.exit(any(row["verdict"] in ("WRONG", "failed") for row in table.rows))


if __name__ == "__main__":
    main()
