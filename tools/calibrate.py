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

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_MODEL = flags.DEFINE_string(
    "model", None, "The version folder of a model.", required=True, flag_values=_FLAGS
)
_KNOWN = flags.DEFINE_string(
    "known",
    None,
    "The source whose known validation images are scored.",
    flag_values=_FLAGS,
)
_SCORES = flags.DEFINE_string(
    "scores",
    None,
    "In place of --known: Parquet files of answers on known images, or folders of "
    "them, separated by commas, that ood-predict wrote with this model.",
    flag_values=_FLAGS,
)
_UNKNOWN_SCORES = flags.DEFINE_string(
    "unknown_scores",
    None,
    "With --scores, in place of --unknown: the same of unknown images.",
    flag_values=_FLAGS,
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The folder that holds the data sets.", flag_values=_FLAGS
)
app.define_memory(_FLAGS)
_UNKNOWN = flags.DEFINE_string(
    "unknown",
    None,
    "Unknown sources, separated by commas, whose validation images are scored: they "
    "say what each of --operating_points lets in, and --method=lowest_cost needs them.",
    flag_values=_FLAGS,
)
_read_threshold = app.define_threshold(_FLAGS)


def _calibrate(positional: list[str]) -> None:
    if positional:
        raise ValueError(f"ood-calibrate takes flags only; received: {positional}")
    if (_KNOWN.value is None) == (_SCORES.value is None):
        raise ValueError(
            "give --known, images to score, or --scores, answers that are there already"
        )
    if _SCORES.value is not None:
        _calibrate_on_scores()
        return
    if _UNKNOWN_SCORES.value is not None:
        raise ValueError("--unknown_scores goes with --scores; with --known, --unknown")
    path, threshold = app.load("workflows.calibration").calibrate(
        model=_MODEL.value,
        known=_KNOWN.value,
        data_dir=_DATA_DIR.value,
        unknown=app.split_specs(_UNKNOWN.value),
        **_read_threshold(),
    )
    print(f"{app.describe_thresholds(path, threshold)}\n\nDone: {path}")


def _calibrate_on_scores() -> None:
    if _UNKNOWN.value is not None:
        raise ValueError("--unknown goes with --known; with --scores, --unknown_scores")
    path, threshold, found = app.load("workflows.calibration").calibrate_on_scores(
        model=_MODEL.value,
        scores=_split(_SCORES.value),
        unknown_scores=_split(_UNKNOWN_SCORES.value),
        **_read_threshold(),
    )
    sketch = found.sketch
    left_out = found.left_out["known"] + found.left_out["unknown"]
    print(
        f"Read {sketch.num_known:,} known and {sketch.num_unknown:,} unknown scores; "
        f"{left_out:,} rows have none.\n"
        f"{app.describe_thresholds(path, threshold)}\n\nDone: {path}"
    )


def _split(text: str | None) -> list[str]:
    return [path for path in (text or "").split(",") if path]


def main() -> None:
    """The command `ood-calibrate`."""
    app.run("ood-calibrate", __doc__, _FLAGS, _calibrate)


if __name__ == "__main__":
    main()
