"""Head to head: the same trained weights scored by us, by oodeel and by pytorch-ood.

  python benchmarks/peers/compare.py --data_dir=../shared/data \\
      --oodeel=PEERS/oodeel/bin/python --pytorch_ood=PEERS/pytorch_ood/bin/python \\
      --output=benchmarks/results/peers.json

README.md beside this file says how to make the two environments and what the result
holds. A side whose interpreter is not given is left out.
"""

import argparse
import itertools
import os
import pathlib
import platform
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import network
import notes
import numpy as np
import protocol

from ood_keras import metrics, pipelines
from ood_keras.files import write_json

SETTINGS = {
    "mnist": [
        "emnist/letters",
        "kmnist",
        "fashion_mnist",
        "notmnist",
        "omniglot",
        "uniform_noise",
        "gaussian_noise",
    ],
    "mnist[0-4]": ["mnist[5-9]"],
}
# The setting in which speed is measured.
TIMED_SETTING = "mnist"
BATCH_SIZE = 256
NUM_FEATURE_ROWS = 100 * BATCH_SIZE
# Two libraries may differ by this much in AUROC and still count as equal: rounding.
SAME_AUROC = 0.0005
SAME_LOGITS = 1e-4
# Oodeel perturbs its input by default in detectors that are not meant to. So it plays
# twice: with the arguments that make both sides do the same, and as it comes.
SCRIPTS = {
    "ours": ["side_ours.py"],
    "oodeel": ["side_oodeel.py"],
    "oodeel_defaults": ["side_oodeel.py", "defaults"],
    "pytorch_ood": ["side_pytorch_ood.py"],
}


def main():
    arguments = parse()
    pythons = {
        "ours": sys.executable,
        "oodeel": arguments.oodeel,
        "oodeel_defaults": arguments.oodeel,
        "pytorch_ood": arguments.pytorch_ood,
    }
    sides = {
        name: protocol.Side(python, *SCRIPTS[name])
        for name, python in pythons.items()
        if python
    }
    parts = ("accuracy", "auroc", "failures", "per_second", "versions")
    result = {part: {} for part in parts}
    with tempfile.TemporaryDirectory() as folder:
        for setting in arguments.settings:
            run_setting(setting, sides, arguments, pathlib.Path(folder), result)
    for side in sides.values():
        side.close()
    result["ratio"] = {
        detector: ratios(speeds) for detector, speeds in result["per_second"].items()
    }
    result["ratio_limit"] = ratio_limits(result["per_second"])
    result["differences"] = differences(result["auroc"])
    result["notes"] = notes.NOTES
    result["sizes"] = {
        "fit": arguments.num_fit,
        "test": arguments.num_test,
        "timed": arguments.num_timed,
        "batch": BATCH_SIZE,
        "rounds": arguments.rounds,
        "epochs": arguments.epochs,
    }
    result["machine"] = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": protocol.NUM_THREADS,
    }
    report(result)
    if arguments.output:
        write_json(arguments.output, result)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", type=pathlib.Path)
    parser.add_argument("--oodeel", help="interpreter of oodeel's environment")
    parser.add_argument("--pytorch_ood", help="interpreter of pytorch-ood's")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument(
        "--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS)
    )
    parser.add_argument("--detectors", nargs="+", help="only these")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--num_fit", type=int, default=50_000)
    parser.add_argument("--num_test", type=int, default=10_000)
    parser.add_argument("--num_timed", type=int, default=5_120)
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


def run_setting(setting, sides, arguments, folder, result):
    """Trains a network, and adds what all sides make of it to `result`."""
    known = pipelines.load(setting, data_dir=arguments.data_dir)
    fit = at_most(known.train, arguments.num_fit)
    test = at_most(known.test, arguments.num_test)
    paths = {"known": save(folder, "known", floats(test))}
    for index, spec in enumerate(SETTINGS[setting]):
        unknown = pipelines.load(spec, data_dir=arguments.data_dir).test
        images = floats(at_most(unknown, arguments.num_test))
        paths[spec] = save(folder, f"unknown_{index}", images)
    fit_paths = {
        "images": save(folder, "fit_images", floats(fit)),
        "labels": save(folder, "fit_labels", fit.labels.astype(np.int64)),
    }
    model = network.train(floats(fit), fit.labels, known.num_classes, arguments.epochs)
    weights = folder / "weights.npz"
    np.savez(weights, **network.get_weights(model))
    logits = model.predict(floats(test), batch_size=BATCH_SIZE, verbose=0)
    result["accuracy"][setting] = float(np.mean(logits.argmax(axis=1) == test.labels))

    names = {}
    for name, side in sides.items():
        loaded = side.ask("load", weights=weights)
        names[name] = loaded["names"]
        result["versions"][name] = loaded["versions"]
        check_logits(name, side, paths["known"], logits, folder)

    if setting == TIMED_SETTING:
        time_images("network", "logits", sides, paths["known"], arguments, result)
    aurocs = result["auroc"][setting] = {spec: {} for spec in SETTINGS[setting]}
    for detector in arguments.detectors or names["ours"]:
        print(f"{setting}: {detector}", flush=True)
        ready = {}
        for name, side in sides.items():
            if detector not in names[name]:
                continue
            try:
                scores = score_all(side, detector, fit_paths, paths, folder)
                for spec in aurocs:
                    auroc = metrics.auroc(scores["known"], scores[spec])
                    aurocs[spec].setdefault(detector, {})[name] = round(auroc, 5)
                ready[name] = side
            except (protocol.SideError, ValueError) as error:
                failures = result["failures"].setdefault(setting, {})
                failures.setdefault(detector, {})[name] = str(error).split(". ")[0]
        if setting == TIMED_SETTING:
            time_detector(detector, ready, paths["known"], arguments, folder, result)


