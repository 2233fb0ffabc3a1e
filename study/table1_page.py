"""What the docs say about the study of Table 1, from the files that it wrote."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable

from ood_keras import metrics
from ood_keras.study import (
    markdown,
    omniglot_page,
    table1_findings,
    table1_goals,
    table1_misses,
)
from ood_keras.study import summary as study_summary
from ood_keras.types import Json

# Those that most read for; the others are folded.
_FIRST_MEASURES = ("auroc", "fpr95_known_positive")
OURS = "ours"
# One of each kind, among them the one that meets the most cells of the paper.
_IN_README = (
    "softmax_threshold",
    "mahalanobis",
    "outlier_exposure",
    "extra_class_distances",
    "ours",
    "ours_synthetic",
)
_NOISE = ("uniform_noise", "gaussian_noise")
_SEEN, _SYNTHETIC = "\\*", "†"
_GENERATED = (
    "<!-- Written by `python -m ood_keras.study.write_results` from {folder}; do not "
    "edit. -->"
)


@dataclasses.dataclass(frozen=True)
class Study:
    """A folder that `ood-study` wrote.

    Attributes:
        folder: Its path.
        summary: The content of its `summary.json`.
    """

    folder: pathlib.Path
    summary: Json

    @classmethod
    def read(cls, folder: pathlib.Path) -> "Study":
        """Reads `summary.json`."""
        folder = pathlib.Path(folder)
        return cls(folder, json.loads((folder / "summary.json").read_text()))

    def methods(self, *groups: str) -> list[str]:
        """Names of the methods of some groups, in the order of the tables."""
        return [
            name
            for name, method in self.summary["methods"].items()
            if method["group"] in groups
        ]

    def title(self, method: str) -> str:
        """What a method is called in tables."""
        return self.summary["methods"][method]["title"]

    def training(self, method: str) -> str:
        """The name of a method's training."""
        return self.summary["methods"][method]["training"]

    def first_method(self, training: str) -> str:
        """The method whose worst mistakes a training's `examples.npz` keeps."""
        methods = self.summary["methods"].items()
        return next(name for name, one in methods if one["training"] == training)

    def unknowns(self, known: str) -> list[str]:
        """The unknown sources of a known one, in the paper's order."""
        listed = [
            row["unknown"] for row in study_summary.PAPER_OURS if row["known"] == known
        ]
        for by_unknown in self.summary["results"].get(known, {}).values():
            listed += [name for name in by_unknown if name not in listed]
        return listed

    def cell(
        self,
        known: str,
        method: str,
        unknown: str,
        metric: str,
        seeds: Iterable[int] | None = None,
    ) -> Json | None:
        """`{"mean", "std", "values"}`, or `None` where nothing was measured.

        Of the given seeds alone, unless that is `None`.
        """
        by_unknown = self.summary["results"].get(known, {}).get(method, {})
        cell = by_unknown.get(unknown, {}).get(metric)
        return self._of_seeds(cell, known, method, seeds)

    def accuracy(
        self, known: str, method: str, seeds: Iterable[int] | None = None
    ) -> Json | None:
        """Known accuracy as a cell, or `None`."""
        cell = self.summary["known_accuracy"].get(known, {}).get(method)
        return self._of_seeds(cell, known, method, seeds)

    def _of_seeds(
        self, cell: Json | None, known: str, method: str, seeds: Iterable[int] | None
    ) -> Json | None:
        if cell is None or seeds is None:
            return cell
        by_seed = zip(self.seeds(known, method), cell["values"], strict=True)
        values = [value for seed, value in by_seed if seed in seeds]
        return study_summary.spread(values) if values else None

    def measured(self, known: str, *groups: str) -> list[str]:
        """The methods of some groups that have results."""
        results = self.summary["results"].get(known, {})
        return [method for method in self.methods(*groups) if results.get(method)]

    def seeds(self, known: str, method: str) -> list[int]:
        """The seeds that a method was measured with."""
        return self.summary["seeds"].get(known, {}).get(method, [])

    def num_seeds(self, method: str) -> str:
        """How many seeds a method has, as text; by known set where these differ."""
        counts = {
            known: len(self.seeds(known, method))
            for known in self.summary["results"]
            if self.seeds(known, method)
        }
        if len(set(counts.values())) == 1:
            return str(next(iter(counts.values())))
        return ", ".join(f"{known} {number}" for known, number in counts.items())

    def is_seen(self, known: str, method: str, unknown: str) -> bool:
        """Whether training was shown other images of an unknown source."""
        return unknown in self.summary["seen"].get(known, {}).get(method, [])

    def run_dir(self, known: str, training: str, seed: int = 0) -> pathlib.Path:
        """The folder of one run."""
        return self.folder / known.replace("/", "_") / training / f"seed_{seed}"

    def shows_synthetic(self, method: str) -> bool:
        """Whether training was shown synthetic outliers."""
        training = self.summary["trainings"][self.training(method)]
        return "synthetic" in training["exposure"]

    def exposure(self, known: str, method: str) -> dict[str, int | None]:
        """`{source: number of images or None}` that training was shown."""
        training = self.training(method)
        for seed in self.seeds(known, method):
            path = self.run_dir(known, training, seed) / "run.json"
            if path.is_file():
                run = json.loads(path.read_text())
                data = run.get("run", {}).get("settings", {}).get("data", {})
                return {
                    source: data.get(f"{source}/train", {}).get("images")
                    for source in run["unknown"]
                }
        return {}


