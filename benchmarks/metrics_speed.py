"""Ratio of time and memory: all exact metrics against two other libraries.

  python benchmarks/metrics_speed.py --pytorch_ood=PEERS/pytorch_ood/bin/python \\
      --output=benchmarks/results/metrics_speed.json

`ood_keras.metrics.evaluate_scores` (AUROC, both AUPR, detection error, FPR95 both ways)
against scikit-learn's `roc_auc_score` and `average_precision_score`, one of each, and
against pytorch-ood's AUROC, both AUPR and FPR95 from one of its collections, which
sorts once. The scores are the same, float32, half of them unknown. The sides take
turns, each in a fresh process, so that whatever else the machine does hits all and the
peak of memory is that of one side; the ratio is that of the medians. Ours gets two
arrays; what the others want, a joint array and labels, is made before their clock
starts.

pytorch-ood runs in an environment of its own (peers/README.md says how to make it), and
is left out where that is not given.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from provenance import provenance

KINDS = ("continuous", "ties")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pytorch_ood", help="interpreter of its environment")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.kind, arguments.size)))
        return
    pythons = {
        "ood_keras": sys.executable,
        "scikit_learn": sys.executable,
        "pytorch_ood": arguments.pytorch_ood,
    }
    pythons = {side: python for side, python in pythons.items() if python}
    result = {
        "num_scores": arguments.size,
        "rounds": arguments.rounds,
        **provenance("numpy", "scikit-learn"),
    }
    for kind in KINDS:
        runs = {side: [] for side in pythons}
        for _ in range(arguments.rounds):
            for side, python in pythons.items():
                runs[side].append(in_process(python, side, kind, arguments.size))
        result[kind] = compared(runs)
    print(json.dumps(result, indent=2))
    if arguments.output:
        from ood_keras.files import write_json

        write_json(arguments.output, result)


def in_process(python, side, kind, size):
    """What `measure` returns, in a fresh process of an interpreter."""
    # A variable that asks for old kernels would slow the peer's NumPy.
    environment = {
        key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"
    }
    command = [python, __file__, f"--side={side}", f"--kind={kind}", f"--size={size}"]
    output = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout
    return json.loads(output.splitlines()[-1])


def compared(runs):
    """Medians of each side, and how many times better we are than each other one."""
    medians = {
        side: {key: statistics.median(run[key] for run in each) for key in each[0]}
        for side, each in runs.items()
    }
    ours = medians["ood_keras"]
    others = {side: each for side, each in medians.items() if side != "ood_keras"}
    return {
        "seconds": {side: round(each["seconds"], 3) for side, each in medians.items()},
        "times_faster": {
            side: round(each["seconds"] / ours["seconds"], 1)
            for side, each in others.items()
        },
        "peak_mebibytes": {
            side: round(each["mebibytes"]) for side, each in medians.items()
        },
        "times_less_memory": {
            side: round(each["mebibytes"] / ours["mebibytes"], 2)
            for side, each in others.items()
        },
        "auroc_difference": {
            side: abs(each["auroc"] - ours["auroc"]) for side, each in others.items()
        },
    }


def measure(side, kind, size):
    """Seconds, peak memory beyond the inputs in MiB, and AUROC, in this process."""
    prepare, evaluate = SIDES[side]()
    evaluate(*prepare(*scores(kind, 1000)))
    inputs = prepare(*scores(kind, size))
    before, start = peak_mebibytes(), time.perf_counter()
    auroc = evaluate(*inputs)
    return {
        "seconds": time.perf_counter() - start,
        "mebibytes": peak_mebibytes() - before,
        "auroc": float(auroc),
    }


def scores(kind, size):
    rng = np.random.default_rng(0)
    known = rng.standard_normal(size // 2, np.float32)
    unknown = rng.standard_normal(size - size // 2, np.float32) + np.float32(2)
    if kind == "ties":
        # About a thousand distinct values.
        known, unknown = np.round(known, 2), np.round(unknown, 2)
    return known, unknown


def peak_mebibytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ood_keras_side():
    from ood_keras.metrics import evaluate_scores

    def evaluate(known, unknown):
        return evaluate_scores(known, unknown)["auroc"]

    return lambda known, unknown: (known, unknown), evaluate


def scikit_learn_side():
    from sklearn.metrics import average_precision_score, roc_auc_score

    def prepare(known, unknown):
        sizes = len(known), len(unknown)
        is_unknown = np.repeat(np.array([0, 1], np.int8), sizes)
        return is_unknown, np.concatenate([known, unknown])

    def evaluate(is_unknown, joint):
        average_precision_score(is_unknown, joint)
        return roc_auc_score(is_unknown, joint)

    return prepare, evaluate


def pytorch_ood_side():
    sys.path.insert(0, str(pathlib.Path(__file__).parent / "peers"))
    import side_pytorch_ood  # noqa: F401, puts something in torchvision's place
    import torch
    from pytorch_ood import metrics

    def prepare(known, unknown):
        sizes = len(known), len(unknown)
        labels = np.repeat(np.array([0, -1], np.int32), sizes)
        joint = np.concatenate([known, unknown])
        return torch.from_numpy(joint), torch.from_numpy(labels)

    def evaluate(joint, labels):
        collection = metrics.MetricCollection(
            [
                metrics.AUROC(),
                metrics.AUPR("id"),
                metrics.AUPR("ood"),
                metrics.FPRAtTPR(0.95),
            ]
        )
        collection.update(scores=joint, labels=labels)
        return collection.compute()["AUROC"]

    return prepare, evaluate


SIDES = {
    "ood_keras": ood_keras_side,
    "scikit_learn": scikit_learn_side,
    "pytorch_ood": pytorch_ood_side,
}


if __name__ == "__main__":
    main()
