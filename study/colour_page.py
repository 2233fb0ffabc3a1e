"""Colour photographs and near unknowns: the page of the study `colour`."""

import dataclasses
import pathlib
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TypeGuard

from ood_keras.study import colour, markdown, records
from ood_keras.study.study_results import StudyResults
from ood_keras.study.summary import spread
from ood_keras.types import Json

PICTURE = "results_colour.png"
# OpenOOD's leaderboard of July 2025: near and far AUROC, in percent.
PUBLISHED = {
    "MSP": (88.0, 90.7),
    "KNN": (90.6, 93.0),
    "LogitNorm": (92.3, 96.7),
    "PixMix with LogitNorm": (94.3, 97.9),
}
# What we want of the recipe that validation chooses.
NEAR_GAIN, FAR_GAIN, DIGITS_AUROC = 0.04, 0.05, 0.997
_OURS = ("ours", "unknown class")
_NUM_CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Results:
    """What the study found: `Records`, and the cells that a summary makes of them."""

    found: records.Records
    study: StudyResults

    @classmethod
    def read(cls, folder: pathlib.Path) -> "Results":
        """Reads a folder that `ood-study --study=colour` wrote."""
        return cls(records.Records.read(folder), StudyResults.read(folder))

    def list_methods(self, known: str) -> list[str]:
        """The methods with results on a known set, in the order of the study."""
        measured = self.study.summary["results"].get(known, {})
        return [name for name in self.study.summary["methods"] if measured.get(name)]

    def mean_over(
        self, known: str, method: str, unknown: Sequence[str], metric: str
    ) -> Json:
        """The cell of a metric's mean over several unknown sets, seed by seed."""
        by_unknown = [
            self.study.cell(known, method, name, metric)["values"]  # type: ignore[index]
            for name in unknown
        ]
        return spread([*map(statistics.fmean, zip(*by_unknown, strict=True))])

    def rendered(self, known: str, method: str) -> list[Json]:
        """The lines of a method in the table of renderings, one for each seed."""
        return [
            row
            for row in self.found.renderings
            if (row["known"], row["method"]) == (known, method)
        ]

    def chosen(self) -> str | None:
        """The method with the highest AUROC on the images that choose.

        Of those that were shown an unknown class; `None` before there is any.
        """
        return max(
            self._list_ours(colour.DEVELOPMENT),
            key=lambda name: self._auroc_of_split(colour.DEVELOPMENT, name),
            default=None,
        )

    def _list_ours(self, known: str) -> list[str]:
        methods = self.study.summary["methods"]
        return [
            name for name in self.list_methods(known) if methods[name]["group"] in _OURS
        ]

    def _auroc_of_split(self, known: str, method: str) -> float:
        (unknown,) = self.study.summary["results"][known][method]
        return self.study.cell(known, method, unknown, "auroc")["mean"]  # type: ignore[index]

    def best_by_validation(self, known: str) -> float | None:
        """AUROC of the method that validation images choose, or `None`.

        The lowest FPR95 against synthetic outliers, then the highest AUROC.
        """

        def rank(method):
            (row, *_) = self.rendered(known, method)
            return row["validation_fpr95_known_positive"], -row["validation_auroc"]

        best = min(self._list_ours(known), key=rank, default=None)
        return None if best is None else self._auroc_of_split(known, best)


def page(folder: pathlib.Path, images: pathlib.Path) -> str:
    """Returns the text of `docs/colour.md`.

    Args:
        folder: What `ood-study --study=colour` wrote, as the page should name it from
            the repository's root.
        images: The folder of the docs' pictures.
    """
    results = Results.read(folder)
    digits, photos, flowers = (
        [
            name
            for name in results.found.about["known"]
            if name.startswith(prefix) and results.list_methods(name)
        ]
        for prefix in ("mnist_split", "cifar10_split", "flowers_without")
    )
    chosen = results.chosen()
    return markdown.render(
        "colour",
        folder=folder,
        picture=markdown.show_picture(
            images,
            PICTURE,
            "AUROC on near and far unknowns, the mean over the seeds, and its range.",
        ),
        goals=_list_goals(results, chosen),
        wanted={
            "near": f"{100 * NEAR_GAIN:.0f}",
            "far": f"{100 * FAR_GAIN:.0f}",
            "digits": DIGITS_AUROC,
        },
        chosen=chosen and results.study.title(chosen),
        development=colour.DEVELOPMENT,
        measured=bool(results.list_methods(colour.CIFAR10)),
        scores=_list_scores(results),
        noise=_list_noise(results),
        rendered=_list_rendered(results, colour.CIFAR10),
        sets={
            "Digits, six of ten known": _list_splits(results, digits),
            "Training images of CIFAR-10, six of ten classes known, which choose": (
                _list_splits(results, [colour.DEVELOPMENT])
            ),
            "CIFAR-10, six of ten classes known": _list_splits(results, photos),
            "Flowers, one left out": _list_splits(results, flowers),
        },
        accepted=_list_accepted(results, chosen),
        cost=_list_cost(results, colour.CIFAR10),
        cost_of_choice=_list_cost(results, colour.DEVELOPMENT),
        published=markdown.Table(
            ["method", "near", "far"],
            [[name, *map(str, values)] for name, values in PUBLISHED.items()],
        ),
        protocol=results.found.about["protocol"],
        machines=results.found.about["machines"],
        missing=_list_missing(results.found.runs),
        num_to_choose=sum(
            run["known"] == colour.DEVELOPMENT and run["status"] != "finished"
            for run in results.found.runs
        ),
        num_missing=sum(run["status"] != "finished" for run in results.found.runs),
        num_runs=len(results.found.runs),
    )