def results_page(folder: pathlib.Path, images: pathlib.Path) -> str:
    """Returns the text of `docs/results.md`.

    Args:
        folder: The study's, as the page should name it from the repository's root.
        images: Folder of the pictures; those that are there are shown.
    """
    study = Study.read(folder)
    summary = study.summary
    lines = [
        "# Results of the study of Table 1",
        "",
        _GENERATED.format(folder=folder),
        "",
        *_status(study),
        *_protocol(study),
        *table1_goals.lines(study),
        *table1_findings.lines(study),
        *_counts(study),
        *_methods(study),
    ]
    for known in summary["results"]:
        lines += _known(study, known, images)
    lines += table1_misses.lines(study, images)
    for title, group, base, text in (
        (
            "Ablation",
            "ablation",
            [OURS],
            "One change at a time from the first row, but that the objectosphere term "
            "on features comes with a weight of its own, and that 2 features are shown "
            "without the block, too. Numbers of unknown images are of those trained "
            f"on; the epoch is chosen as everywhere. {_ablated(study)}",
        ),
        (
            "Three times as long",
            "longer",
            ["ours_synthetic", "ours_synthetic_distances"],
            "What training three times as many epochs brings, on the same schedule "
            "drawn out. The baselines were not given as long.",
        ),
        (
            "Other families",
            "other families",
            ["softmax_threshold", OURS],
            "One representative of each other family that the paper's section 2 names. "
            "Entropy, temperature scaling, learned confidence and the one-class SVM "
            "belong to the network of the softmax threshold, trained once more; the "
            "likelihood ratio has no classifier.",
        ),
        (
            "The paper's own recipe",
            "paper",
            [OURS],
            "SGD with learning rate 0.01 and no momentum, as section 3.6 of the paper "
            f"says. {_papers_network(study)}",
        ),
    ):
        lines += _group(study, title, group, base, text)
        if group == "paper":
            lines += markdown.picture(
                images,
                "results_paper_recipe.png",
                "The paper's recipe on validation images, epoch by epoch",
            )
    filters = study.folder.parent / "omniglot_filters.json"
    lines += omniglot_page.lines(filters, study_summary.PAPER_METRICS)
    lines += _linted(study)
    return "\n".join(lines).rstrip() + "\n"


