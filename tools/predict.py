"""Classifies images with an exported model, or rejects them.

  ood-predict --model=mnist PATH...
  ood-predict --model=mnist --output=answers.csv PICTURES/

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

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_string(
    "model",
    "The version folder of a model, model.tflite, model.onnx, or the name of a model "
    "that comes with the package.",
    required=True,
)
_FLAGS.add_string(
    "output",
    "A new file for the answers: FILE.csv, FILE.jsonl (JSON lines) or FILE.parquet; "
    "with --shards, a folder.",
)
_FLAGS.add_shards()
_FLAGS.add_string(
    "share",
    "K/N: only each Nth of the shards, from K on; give N machines K from 0 to N - 1.",
)
_FLAGS.add_bool("probabilities", "Write the probability of each class, too.")
_FLAGS.add_float("threshold", "Largest accepted ood_score; default: the model's own.")
_FLAGS.add_string("operating_point", "Name of another threshold that the model offers.")
_FLAGS.add_string(
    "feature",
    "In TFRecord files of tf.train.Example, the bytes feature that holds the encoded "
    "image; without it, image/encoded or else image.",
)
_FLAGS.add_bool(
    "raw_records",
    "The records of TFRecord files are encoded images, not tf.train.Examples.",
)
_FLAGS.add_output(
    "picture",
    "Where to draw the first images with their answers, a PNG, PDF or SVG file.",
)
_FLAGS.add_output(
    "explain",
    "A new folder for pictures of what is strange about the rejected images, the first "
    "100: each as the model saw it, with the parts in red by covering which its score "
    "falls, and the nearest of the known images that travel with a SavedModel. Takes "
    "about two hundred runs of the model for each.",
)


def _predict(paths: list[str]) -> None:
    if not paths:
        raise ValueError("no image was given; try ood-predict --model=DIR/1 a.png")
    _check_flags()
    from ood_keras.inference import loading

    if _FLAGS.shards is None and loading.kind_of(_FLAGS.model) == "saved_model":
        app.load("export.serving")  # Starts TensorFlow without what it prints.
    from ood_keras.workflows import prediction

    point = _FLAGS.operating_point
    arguments = {
        "model": _FLAGS.model,
        "paths": paths,
        "threshold": _FLAGS.threshold if point is None else point,
        "feature": _FLAGS.feature,
        "raw_records": _FLAGS.raw_records,
    }
    if _FLAGS.output is None:
        drawn = {"picture": _FLAGS.picture, "explain": _FLAGS.explain}
        for line in prediction.table(**arguments, **drawn):
            print(line)
        return
    said = prediction.predict_to_file(
        **arguments,
        output=_FLAGS.output,
        probabilities=_FLAGS.probabilities,
        num_shards=_FLAGS.shards,
        num_workers=_FLAGS.workers,
        engine=_FLAGS.engine,
        share=_FLAGS.share,
        progress=True,
    )
    print(said)


def _check_flags() -> None:
    if _FLAGS.threshold is not None and _FLAGS.operating_point is not None:
        raise ValueError("give --threshold or --operating_point, not both")
    drawn = [name for name in ("picture", "explain") if _FLAGS[name].present]
    if _FLAGS.shards is not None:
        if _FLAGS.output is None or drawn:
            raise ValueError(
                "--shards writes a folder of Parquet files: give it as --output, and "
                "leave out --picture and --explain"
            )
    elif any(_FLAGS[name].present for name in ("workers", "engine", "share")):
        raise ValueError("--workers, --engine and --share need --shards: give that too")
    if _FLAGS.output is None and _FLAGS.probabilities:
        raise ValueError("--probabilities go to a file: give --output too")
    if _FLAGS.output is not None and drawn:
        raise ValueError(f"--{drawn[0]} draws what is printed; leave out --output")


def main() -> None:
    """The command `ood-predict`."""
    app.run("ood-predict", __doc__, _FLAGS, _predict, takes_paths=True)


if __name__ == "__main__":
    main()
