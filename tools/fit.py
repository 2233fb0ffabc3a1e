"""Fits a detector on known pictures in shards, by several processes or a Ray cluster.

  ood-fit --model=runs/mnist --detector=mahalanobis --output=fitted --shards=100 TRAIN/

For pictures that no machine holds. Each TRAIN/ has folders for classes of the model,
or links to such, of the same names; in these are pictures, or IDX or TFRecord files of
pictures. A class without pictures is an error; files of other kinds are left out, and
counted.
Fit on the pictures that the model was trained on, never on those that it is tested on.
A shard is walked over once and leaves what the detector learns from it in a small file,
which is not made again: a run that was killed goes on when the same command is given
again. Merged, they give the detector that one process would learn; see
docs/guides/scale.md for what a random sample is then. With --engine=ray the shards are
tasks of the cluster that RAY_ADDRESS names; model, pictures and output must be found
under the same paths everywhere.

Writes OUTPUT/NAME.json and OUTPUT/NAME.npz, which detectors.load reads.
"""

import json

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_string(
    "model",
    "A run of ood-train, or a .keras file whose classes are the folders of the "
    "pictures, in the order of their names.",
    required=True,
)
_FLAGS.add_string(
    "detector",
    "The detector, by its name: mahalanobis, knn, vim, ...",
    required=True,
)
_FLAGS.add_output(
    "output",
    "The folder of the fitted detector and of what was collected.",
    required=True,
)
_FLAGS.add_string(
    "arguments",
    "Other arguments of the detector, as JSON, such as '{\"bank_size\": 50000}'.",
    "{}",
)
_FLAGS.add_string(
    "validation", "A folder like TRAIN/ of other known pictures, which ensembles need."
)
_FLAGS.add_bool(
    "skip_bad", "Go on without pictures that cannot be read, and count them."
)
_FLAGS.add_bool(
    "unknown_class",
    "Whether the last output of a .keras file is an unknown class, which has no "
    "folder. Without this flag, it is taken for one if there is a folder less than "
    "there are outputs, with a warning unless the file says which classes it has.",
    default=None,
)
_FLAGS.add_shards()


def _fit(paths: list[str]) -> None:
    if not paths or _FLAGS.shards is None:
        raise ValueError("give --shards and folders of pictures; see ood-fit --help")
    path, counts = app.load("workflows.fitting").fit(
        **_FLAGS.read_arguments("shards", "workers", "arguments"),
        paths=paths,
        num_shards=_FLAGS.shards,
        num_workers=_FLAGS.workers,
        arguments=json.loads(_FLAGS.arguments),
        plugins=_FLAGS.plugin,
        progress=True,
    )
    if counts.get("left_out"):
        inputs = app.load("inference.inputs")
        names = app.load("names")
        print(names.printable(f"Left out {inputs.describe(counts['left_out'])}"))
    print(
        f"Learnt from {counts['images']:,} pictures in {counts['shards']:,} shards; "
        f"{counts['unreadable']:,} unreadable\nDone: {path}"
    )


def main() -> None:
    """The command `ood-fit`."""
    app.run("ood-fit", __doc__, _FLAGS, _fit, takes_paths=True)


if __name__ == "__main__":
    main()
