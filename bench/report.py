"""Results of bench/compare: rows in a CSV file, a table in Markdown, one chart, the README's section."""
import csv
import json
import os
import re

import harness
from chart import ratio_chart

COLUMNS = (["model", "kind", "precision", "batch", "threads"] + [f"{n}_us" for n in harness.NAMES]
           + ["best_peer", "ratio", "verdict"] + [f"{n}_error" for n in harness.NAMES]
           + [f"{n}_form" for n in harness.NAMES] + ["reasons"])
BEGIN, END = "<!-- bench/compare: begin -->", "<!-- bench/compare: end -->"


def verdict(ratio):
    return "win" if ratio < 1 - harness.NOISE else "lose" if ratio > 1 + harness.NOISE else "even"


def number(us):
    us = float(us)
    return f"{us:.1f}" if us < 100 else f"{us:,.0f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]) + "\n"


def ordered(values):
    return list(dict.fromkeys(values))


class Table:
    """The rows of one run. A cell that is measured again replaces its old row."""

    def __init__(self, folder, resume):
        self.folder, self.rows, self.provenance = folder, [], {}
        os.makedirs(folder, exist_ok=True)
        if resume and os.path.exists(self.path("csv")):
            with open(self.path("csv"), newline="") as file:
                self.rows = list(csv.DictReader(file))
            with open(self.path("json")) as file:
                self.provenance = json.load(file)

    def path(self, kind):
        return os.path.join(self.folder, f"results.{kind}")

    def put(self, row):
        cell = ("model", "precision", "batch", "threads")
        self.rows = [old for old in self.rows if any(str(old[c]) != str(row[c]) for c in cell)] + [row]
        self.write_data()

    def write_data(self):
        with open(self.path("csv"), "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows)
        with open(self.path("json"), "w") as file:
            json.dump(self.provenance, file, indent=1)

    def write(self):
        with open(self.path("md"), "w") as file:
            file.write(f"# minim and its peers\n\n{self.origin()}\n\n{self.times()}\n{self.means()}\n"
                       f"{self.against_own_fp32()}\n{self.peers()}\n{self.notes()}")
        with open(self.path("svg"), "w") as file:
            file.write(ratio_chart(self.rows))

    def origin(self):
        p = self.provenance
        names = ", ".join(f"{harness.NAMES[n]} {p[n]}" for n in harness.NAMES if n in p)
        calls = ", ".join(f"{harness.NAMES[n]} {us:.1f}" for n, us in p.get("call_us", {}).items())
        return (f"{p.get('machine')}; commit {p.get('commit')}; {names}. Contenders alternate on the same "
                "CPUs, threads and inputs; medians, in microseconds. ONNX Runtime's threads spin between "
                "calls, as by default. Peers are called from Python with bound inputs and outputs; a call "
                f"that computes nothing takes: {calls}.")

    def shapes(self):
        return sorted({(int(r["threads"]), int(r["batch"])) for r in self.rows})

    def pick(self, **wanted):
        return [r for r in self.rows if all(str(r[k]) == str(v) for k, v in wanted.items())]

    def times(self):
        """minim's time and, in brackets, its ratio to the best peer; bold where it loses."""
        rows = []
        for model, precision in ordered((r["model"], r["precision"]) for r in self.rows):
            cells = [self.pick(model=model, precision=precision, threads=t, batch=b) for t, b in self.shapes()]
            rows.append([model, precision.upper(), *[time_text(c[0]) if c else "" for c in cells]])
        return table(["model", "", *[f"batch {b}, {t} thread{'s' * (t > 1)}" for t, b in self.shapes()]], rows)

    def groups(self):
        return ordered((r["kind"], r["precision"]) for r in self.rows)

    def means(self):
        """Geometric means of minim / best peer per class of models."""
        batches = sorted({int(r["batch"]) for r in self.rows})
        rows = []
        for kind, precision in self.groups():
            all_rows = [r for r in self.pick(kind=kind, precision=precision) if r.get("ratio")]
            if not all_rows:
                continue
            means = [mean_text([r for r in all_rows if int(r["batch"]) == b]) for b in batches]
            counts = [sum(r["verdict"] == v for r in all_rows) for v in ("win", "even", "lose")]
            rows.append([kind, precision.upper(), *means, mean_text(all_rows), *counts])
        return table(["minim / best peer", "", *[f"batch {b}" for b in batches], "all", "wins", "even",
                      "loses"], rows)

    def against_own_fp32(self):
        rows = []
        for kind, precision in self.groups():
            speedups = [s for r in self.pick(kind=kind, precision=precision) if (s := self.speedup(r))]
            if precision != "fp32" and speedups:
                rows.append([kind, precision.upper(), f"{harness.geometric_mean(speedups):.2f}x"])
        return table(["minim against its own FP32", "", "faster by"], rows) if rows else ""

    def speedup(self, row):
        reference = self.pick(model=row["model"], precision="fp32", batch=row["batch"], threads=row["threads"])
        if not reference or not reference[0].get("minim_us") or not row.get("minim_us"):
            return None
        return float(reference[0]["minim_us"]) / float(row["minim_us"])

    def peers(self):
        """Every contender's time, with the file it was fastest with."""
        rows = []
        for r in self.rows:
            times = [contender_text(r, name) for name in harness.NAMES]
            rows.append([r["model"], r["precision"].upper(), r["batch"], r["threads"], *times,
                         ratio_text(r), r["verdict"], error_text(r, "minim"), error_text(r, r.get("best_peer"))])
        return table(["model", "", "batch", "threads", *harness.NAMES.values(), "ratio", "verdict", "error",
                      "the peer's"], rows)

    def notes(self):
        lines = ordered(f"- {r['model']} {r['precision'].upper()}: {reason}" for r in self.rows
                        for reason in (r.get("reasons") or "").split("; ") if reason)
        return "Who did not take part, and why:\n\n" + "\n".join(lines) + "\n" if lines else ""

    def summary(self):
        counts = {v: sum(r["verdict"] == v for r in self.rows) for v in
                  ("win", "even", "lose", "no peer", "WRONG", "failed")}
        text = ", ".join(f"{n} {v}" for v, n in counts.items() if n)
        return f"{self.means()}\n{self.against_own_fp32()}\n{text}; written to {self.path('{csv,md,svg}')}"

    def write_readme(self):
        path = os.path.join(harness.ROOT, "README.md")
        with open(path) as file:
            text = file.read()
        section = "\n".join([
            BEGIN, "", self.origin(), "",
            "minim's time, in brackets its ratio to the fastest peer in the same precision; bold where it loses:",
            "", self.times(), self.means(), self.against_own_fp32(),
            "![minim's time over the best peer's](docs/compare.svg)", "", END])
        pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.S)
        if not pattern.search(text):
            raise SystemExit(f"README.md has no '{BEGIN}' ... '{END}'")
        with open(path, "w") as file:
            file.write(pattern.sub(lambda _: section, text))
        with open(os.path.join(harness.ROOT, "docs/compare.svg"), "w") as file:
            file.write(ratio_chart(self.rows))


def time_text(row):
    if not row.get("minim_us"):
        return "failed"
    text = number(row["minim_us"])
    if row["verdict"] == "WRONG":
        return f"**WRONG** {text}"
    if not row.get("ratio"):
        return text
    ratio = f"({ratio_text(row)})"
    return f"{text} **{ratio}**" if row["verdict"] == "lose" else f"{text} {ratio}"


def error_text(row, name):
    error = row.get(f"{name}_error")
    return f"{float(error):.1e}" if error not in (None, "") else ""


def ratio_text(row):
    return f"{float(row['ratio']):.2f}" if row.get("ratio") else ""


def mean_text(rows):
    return f"{harness.geometric_mean([float(r['ratio']) for r in rows]):.2f}" if rows else ""


def contender_text(row, name):
    us = row.get(f"{name}_us")
    if not us:
        return ""
    form = row.get(f"{name}_form")
    return number(us) + (f" {form}" if form and form != "fp32" else "")