def is_written(folder: pathlib.Path) -> bool:
    """Whether a folder holds results of the study."""
    return (folder / records.RENDERINGS).is_file()


def _list_missing(runs: Iterable[Json]) -> list[str]:
    """What is not run, a text for all known sets and seeds that lack the same."""
    missing: dict[str, list[str]] = {}
    for run in runs:
        if run["status"] != "finished":
            key = f"{run['known']}, seed {run['seed']}"
            missing.setdefault(key, []).append(run["training"])
    alike: dict[tuple[str, ...], list[str]] = {}
    for key, names in missing.items():
        alike.setdefault(tuple(sorted(names)), []).append(key)
    return [f"{'; '.join(keys)}: {', '.join(names)}" for names, keys in alike.items()]


def _is_compared(chosen: str | None, results: Results) -> TypeGuard[str]:
    """Whether the chosen method stands beside the baseline on all of CIFAR-10."""
    return {chosen, colour.BASELINE} <= {*results.list_methods(colour.CIFAR10)}


def _list_goals(results: Results, chosen: str | None) -> markdown.Table | None:
    """What was wanted, what was measured, and whether that is it; `None` before."""
    if not _is_compared(chosen, results):
        return None
    rows = []

    def add(what, wanted, value, met, show: Callable[[float], str]):
        rows.append([what, wanted, show(value), "yes" if met else "no"])

    for name, unknown, gain in (
        ("near AUROC", (colour.NEAR,), NEAR_GAIN),
        ("far AUROC", colour.FAR, FAR_GAIN),
    ):
        ours, baseline = (
            results.mean_over(colour.CIFAR10, method, unknown, "auroc")["mean"]
            for method in (chosen, colour.BASELINE)
        )
        add(
            f"{name} above that of MSP",
            f"{_points(gain)} or more",
            ours - baseline,
            ours - baseline >= gain,
            _points,
        )
    ours, baseline = (
        results.study.accuracy(colour.CIFAR10, method)["mean"]  # type: ignore[index]
        for method in (chosen, colour.BASELINE)
    )
    add(
        "accuracy above that of MSP",
        "0 or more",
        ours - baseline,
        ours >= baseline,
        _points,
    )
    digits = [
        value
        for known in results.found.about["known"]
        if known.startswith("mnist_split")
        if (value := results.best_by_validation(known)) is not None
    ]
    if digits:
        mean = statistics.fmean(digits)
        add(
            f"mean AUROC on digits, six of ten known ({len(digits)} of 5 splits)",
            f"{markdown.format_percent(DIGITS_AUROC)} or more",
            mean,
            mean >= DIGITS_AUROC and len(digits) == 5,
            markdown.format_percent,
        )
    return markdown.Table(["", "wanted", "measured", "reached"], rows, num_texts=1)


def _list_scores(results: Results) -> markdown.Table:
    """Near and far AUROC and FPR95, and accuracy, of every method."""
    known = colour.CIFAR10
    header = ["training: score", "seeds", "accuracy", "near AUROC", "far AUROC"]
    header += ["near FPR95", "far FPR95"]
    rows = []
    for method in results.list_methods(known):
        cells = [results.study.accuracy(known, method)]
        cells += [
            results.mean_over(known, method, unknown, metric)
            for metric in ("auroc", "fpr95_known_positive")
            for unknown in ((colour.NEAR,), colour.FAR)
        ]
        seeds = len(results.study.seeds(known, method))
        rows.append(
            [
                results.study.title(method),
                str(seeds),
                *map(markdown.format_cell, cells),
            ]
        )
    return markdown.Table(header, rows)