def published_page(folder: pathlib.Path) -> str:
    """Returns the text of `docs/published_table.md`: the paper's cells against ours.

    Args:
        folder: The study's, as the page should name it from the repository's root.
    """
    study = Study.read(folder)
    rows = metrics.paper_table()
    compared = [*table1_misses.ours(study), *study.methods("paper")]
    lines = [
        "# Against the published Table 1, cell by cell",
        "",
        _GENERATED.format(folder=folder),
        "",
        *_status(study),
        'The paper\'s row "Ours" beside the means over our seeds, in percent, with the '
        "difference (ours minus the paper's); how many seeds a method has is in the "
        "first table. ✓: met, rounded to the digits that the paper prints, where a "
        "half never counts for ours; ✗: not met "
        "([what ours misses](results.md#cells-that-are-not-met)"
        f"); {markdown.MISSING}: not measured yet. {_SEEN}: a source that the paper's "
        "training, and every method here that was shown real unknowns, had seen. "
        f"{_SYNTHETIC}: training was shown noise, among its synthetic outliers. With "
        "three times the epochs ours had three times as long as the baselines.",
        "",
        *_counts_lines(study, compared),
    ]
    with_distances = [name for name in compared if name.endswith("_distances")]
    by_outputs = [name for name in compared if name not in with_distances]
    for known in _knowns(rows):
        lines += [f"## Known: {known}", ""]
        lines += _compared(study, known, by_outputs)
        if with_distances:
            lines += [f"### {known}: with distances", ""]
            lines += _compared(study, known, with_distances)
    lines += _baselines(study, rows)
    lines += _impossible(rows)
    return "\n".join(lines).rstrip() + "\n"


def quote(folder: pathlib.Path) -> str:
    """Returns the lines that the README quotes.

    Args:
        folder: The study's, as the page should name it from the repository's root.
    """
    study = Study.read(folder)
    methods = [name for name in _main_methods(study) if name in _IN_README]
    lines = [
        *_status(study),
        "Table 1 of the paper, run again: mean and spread over the seeds, in percent "
        "([all methods and numbers](docs/results.md), [what the columns mean, and what "
        "to beware of](docs/reading_results.md)).",
        "",
        *_overview(study, methods),
    ]
    return "\n".join(lines) + "\n"


def reading_page(folder):
    """Returns the text of `docs/reading_results.md`: every method, and the caveats.

    Args:
        folder: The study's, as the page should name it from the repository's root.
    """
    study = Study.read(folder)
    lines = [
        "# How to read the results",
        "",
        _GENERATED.format(folder=folder),
        "",
        *_status(study),
        *_overview(study, _main_methods(study)),
        "",
        "## What the columns mean",
        "",
        "* **cells met**: a cell is one metric on one unknown test set. It counts as "
        "met if the mean over our seeds, rounded to the digits that the paper prints, "
        "equals or beats the paper's own method; ties in rounding are resolved against "
        "ours. The count without rounding is in brackets.",
        "* **lowest AUROC**: over the unknown test sets from which no method was shown "
        "images, without the two kinds of noise.",
        "",
        "## What the methods are",
        "",
        '* "Ours" is the network with the modified block and the paper\'s loss, scored '
        "by the probability of the unknown class.",
        '* "Extra class" is the same network trained on the same images with plain '
        "cross-entropy.",
        "* With *distances*, the score is the mean of that probability and of the "
        "Mahalanobis distances of all layers, each standardised on known images.",
        "",
        "## What to beware of",
        "",
        "* Methods trained with unknown images saw *training* images from the source "
        "of one of the test sets, so that this test set is not unseen. Noise is among "
        "the synthetic outliers.",
        "* ODIN and Mahalanobis are tuned on validation images of the exposure source.",
        "* The filter by which Omniglot is resized was chosen after looking at test "
        "results; what else test results had a say in is listed in "
        "[the results](results.md).",
        "* All numbers are of images as they were scanned and resized by whoever made "
        "the sets. A classifier that was trained on them may judge how an image was "
        "scanned and not what it shows.",
        *(text for sentence in table1_findings.noise(study) for text in ("", sentence)),
    ]
    return "\n".join(lines) + "\n"


