"""The table of script/coverage: coverage_table.py BUILD [--lines], from what the tests counted."""

import json
import pathlib
import re
import subprocess
import sys

TESTS = re.compile(r"_(test|bench)\.cc$|/testing/")
LEAST = 95.0  # per cent of a group's lines
GROUPS = [
    ("training", r"src/train/.*"),
    ("loss scaler", r"src/train/grad_scaler\.cc"),
    ("autocast", r"src/passes/autocast.*\.cc"),
    ("rematerialize", r"src/passes/rematerialize\.cc"),
    ("planner", r"src/plan/.*\.cc"),
]


def read_counts(build, root):
    """Of each file, how often each line ran in any of its objects."""
    counts = {}
    for notes in sorted(build.rglob("*.gcno")):
        output = subprocess.run(["gcov", "--json-format", "--stdout", notes], check=True,
                                capture_output=True, text=True).stdout
        for document in map(json.loads, output.splitlines()):
            for file in document["files"]:
                path = pathlib.Path(document["current_working_directory"], file["file"]).resolve()
                if not (path.is_relative_to(root) and path.is_file()) or TESTS.search(str(path)):
                    continue
                lines = counts.setdefault(str(path.relative_to(root)), {})
                for line in file["lines"]:
                    number = line["line_number"]
                    lines[number] = max(lines.get(number, 0), line["count"])
    return counts


def spans(numbers):
    """12-14 for 12, 13 and 14."""
    runs = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def row(name, lines):
    missed = [number for number, count in lines if count == 0]
    percent = 100 * (1 - len(missed) / len(lines))
    print(f"{name:34} {len(lines):6} {percent:9.1f}")
    return percent, missed


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    counts = read_counts(pathlib.Path(sys.argv[1]).resolve(), root)
    print(f"\n{'file':34} {'lines':>6} {'covered %':>9}")
    for path in sorted(counts):
        if counts[path] and any(re.fullmatch(pattern, path) for _, pattern in GROUPS):
            _, missed = row(path, counts[path].items())
            if "--lines" in sys.argv and missed:
                print(f"    not run: {spans(missed)}")
    print()
    low = []
    for name, pattern in GROUPS:
        lines = [line for path in counts if re.fullmatch(pattern, path)
                 for line in counts[path].items()]
        if not lines:
            sys.exit(f"coverage: no line of {name} was counted; is {sys.argv[1]} its build?")
        if row(name, lines)[0] < LEAST:
            low.append(name)
    if low:
        sys.exit(f"coverage: below {LEAST:.0f} %: {', '.join(low)}; --lines lists what no test runs")


if __name__ == "__main__":
    main()
