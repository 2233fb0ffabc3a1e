"""Head to head: the same trained weights scored by us, by oodeel and by pytorch-ood.

  python benchmarks/peers/compare.py --data_dir=DATA \\
      --oodeel=PEERS/oodeel/bin/python --pytorch_ood=PEERS/pytorch_ood/bin/python \\
      --output=benchmarks/results/peers.json

README.md beside this file says how to make the two environments and what the result
holds. A side whose interpreter is not given is left out. With --work_dir, what is done
is kept there: the same command, stopped and given again, goes on where it was. With
--detectors, an --output that exists gets these rows beside what it has, if the networks
are the same.
"""

import argparse
import contextlib
import itertools
import json
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
# A peer needs minutes for as many images as the others are timed on.
SLOW = ("gram", "gram_1_percent", "gram_min_max")
NUM_SLOW = 2 * BATCH_SIZE
NUM_FEATURE_ROWS = 100 * BATCH_SIZE
# Two libraries may differ by this much in AUROC and still count as equal: rounding.
SAME_AUROC = 0.0005
SAME_LOGITS = 1e-4
RESULT_PARTS = ("accuracy", "auroc", "failures", "per_second", "versions")
# A work folder holds what was made with the same values of these.
SIZES = ("epochs", "num_fit", "num_test", "num_timed", "rounds")
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
    result = {part: {} for part in RESULT_PARTS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work_dir or pathlib.Path(temporary)
        check_work_dir(folder, arguments)
        for setting in arguments.settings:
            run_setting(setting, sides, arguments, folder / setting, result)
    for side in sides.values():
        side.close()
    result["ratio"] = {
        detector: ratios(speeds) for detector, speeds in result["per_second"].items()
    }
    if "network" in result["per_second"]:
        result["ratio_limit"] = ratio_limits(result["per_second"])
    result["differences"] = differences(result["auroc"])
    result["notes"] = notes.NOTES
    result["sizes"] = {name: getattr(arguments, name) for name in SIZES}
    result["sizes"]["batch"] = BATCH_SIZE
    result["machine"] = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": protocol.NUM_THREADS,
    }
    if arguments.detectors and arguments.output and arguments.output.exists():
        earlier = json.loads(arguments.output.read_text())
        result = add_to(earlier, result, arguments.detectors)
    report(result)
    if arguments.output:
        write_json(arguments.output, result)


