"""One peer in its own process: reads a JSON command a line, answers with a JSON line.

  {"do": "load", "path": ..., "threads": 1, "precision": "fp32", "input": "x.npy"}
  {"do": "time", "seconds": 0.5}      -> {"us": median of the calls}
  {"do": "answer", "to": "y.npy"}     -> writes the output
"""
import json
import os
import statistics
import sys
import time

import numpy as np

from engines import ENGINES, Unavailable

LEAST_RUNS = 3


def median_us(engine, seconds):
    engine.run()
    samples, start = [], time.perf_counter()
    while len(samples) < LEAST_RUNS or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        engine.run()
        samples.append(time.perf_counter() - begin)
    return statistics.median(samples) * 1e6


def serve(engine, replies):
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = obey(engine, command)
        except Unavailable as error:
            answer = {"unavailable": str(error)}
        except Exception as error:  # an engine's own failure is a result, not the end of the run
            answer = {"unavailable": (str(error).strip() or repr(error)).splitlines()[0][:200]}
        print(json.dumps(answer), file=replies, flush=True)


def obey(engine, command):
    if command["do"] == "time":
        return {"us": median_us(engine, command["seconds"])}
    if command["do"] == "answer":
        np.save(command["to"], engine.answer())
        return {}
    x = np.load(command["input"])
    engine.load(command["path"], command["threads"], command["precision"], len(x))
    engine.bind(x)
    return {}


def main():
    # Libraries print to file 1 as they please; answers go to a copy of it.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(ENGINES[sys.argv[1]](), replies)


if __name__ == "__main__":
    main()
