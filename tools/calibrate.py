"""Chooses a new threshold for an exported model, without training or exporting again.

  ood-calibrate --model=DIR/1 --known=folder:PICTURES --target_acceptance=0.99

Scores the known validation images with the exported model itself and writes the next
version beside it, with only the threshold, the manifest and the parity report changed.
Use it when the known images of the place where a model runs differ from those it was
trained on, or when another share of them should be accepted. They must be of the
model's classes: PICTURES has one folder for each, of the same name.

With --scores no image is read: the threshold is chosen on answers that the same model
gave before, of any number of images in constant memory:

  ood-predict --model=DIR/1 --output=answers/ --shards=100 KNOWN_PICTURES/
  ood-calibrate --model=DIR/1 --scores=answers/ --target_acceptance=0.99

The flags on thresholds are those of ood-export; --per_class takes a model that was
exported with it.
"""

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_string("model", "The version folder of a model.", required=True)
_FLAGS.add_string("known", "The source whose known validation images are scored.")
_FLAGS.add_string(
    "scores",
    "In place of --known: Parquet files of answers on known images, or folders of "
    "them, separated by commas, that ood-predict wrote with this model.",
)
_FLAGS.add_string(
    "unknown_scores",
    "With --scores, in place of --unknown: the same of unknown images.",
)
_FLAGS.add_data_dir()
_FLAGS.add_specs(
    "unknown",
    "Unknown sources, separated by commas, whose validation images are scored: they "
    "say what each of --operating_points lets in, and --method=lowest_cost needs them.",
)
_FLAGS.add_thresholds()


def _calibrate() -> None:
    if (_FLAGS.known is None) == (_FLAGS.scores is None):
        raise ValueError(
            "give --known, images to score, or --scores, answers that are there already"
        )
    workflow = app.load("workflows.calibration")
    read_flags = app.load("workflows.thresholds").read_flags
    if _FLAGS.scores is None:
        if _FLAGS.unknown_scores is not None:
            raise ValueError(
                "--unknown_scores goes with --scores; with --known, --unknown"
            )
        arguments = read_flags(_FLAGS.read_arguments("scores", "unknown_scores"))
        path, threshold = workflow.calibrate(**arguments)
    else:
        if _FLAGS["unknown"].present:
            raise ValueError(
                "--unknown goes with --known; with --scores, --unknown_scores"
            )
        arguments = read_flags(_FLAGS.read_arguments("known", "unknown", "data_dir"))
        for name in ("scores", "unknown_scores"):
            arguments[name] = [p for p in (arguments[name] or "").split(",") if p]
        path, threshold, found = workflow.calibrate_on_scores(**arguments)
        print(found)
    promises = app.load("workflows.promises")
    print(f"{promises.describe_thresholds(path, threshold)}\n\nDone: {path}")


def main() -> None:
    """The command `ood-calibrate`."""
    app.run("ood-calibrate", __doc__, _FLAGS, _calibrate)


if __name__ == "__main__":
    main()
