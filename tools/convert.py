"""Converts an exported model to files for devices and browsers that decide as it does.

  ood-convert --model=saved_models/mnist/1 --data_dir=DATA --output=edge/mnist
  ood-convert --model=mnist --known=folder:PICTURES --formats=int8 --output=edge/mnist
  ood-convert --model=mnist --data_dir=DATA --formats=browser --output=page

Writes OUTPUT/tflite/FORMAT/model.tflite (float32, float16, dynamic_range: weights in 8
bits, int8: computed in 8 bits, takes uint8 images) and OUTPUT/onnx/model.onnx, each
with its manifest, all with rejection inside. Rounding moves the scores, so the
threshold of each rounded file is calibrated anew, on its own scores of the known
validation images. What changed is printed, and written to OUTPUT/*/parity.json: size,
AUROC and FPR95 beside the SavedModel's, the share of images decided alike, before and
after that, and latency. --formats=browser writes OUTPUT/browser/, a page of static
files for onnxruntime-web and LiteRT.js.
Next: ood-predict --model=OUTPUT/tflite/int8/model.tflite
"""

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "The version folder of a model, or the name of one that comes with the package.",
    required=True,
    flag_values=_FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "A new folder for the files.", required=True, flag_values=_FLAGS
)
_KNOWN = flags.DEFINE_string(
    "known",
    None,
    "The source, of the model's classes, whose known validation images are scored: "
    "those that the model's threshold was chosen on. Without it, the one that the "
    "model was trained with.",
    flag_values=_FLAGS,
)
_UNKNOWN = flags.DEFINE_string(
    "unknown",
    None,
    "Unknown sources, with commas, whose validation images the AUROC and FPR95 of the "
    "report are for. Without it and --known, those that the model was trained with.",
    flag_values=_FLAGS,
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The folder that holds the data sets.", flag_values=_FLAGS
)
app.define_memory(_FLAGS)
_FORMATS = flags.DEFINE_list(
    "formats",
    ["float32", "float16", "dynamic_range", "int8", "onnx"],
    "Which files to write, with commas; browser is one more.",
    flag_values=_FLAGS,
)
_TARGET_ACCEPTANCE = flags.DEFINE_float(
    "target_acceptance",
    None,
    "Share of known images to accept, between 0 and 1; without it, the model's own.",
    flag_values=_FLAGS,
)


def _convert(positional: list[str]) -> None:
    if positional:
        raise ValueError(f"ood-convert takes flags only; received: {positional}")
    path, table = app.load("workflows.conversion").convert(
        model=_MODEL.value,
        output=_OUTPUT.value,
        known=_KNOWN.value,
        unknown=app.split_specs(_UNKNOWN.value),
        data_dir=_DATA_DIR.value,
        formats=_FORMATS.value,
        target_acceptance=_TARGET_ACCEPTANCE.value,
    )
    print(f"{table}\n\nDone: {path}")


def main() -> None:
    """The command `ood-convert`."""
    app.run("ood-convert", __doc__, _FLAGS, _convert)


if __name__ == "__main__":
    main()