def add_to(earlier, result, detectors):
    """The result of an earlier run with rows of `result` that it lacks or that differ.

    What was not measured now stays: other detectors, and sides that did not take part.
    """
    for part in ("accuracy", "sizes"):
        common = result[part].keys() & earlier[part].keys()
        if any(result[part][key] != earlier[part][key] for key in common):
            raise SystemExit(
                f"these are not the networks of the earlier result, whose {part} is "
                f"{earlier[part]}, and not {result[part]}: give another --output"
            )
    for setting, unknowns in result["auroc"].items():
        for unknown, rows in unknowns.items():
            cells = earlier["auroc"][setting][unknown]
            for detector, cell in rows.items():
                cells[detector] = cells.get(detector, {}) | cell
        earlier["failures"].setdefault(setting, {}).update(
            result["failures"].get(setting, {})
        )
    earlier["per_second"] |= {
        name: speeds
        for name, speeds in result["per_second"].items()
        if name != "network"
    }
    earlier["ratio"] = {
        name: ratios(speeds) for name, speeds in earlier["per_second"].items()
    }
    earlier["ratio_limit"] = ratio_limits(earlier["per_second"])
    earlier["differences"] = differences(earlier["auroc"])
    earlier["notes"] = result["notes"]
    added = {"detectors": detectors, "versions": result["versions"]}
    earlier["added"] = [*earlier.get("added", []), added]
    return earlier


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
    parser.add_argument(
        "--work_dir", type=pathlib.Path, help="keeps what is done, to go on from there"
    )
    parser.add_argument(
        "--no_speed",
        action="store_true",
        help="no timing, which needs a machine that does nothing else",
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--num_fit", type=int, default=50_000)
    parser.add_argument("--num_test", type=int, default=5_000)
    parser.add_argument("--num_timed", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


def check_work_dir(folder, arguments):
    """Raises if the work folder was made with other sizes than those asked for."""
    sizes = {name: getattr(arguments, name) for name in SIZES}
    path = folder / "sizes.json"
    if path.exists():
        earlier = json.loads(path.read_text())
        if earlier != sizes:
            raise SystemExit(
                f"{folder} was made with {earlier}, this command asks for {sizes}: "
                "give another --work_dir or the same sizes"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, sizes)


def run_setting(setting, sides, arguments, folder, result):
    """Trains a network, and adds what all sides make of it to `result`."""
    folder.mkdir(exist_ok=True)
    fit_paths, paths, labels = save_images(setting, arguments, folder)
    weights = folder / "weights.npz"
    if weights.exists():
        with np.load(weights) as file:
            model = network.from_weights(dict(file))
    else:
        model = network.train(
            np.load(fit_paths["images"]),
            np.load(fit_paths["labels"]),
            int(labels.max()) + 1,
            arguments.epochs,
        )
        np.savez(weights, **network.get_weights(model))
    known = np.load(paths["known"])
    logits = model.predict(known, batch_size=BATCH_SIZE, verbose=0)
    result["accuracy"][setting] = float(np.mean(logits.argmax(axis=1) == labels))

    names = {}
    for name, side in sides.items():
        loaded = side.ask("load", weights=weights)
        names[name] = loaded["names"]
        result["versions"][name] = loaded["versions"]
        check_logits(name, side, paths["known"], logits, folder)

    timed = setting == TIMED_SETTING and not arguments.no_speed
    aurocs = result["auroc"][setting] = {spec: {} for spec in SETTINGS[setting]}
    for detector in arguments.detectors or names["ours"]:
        having = {name: side for name, side in sides.items() if detector in names[name]}
        with kept(folder / f"detector_{detector}.json") as row:
            run_detector(detector, having, fit_paths, paths, timed, arguments, row)
        for spec, cell in row["auroc"].items():
            if cell:
                aurocs[spec][detector] = cell
        if row["failures"]:
            result["failures"].setdefault(setting, {})[detector] = row["failures"]
        result["per_second"].update(row.get("per_second", {}))
    with kept(folder / "network.json") as row:
        if timed and "per_second" not in row:
            # Last, when all sides are warm.
            speeds = time_images("logits", sides, paths["known"], arguments)
            row["per_second"] = {"network": speeds}
    result["per_second"].update(row.get("per_second", {}))


def save_images(setting, arguments, folder):
    """Writes the images that the sides read.

    Returns:
        Paths of the `images` and `labels` to fit; `{"known" or spec: path}` of the test
        images; labels of the known ones.
    """
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
    return fit_paths, paths, test.labels


@contextlib.contextmanager
def kept(path):
    """A dict that is read from a file, if it is there, and written to it at the end."""
    content = json.loads(path.read_text()) if path.exists() else {}
    yield content
    write_json(path, content)


def run_detector(detector, sides, fit_paths, paths, timed, arguments, row):
    """Adds to `row` what it lacks of one detector: AUROC, failures, speed."""
    scored = "auroc" in row
    if scored and (not timed or "per_second" in row):
        return
    print(f"{paths['known'].parent.name}: {detector}", flush=True)
    aurocs = {spec: {} for spec in paths if spec != "known"}
    failures, ready = {}, {}
    for name, side in sides.items():
        try:
            side.ask("fit", detector=detector, batch_size=BATCH_SIZE, **fit_paths)
            if not scored:
                scores = score_all(side, paths)
                for spec, cell in aurocs.items():
                    auroc = metrics.auroc(scores["known"], scores[spec])
                    cell[name] = round(auroc, 5)
            if name not in row.get("failures", {}):
                ready[name] = side
        except (protocol.SideError, ValueError) as error:
            failures[name] = str(error).split(". ")[0]
    if not scored:
        row.update(auroc=aurocs, failures=failures)
    if timed:
        row["per_second"] = time_detector(detector, ready, paths["known"], arguments)


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


def time_detector(detector, sides, images, arguments):
    """`{row: {side: per second}}` of one detector, which all sides have fitted."""
    if detector in SLOW:
        arguments = argparse.Namespace(**{**vars(arguments), "num_timed": NUM_SLOW})
    rows = {detector: time_images("score", sides, images, arguments)}
    if detector == "mahalanobis":
        size = (NUM_FEATURE_ROWS, network.NUM_FEATURES)
        features = np.random.default_rng(0).normal(size=size).astype(np.float32)
        rows["mahalanobis_features"] = time_sides(
            sides,
            arguments.rounds,
            NUM_FEATURE_ROWS,
            "score_features",
            features=save(images.parent, "features", features),
        )
    return rows


def time_images(command, sides, images, arguments):
    """How many images per second go through a command on each side."""
    num_timed = min(arguments.num_timed, arguments.num_test)
    return time_sides(
        sides, arguments.rounds, num_timed, command, images=images, first=num_timed
    )


def score_all(side, paths):
    """The scores of every data set by the detector that a side has fitted.

    Known and unknown images come mixed, as they do in use: a batch of unknown ones
    alone would help a side whose score of an image depends on the rest of the batch.
    """
    mixed = paths["known"].parent / "mixed.npy"
    names = np.repeat(list(paths), [len(np.load(path)) for path in paths.values()])
    order = np.random.default_rng(0).permutation(len(names))
    if not mixed.exists():
        np.save(
            mixed, np.concatenate([np.load(path) for path in paths.values()])[order]
        )
    output = mixed.with_name("scores.npy")
    side.ask("score", images=mixed, batch_size=BATCH_SIZE, output=output)
    scores = np.load(output)
    return {name: scores[names[order] == name] for name in paths}


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
    print("ratios at most, on this network:", result.get("ratio_limit"))
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
