"""Fits a detector on known pictures in shards, by several processes or a Ray cluster.

  ood-fit --model=runs/mnist --detector=mahalanobis --output=fitted --shards=100 TRAIN/

For pictures that no machine holds. Each TRAIN/ has a folder for each class of the
model, of the same name; in these are pictures, or IDX or TFRecord files of pictures.
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

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_TEXTS = {
    "model": "A run of ood-train, or a .keras file whose classes are the folders of "
    "the pictures, in the order of their names.",
    "detector": "The detector, by its name: mahalanobis, knn, vim, ...",
    "output": "The folder of the fitted detector and of what was collected.",
}
for _name, _text in _TEXTS.items():
    flags.DEFINE_string(_name, None, _text, required=True, flag_values=_FLAGS)
flags.DEFINE_string(
    "arguments",
    "{}",
    "Other arguments of the detector, as JSON, such as '{\"bank_size\": 50000}'.",
    flag_values=_FLAGS,
)
flags.DEFINE_string(
    "validation",
    None,
    "A folder like TRAIN/ of other known pictures, which ensembles need.",
    flag_values=_FLAGS,
)
flags.DEFINE_bool(
    "skip_bad",
    False,
    "Go on without pictures that cannot be read, and count them.",
    flag_values=_FLAGS,
)
flags.DEFINE_bool(
    "unknown_class",
    None,
    "Whether the last output of a .keras file is an unknown class, which has no "
    "folder. Without this flag, it is taken for one if there is a folder less than "
    "there are outputs, with a warning unless the file says which classes it has.",
    flag_values=_FLAGS,
)
app.define_shards(_FLAGS)


def _fit(positional: list[str]) -> None:
    if not positional or _FLAGS["shards"].value is None:
        raise ValueError("give --shards and folders of pictures; see ood-fit --help")
    names = (*_TEXTS, "validation", "skip_bad", "unknown_class", "engine")
    path, counts = app.load("workflows.fitting").fit(
        **{name: _FLAGS[name].value for name in names},
        paths=positional,
        num_shards=_FLAGS["shards"].value,
        num_workers=_FLAGS["workers"].value,
        arguments=json.loads(str(_FLAGS["arguments"].value)),
        plugins=_FLAGS["plugin"].value,
        progress=True,
    )
    print(
        f"Learnt from {counts['images']:,} pictures in {counts['shards']:,} shards; "
        f"{counts['unreadable']:,} unreadable\nDone: {path}"
    )


def main() -> None:
    """The command `ood-fit`."""
    app.run("ood-fit", __doc__, _FLAGS, _fit)


if __name__ == "__main__":
    main()
