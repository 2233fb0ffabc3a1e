"""Classifies images with an exported model, or rejects them.

  ood-predict --model=saved_models/mnist/1 PATH...
  ood-predict --model=saved_models/mnist/1 --output=answers.csv PICTURES/

A PATH is a PNG or JPEG file; an IDX or a TFRecord file, packed by gzip or zlib or not;
a folder, which is searched at any depth; or a glob in quotes. Files are recognised by
their bytes, whatever they are called. There may be any number of images: they pass in
constant memory. Files of other kinds in folders are left out, and counted at the end.

Prints one line per image: the class, or __unknown__ when the model rejects the image;
its ood_score (higher means more likely unknown); and whether there was an image at all.
With --explain=DIR it also draws what is strange about the images that it rejects.
With --output the answers go to a file, and a run that was stopped goes on where it was
when the same command is given again. A file that cannot be read is a row that says so.

With --shards the output is a folder of Parquet parts, made side by side by --workers
processes or, with --engine=ray, by a cluster; see docs/guides/scale.md:

  ood-predict --model=DIR/1 --output=answers/ --shards=1000 --workers=8 PICTURES/

The model is a version folder, a TFLite or an ONNX file, or the name of a model that
comes with the package. TFLite files need ai-edge-litert and no TensorFlow.
"""

from typing import Any

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "The version folder of a model, model.tflite, model.onnx, or the name of a model "
    "that comes with the package.",
    required=True,
    flag_values=_FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "A new file for the answers: FILE.csv, FILE.jsonl (JSON lines) or FILE.parquet; "
    "with --shards, a folder.",
    flag_values=_FLAGS,
)
app.define_shards(_FLAGS)
_PROBABILITIES = flags.DEFINE_bool(
    "probabilities",
    False,
    "Write the probability of each class to the output too.",
    flag_values=_FLAGS,
)
_THRESHOLD = flags.DEFINE_float(
    "threshold",
    None,
    "Largest accepted ood_score; without it, the model's own.",
    flag_values=_FLAGS,
)
_OPERATING_POINT = flags.DEFINE_string(
    "operating_point",
    None,
    "Name of another threshold that the model offers.",
    flag_values=_FLAGS,
)
_FEATURE = flags.DEFINE_string(
    "feature",
    None,
    "In TFRecord files of tf.train.Example, the bytes feature that holds the encoded "
    "image; without it, image/encoded or else image.",
    flag_values=_FLAGS,
)
_RAW_RECORDS = flags.DEFINE_bool(
    "raw_records",
    False,
    "The records of TFRecord files are encoded images, not tf.train.Examples.",
    flag_values=_FLAGS,
)
_PICTURE = flags.DEFINE_string(
    "picture",
    None,
    "Where to draw the first images with their answers, a PNG, PDF or SVG file.",
    flag_values=_FLAGS,
)
_EXPLAIN = flags.DEFINE_string(
    "explain",
    None,
    "A new folder for pictures of what is strange about the rejected images, the first "
    "100: each as the model saw it, and with the parts in red by covering which its "
    "score falls. Takes about two hundred runs of the model for each.",
    flag_values=_FLAGS,
)


def _predict(positional: list[str]) -> None:
    if not positional:
        raise ValueError(
            "no image was given; try ood-predict --model=DIR/1 a.png b.png"
        )
    if _THRESHOLD.value is not None and _OPERATING_POINT.value is not None:
        raise ValueError("give --threshold or --operating_point, not both")
    options: dict[str, Any] = {
        "threshold": (
            _THRESHOLD.value
            if _OPERATING_POINT.value is None
            else _OPERATING_POINT.value
        ),
        "feature": _FEATURE.value,
        "raw_records": _RAW_RECORDS.value,
    }
    if _FLAGS["shards"].value is not None:
        _predict_in_shards(positional, options)
        return
    if _FLAGS["workers"].present or _FLAGS["engine"].present:
        raise ValueError("--workers and --engine are of --shards: give that, too")
    from ood_keras.inference import loading

    if loading.kind_of(_MODEL.value) == "saved_model":
        app.load("export.serving")  # Starts TensorFlow without what it prints.
    from ood_keras.workflows import prediction

    if _OUTPUT.value is None:
        if _PROBABILITIES.value:
            raise ValueError("--probabilities go to a file: give --output too")
        lines = prediction.table(
            model=_MODEL.value,
            paths=positional,
            picture=_PICTURE.value,
            explain=_EXPLAIN.value,
            **options,
        )
        for line in lines:
            print(line)
        return
    for name, value in (("picture", _PICTURE.value), ("explain", _EXPLAIN.value)):
        if value is not None:
            raise ValueError(f"--{name} draws what is printed; leave out --output")
    from ood_keras import export
    from ood_keras.inference import batch_scoring
    from ood_keras.names import printable

    counts = export.score_to_file(
        export.load(_MODEL.value),
        positional,
        _OUTPUT.value,
        probabilities=_PROBABILITIES.value,
        progress=True,
        **options,
    )
    output = printable(_OUTPUT.value)
    print(f"{batch_scoring.summary(counts)}\nDone: {output}")


def _predict_in_shards(positional: list[str], options: dict[str, Any]) -> None:
    drawn = (_PICTURE.value, _EXPLAIN.value)
    if _OUTPUT.value is None or drawn != (None, None):
        raise ValueError(
            "--shards writes a folder of Parquet files: give it as --output, and leave "
            "out --picture and --explain"
        )
    from ood_keras.inference import batch_scoring, shards
    from ood_keras.names import printable

    values: Any = {name: _FLAGS[name].value for name in ("shards", "workers", "engine")}
    written = shards.score_shards(
        _MODEL.value,
        positional,
        _OUTPUT.value,
        num_shards=values["shards"],
        num_workers=values["workers"],
        engine=values["engine"],
        probabilities=_PROBABILITIES.value,
        progress=True,
        **options,
    )
    output = printable(_OUTPUT.value)
    print(f"{batch_scoring.summary(written)}\nDone: {output}/{shards.MANIFEST}")


def main() -> None:
    """The command `ood-predict`."""
    app.run("ood-predict", __doc__, _FLAGS, _predict)


if __name__ == "__main__":
    main()
