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

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_string(
    "model",
    "The network: a .keras or .h5 file, a SavedModel folder, a folder that "
    "save_to_preset of KerasHub wrote, or an unpacked .keras file, as Keras keeps "
    "networks on the Hugging Face Hub. A file that would run code on loading (a Lambda "
    "layer) is refused.",
    required=True,
)
_FLAGS.add_string(
    "known", "The source of known pictures, mostly folder:PATH.", required=True
)
_FLAGS.add_specs(
    "unknown",
    "The sources of unknown pictures, separated by commas: things that the network "
    "will meet and was not trained on. Their validation part selects the detector, "
    "their test part measures it.",
)
_FLAGS.add_output("output", "A new folder for everything.", required=True)
_FLAGS.add_data_dir()
_FLAGS.add_string(
    "input_range",
    "What black and white are for the network: 0,1 or 0,255 or -1,1 or any LOW,HIGH, "
    "or imagenet_torch or imagenet_caffe (as keras.applications preprocess them). "
    "Default: found, by its layers or by trial.",
)
_FLAGS.add_list(
    "image_shape",
    "HEIGHT,WIDTH,CHANNELS of the images, where the network does not say.",
)
_FLAGS.add_background()
_FLAGS.add_string(
    "logits", "The output that classifies, by name, where the network has several."
)
_FLAGS.add_list(
    "other_inputs",
    "NAME=NUMBER for each input other than the picture, where the network has several, "
    "such as age=0.5: what it is given with every picture.",
)
_FLAGS.add_list(
    "class_names",
    "The classes of --known in the order of the network's outputs. Default: the order "
    "of the folders, which is checked.",
)
_FLAGS.add_bool(
    "unknown_class", "The last output of the network is of an unknown class."
)
_FLAGS.add_list(
    "detectors",
    "The detectors to compare, separated by commas: names of detectors, "
    "mahalanobis_normalized or relative_mahalanobis_normalized (features of length 1, "
    "which suit photographs). Default: all that fit.",
)
_FLAGS.add_float(
    "target_acceptance",
    "Share of known images to accept, between 0 and 1. Default: 0.95.",
)
_FLAGS.add_string(
    "method",
    "How the threshold is chosen: conformal, which promises something of new images, "
    "or quantile. Default: conformal.",
)
_FLAGS.add_list(
    "formats",
    "What to write beside the SavedModel: some of float32, float16, dynamic_range, "
    "int8 (TFLite), onnx and browser (a page). Default: all whose extras are "
    "installed.",
)
_FLAGS.add_renderings()
_FLAGS.add_exported()


def _adopt() -> None:
    workflow = app.load("workflows.adoption.adopt")
    adopted = workflow.adopt(**_FLAGS.read_arguments())
    print(f"\n{adopted}\nNext:\n  ood-predict --model={adopted.saved_model} IMAGE...")


def main() -> None:
    """The command `ood-adopt`."""
    app.run("ood-adopt", __doc__, _FLAGS, _adopt)


if __name__ == "__main__":
    main()