def _list_noise(results: Results) -> markdown.Table:
    known, sources = colour.CIFAR10, (*colour.FAR, *colour.NOISE)
    rows = []
    for method in results.list_methods(known):
        cells = [results.study.cell(known, method, name, "auroc") for name in sources]
        seen = [results.study.is_seen(known, method, name) for name in sources]
        rows.append(
            [
                results.study.title(method),
                *(
                    markdown.format_cell(cell) + (markdown.SEEN if one else "")
                    for cell, one in zip(cells, seen, strict=True)
                ),
            ]
        )
    return markdown.Table(["training: score", *sources], rows)


def _list_rendered(results: Results, known: str) -> markdown.Table:
    """What mild renderings do to known images, and AUROC over all of them."""
    shares = ("accepted", "accepted_mild", "accepted_worst", "accuracy_mild")
    header = ["training: score", "accepted, untouched", "mild, mean", "mild, worst"]
    header += ["named right, mild", "near AUROC", "far AUROC"]
    rows = []
    for method in results.list_methods(known):
        lines = results.rendered(known, method)
        cells = [
            markdown.format_percent(statistics.fmean(line[share] for line in lines))
            for share in shares
        ]
        cells += [
            markdown.format_percent(_auroc_rendered(results, known, method, unknown))
            for unknown in ((colour.NEAR,), colour.FAR)
        ]
        rows.append([results.study.title(method), *cells])
    return markdown.Table(header, rows)


def _auroc_rendered(
    results: Results, known: str, method: str, unknown: Sequence[str]
) -> float:
    """Mean AUROC over all renderings together."""
    return statistics.fmean(
        row["auroc_full_spectrum"]
        for row in results.found.measurements
        if (row["known"], row["method"]) == (known, method)
        and row["unknown"] in unknown
    )


def _list_splits(results: Results, knowns: Sequence[str]) -> markdown.Table | None:
    """AUROC, FPR95 and accuracy, the mean over known sets and how far they spread."""
    if not any(map(results.list_methods, knowns)):
        return None
    header = [
        "training: score",
        "sets",
        "AUROC",
        "FPR95",
        "over renderings",
        "accuracy",
    ]
    rows = []
    for method in results.study.summary["methods"]:
        measured = [known for known in knowns if method in results.list_methods(known)]
        if not measured:
            continue
        cells = []
        for metric in ("auroc", "fpr95_known_positive"):
            values = []
            for known in measured:
                (unknown,) = results.study.summary["results"][known][method]
                cell = results.study.cell(known, method, unknown, metric)
                values.append(cell["mean"])  # type: ignore[index]
            cells.append(markdown.format_cell(spread(values)))
        over = [
            row["auroc_full_spectrum"]
            for row in results.found.measurements
            if row["method"] == method and row["known"] in measured
        ]
        cells.append(markdown.format_percent(statistics.fmean(over)))
        accuracies = [
            results.study.accuracy(known, method)["mean"]  # type: ignore[index]
            for known in measured
        ]
        cells.append(markdown.format_cell(spread(accuracies)))
        rows.append([results.study.title(method), str(len(measured)), *cells])
    return markdown.Table(header, rows)


def _list_accepted(results: Results, chosen: str | None) -> markdown.Table | None:
    """The near classes that pass most, of the baseline and of the chosen method."""
    if not _is_compared(chosen, results):
        return None
    shares = {
        method: _accepted_by_class(results, method)
        for method in (chosen, colour.BASELINE)
    }
    most = sorted(shares[chosen], key=lambda name: (-shares[chosen][name], name))
    rows = [
        [name, *(markdown.format_percent(of[name]) for of in shares.values())]
        for name in most[:_NUM_CLASSES]
    ]
    header = ["class of CIFAR-100", *map(results.study.title, shares)]
    return markdown.Table(header, rows)


def _accepted_by_class(results: Results, method: str) -> dict[str, float]:
    shares: dict[str, list[float]] = {}
    for row in results.found.classes:
        if (row["known"], row["method"], row["unknown"]) == (
            colour.CIFAR10,
            method,
            colour.NEAR,
        ):
            shares.setdefault(row["class"], []).append(row["accepted"])
    return {name: statistics.fmean(values) for name, values in shares.items()}


def _list_cost(results: Results, known: str) -> markdown.Table:
    """Minutes of each training on a known set."""
    minutes: dict[str, list[Json]] = {}
    for run in results.found.runs:
        if run["known"] == known and run["status"] == "finished":
            minutes.setdefault(run["training"], []).append(run["minutes"])
    rows = [
        [
            name,
            *(
                f"{statistics.fmean(one[part] for one in of_runs):.1f}"
                for part in ("training", "evaluation")
            ),
        ]
        for name, of_runs in minutes.items()
    ]
    return markdown.Table(["training", "minutes of training", "of measuring"], rows)


def _points(value: float) -> str:
    return f"{100 * value:+.2f}"
