"""What an evaluation found, and how it is written down."""

import dataclasses
import io
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ood_keras import files, names
from ood_keras.calibration import Threshold
from ood_keras.evaluation import (
    examples,
    figures,
    page,
    rendering_figures,
    verdict,
)
from ood_keras.evaluation.scoring import Scored
from ood_keras.evaluation.table import format_table
from ood_keras.evaluation.under_renderings import UnderRenderings, describe
from ood_keras.types import Json, Path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of `evaluate`.

    Printing it shows the table of `format_table`.

    Attributes:
        metrics: The content of `metrics.json`: fractions, by source and detector.
        known: What was kept of the known test images.
        unknown: `{source: Scored}`, what was kept of the unknown test images.
        validation: `{"known": {detector: ood_score}, "unknown": {...}}`, or empty.
        validation_predictions: `{"known": classes, "unknown": classes}`, the known
            class with the largest logit; or empty.
        validation_metrics: `{detector: metrics}` on validation data, or empty.
        thresholds: `{detector: Threshold}`, chosen by `calibration.choose` on the known
            validation images, or on the known test images if there are no others. With
            the former, `ood-export` takes the same unless told otherwise.
        class_names: Names of the known classes, or `None`.
        protocol: What the caller said about the run.
        under_renderings: What was measured of test images in other renderings, or
            `None`.
        strange: Rows of rejected pictures with what is strange in them, `{title:
            (images, captions)}`; `ood-evaluate` and `ood-adopt` add them. Or empty.
    """

    metrics: Json
    known: Scored
    unknown: dict[str, Scored]
    validation: dict[str, dict[str, np.ndarray]]
    validation_metrics: dict[str, dict[str, float]]
    thresholds: dict[str, Threshold]
    validation_predictions: dict[str, np.ndarray] = dataclasses.field(
        default_factory=dict
    )
    class_names: Sequence[str] | None = None
    protocol: Json = dataclasses.field(default_factory=dict)
    under_renderings: UnderRenderings | None = None
    strange: dict[str, tuple[np.ndarray, list[str]]] = dataclasses.field(
        default_factory=dict
    )

    def __str__(self) -> str:
        return "\n\n".join([format_table(self.metrics), *self.rendering_sentences()])

    def rendering_sentences(self) -> list[str]:
        """What renderings do to the selected detector; `[]` if not measured."""
        if self.under_renderings is None:
            return []
        selected = self.metrics["selected_detector"]
        return describe(self.metrics["renderings"]["detectors"][selected])

    @property
    def verdict(self) -> verdict.Verdict:
        """Whether the selected detector may be used at its threshold, and why."""
        selected = self.metrics["selected_detector"]
        rows = self.metrics["detectors"][selected]["unknown"]
        renderings = self.metrics.get("renderings")
        return verdict.judge(
            verdict.count(
                labels=self.known.labels,
                predictions=self.known.predictions,
                accepted=self._accepts(None, selected),
                unknown={
                    source: (self._accepts(source, selected), rows[source])
                    for source in self.unknown
                },
                # One that was chosen on the test images keeps its promise there.
                threshold=self.threshold if self.validation else None,
                renderings=renderings and renderings["detectors"][selected],
            )
        )

    @property
    def threshold(self) -> Threshold:
        """That of the selected detector."""
        return self.thresholds[self.metrics["selected_detector"]]

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """The arrays of `scores.npz`, by name.

        * `known/DETECTOR`, `unknown/SOURCE/DETECTOR`, `validation/known/DETECTOR`,
          `validation/unknown/DETECTOR`: `ood_score`, float32.
        * `labels/known`: int32; `predictions/known`, `predictions/unknown/SOURCE`,
          `predictions/validation/known`, `predictions/validation/unknown`: int32, the
          known class with the largest logit.
        * `confidence/known`, `confidence/unknown/SOURCE`: float32, the largest
          probability of a known class.
        * What `UnderRenderings.arrays` lists, if renderings were measured.

        Every array has the order of its data set. SOURCE may hold slashes. In the file,
        names are as `ood_keras.names.valid` writes them.
        """
        arrays = {"labels/known": self.known.labels.astype(np.int32)}
        tests = {"known": self.known}
        tests |= {f"unknown/{source}": data for source, data in self.unknown.items()}
        for name, data in tests.items():
            arrays[f"predictions/{name}"] = data.predictions.astype(np.int32)
            arrays[f"confidence/{name}"] = data.confidence
            arrays |= {f"{name}/{key}": scores for key, scores in data.scores.items()}
        for role, scores in self.validation.items():
            arrays |= {f"validation/{role}/{key}": v for key, v in scores.items()}
        if self.under_renderings is not None:
            arrays |= self.under_renderings.arrays
        for role, classes in self.validation_predictions.items():
            arrays[f"predictions/validation/{role}"] = classes.astype(np.int32)
        return arrays

    def figures(self) -> "dict[str, Figure]":
        """The pictures of the selected detector: `{name: matplotlib Figure}`."""
        selected = self.metrics["selected_detector"]
        rows = self.metrics["detectors"][selected]["unknown"]
        seen = [source for source, row in rows.items() if row["seen"]]
        known_scores = self.known.scores[selected]
        unknown_scores = {s: data.scores[selected] for s, data in self.unknown.items()}
        known_features = self.known.sample["features"]
        known_labels = self.known.labels[self.known.sample["index"]]
        unknown_features = {
            source: data.sample["features"] for source, data in self.unknown.items()
        }
        drawn = {
            "roc": figures.roc(known_scores, unknown_scores, seen=seen),
            "density": figures.density(
                known_scores,
                unknown_scores,
                known_confidence=self.known.confidence,
                unknown_confidence={s: d.confidence for s, d in self.unknown.items()},
                threshold=self.threshold.value,
                seen=seen,
            ),
            "features_2d": figures.features_2d(
                known_features,
                known_labels,
                unknown_features,
                class_names=self.class_names,
            ),
            "examples": figures.pictures(
                examples.mistake_rows(
                    examples.worst_mistakes(self, selected),
                    self.threshold.value,
                    self.class_names,
                )
            ),
            "grid": figures.grid(
                known_scores,
                unknown_scores,
                known_features,
                known_labels,
                unknown_features,
                threshold=self.threshold.value,
                seen=seen,
                class_names=self.class_names,
            ),
        }
        if self.strange:
            drawn["strange"] = figures.pictures(self.strange)
        if self.under_renderings is not None:
            drawn["renderings"] = rendering_figures.acceptance(
                self.metrics["renderings"]["detectors"][selected],
                self.under_renderings.pictures,
            )
        return drawn

    def save(self, run_dir: Path) -> None:
        """Writes the report into a folder, each file whole or not at all.

        Args:
            run_dir: Receives `scores.npz`, `figures/*.png`, `report.html` and, last,
                `metrics.json`: where that exists, the others do.

        Raises:
            OSError: the folder cannot be written.
        """
        run_dir = pathlib.Path(run_dir)
        with files.atomic_file(run_dir / "scores.npz") as path:
            kept = {names.valid(key): value for key, value in self.scores.items()}
            files.write_arrays(path, kept)
        images = {}
        for name, figure in self.figures().items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png")
            images[name] = buffer.getvalue()
            with files.atomic_file(run_dir / "figures" / f"{name}.png") as path:
                path.write_bytes(images[name])
        files.write_text(run_dir / "report.html", page.render(self, images))
        files.write_json(run_dir / "metrics.json", self.metrics)

    def accepted(self, source: str | None = None, detector: str | None = None) -> float:
        """Share of test images at or below a detector's threshold.

        Of known ones and of the selected detector by default.
        """
        return float(np.mean(self._accepts(source, detector)))

    def rejected(self, source: str | None = None, detector: str | None = None) -> float:
        """Share of test images above a detector's threshold, as `accepted`."""
        return float(np.mean(~self._accepts(source, detector)))

    def _accepts(self, source: str | None, detector: str | None) -> np.ndarray:
        detector = detector or self.metrics["selected_detector"]
        data = self.known if source is None else self.unknown[source]
        return self.thresholds[detector].accepts(data.scores[detector])
