"""What an adoption gives: a network that rejects, and what was found on the way."""

import pathlib
from collections.abc import Sequence

import keras

from ood_keras import detectors as detector_room
from ood_keras import evaluation
from ood_keras import export as exporting
from ood_keras.calibration.any_threshold import AnyThreshold
from ood_keras.types import Json


class Adopted(exporting.RejectingModel):
    """A Keras model that rejects what it does not know, and what was found on the way.

    A `keras.Model`: `predict`, a call, or a layer of another model give what the
    SavedModel gives; see `export.RejectingModel`. It takes its attributes as keyword
    arguments.

    Attributes:
        model: The network as a Keras model that takes images in [0, 1]; the network
            itself, if it takes these.
        detector: The selected detector, fitted on `model`; it scores images in [0, 1],
            and uint8 ones.
        threshold: What it accepts, a `calibration.Threshold`.
        class_names: Names of the known classes, by class id.
        report: The `evaluation.Report`.
        found: What the command learnt of the network, plain JSON values, as
            `adoption.json` holds them.
        run_dir: The run, for `ood-evaluate`, `ood-export` and their kind.
        saved_model: The version folder of the SavedModel.
        files: `{format: file}` of the other formats.
        left_out: `{format or detector: why it is not there}`.
    """

    def __init__(
        self,
        *,
        model: keras.Model,
        detector: "detector_room.Detector",
        threshold: AnyThreshold,
        class_names: Sequence[str],
        report: "evaluation.Report",
        found: Json,
        run_dir: pathlib.Path,
        saved_model: pathlib.Path,
        files: dict[str, pathlib.Path],
        left_out: dict[str, str],
    ) -> None:
        super().__init__(detector, threshold, class_names, name="adopted")
        self.model = model
        self.detector = detector
        self.threshold = threshold
        self.class_names = tuple(class_names)
        self.report = report
        self.found = found
        self.run_dir = run_dir
        self.saved_model = saved_model
        self.files = files
        self.left_out = left_out

    def as_keras_model(self) -> keras.Model:
        """Returns this model, for code of before it was a Keras model itself."""
        return self

    def __str__(self) -> str:
        """What a user wants to know first, lines to print."""
        lines = [str(self.report), "", str(self.threshold)]
        promise = self.found["promise"]
        lines.append(
            f"Checked: of {promise['pictures']:,} known pictures that it was chosen "
            f"on, given to the export as files, {promise['accepted_as_files']:.1%} are "
            "accepted."
        )
        if self.left_out:
            lines += ["", "Left out:"]
            lines += [f"  {name}: {why}" for name, why in self.left_out.items()]
        lines += [f"\nNote: {note}" for note in self.found["notes"]]
        if self.found["verdict"]:
            lines += ["", evaluation.verdict.format_json(self.found["verdict"])]
        lines += [
            "",
            f"Pictures and all detectors: {self.run_dir}/report.html",
            f"Model: {self.saved_model}",
        ]
        return "\n".join(lines)