def check_logits(name, side, images, logits, folder):
    """Raises unless a side computes the logits that Keras does here."""
    output = folder / "logits.npy"
    side.ask("logits", images=images, batch_size=BATCH_SIZE, output=output)
    difference = np.max(np.abs(np.load(output) - logits)) / np.max(np.abs(logits))
    if not difference <= SAME_LOGITS:
        raise RuntimeError(
            f"{name} does not run the same network: its logits differ by up to "
            f"{difference:.1e} of the largest"
        )


def time_detector(detector, sides, images, arguments, folder, result):
    """Adds the speed of one detector, which all sides have fitted, to `result`."""
    time_images(detector, "score", sides, images, arguments, result)
    if detector == "mahalanobis":
        size = (NUM_FEATURE_ROWS, network.NUM_FEATURES)
        features = np.random.default_rng(0).normal(size=size).astype(np.float32)
        result["per_second"]["mahalanobis_features"] = time_sides(
            sides,
            arguments.rounds,
            NUM_FEATURE_ROWS,
            "score_features",
            features=save(folder, "features", features),
        )


def time_images(row, command, sides, images, arguments, result):
    """Adds how many images per second go through a command on each side."""
    num_timed = min(arguments.num_timed, arguments.num_test)
    result["per_second"][row] = time_sides(
        sides, arguments.rounds, num_timed, command, images=images, first=num_timed
    )


def score_all(side, detector, fit_paths, paths, folder):
    """Fits one detector on one side; its scores of every data set."""
    side.ask("fit", detector=detector, batch_size=BATCH_SIZE, **fit_paths)
    scores = {}
    for name, images in paths.items():
        output = folder / "scores.npy"
        side.ask("score", images=images, batch_size=BATCH_SIZE, output=output)
        scores[name] = np.load(output)
    return scores


def time_sides(sides, num_rounds, num_rows, command, **data):
    """Rows per second of each side: medians of rounds in which they take turns."""
    seconds = {name: [] for name in sides}
    order = list(sides)
    for turn in range(num_rounds + 1):
        for name in order:
            answer = sides[name].ask(command, batch_size=BATCH_SIZE, **data)
            if turn:  # the first turn warms up
                seconds[name].append(answer["seconds"])
        order = order[1:] + order[:1]
    return {
        name: round(num_rows / float(np.median(times)), 1)
        for name, times in seconds.items()
    }


def ratios(speeds):
    """How many times as fast as each peer we are."""
    return {
        name: round(speeds["ours"] / speed, 2)
        for name, speed in speeds.items()
        if name != "ours"
    }


def ratio_limits(per_second):
    """The ratios of a detector of ours that would cost nothing beyond the network."""
    return {
        row: ratios({**speeds, "ours": per_second["network"]["ours"]})
        for row, speeds in per_second.items()
        if row not in ("network", "mahalanobis_features")
    }


def differences(aurocs):
    """Every cell in which a peer's AUROC is not ours, with the note that explains it.

    Returns:
        `{"ours_lower": [...], "ours_higher": [...]}`, each a list of dicts.
    """
    found = {"ours_lower": [], "ours_higher": []}
    for setting, unknowns in aurocs.items():
        for unknown, detectors in unknowns.items():
            for detector, peer in itertools.product(detectors, SCRIPTS):
                cell = detectors[detector]
                if peer == "ours" or peer not in cell or "ours" not in cell:
                    continue
                difference = cell["ours"] - cell[peer]
                if abs(difference) > SAME_AUROC:
                    side = "ours_higher" if difference > 0 else "ours_lower"
                    found[side].append(
                        {
                            "setting": setting,
                            "unknown": unknown,
                            "detector": detector,
                            "peer": peer,
                            "difference": round(difference, 5),
                            "explained": peer in notes.NOTES.get(detector, {}),
                        }
                    )
    return found


def at_most(split, num_images):
    return split.take(min(num_images, len(split)))


def floats(split):
    return pipelines.preprocessing.to_float(split.images)


def save(folder, name, array):
    path = folder / f"{name}.npy"
    np.save(path, array)
    return path


def processor():
    """The processor's name where Linux tells it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [
        line.split(":")[1].strip() for line in lines if line.startswith("model name")
    ]
    return names[0] if names else platform.processor() or platform.machine()


def report(result):
    """Prints the tables of `result`."""
    for setting, unknowns in result["auroc"].items():
        print(f"\n{setting}, accuracy {result['accuracy'][setting]:.4f}; AUROC")
        for unknown, detectors in unknowns.items():
            for detector, cell in detectors.items():
                values = "  ".join(
                    f"{name} {value:.4f}" for name, value in cell.items()
                )
                print(f"  {unknown:16} {detector:22} {values}")
    print("\nimages (or features) per second")
    for detector, speeds in result["per_second"].items():
        values = "  ".join(f"{name} {value:,.0f}" for name, value in speeds.items())
        print(f"  {detector:22} {values}  ratios {result['ratio'][detector]}")
    print("ratios at most, on this network:", result["ratio_limit"])
    print("failures:", result["failures"] or "none")
    unexplained = [
        cell
        for cells in result["differences"].values()
        for cell in cells
        if not cell["explained"]
    ]
    print("differences without a note:", unexplained or "none")


if __name__ == "__main__":
    main()
