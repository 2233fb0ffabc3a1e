"""The pictures of the study of Table 1, from its committed scores and examples."""

import csv
import pathlib
from typing import Any

import numpy as np

from ood_keras import evaluation, files
from ood_keras.evaluation import examples, figures, style
from ood_keras.study import table1_misses
from ood_keras.study.study_results import StudyResults
from ood_keras.study.table1_page import OURS
from ood_keras.types import Json


def draw(folder: pathlib.Path, images: pathlib.Path) -> list[pathlib.Path]:
    """Draws every picture whose data is there.

    Args:
        folder: The study's folder.
        images: Receives `results_*.png`.

    Returns:
        The paths that were written.
    """
    study = StudyResults.read(folder)
    written = []

    def save(name, figure):
        with files.atomic_file(images / f"results_{name}.png") as path:
            figure.savefig(path)
        written.append(images / f"results_{name}.png")

    for known in study.summary["results"]:
        stem = known.replace("/", "_")
        for name, method in (
            ("ours", OURS),
            ("without_block", _find_without_block(study)),
        ):
            for kind, figure in _draw_method(study, known, method).items():  # type: ignore[arg-type]
                if name == "ours" or kind in ("roc", "density"):
                    save(f"{stem}_{name}_{kind}", figure)
        for method in table1_misses.ours(study):
            figure = _draw_mistakes(study, known, method)
            if figure is not None:
                save(f"{stem}_{method}_mistakes", figure)
        networks = _find_2d_features(study, known)
        if networks:
            save(f"{stem}_features", figures.features_compared(networks))
    curves = _read_paper_curves(study)
    if curves:
        # The method's title says whether training was cut short.
        title = ", ".join(map(study.title, study.methods("paper")))
        save("paper_recipe", figures.training_curve(curves, title=title))
    return written


def _find_without_block(study: StudyResults) -> str | None:
    """The ablation in which only the block is gone, or `None`."""
    return _find_method(study, {"block": "none"})


def _find_method(study: StudyResults, changes: Json) -> str | None:
    for method in study.methods("ablation"):
        training = study.summary["trainings"][study.training(method)]
        if training["changes"] == changes:
            return method
    return None


def _draw_method(study: StudyResults, known: str, method: str) -> dict[str, Any]:
    """`{name: Figure}` of seed 0 of one method; empty without its scores."""
    run_dir = _run_dir(study, known, method)
    if run_dir is None or not (run_dir / "scores.npz").is_file():
        return {}
    with np.load(run_dir / "scores.npz", allow_pickle=False) as arrays:
        known_scores = arrays[f"known/{method}"]
        unknown_scores = {
            source: arrays[f"unknown/{source}/{method}"]
            for source in study.unknowns(known)
            if f"unknown/{source}/{method}" in arrays
        }
    seen = [s for s in unknown_scores if study.is_seen(known, method, s)]
    drawn = {"roc": figures.roc(known_scores, unknown_scores, seen=seen)}
    kept = _load_examples(run_dir)
    if kept is None:
        drawn["density"] = figures.density(known_scores, unknown_scores, seen=seen)
        return drawn
    common = {"threshold": kept["threshold"], "seen": seen}
    sets = {source: kept["unknown"][source] for source in unknown_scores}
    drawn["density"] = figures.density(
        known_scores,
        unknown_scores,
        known_confidence=kept["known"]["confidence"],
        unknown_confidence={s: one["confidence"] for s, one in sets.items()},
        **common,
    )
    drawn["grid"] = figures.grid(
        known_scores,
        unknown_scores,
        kept["known"]["features"],
        kept["known"]["feature_labels"],
        {source: one["features"] for source, one in sets.items()},
        what=kept["plane"],
        class_names=kept["class_names"],
        **common,
    )
    return drawn


def _draw_mistakes(study: StudyResults, known: str, method: str) -> Any:
    """Seed 0's worst rejected and accepted images, or `None` without its examples."""
    is_first = method == study.first_method(study.training(method))
    name = "examples" if is_first else f"examples_{method}"
    kept = _load_examples(_run_dir(study, known, method), name)
    if kept is None:
        return None
    mistakes = {"known": kept["known"]}
    mistakes |= {
        f"unknown/{source}": kept["unknown"][source]
        for source in study.unknowns(known)
        if source in kept["unknown"]
    }
    return figures.pictures(
        examples.mistake_rows(mistakes, kept["threshold"], kept["class_names"])
    )


def _run_dir(study: StudyResults, known: str, method: str) -> pathlib.Path | None:
    """The folder of seed 0, or `None` if that is not among the results.

    A run of another recipe than the grid's has a folder, but no place in the tables.
    """
    if 0 not in study.seeds(known, method):
        return None
    return study.run_dir(known, study.training(method))


def _load_examples(run_dir: pathlib.Path | None, name: str = "examples") -> Json | None:
    if run_dir is None or not (run_dir / f"{name}.npz").is_file():
        return None
    return evaluation.load_examples(run_dir / f"{name}.npz")


def _find_2d_features(study: StudyResults, known: str) -> dict[str, tuple]:
    """The networks with two features, by what stands in the block's place."""
    networks = {}
    for block, title in style.BLOCKS.items():
        for method in study.summary["methods"]:
            training = study.summary["trainings"][study.training(method)]
            recipe = training["recipe"].get(known, {})
            if recipe.get("feature_size") != 2 or recipe.get("block") != block:
                continue
            kept = _load_examples(_run_dir(study, known, method))
            if kept is None or title in networks:
                continue
            networks[title] = (
                kept["known"]["features"],
                kept["known"]["feature_labels"],
                _select_seen(study, known, method, kept["unknown"]),
            )
    return networks


def _select_seen(study: StudyResults, known: str, method: str, unknown: Json) -> Json:
    """Features of the sources that the paper draws: those that training had seen.

    Of all sources if it had seen none.
    """
    seen = {
        source: data["features"]
        for source, data in unknown.items()
        if study.is_seen(known, method, source)
    }
    return seen or {source: data["features"] for source, data in unknown.items()}


def _read_paper_curves(study: StudyResults) -> dict[str, tuple]:
    """Validation FPR95 and error of the paper's recipe, epoch by epoch."""
    curves = {}
    for known in study.summary["results"]:
        for method in study.methods("paper"):
            run_dir = _run_dir(study, known, method)
            if run_dir is None or not (run_dir / "history.csv").is_file():
                continue
            with (run_dir / "history.csv").open() as file:
                rows = list(csv.DictReader(file))
            epochs = [int(row["epoch"]) for row in rows]
            for label, value in (
                ("FPR95", lambda row: float(row["val_fpr95_known_positive"])),
                ("known images misread", lambda r: 1 - float(r["val_known_accuracy"])),
            ):
                curves[f"{known}: {label}"] = epochs, list(map(value, rows))
    return curves
