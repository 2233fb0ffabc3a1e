"""Converts an exported model to files for devices and browsers that decide as it does.

  ood-convert --model=mnist --data_dir=DATA --output=edge/mnist
  ood-convert --model=mnist --known=folder:PICTURES --formats=int8 --output=edge/mnist
  ood-convert --model=mnist --data_dir=DATA --formats=browser --output=page

Writes OUTPUT/tflite/FORMAT/model.tflite (float32, float16, dynamic_range: weights in 8
bits, int8: computed in 8 bits, takes uint8 images) and OUTPUT/onnx/model.onnx, each
with its manifest, all with rejection inside. Rounding moves the scores, so the
threshold of each rounded file is calibrated anew, on its own scores of the known
validation images, rendered as those were that the model's own was chosen on. What
changed is printed, and written to OUTPUT/*/parity.json: size,
AUROC and FPR95 beside the SavedModel's, the share of images decided alike, before and
after that, and latency. --formats=browser writes OUTPUT/browser/, a page of static
files for onnxruntime-web and LiteRT.js.
Next: ood-predict --model=OUTPUT/tflite/int8/model.tflite
"""

from ood_keras.inference.file_formats import CHOICES
from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_string(
    "model",
    "The version folder of a model, or the name of one that comes with the package.",
    required=True,
)
_FLAGS.add_output("output", "A new folder for the files.", required=True)
_FLAGS.add_string(
    "known",
    "The source, of the model's classes, whose known validation images are scored, as "
    "they are. Without it, the one that the model was trained with; its images, named "
    "here too, are rendered as those were that the threshold was chosen on.",
)
_FLAGS.add_specs(
    "unknown",
    "Unknown sources, with commas, whose validation images the AUROC and FPR95 of the "
    "report are for. Without it and --known, those that the model was trained with.",
)
_FLAGS.add_data_dir()
_FLAGS.add_list(
    "formats",
    "Which files to write, with commas; browser is one more.",
    [*CHOICES],
)
_FLAGS.add_float(
    "target_acceptance",
    "Share of known images to accept, between 0 and 1; without it, the model's own.",
)


def _convert() -> None:
    path, table = app.load("workflows.conversion").convert(**_FLAGS.read_arguments())
    print(f"{table}\n\nDone: {path}")


def main() -> None:
    """The command `ood-convert`."""
    app.run("ood-convert", __doc__, _FLAGS, _convert)


if __name__ == "__main__":
    main()
