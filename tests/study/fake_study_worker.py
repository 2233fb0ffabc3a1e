"""Stands in for `study_worker`: made-up numbers instead of a training.

The name of the training says how it behaves: "broken" fails, "killed" is killed,
"slow" waits on its first try until the study ends.
"""

import json
import os
import pathlib
import signal
import sys


def metrics_of(job):
    """What `metrics.json` of this job holds."""
    auroc = 0.9 + job["seed"] / 100
    row = {
        "auroc": auroc,
        "aupr_in": auroc,
        "aupr_out": auroc,
        "detection_error": 0.08,
        "fpr95_known_positive": 0.2,
        "fpr95_unknown_positive": 0.2,
    }
    rows = {
        source: {"seen": source in job["unknown"], **row}
        for source in job["test_unknown"]
    }
    return {
        "known": {"source": job["known"], "accuracy": 0.97 + job["seed"] / 100},
        "detectors": {method: {"unknown": rows} for method in job["methods"]},
        "selected_detector": next(iter(job["methods"])),
        "data": {},
    }


def main():
    request = json.loads(sys.stdin.readline())
    job, output = request["job"], pathlib.Path(request["output_dir"])
    run_dir = pathlib.Path(request["run_dir"])
    run_dir.mkdir(parents=True, exist_ok=True)
    tries = run_dir / "tries"
    with tries.open("a") as file:
        file.write("x")
    if job["training"] == "broken":
        print("Traceback\nValueError: the data are gone")
        sys.exit(1)
    if job["training"] == "killed":
        print(f"epoch {len(tries.read_text())}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if job["training"] == "slow" and tries.read_text() == "x":
        (run_dir / "parent").write_text(str(os.getppid()))
        sys.stdin.read()
        sys.exit(1)
    output.mkdir(parents=True, exist_ok=True)
    methods = {
        name: {"detector": detector, "config": {}}
        for name, detector in job["methods"].items()
    }
    record = {
        **job,
        "methods": methods,
        "run": {"versions": {"keras": "3"}},
        "machine": {"processor": "abacus", "cores": 1, "platform": "wood"},
        "minutes": {"training": 1.0, "evaluation": 0.5},
    }
    (output / "run.json").write_text(json.dumps(record))
    (output / "metrics.json").write_text(json.dumps(metrics_of(job)))


if __name__ == "__main__":
    main()