def _overview(study, methods):
    """A table with one row for each method."""
    knowns = list(study.summary["results"])
    rows = []
    for method in methods:
        counted = study.summary["against_paper"].get(method)
        rows.append(
            [
                study.title(method),
                f"{counted['met']} of {counted['cells']} ({counted['met_unrounded']})"
                if counted
                else markdown.MISSING,
                *(_shown(study.accuracy(known, method)) for known in knowns),
                *(_worst_unseen(study, known, method) for known in knowns),
            ]
        )
    header = [
        "method",
        "cells met",
        *(f"accuracy, {known}" for known in knowns),
        *(f"lowest AUROC, {known}" for known in knowns),
    ]
    return markdown.table(header, rows)


def _status(study: Study) -> list[str]:
    """Says which runs are missing, if any are."""
    runs = study.summary["runs"]
    unfinished: dict[str, list[str]] = {}
    for name, run in runs.items():
        if run["status"] != "finished":
            unfinished.setdefault(run["status"], []).append(name)
    if not unfinished:
        return []
    done = len(runs) - sum(map(len, unfinished.values()))
    words = {"partial": "without some of their methods"}
    parts = [
        f"{len(names)} {words.get(status, status)}"
        for status, names in unfinished.items()
    ]
    lines = [
        f"**Partial: {done} of {len(runs)} runs are finished** ({', '.join(parts)}). "
        "Means are over the seeds that are there, which `docs/results.md` lists for "
        "each method; where there is one seed, no spread is given.",
        "",
    ]
    failed = [
        f"* `{name}` failed: {run['error']}"
        for name, run in runs.items()
        if "error" in run
    ]
    return lines + failed + [""] * bool(failed)


def _protocol(study: Study) -> list[str]:
    summary = study.summary
    versions = ", ".join(
        f"{name} {' and '.join(found)}" for name, found in summary["versions"].items()
    )
    lines = ["## How it was measured", ""]
    lines += [f"* **{name}**: {text}" for name, text in summary["protocol"].items()]
    lines += [
        f"* **machine**: {_machine(machine)}" for machine in summary["machines"]
    ] + [
        f"* **versions**: {versions}",
        f"* **time**: {_hours(summary):.0f} hours of a core for all of it",
        f"* **numbers**: percent, mean ± sample standard deviation over the seeds. "
        "Bold, among the main methods: the best mean of a column. "
        f"{_SEEN}: other images of this source were seen in training. "
        f"{_SYNTHETIC}: no image of the test was seen, but synthetic outliers are, and "
        "uniform and Gaussian pixel noise of the same distributions is among them: "
        "such a row counts as seen. ODIN, Mahalanobis and the one-class SVM are tuned "
        "on, though not trained with, the exposure source.",
        "",
        "[The files and the command](study_files.md), "
        "[every cell against the paper's](published_table.md).",
        "",
    ]
    return lines


def _hours(summary: Json) -> float:
    runs = summary["runs"].values()
    return sum(sum(run.get("minutes", {}).values()) for run in runs) / 60


def _machine(machine: Json | str) -> str:
    if isinstance(machine, str):
        return machine
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def _counts(study: Study) -> list[str]:
    return [
        "## Cells that meet or beat the paper",
        "",
        *_counts_lines(study, study.methods("main", "longer", "paper")),
    ]


def _counts_lines(study: Study, methods: list[str]) -> list[str]:
    rows = []
    for method in methods:
        counted = study.summary["against_paper"].get(method)
        if counted:
            rows.append(
                [
                    study.title(method),
                    study.num_seeds(method),
                    *(
                        str(counted[key])
                        for key in ("cells", "measured", "met", "met_unrounded")
                    ),
                ]
            )
    header = ["method", "seeds", "cells", "measured", "met", "met without rounding"]
    return [*markdown.table(header, rows), ""]


