"""Shrinks trained models with `minim shrink` and looks at the result from outside: every variant that was kept is run
on the test set by minim and by ONNX Runtime and timed in both, in turns, on one thread; ONNX Runtime's own quantizer
gets the same model and calibration samples. Writes build/shrink/results.{md,csv}; exit code 1 if a variant was kept
that should not have been. Run it with build/venv/bin/python.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np

import harness
import shrink_metrics as metrics
from shrink_models import CALIBRATION, CASES, SEED
from shrink_tables import BATCHES, written

ROWS = 500  # in a call, where a test set is answered
SLOWER = 0.05  # a variant that takes so much longer than FP32 is slower
SAME = 0.002  # two ways to one metric may differ by this: engines round differently, and a class can flip


def is_static(form):
    """Static INT8 is standard ONNX (QDQ), which ONNX Runtime has to run as well."""
    return "int8" in form and not any(kind in form for kind in ("dynamic", "weights"))


def inputs(case, part, count=None):
    """Samples as the model takes them."""
    import onnx
    shape = onnx.load(case.model).graph.input[0].type.tensor_type.shape.dim[1:]
    x = np.load(case.part(part), mmap_mode="r")[:count]
    return np.asarray(x, np.float32).reshape(-1, *[d.dim_value for d in shape])


def minim_answers(minim, path, x):
    answers = []
    with tempfile.TemporaryDirectory() as work:
        for at in range(0, len(x), ROWS):
            np.save(f"{work}/x.npy", x[at:at + ROWS])
            done = subprocess.run([minim, "run", path, "--input", f"x={work}/x.npy", "--output-dir", f"{work}/y"],
                                  capture_output=True, text=True)
            if done.returncode:
                raise harness.Failed(done.stderr.strip())
            answers.append(np.load(f"{work}/y/{os.listdir(f'{work}/y')[0]}"))
    return metrics.probabilities(np.concatenate(answers))


def ort_answers(path, x):
    import onnxruntime as ort
    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        answers = [session.run(None, {"x": x[at:at + ROWS]})[0] for at in range(0, len(x), ROWS)]
    except Exception as error:  # what it does not implement is a result
        raise harness.Failed(str(error).splitlines()[0][:160]) from error
    return metrics.probabilities(np.concatenate(answers))


def shrink(options, case):
    """Runs `minim shrink`; returns its report and the folder of the version."""
    out = f"{case.folder}/shrunk"
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    for part in ("test-x", "test-y"):
        np.save(f"{out}/{part}.npy", np.load(case.part(part), mmap_mode="r")[:options.samples])
    command = [options.minim, "shrink", case.model, "--data", f"{out}/test-x.npy", "--labels", f"{out}/test-y.npy",
               "--calibration", case.part("calibration-x"), "--calibration-count", str(CALIBRATION),
               "--metric", case.metric, "--max-loss", str(case.max_loss), "--goal", options.goal,
               "--seed", str(SEED), "--out", out]
    if options.recipe and case.steps:
        command += ["--recipe", case.steps, "--time-budget", str(options.recipe), "--train-data", case.part("train-x"),
                    "--train-labels", case.part("train-y")]
    done = subprocess.run([*harness.pinned(1), *command], capture_output=True, text=True)
    if done.returncode:
        raise harness.Failed(done.stderr.strip())
    with open(f"{out}/1/report.json") as file:
        return json.load(file), f"{out}/1"


class Measurement:
    """What is found out about one model; `rows` has a dictionary for each variant and foreign file."""

    def __init__(self, options, case):
        self.options, self.case = options, case
        self.x, self.labels = inputs(case, "test-x", options.samples), np.load(case.part("test-y"))[:options.samples]
        self.rows, self.answers, self.checks = [], {}, []

    def metric(self, p):
        return float(metrics.METRICS[self.case.metric](p, self.labels))

    def check(self, good, text):
        self.checks.append(("" if good else "**FAILED** ") + f"{self.case.name}: {text}")

    def run(self):
        report, folder = shrink(self.options, self.case)
        self.preferred = report["preferred_tier"]
        for variant in report["variants"]:
            self.rows.append(self.variant(variant, folder))
        if not self.options.skip_ort:
            self.foreign()
        return self.timed()

    def again(self, result):
        """The same files timed anew."""
        self.rows, self.preferred = result["rows"], result["preferred"]
        self.labels = self.labels[:result["samples"]]
        return self.timed()

    def timed(self):
        with tempfile.TemporaryDirectory() as work:
            for batch in BATCHES:
                self.time(batch, work)
        self.judge()
        return {"case": self.case.name, "metric": self.case.metric, "samples": len(self.labels),
                "preferred": self.preferred, "rows": self.rows, "checks": self.checks}

    def variant(self, v, folder):
        row = {"form": v["name"], "by": "minim", "kept": v["kept"], "reason": v["reason"],
               "verdict": v.get("verdict"), "reported": v.get("metric", v.get("accuracy")),
               "relative_loss": v.get("relative_loss"), "bytes": v.get("bytes"),
               "interval": v.get("relative_loss_interval_95"), "path": f"{folder}/{v.get('file')}"}
        if not v["kept"]:
            return row
        p = self.answers[v["name"]] = minim_answers(self.options.minim, row["path"], self.x)
        row["metric"] = self.metric(p)
        row["agreement"] = float(metrics.agreement(p, self.answers["fp32"]))
        row["apart"] = float(metrics.apart(p, self.answers["fp32"]))
        if not self.options.skip_ort:
            self.elsewhere(row, p)
        return row

    def elsewhere(self, row, p):
        """The same file in ONNX Runtime."""
        try:
            theirs = ort_answers(row["path"], self.x)
            row["ort_metric"] = self.metric(theirs)
            row["ort_agreement"] = float(metrics.agreement(p, theirs))
        except harness.Failed as error:
            row["ort_failed"] = str(error)

    def foreign(self):
        """ONNX Runtime's own quantizer; only what its files lose by themselves is of interest."""
        import variants
        form = "dynamic" if self.case.dynamic else "static"
        path = f"{self.case.folder}/ort-{form}.onnx"
        row = {"form": f"ONNX Runtime, {form}", "by": "onnxruntime", "kept": False, "path": path}
        try:
            if self.case.dynamic:
                variants.ort_dynamic(self.case.model, path)
            else:
                variants.ort_static(self.case.model, path, inputs(self.case, "calibration-x"))
            p = ort_answers(path, self.x)
        except Exception as error:  # the quantizer's own limits
            self.rows.append({**row, "reason": (str(error) or repr(error)).splitlines()[0][:160]})
            return
        row.update(bytes=os.path.getsize(path), metric=self.metric(p))
        row["differences"] = {
            name: [float(d) for d in metrics.difference(self.case.metric, ours, p, self.labels)]
            for name, ours in self.answers.items() if name == "fp32" or "int8" in name}
        self.rows.append(row)

    def time(self, batch, work):
        """One run of all contenders, in turns."""
        file = f"{work}/{batch}.npy"
        np.save(file, self.x[:batch])
        contenders, pool = {}, []
        for row in self.rows:
            for engine in ("minim", "onnxruntime"):
                if self.takes_part(row, engine):
                    one = harness.Minim(self.options.minim, 1) if engine == "minim" else harness.Peer(engine, 1)
                    pool.append(one)
                    try:
                        one.load(row["path"], "fp32", file)
                        contenders[row["form"], engine] = one
                    except harness.Failed as error:
                        row["ort_failed"] = str(error)
        found = harness.in_turns(contenders, self.options.rounds, self.options.seconds)
        for one in pool:
            one.close()
        for row in self.rows:
            for engine in ("minim", "onnxruntime"):
                times = found.get((row["form"], engine))
                row[f"{engine}_us_{batch}"] = min(times) if times else None

    def takes_part(self, row, engine):
        if row["by"] == "onnxruntime":
            return engine == "onnxruntime" and "metric" in row
        return row["kept"] and (engine == "minim" or (not self.options.skip_ort and "ort_failed" not in row))

    def judge(self):
        fp32 = self.rows[0]
        for row in self.rows:
            if row["by"] != "minim" or not row["kept"]:
                continue
            self.judge_metric(fp32, row)
            if row is not fp32:
                self.judge_speed(fp32, row)

    def judge_metric(self, fp32, row):
        case, form = self.case, row["form"]
        self.check(abs(row["metric"] - row["reported"]) <= SAME,
                   f"{form} has {case.metric} {row['metric']:.4f}, {row['reported']:.4f} in the report")
        loss = metrics.relative_loss(case.metric, fp32["metric"], row["metric"])
        self.check(loss <= case.max_loss, f"{form} loses {100 * loss:.2f} % of {100 * case.max_loss:g} % allowed")
        if case.least_agreement:
            self.check(row["agreement"] >= case.least_agreement and row["apart"] <= case.most_apart,
                       f"{form} gives {100 * row['agreement']:.2f} % the same class, probabilities "
                       f"{row['apart']:.4f} apart")
        if is_static(form) and not self.options.skip_ort:
            found = row.get("ort_failed") or f"{case.metric} {row['ort_metric']:.4f}"
            self.check("ort_failed" not in row and abs(row["ort_metric"] - row["metric"]) <= SAME,
                       f"{form} in ONNX Runtime: {found}")

    def judge_speed(self, fp32, row):
        """What is slower at every batch size must not be kept for its latency, nor served what is slower at 1."""
        ratios = [row[f"minim_us_{b}"] / fp32[f"minim_us_{b}"] for b in BATCHES]
        served = row["form"] == self.preferred
        if self.options.goal == "latency":
            self.check((ratios[0] if served else min(ratios)) <= 1 + SLOWER,
                       f"{row['form']} takes {ratios[0]:.2f} of FP32's time at batch {BATCHES[0]}, {ratios[1]:.2f} at "
                       f"{BATCHES[1]}" + (" and is served" if served else ""))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", help=f"comma-separated; default: all of {', '.join(CASES)}")
    add("--minim", default=os.path.join(harness.ROOT, "build/release/minim"))
    add("--goal", choices=("latency", "bytes"), default="latency")
    add("--recipe", type=int, default=0, metavar="SECONDS", help="also prune and distil, within so much time a model")
    add("--skip-ort", action="store_true", help="without ONNX Runtime")
    add("--samples", type=int, help="of the test set; default: all")
    add("--quick", action="store_true", help="cnn and telco, unless --models says others; 1,000 samples, short rounds")
    add("--make", action="store_true", help="only train the models that are not there")
    add("--retime", action="store_true", help="time the files of earlier runs anew, e.g. on a calmer machine")
    add("--render", action="store_true", help="measure nothing: write the tables of what was measured before")
    options = parser.parse_args()
    options.rounds, options.seconds = (2, 0.1) if options.quick else (9, 0.2)
    options.samples = options.samples or (1000 if options.quick else None)
    names = (options.models or ("cnn,telco" if options.quick else ",".join(CASES))).split(",")
    if not set(names) <= set(CASES):
        parser.error(f"--models: expected some of {', '.join(CASES)}")
    options.cases = [CASES[name] for name in names]
    options.minim = os.path.abspath(options.minim)
    return options


def measured(options, case):
    """The result of a model, kept in a file of its own."""
    path, earlier = f"{case.folder}/result.json", None
    if os.path.exists(path):
        with open(path) as file:
            earlier = json.load(file)
    if options.render or (options.retime and not earlier):
        return earlier
    case.make(options.minim)
    if options.make:
        return None
    one = Measurement(options, case)
    result = one.again(earlier) if options.retime else one.run()
    with open(path, "w") as file:
        json.dump(result, file, indent=1)
    print(f"{case.name}: measured", flush=True)
    return result


def main():
    options = parse()
    results, failed = [], []
    for case in options.cases:
        try:
            results.append(measured(options, case))
        except (harness.Failed, subprocess.CalledProcessError) as error:
            failed.append(f"**FAILED** {case.name}: {error}")
            print(failed[-1], flush=True)
    results = [result for result in results if result]
    if results:
        print(written(results))
    failed += [check for result in results for check in result["checks"] if check.startswith("**")]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
