"""What the docs say about the study of Table 1: the values of each page's template."""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

from ood_keras import metrics
from ood_keras.study import (
    markdown,
    omniglot_page,
    table1_findings,
    table1_goals,
    table1_misses,
    table1_tables,
)
from ood_keras.study import summary as study_summary
from ood_keras.study.study_results import StudyResults
from ood_keras.types import Json

# Those that most read for; the others are folded.
_FIRST_METRICS = ("auroc", "fpr95_known_positive")
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
# What the rows of a group are compared with.
_BASES = {
    "ablation": (OURS,),
    "longer": ("ours_synthetic", "ours_synthetic_distances"),
    "other families": ("softmax_threshold", OURS),
    "paper": (OURS,),
}
# Fields of a recipe as the ablation names them, and what `None` stands for.
_ABLATED = {
    "beta": ("beta", "N / (N + 1)"),
    "gamma": ("gamma", "0.9"),
    "objectosphere_weight": ("lambda", "0"),
    "objectosphere_on": ("objectosphere term on", ""),
    "unknown_weight": ("weight of an unknown image in the loss", "1/N"),
    "feature_size": ("features", ""),
    "unknown_images": ("unknown images", "all"),
    "unknown_per_epoch": ("unknown images an epoch", "known ones / N"),
}


def results_page(folder: pathlib.Path, images: pathlib.Path) -> str:
    """Returns the text of `docs/results.md`.

    Args:
        folder: The study's, as the page should name it from the repository's root.
        images: Folder of the pictures; those that are there are shown.
    """
    study = StudyResults.read(folder)
    summary = study.summary
    counted = study.methods("main", "longer", "paper")
    methods = table1_tables.main_methods(study)
    filters = study.folder.parent / "omniglot_filters.json"
    return markdown.render(
        "results",
        folder=folder,
        status=_find_unfinished(study),
        protocol=summary["protocol"],
        machines=[_describe_machine(machine) for machine in summary["machines"]],
        versions=summary["versions"],
        core_hours=_count_core_hours(summary),
        goals=table1_goals.table(study),
        findings=table1_findings.find(study),
        counts=table1_tables.counts(study, counted),
        methods=table1_tables.descriptions(study, methods) if methods else None,
        knowns=[
            _describe_known(study, known)
            for known in summary["results"]
            if study.measured_methods(known, "main")
        ],
        misses=table1_misses.find(study),
        groups={group: _describe_group(study, group) for group in _BASES},
        ablated=_describe_base(study),
        paper_recipe=_find_paper_recipe(study),
        omniglot=omniglot_page.read(filters, study_summary.PAPER_METRICS),
        inconsistencies=summary["inconsistencies"],
        picture=functools.partial(markdown.show_picture, images),
    )


def published_page(folder: pathlib.Path) -> str:
    """Returns the text of `docs/published_table.md`: the paper's cells against ours.

    Args:
        folder: The study's, as the page should name it from the repository's root.
    """
    study = StudyResults.read(folder)
    published = metrics.paper_table()
    compared = [*table1_misses.ours(study), *study.methods("paper")]
    with_distances = [name for name in compared if name.endswith("_distances")]
    by_outputs = [name for name in compared if name not in with_distances]
    return markdown.render(
        "published_table",
        folder=folder,
        status=_find_unfinished(study),
        counts=table1_tables.counts(study, compared),
        comparisons={
            known: {
                "by_outputs": table1_tables.against_paper(study, known, by_outputs),
                "with_distances": table1_tables.against_paper(
                    study, known, with_distances
                )
                if with_distances
                else None,
            }
            for known in dict.fromkeys(row["known"] for row in published)
        },
        baselines=table1_tables.baselines(study, published),
        impossible=_find_impossible(published),
    )


def quote(folder: pathlib.Path) -> str:
    """Returns the lines that the README quotes.

    Args:
        folder: The study's, as the page should name it from the repository's root.
    """
    study = StudyResults.read(folder)
    methods = [name for name in table1_tables.main_methods(study) if name in _IN_README]
    return markdown.render(
        "readme",
        status=_find_unfinished(study),
        overview=table1_tables.overview(study, methods),
    )