def _known(study: Study, known: str, images: pathlib.Path) -> list[str]:
    methods = study.measured(known, "main")
    if not methods:
        return []
    lines = [f"## Known: {known}", "", *_trained(study, known, methods)]
    for metric in _FIRST_MEASURES:
        lines += [f"### {known}: {_heading(metric)}", ""]
        lines += _matrix(study, known, methods, metric, published=True)
    others = [
        metric
        for metric in study_summary.PAPER_METRICS
        if metric not in _FIRST_MEASURES
    ]
    names = ", ".join(metrics.get(metric).title for metric in others)
    lines += ["<details>", f"<summary>{known}: {names}</summary>", ""]
    for metric in others:
        lines += [f"### {known}: {_heading(metric)}", ""]
        lines += _matrix(study, known, methods, metric, published=True)
    lines += ["</details>", ""]
    stem = f"results_{known.replace('/', '_')}"
    for name, text in (
        ("features", "2-D features without and with the block; cross: the origin"),
        ("without_block_roc", "Without the block: ROC of each unknown"),
        ("without_block_density", "Without the block: confidence and score"),
        ("ours_roc", "Ours: ROC of each unknown"),
        ("ours_density", "Ours: confidence and score of known and unknown images"),
        ("ours_grid", "Ours: features, ROC and density of each unknown"),
    ):
        lines += markdown.picture(images, f"{stem}_{name}.png", f"{known}. {text}")
    return lines


def _methods(study: Study) -> list[str]:
    methods = _main_methods(study)
    return ["## The methods", "", *_described(study, methods)] if methods else []


def _main_methods(study: Study) -> list[str]:
    """Those that are measured on any known set."""
    return [
        method
        for method in study.methods("main")
        if any(
            method in study.measured(known, "main")
            for known in study.summary["results"]
        )
    ]


def _described(study: Study, methods: list[str]) -> list[str]:
    """A table of what the methods are."""
    rows = [[study.title(method), _description(study, method)] for method in methods]
    return [*markdown.table(["method", "what it is"], rows, num_texts=2), ""]


def _trained(study: Study, known: str, methods: list[str]) -> list[str]:
    """A table of what the methods were shown of one known set, and learnt of it."""
    rows = [
        [
            study.title(method),
            _exposed(study.exposure(known, method)),
            ", ".join(map(str, study.seeds(known, method))),
            _shown(study.accuracy(known, method)),
        ]
        for method in methods
    ]
    header = ["method", "unknowns in training", "seeds", "known accuracy"]
    return [*markdown.table(header, rows, num_texts=3), ""]


def _description(study: Study, method: str) -> str:
    """How a method is trained, and how it scores."""
    training = study.summary["trainings"][study.training(method)]["description"]
    score = study.summary["methods"][method]["description"]
    return "; ".join(dict.fromkeys(text for text in (training, score) if text))


def _group(study, title, group, base, text):
    """One section: a table of each known set, with rows to compare with first."""
    lines = []
    for known in study.summary["results"]:
        measured = study.measured(known, group)
        if not measured:
            continue
        first = [
            method for method in base if method in study.measured(known, "main", group)
        ]
        methods = first + [method for method in measured if method not in first]
        if group == "other families":
            lines += _described(study, measured) + _trained(study, known, measured)
        # The rows to compare with have more seeds, which would make theirs a mean.
        seeds = {seed for method in measured for seed in study.seeds(known, method)}
        lines += [
            f"On {known}, all rows with "
            f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))}.",
            "",
        ]
        for metric in _FIRST_MEASURES:
            lines += [f"### {known}: {_heading(metric)}", ""]
            lines += _matrix(
                study, known, methods, metric, seeds=seeds, with_accuracy=True
            )
    return [f"## {title}", "", text, "", *lines] if lines else []


def _ablated(study: Study) -> str:
    """What the first row of the ablation has of all that the others change."""
    recipe = next(iter(study.summary["trainings"][OURS]["recipe"].values()))
    shown = {
        "beta": ("beta", "N / (N + 1)"),
        "gamma": ("gamma", "0.9"),
        "objectosphere_weight": ("lambda", "0"),
        "objectosphere_on": ("objectosphere term on", ""),
        "unknown_weight": ("weight of an unknown image in the loss", "1/N"),
        "feature_size": ("features", ""),
        "unknown_images": ("unknown images", "all"),
        "unknown_per_epoch": ("unknown images an epoch", "known ones / N"),
    }
    values = [
        f"{words} {default if recipe[field] is None else recipe[field]}"
        for field, (words, default) in shown.items()
        if field in recipe
    ]
    return f"That one has the modified block; {', '.join(values)}."


