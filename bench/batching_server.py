"""Batching on the running server: `minim serve` with each policy in turn, `minim load` with Poisson arrivals, bursts and
a slow swing at half, once and twice the capacity, and how many answers come within the target: in per cent of what was
asked for or of the capacity, whichever is less. A request counts from when it was due, so a client that cannot keep up
does not flatter the server. Writes build/batching/server.md.
  bench/batching              the simulation (a number: requests per cell)
  bench/batching --server     this
"""
import argparse
import os
import statistics

from serving import ROOT, WIDE_MLP, Server, train_cnn, write_mlp

WORK = os.path.join(ROOT, "build/batching")
POLICIES = {
    "adaptive": ["--batching", "adaptive"],
    "work-conserving": ["--batching", "work-conserving"],
    "fixed-size 1": ["--batching", "fixed-size", "--max-batch", "1"],
    "fixed-size 8": ["--batching", "fixed-size", "--max-batch", "8"],
    "fixed-size 32": ["--batching", "fixed-size", "--max-batch", "32"],
    "window 2 ms": ["--batching", "time-window", "--window-ms", "2"],
    "window 10 ms": ["--batching", "time-window", "--window-ms", "10"],
}
LOADS = (0.5, 1.0, 2.0)
CONNECTIONS = 256


# Of each model: how to make it, and the latency target in ms.
MODELS = {
    "cnn": (train_cnn, 10),
    "mlp": (lambda _, path: write_mlp(path, WIDE_MLP), 50),
}


def serve(options, model, policy):
    return Server(options.minim, os.path.join(WORK, model), "--cache", "none", "--latency-target-ms",
                  str(MODELS[model][1]), *POLICIES[policy])


def measure(options, model, most, policy):
    """A row of the table for each kind of arrivals."""
    target = MODELS[model][1]
    for kind in ("poisson", "burst", "diurnal"):
        cells, held = [], []
        with serve(options, model, policy) as server:
            for factor in LOADS:
                report = server.load(model, "--target-ms", target, "--rate", factor * most, "--arrivals", kind,
                                     "--seconds", options.seconds, "--concurrency", CONNECTIONS)
                held.append(server.held())
                cells.append(f"{100 * report['in_time_per_second'] / min(most, factor * most):.0f}"
                             f" | {report.get('latency_us', {}).get('p99', 0) / 1e3 / target:.2f}")
        yield f"| {model} | {policy} | {kind} | " + " | ".join(cells) + f" | {held[0]:.0f} to {held[-1]:.0f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", action="store_true", help="measure the server (else: the simulation)")
    parser.add_argument("--minim", default=os.path.join(ROOT, "build/release/minim"))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--seconds", type=float, default=4, help="per cell")
    options = parser.parse_args()
    os.makedirs(WORK, exist_ok=True)
    lines = []

    def say(line):
        lines.append(line)
        print(line, flush=True)

    capacities = {}
    for model in options.models.split(","):
        make, target = MODELS[model]
        make(options.minim, os.path.join(WORK, model, "1/model.onnx"))
        with serve(options, model, "work-conserving") as server:
            busy = [server.load(model, "--concurrency", 64, "--seconds", 2) for _ in range(3)]
            alone = server.load(model, "--concurrency", 1, "--seconds", 2)
        capacities[model] = statistics.median(report["requests_per_second"] for report in busy)
        say(f"{model}: {capacities[model]:.0f} answers a second with 64 always asked for, "
            f"{alone['requests_per_second']:.0f} with one; target {target} ms  ")
    say("\n| model | policy | arrivals | "
        + " | ".join(f"in time at {factor}, % | p99 / target" for factor in LOADS) + " | memory MiB |")
    say("| --- | --- | --- | " + " | ".join("---: | ---:" for _ in LOADS) + " | ---: |")
    for model, most in capacities.items():
        for policy in options.policies.split(","):
            for line in measure(options, model, most, policy):
                say(line)
    with open(os.path.join(WORK, "server.md"), "w") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