def reading_page(folder: pathlib.Path) -> str:
    """Returns the text of `docs/reading_results.md`: every method, and the caveats.

    Args:
        folder: The study's, as the page should name it from the repository's root.
    """
    study = StudyResults.read(folder)
    methods = table1_tables.main_methods(study)
    return markdown.render(
        "reading_results",
        folder=folder,
        status=_find_unfinished(study),
        overview=table1_tables.overview(study, methods),
        findings=table1_findings.find(study),
    )


def _find_unfinished(study: StudyResults) -> Json:
    """How many runs there are, which are not finished, and what failed."""
    runs = study.summary["runs"]
    unfinished: dict[str, int] = {}
    for run in runs.values():
        if run["status"] != "finished":
            unfinished[run["status"]] = unfinished.get(run["status"], 0) + 1
    return {
        "total": len(runs),
        "finished": len(runs) - sum(unfinished.values()),
        "unfinished": unfinished,
        "errors": {name: run["error"] for name, run in runs.items() if "error" in run},
    }


def _count_core_hours(summary: Json) -> float:
    runs = summary["runs"].values()
    return sum(sum(run.get("minutes", {}).values()) for run in runs) / 60


def _describe_machine(machine: Json | str) -> str:
    if isinstance(machine, str):
        return machine
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def _describe_known(study: StudyResults, known: str) -> Json:
    """The tables of the main methods on one known set."""
    methods = study.measured_methods(known, "main")
    others = [
        name for name in study_summary.PAPER_METRICS if name not in _FIRST_METRICS
    ]

    def tables(names: Sequence[str]) -> dict[str, markdown.Table]:
        return {
            name: table1_tables.main_matrix(study, known, methods, name)
            for name in names
        }

    return {
        "name": known,
        "stem": f"results_{known.replace('/', '_')}",
        "training_data": table1_tables.training_data(study, known, methods),
        "first": tables(_FIRST_METRICS),
        "others": tables(others),
        "other_titles": [metrics.get(name).title for name in others],
        "intervals": table1_tables.intervals(study, known, methods),
    }


def _describe_group(study: StudyResults, group: str) -> list[Json]:
    """The tables of one group, by known set; rows to compare with come first."""
    parts = []
    for known in study.summary["results"]:
        methods = study.measured_methods(known, group)
        if not methods:
            continue
        there = study.measured_methods(known, "main", group)
        first = [method for method in _BASES[group] if method in there]
        rows = first + [method for method in methods if method not in first]
        # The rows to compare with have more seeds, which would make theirs a mean.
        seeds = sorted(
            {seed for method in methods for seed in study.seeds(known, method)}
        )
        parts.append(
            {
                "known": known,
                "seeds": seeds,
                "descriptions": table1_tables.descriptions(study, methods),
                "training_data": table1_tables.training_data(study, known, methods),
                "tables": {
                    metric: table1_tables.matrix_of_seeds(
                        study, known, rows, metric, seeds
                    )
                    for metric in _FIRST_METRICS
                },
            }
        )
    return parts


def _describe_base(study: StudyResults) -> list[str]:
    """What the first row of the ablation has of all that the others change."""
    recipe = next(iter(study.summary["trainings"][OURS]["recipe"].values()))
    return [
        f"{words} {default if recipe[field] is None else recipe[field]}"
        for field, (words, default) in _ABLATED.items()
        if field in recipe
    ]


def _find_paper_recipe(study: StudyResults) -> Json | None:
    """The recipe of the paper's own training, `None` where the study has none."""
    for method in study.methods("paper"):
        trained = study.summary["trainings"][study.training(method)]
        return next(iter(trained["recipe"].values()))
    return None


def _find_impossible(published: Sequence[Json]) -> dict[str, list[Any]]:
    """`{row: contradictions}` of the published table."""
    by_row: dict[str, list[Any]] = {}
    for one in metrics.check_consistency(
        {
            f"{row['known']}, {row['unknown']}, {row['detector']}": {
                metric: row[metric] for metric in study_summary.PAPER_METRICS
            }
            for row in published
        },
        unit="percent",
    ):
        values = [f"{metrics.get(name).title} {v}" for name, v in one.values.items()]
        by_row.setdefault(one.where, []).append({"values": values, "rule": one.rule})
    return by_row
