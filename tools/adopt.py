"""Makes a Keras network that was trained elsewhere reject what it does not know.

  ood-adopt --model=my.keras --known=folder:photos/known --output=adopted/mine
  ood-adopt --model=my.keras --known=folder:photos/known --output=adopted/mine \
      --unknown=folder:photos/other

Nothing is trained, and the network stays as it is. --known holds pictures of just the
classes that it was trained on, a sub-folder for each; best in the sub-folders train,
validation and test, the latter two with pictures that it was not trained on: the
threshold is chosen on validation pictures. All detectors that fit the network are
fitted on the training pictures and compared on validation pictures, known and unknown;
without --unknown on outliers made from the known ones, which say less about real other
things.

What the network takes is found and checked on labelled pictures: pixels from 0 to 255,
-1 to 1, ..., by its layers, by the preprocessor of a KerasHub task, or by trial; so is
the order of its classes. Softmax, logits, one sigmoid (two classes), several (one per
class) and cosine heads will do. In the end the pictures that the threshold was chosen
on go through the exported model as files, and must be accepted at about the promised
rate.

OUTPUT receives what a run has (report.html, metrics.json, ...), saved_model/1, and, as
far as their extras are installed, tflite/, onnx/ and browser/, a page to serve;
adoption.json says what was found, and why a detector or format is not there.
Next: ood-predict --model=OUTPUT/saved_model/1
"""

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "The network: a .keras or .h5 file, a SavedModel folder, or a folder that "
    "save_to_preset of KerasHub wrote. A file that would run code on loading (a Lambda "
    "layer) is refused.",
    required=True,
    flag_values=_FLAGS,
)
_KNOWN = flags.DEFINE_string(
    "known",
    None,
    "The source of known pictures, mostly folder:PATH.",
    required=True,
    flag_values=_FLAGS,
)
_UNKNOWN = flags.DEFINE_string(
    "unknown",
    None,
    "The sources of unknown pictures, separated by commas: things that the network "
    "will meet and was not trained on. Their validation part selects the detector, "
    "their test part measures it.",
    flag_values=_FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "A new folder for everything.", required=True, flag_values=_FLAGS
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The folder that holds the data sets.", flag_values=_FLAGS
)
app.define_memory(_FLAGS)
_INPUT_RANGE = flags.DEFINE_string(
    "input_range",
    None,
    "What black and white are for the network: 0,1 or 0,255 or -1,1 or any LOW,HIGH, "
    "or imagenet_torch or imagenet_caffe (as keras.applications preprocess them). "
    "Default: found, by its layers or by trial.",
    flag_values=_FLAGS,
)
_IMAGE_SHAPE = flags.DEFINE_list(
    "image_shape",
    None,
    "HEIGHT,WIDTH,CHANNELS of the images, where the network does not say.",
    flag_values=_FLAGS,
)
_BACKGROUND = flags.DEFINE_string(
    "background",
    "white",
    "What transparent pixels of picture files are laid on: white, black, or a grey "
    "level from 0 to 255.",
    flag_values=_FLAGS,
)
_LOGITS = flags.DEFINE_string(
    "logits",
    None,
    "The output that classifies, by name, where the network has several.",
    flag_values=_FLAGS,
)
_CLASS_NAMES = flags.DEFINE_list(
    "class_names",
    None,
    "The classes of --known in the order of the network's outputs. Default: the order "
    "of the folders, which is checked.",
    flag_values=_FLAGS,
)
_UNKNOWN_CLASS = flags.DEFINE_bool(
    "unknown_class",
    False,
    "The last output of the network is of an unknown class.",
    flag_values=_FLAGS,
)
_DETECTORS = flags.DEFINE_list(
    "detectors",
    None,
    "The detectors to compare, separated by commas. Default: all that fit.",
    flag_values=_FLAGS,
)
_TARGET_ACCEPTANCE = flags.DEFINE_float(
    "target_acceptance",
    None,
    "Share of known images to accept, between 0 and 1. Default: 0.95.",
    flag_values=_FLAGS,
)
_METHOD = flags.DEFINE_string(
    "method",
    None,
    "How the threshold is chosen: conformal, which promises something of new images, "
    "or quantile. Default: conformal.",
    flag_values=_FLAGS,
)
_FORMATS = flags.DEFINE_list(
    "formats",
    None,
    "What to write beside the SavedModel: some of float32, float16, dynamic_range, "
    "int8 (TFLite), onnx and browser (a page). Default: all whose extras are "
    "installed.",
    flag_values=_FLAGS,
)
_RENDERINGS = flags.DEFINE_enum(
    "renderings",
    "short",
    ["none", "short", "full"],
    "Renderings of the test images to measure; see ood-evaluate.",
    flag_values=_FLAGS,
)
_read_export = app.define_export(_FLAGS)


def _adopt(positional: list[str]) -> None:
    if positional:
        raise ValueError(f"ood-adopt takes flags only; received: {positional}")
    adopted = app.load("workflows.adoption.adopt").adopt(
        _MODEL.value,
        _KNOWN.value,
        app.split_specs(_UNKNOWN.value),
        output=_OUTPUT.value,
        data_dir=_DATA_DIR.value,
        image_shape=_IMAGE_SHAPE.value,
        background=_BACKGROUND.value,
        input_range=_INPUT_RANGE.value,
        logits=_LOGITS.value,
        class_names=_CLASS_NAMES.value,
        unknown_class=_UNKNOWN_CLASS.value,
        detectors=_DETECTORS.value,
        target_acceptance=_TARGET_ACCEPTANCE.value,
        method=_METHOD.value,
        formats=_FORMATS.value,
        renderings=_RENDERINGS.value,
        **_read_export(),
    )
    print(f"\n{adopted}")
    print(f"\n{app.describe_verdict(adopted.saved_model)}")
    print(
        f"\nPictures and all detectors: {adopted.run_dir}/report.html\nNext:\n"
        f"  ood-predict --model={adopted.saved_model} IMAGE..."
    )


def main() -> None:
    """The command `ood-adopt`."""
    app.run("ood-adopt", __doc__, _FLAGS, _adopt)


if __name__ == "__main__":
    main()