def _papers_network(study: Study) -> str:
    """What the paper's recipe differs in from ours besides the optimizer."""
    (method,) = study.methods("paper")
    trained = study.summary["trainings"][study.training(method)]
    recipe = next(iter(trained["recipe"].values()))
    return (
        "What differs from ours in the tables is not the optimizer alone: the network "
        f"has stages of {', '.join(map(str, recipe['filters']))} filters and "
        f"{recipe['hidden_size']} hidden units, augmentation is "
        f"{recipe['augment'] or 'none'}, weight decay {recipe['weight_decay']:g}."
    )


def _matrix(
    study, known, methods, metric, *, seeds=None, published=False, with_accuracy=False
):
    """Methods in rows, unknown sources in columns."""
    unknowns = study.unknowns(known)
    cells = {
        (method, unknown): study.cell(known, method, unknown, metric, seeds)
        for method in methods
        for unknown in unknowns
    }
    rows = []
    for method in methods:
        row = [_labelled(study, known, method, seeds)]
        if with_accuracy:
            row.append(_shown(study.accuracy(known, method, seeds)))
        synthetic = study.shows_synthetic(method)
        for unknown in unknowns:
            column = [cells[other, unknown] for other in methods]
            cell = cells[method, unknown]
            text = _shown(cell)
            # Elsewhere, with one seed a row, the best says nothing.
            is_best = cell and _rounded(cell) == _best(column, metric)
            if published and is_best:
                text = f"**{text}**"
            if cell and synthetic and unknown in _NOISE:
                text += _SYNTHETIC
            elif study.is_seen(known, method, unknown):
                text += _SEEN
            row.append(text)
        rows.append(row)
    if published:
        paper = {
            row["unknown"]: row
            for row in study_summary.PAPER_OURS
            if row["known"] == known
        }
        if paper:
            rows.append(
                ['*the paper\'s "Ours"*']
                + [
                    f"{paper[u][metric]}{_SEEN * paper[u]['seen']}"
                    if u in paper
                    else markdown.MISSING
                    for u in unknowns
                ]
            )
    header = ["method", *["accuracy"] * with_accuracy, *unknowns]
    return [*markdown.table(header, rows), ""]


def _heading(metric: str) -> str:
    measure = metrics.get(metric)
    return f"{measure.title} {measure.arrow} ({measure.description})"


def _labelled(study, known, method, wanted=None):
    """The title, with the seeds where some are missing of those wanted.

    Wanted are as many as any method has, unless they are given.
    """
    seeds = study.seeds(known, method)
    if wanted is None:
        missing = len(seeds) < max(
            len(study.seeds(known, other)) for other in study.measured(known, "main")
        )
    else:
        seeds = [seed for seed in seeds if seed in wanted]
        missing = len(seeds) < len(wanted)
    title = study.title(method)
    if not missing:
        return title
    return f"{title} (seed {', '.join(map(str, seeds))} only)"


def _exposed(exposure: dict[str, int | None]) -> str:
    return (
        ", ".join(
            f"{number:,} {source}" if number else source
            for source, number in exposure.items()
        )
        or "none"
    )


def _shown(cell: Json | None) -> str:
    if cell is None or cell["mean"] is None:
        return markdown.MISSING
    mean = markdown.percent(cell["mean"])
    return mean if cell["std"] is None else f"{mean} ± {markdown.percent(cell['std'])}"


def _rounded(cell: Json) -> float:
    return round(100 * cell["mean"], 2)


def _best(cells, metric):
    means = [_rounded(cell) for cell in cells if cell]
    return max(means) if metrics.get(metric).higher_is_better else min(means)


def _worst_unseen(study: Study, known: str, method: str) -> str:
    """The same columns for all methods, else their minima could not be compared."""
    cells = [
        study.cell(known, method, unknown, "auroc")
        for unknown in study.unknowns(known)
        if unknown not in _NOISE
        and not any(
            study.is_seen(known, other, unknown) for other in study.methods("main")
        )
    ]
    cells = [cell for cell in cells if cell]
    return _shown(min(cells, key=lambda cell: cell["mean"], default=None))  # type: ignore[index]


