"""The thresholds that a command is asked for, and their choice."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ood_keras import calibration
from ood_keras.calibration.any_threshold import AnyThreshold
from ood_keras.conventions import check_fraction, check_number
from ood_keras.metrics import ScoreSketch
from ood_keras.types import Json

# What a threshold method may ask for, beside the scores of known images, and what to do
# where there is none.
_DATA = {
    "unknown_scores": "scores of unknown validation images, of which there are none",
    "predicted_classes": "the classes that are predicted for known validation images, "
    "which this run did not keep: evaluate it again with ood-evaluate",
    "num_classes": "the number of classes",
}
_PER_CLASS = "conformal_per_class"
_SETTINGS = ("prior_unknown", "cost_false_accept", "cost_false_reject")


@dataclasses.dataclass(frozen=True)
class ThresholdRequest:
    """Which threshold a model is to decide by, and which others it is to offer.

    Args:
        target_acceptance: Share of known images to accept, in (0, 1); `None` takes
            `calibration.TARGET_ACCEPTANCE`.
        method: Name of a threshold method, see `calibration.names`; `None`: see
            `calibration.choose`.
        operating_points: `{name: target acceptance}`: other thresholds to offer, each
            chosen by `method` if it needs known scores alone, else by
            `calibration.choose`.
        prior_unknown: Share of the images to come that are unknown, in (0, 1), for the
            method "lowest_cost".
        cost_false_accept: Cost of accepting an unknown image, for the same.
        cost_false_reject: Cost of rejecting a known image, for the same.

    Raises:
        ValueError: there is no such method, it needs what is not given or does not take
            what is, a number is out of range, or a name is none.
    """

    target_acceptance: float | None = None
    method: str | None = None
    operating_points: Mapping[str, float] = dataclasses.field(default_factory=dict)
    prior_unknown: float | None = None
    cost_false_accept: float | None = None
    cost_false_reject: float | None = None

    def __post_init__(self) -> None:
        if self.method is not None:
            calibration.get(self.method)
        for name in ("target_acceptance", "prior_unknown"):
            if getattr(self, name) is not None:
                check_fraction(name, getattr(self, name))
        for name in ("cost_false_accept", "cost_false_reject"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), "(0, inf)")
        for name, target in self.operating_points.items():
            if not isinstance(name, str) or not name.strip():
                raise ValueError(
                    "an operating point needs a name, such as strict in strict=0.9. "
                    f"Received: {name!r}"
                )
            check_fraction(f"the target acceptance of operating point {name!r}", target)
        parameters = self._parameters()
        takers = [
            name
            for name in calibration.names()
            if "prior_unknown" in inspect.signature(calibration.get(name)).parameters
        ]
        for name in ("target_acceptance", *_SETTINGS):
            if getattr(self, name) is not None and name not in parameters:
                raise ValueError(
                    f"the threshold method {self.method or 'conformal'!r} takes no "
                    f"{name}. Leave it out"
                    + (
                        ""
                        if name == "target_acceptance"
                        else f", or give method={', '.join(takers)}"
                    )
                )
        missing = [
            name
            for name, parameter in parameters.items()
            if parameter.default is parameter.empty
            and name not in ("known_scores", "target_acceptance", *_DATA)
            and getattr(self, name, None) is None
        ]
        if missing:
            raise ValueError(
                f"the threshold method {self.method!r} needs {', '.join(missing)}"
                + (
                    ": the share of the images to come that are unknown, such as "
                    "--prior_unknown=0.1"
                    if missing == ["prior_unknown"]
                    else ", which no command has"
                )
            )

    @property
    def needs(self) -> set[str]:
        """What it asks for of "unknown_scores", "predicted_classes", "num_classes"."""
        return {
            name
            for name, parameter in self._parameters().items()
            if name in _DATA and parameter.default is parameter.empty
        }

    def choose(
        self,
        known_scores: np.ndarray | ScoreSketch,
        unknown_scores: np.ndarray | None = None,
        predicted_classes: np.ndarray | None = None,
        num_classes: int | None = None,
        of_class: Sequence[ScoreSketch] = (),
    ) -> tuple[AnyThreshold, dict[str, calibration.Threshold]]:
        """Chooses the thresholds on the scores of validation images.

        Args:
            known_scores: `ood_score`s of known images `(num_known,)`, higher means more
                likely unknown; or a `metrics.ScoreSketch` of these and, if there are
                any, of the scores of unknown images.
            unknown_scores: The same of unknown images, or `None`.
            predicted_classes: Integers `(num_known,)`, the known class with the largest
                logit, or `None`.
            num_classes: Number of known classes, or `None`.
            of_class: In place of `predicted_classes`, a sketch of the known scores of
                each class.

        Returns:
            `(threshold, operating_points)`: the `Threshold` to decide by, or the
            `ClassThresholds`; and `{name: Threshold}`, whose guarantees say too how
            many of the unknown images each accepts, if there are such scores.

        Raises:
            ValueError: the method needs what is not there, or as the method.
        """
        target = self.target_acceptance
        target = calibration.TARGET_ACCEPTANCE if target is None else target
        if unknown_scores is not None and not len(unknown_scores):
            unknown_scores = None
        # A sketch has them with it, if it has any.
        with_it: set[str] = set()
        if isinstance(known_scores, ScoreSketch) and known_scores.num_unknown:
            with_it = {"unknown_scores"}
        if of_class:
            with_it |= {"predicted_classes"}
        offered: dict[str, Any] = {
            "unknown_scores": unknown_scores,
            "predicted_classes": predicted_classes,
            "num_classes": num_classes,
            "target_acceptance": target,
            **{name: getattr(self, name) for name in _SETTINGS},
        }
        for name in sorted(self.needs):
            if offered[name] is None and name not in with_it:
                raise ValueError(
                    f"the threshold method {self.method!r} needs {_DATA[name]}"
                )
        if self.method is None:
            threshold = calibration.choose(known_scores, target)
        else:
            given = {
                name: offered[name]
                for name in self._parameters()
                if offered.get(name) is not None or name in with_it
            }
            is_split = bool(of_class) and "predicted_classes" in self.needs
            threshold = calibration.get(self.method)(
                of_class if is_split else known_scores, **given
            )
            if isinstance(threshold, calibration.Threshold):
                threshold.check_promise(known_scores)
        return threshold, {
            name: self._offer(
                known_scores, unknown_scores, wanted, "unknown_scores" in with_it
            )
            for name, wanted in self.operating_points.items()
        }

    def _offer(self, known_scores, unknown_scores, target, with_it):
        """The threshold of an operating point; its guarantee says what it lets in."""
        of_known = self.method in calibration.names(of_known_scores=True)
        method = self.method if of_known else None
        threshold = calibration.choose(known_scores, target, method)
        if unknown_scores is None and not with_it:
            return threshold
        (point,) = calibration.operating_points(
            known_scores, unknown_scores, (target,), threshold.method
        )
        return dataclasses.replace(threshold, guarantee=str(point))

    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        method = calibration.get(self.method or "conformal")
        return inspect.signature(method).parameters


def read_flags(values: Json) -> Json:
    """Makes arguments of a workflow of the flags of a command on thresholds.

    Args:
        values: Flags by name; among them `method`, `per_class`, short for the method
            "conformal_per_class", and `operating_points`, "strict=0.9,lenient=0.99".

    Returns:
        The same without `per_class`, and with `operating_points` as a dict.

    Raises:
        ValueError: `per_class` is given with another method, or `operating_points`
            does not give a number to each name.
    """
    arguments = {name: value for name, value in values.items() if name != "per_class"}
    if values["per_class"]:
        if values["method"] not in (None, _PER_CLASS):
            raise ValueError(
                f"--per_class is --method={_PER_CLASS}. Received with it: "
                f"--method={values['method']}; give one of them"
            )
        arguments["method"] = _PER_CLASS
    arguments["operating_points"] = _split_points(values["operating_points"])
    return arguments


def _split_points(text: str | None) -> dict[str, float]:
    """Reads "strict=0.9,lenient=0.99"."""
    points: dict[str, float] = {}
    for part in () if text is None else text.split(","):
        name, _, target = part.rpartition("=")
        name = name.strip()
        try:
            number = float(target)
        except ValueError:
            number = None
        if not name or number is None:
            raise ValueError(
                "--operating_points takes names and shares of known images to accept, "
                f"such as strict=0.9,lenient=0.99. Received: {text!r}"
            )
        if name in points:
            raise ValueError(f"--operating_points names {name!r} twice: {text!r}")
        points[name] = number
    return points
