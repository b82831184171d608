"""The tables of shrink.py: variants, the same files in ONNX Runtime, ONNX Runtime's own quantizer."""
import csv

import harness
from report import number, table
from shrink_models import FOLDER

BATCHES = (1, 32)


def metric_text(metric, value):
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if metric == "accuracy" else f"{value:.5f}"


def us(value):
    return "" if value is None else number(value)


def ratio(a, b):
    return "" if a is None or b is None else f"{a / b:.2f}"


def loss_text(row):
    if row.get("relative_loss") is None or row["form"] == "fp32":
        return ""
    low, high = row["interval"] or (float("nan"),) * 2
    return f"{100 * row['relative_loss']:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def share(value):
    return "" if value is None else f"{100 * value:.2f} %"


def variants_table(results):
    lines = []
    for result in results:
        fp32 = result["rows"][0]
        for row in result["rows"]:
            if row["by"] != "minim":
                continue
            name = f"**{row['form']}**" if row["form"] == result["preferred"] else row["form"]
            times = [us(row.get(f"minim_us_{b}")) for b in BATCHES]
            speed = [ratio(fp32.get(f"minim_us_{b}"), row.get(f"minim_us_{b}")) for b in BATCHES]
            apart = "" if row.get("apart") is None else f"{row['apart']:.4f}"
            lines.append([result["case"], name, row["verdict"] or "",
                          f"{result['metric']} {metric_text(result['metric'], row['reported'])}", loss_text(row),
                          share(row.get("agreement")), apart, f"{row['bytes']:,}" if row["bytes"] else "",
                          ratio(fp32["bytes"], row["bytes"]), *times, *speed, "" if row["kept"] else row["reason"]])
    return table(["model", "variant", "verdict", "metric", "relative loss, 95 %", "same class", "probabilities apart",
                  "bytes", "smaller", *[f"us, batch {b}" for b in BATCHES], *[f"faster, batch {b}" for b in BATCHES],
                  "not kept because"], lines)


def ort_table(results):
    lines = []
    for result in results:
        for row in result["rows"]:
            if row["by"] != "minim" or not row["kept"]:
                continue
            cells = [metric_text(result["metric"], row.get(k)) for k in ("metric", "ort_metric")]
            for b in BATCHES:
                ours, theirs = row.get(f"minim_us_{b}"), row.get(f"onnxruntime_us_{b}")
                cells += [us(ours), us(theirs), ratio(ours, theirs)]
            lines.append([result["case"], row["form"], result["metric"], *cells[:2], share(row.get("ort_agreement")),
                          *cells[2:], row.get("ort_failed", "")])
    times = [h for b in BATCHES for h in (f"minim us, batch {b}", "ONNX Runtime", "ratio")]
    return table(["model", "variant", "metric", "minim", "ONNX Runtime", "same class", *times, ""], lines)


def difference_text(metric, mean, low, high):
    if metric == "accuracy":
        return f"{100 * mean:+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}]"
    return f"{mean:+.5f} [{low:+.5f}, {high:+.5f}]"


def quantizer_table(results):
    lines = []
    for result in results:
        minim = {row["form"]: row for row in result["rows"] if row["by"] == "minim"}
        for theirs in (row for row in result["rows"] if row["by"] == "onnxruntime"):
            if "differences" not in theirs:
                lines.append([result["case"], theirs["form"], theirs["reason"], *[""] * 6])
            for form, values in theirs.get("differences", {}).items():
                times = [ratio(minim[form].get(f"minim_us_{b}"), theirs.get(f"onnxruntime_us_{b}")) for b in BATCHES]
                lines.append([result["case"], theirs["form"], metric_text(result["metric"], theirs["metric"]), form,
                              metric_text(result["metric"], minim[form]["metric"]),
                              difference_text(result["metric"], *values),
                              ratio(minim[form]["bytes"], theirs["bytes"]), *times])
    return table(["model", "their quantizer", "its metric", "minim's", "its metric", "difference, 95 %", "bytes",
                  *[f"time, batch {b}" for b in BATCHES]], lines)


def text_of(results):
    origin = harness.provenance({})
    checks = "\n".join(f"- {check}" for result in results for check in result["checks"])
    return "\n".join([
        f"{origin['machine']}; commit {origin['commit']}; one thread, microseconds. Contenders of a model are timed in "
        "turns; of their rounds' medians the least counts, as others may use the machine.",
        "", "## Variants", "",
        "Bold: served by default. Metrics and intervals as `minim shrink` reports them.", "", variants_table(results),
        "## The same files in ONNX Runtime", "", ort_table(results),
        "## ONNX Runtime's own quantizer", "",
        "Ratios are minim with its file over ONNX Runtime with its own.", "", quantizer_table(results),
        "## Checks", "", checks])


def written(results):
    """The tables, and the same rows as a CSV file."""
    text = text_of(results)
    with open(f"{FOLDER}/results.md", "w") as file:
        file.write(text + "\n")
    rows = [{"model": r["case"], "metric_name": r["metric"], "samples": r["samples"], **row}
            for r in results for row in r["rows"]]
    with open(f"{FOLDER}/results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return text