def _knowns(rows: Iterable[Json]) -> list[str]:
    return list(dict.fromkeys(row["known"] for row in rows))


def _compared(study: Study, known: str, methods: list[str]) -> list[str]:
    """A table of the paper's cells of one known set beside those of some methods."""
    cells = []
    for row in study_summary.PAPER_OURS:
        if row["known"] != known:
            continue
        for metric in study_summary.PAPER_METRICS:
            name = row["unknown"] + (_SEEN if row["seen"] else "")
            cells.append(
                [name, metrics.get(metric).title, row[metric]]
                + [
                    _against(study, known, method, row["unknown"], metric, row)
                    for method in methods
                ]
            )
    header = ["unknown", "metric", "paper", *map(study.title, methods)]
    return [*markdown.table(header, cells, num_texts=2), ""]


def _against(study, known, method, unknown, metric, row):
    cell = study.cell(known, method, unknown, metric)
    if cell is None:
        return markdown.MISSING
    missed = {
        (miss["known"], miss["unknown"], miss["metric"])
        for miss in study.summary["against_paper"][method]["missed"]
    }
    mark = "✗" if (known, unknown, metric) in missed else "✓"
    if unknown in _NOISE and study.shows_synthetic(method):
        mark = _SYNTHETIC + mark
    value = 100 * cell["mean"]
    return f"{value:.2f} ({value - float(row[metric]):+.2f}) {mark}"


def _baselines(study, rows):
    """The baselines as the paper has them and as they came out here."""
    lines = [
        "## The baselines, as published and as measured",
        "",
        "The paper does not say how its baselines were trained or where their numbers "
        "come from. Here they share network, schedule and known images with ours; what "
        "each was shown besides, and how its epoch was chosen, is in the "
        "[results](results.md), and so is what was measured where the paper has no "
        "row. In percent.",
        "",
    ]
    table = []
    for row in rows:
        method = row["detector"]
        if row in study_summary.PAPER_OURS:
            continue
        name = [row["known"], row["unknown"], method.replace("_", " ")]
        table.append(
            [
                *name,
                "published",
                *(row[m] or markdown.MISSING for m in study_summary.PAPER_METRICS),
            ]
        )
        cells = [
            study.cell(row["known"], method, row["unknown"], m)
            for m in study_summary.PAPER_METRICS
        ]
        if any(cells):
            table.append([*name, "measured", *map(_shown, cells)])
    header = [
        "known",
        "unknown",
        "baseline",
        "",
        *(metrics.get(m).title for m in study_summary.PAPER_METRICS),
    ]
    return [*lines, *markdown.table(header, table, num_texts=4), ""]


def _impossible(rows):
    found = metrics.check_consistency(
        {
            f"{row['known']}, {row['unknown']}, {row['detector']}": {
                metric: row[metric] for metric in study_summary.PAPER_METRICS
            }
            for row in rows
        },
        unit="percent",
    )
    by_row = {}
    for one in found:
        values = ", ".join(
            f"{metrics.get(name).title} {value}" for name, value in one.values.items()
        )
        by_row.setdefault(one.where, []).append(f"{values}, but always `{one.rule}`")
    return [
        "## Published cells that cannot be right",
        "",
        f"{len(by_row)} rows of the published table break relations that hold for any "
        "detector on any data; `metrics.check_consistency` finds them. All are "
        "baselines. Values are as printed, in percent, relations in fractions. A "
        "detection error above 50 % is wrong by itself: guessing does better. Where "
        "numbers contradict each other, which one is wrong cannot be told from the "
        "table.",
        "",
        *(f"* {where}: {'; '.join(texts)}" for where, texts in by_row.items()),
    ]


def _linted(study: Study) -> list[str]:
    found = study.summary["inconsistencies"]
    return [
        "## Consistency",
        "",
        *(
            [f"* {text}" for text in found]
            or [
                "`metrics.check_consistency` finds no numbers here that contradict "
                "each other."
            ]
        ),
    ]
