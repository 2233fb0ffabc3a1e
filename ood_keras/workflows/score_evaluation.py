"""Measures answers that a model gave already, of any number of images."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from ood_keras import export as exporting
from ood_keras import files
from ood_keras.conventions import percent
from ood_keras.evaluation import score_files
from ood_keras.metrics.score_sketch import ScoreSketch
from ood_keras.types import Json, Path


@dataclasses.dataclass(frozen=True)
class Answers:
    """What one kind of images got for answers.

    Attributes:
        scores: How many images have a score.
        left_out: How many have none: no readable image, or no finite answer.
        accepted: How many the model accepted, by the threshold of the answers.
        metrics: Of unknown images: `{name: (value, low, high)}`; the exact metric lies
            between `low` and `high` for certain. Empty of known images.
    """

    scores: int
    left_out: int
    accepted: int
    metrics: Mapping[str, tuple[float, float, float]] = dataclasses.field(
        default_factory=dict
    )

    def __str__(self) -> str:
        share = percent(self.accepted / self.scores) if self.scores else "none"
        lines = [
            f"{self.scores:,} scores, {self.left_out:,} images without one; "
            f"{share} accepted"
        ]
        lines += [
            f"  {name:<24}{value:.5f}  (exactly: from {low:.5f} to {high:.5f})"
            for name, (value, low, high) in self.metrics.items()
        ]
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class ScoreReport:
    """Metrics of answers on disk, with their error; `str()` is what a command prints.

    Attributes:
        model_sha256: The digest of the manifest of the model that gave the answers.
        known: Of known images, `Answers`.
        unknown: `{name: Answers}` of each kind of unknown images.
    """

    model_sha256: str
    known: Answers
    unknown: Mapping[str, Answers]

    def to_json(self) -> Json:
        """The same as plain JSON values; a metric is `{"value", "low", "high"}`."""
        return {
            "model_sha256": self.model_sha256,
            "known": _as_json(self.known),
            "unknown": {name: _as_json(each) for name, each in self.unknown.items()},
        }

    def __str__(self) -> str:
        parts = {"known": self.known, **self.unknown}
        return "\n".join(f"{name}: {each}" for name, each in parts.items())


def evaluate_scores(
    *,
    scores: Sequence[Path],
    unknown_scores: Mapping[str, Sequence[Path]],
    model: Path | None = None,
    output: Path | None = None,
) -> ScoreReport:
    """Measures answers that a model gave, a part at a time, in constant memory.

    Args:
        scores: Parquet files of answers on known test images, or folders of them, that
            `ood-predict` wrote; see `score_files.read`.
        unknown_scores: `{name: the same of one kind of unknown images}`.
        model: The exported model that the answers must be of, or `None` to take those
            of any, but one.
        output: A JSON file to write the report to, or `None`.

    Returns:
        The `ScoreReport`. Each metric is that of a `metrics.ScoreSketch`, with the
        bounds between which the exact one lies.

    Raises:
        FileNotFoundError, ImportError: as `score_files.read`.
        ValueError: no unknown images, answers of several models or of another one, or
            no scores at all; or as `score_files.read`.

    Example:

    >>> report = workflows.evaluate_scores(
    ...     scores=["answers/known"], unknown_scores={"kmnist": ["answers/kmnist"]}
    ... )
    >>> report.unknown["kmnist"].metrics["auroc"]
    (0.9934, 0.9933, 0.9935)
    """
    if not unknown_scores:
        raise ValueError(
            "metrics compare known with unknown images: give answers on unknown images "
            "too, as --unknown_scores=NAME=FOLDER"
        )
    found = score_files.read(scores)
    read = {name: score_files.read((), paths) for name, paths in unknown_scores.items()}
    (digest,) = check_model(
        found.models.union(*(each.models for each in read.values())), model
    )
    report = ScoreReport(
        model_sha256=digest,
        known=Answers(
            found.sketch.num_known, found.left_out["known"], found.accepted["known"]
        ),
        unknown={
            name: Answers(
                each.sketch.num_unknown,
                each.left_out["unknown"],
                each.accepted["unknown"],
                _measure(found.sketch, each.sketch, name),
            )
            for name, each in read.items()
        },
    )
    if output is not None:
        files.write_json(pathlib.Path(output), report.to_json())
    return report


def split_named(texts: Iterable[str]) -> dict[str, list[str]]:
    """Reads `NAME=PATH` texts, for `unknown_scores`; paths of one name go together.

    A text without a name is called as its file or folder is.

    >>> split_named(["kmnist=answers/1", "kmnist=answers/2", "answers/noise"])
    {'kmnist': ['answers/1', 'answers/2'], 'noise': ['answers/noise']}

    Raises:
        ValueError: there is a name without a path.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals:
            name, path = pathlib.PurePath(text).stem, text
        if not (name and path):
            raise ValueError(
                "answers on unknown images are given as NAME=PATH, such as "
                f"kmnist=answers/kmnist. Received: {text!r}"
            )
        found.setdefault(name, []).append(path)
    return found


def check_model(models: frozenset[str], model: Path | None) -> frozenset[str]:
    """Returns the one digest that answers are of, or raises.

    Args:
        models: What `score_files.read` found.
        model: The exported model that they must be of, or `None` for any.

    Raises:
        ValueError: they are of several models, or of another one.
    """
    received = ", ".join(sorted(one[:12] for one in models))
    if model is not None:
        digest = exporting.load(model).manifest["manifest_sha256"]
        if models != {digest}:
            raise ValueError(
                f"the answers are not those of {model}: expected the model with the "
                f"SHA-256 {digest[:12]} of its manifest, received {received}. A new "
                "version has a new manifest: score the images with the version that "
                "you give"
            )
    if len(models) != 1:
        raise ValueError(
            "scores of several models cannot be compared. Expected answers of one "
            f"model, received those of the manifests {received}. Score all images with "
            "the same version"
        )
    return models


def _measure(
    known: ScoreSketch, unknown: ScoreSketch, name: str
) -> dict[str, tuple[float, float, float]]:
    sketch = ScoreSketch(known.counts).merge(unknown)
    for role, count in (("known", sketch.num_known), (name, sketch.num_unknown)):
        if not count:
            raise ValueError(f"no image of {role} has a score, so nothing is measured")
    intervals = sketch.intervals()
    return {
        metric: (value, *intervals[metric])
        for metric, value in sketch.evaluate().items()
    }


def _as_json(answers: Answers) -> Json:
    return {
        **dataclasses.asdict(answers),
        "metrics": {
            name: dict(zip(("value", "low", "high"), values, strict=True))
            for name, values in answers.metrics.items()
        },
    }
