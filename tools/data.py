"""Looks at pictures before anything is trained on them.

  ood-data folder:PICTURES
  ood-data --known=folder:PICTURES --unknown=folder:OTHERS --output=runs/audit
  ood-data folder:PICTURES --recipe=robust_wide --image_shape=64,64,3

Reads every picture of the sources, and lists, all at once: what cannot be read and
what is left out, with the reason; copies, equal or nearly so, of one picture under
several labels, in several splits, known here and unknown there; classes that differ by
case; blank pictures; classes of few pictures; labels and pictures to look at first.
With --output it writes a page with the pictures, audit.html, and audit.json. With
--recipe it estimates what a training will cost.

Sources are as for ood-train; those without a flag are known ones. Exit status: 0 if
nothing would spoil the result of a training, 3 if something would, 1 if the audit
failed, 2 if the command line is wrong.
"""

import sys

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_KNOWN = flags.DEFINE_string(
    "known",
    None,
    "Sources of known images, separated by commas; the same as without a flag.",
    flag_values=_FLAGS,
)
_UNKNOWN = flags.DEFINE_string(
    "unknown",
    None,
    "Sources of unknown images, separated by commas.",
    flag_values=_FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "A folder that receives audit.html and audit.json.",
    flag_values=_FLAGS,
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The folder that holds the data sets.", flag_values=_FLAGS
)
app.define_memory(_FLAGS)
_RECIPE = flags.DEFINE_string(
    "recipe",
    None,
    "A recipe of ood-train, of which a few steps are run to estimate what it costs.",
    flag_values=_FLAGS,
)
_IMAGE_SHAPE = flags.DEFINE_list(
    "image_shape",
    None,
    "HEIGHT,WIDTH,CHANNELS that would be trained with; for --recipe.",
    flag_values=_FLAGS,
)
_BACKGROUND = flags.DEFINE_string(
    "background",
    "white",
    "What transparent pixels are laid on: white, black, or a grey level.",
    flag_values=_FLAGS,
)
_GROUP_BY = flags.DEFINE_multi_string(
    "group_by",
    ["copies"],
    "What makes pictures of a folder belong together; see ood-train.",
    flag_values=_FLAGS,
)
_SPOILT = 3


def _audit(positional: list[str]) -> None:
    found = app.load("workflows.auditing").audit(
        known=[*positional, *app.split_specs(_KNOWN.value)],
        unknown=app.split_specs(_UNKNOWN.value),
        output=_OUTPUT.value,
        data_dir=_DATA_DIR.value,
        background=_BACKGROUND.value,
        recipe=_RECIPE.value,
        image_shape=_IMAGE_SHAPE.value,
        group_by=_GROUP_BY.value,
        progress=_show_progress if sys.stderr.isatty() else None,
    )
    print(found)
    if _OUTPUT.value:
        print(f"\nWith pictures: {_OUTPUT.value}/audit.html")
    if found.spoils:
        print("\nWhat is marked !! would spoil the result. Mend it before you train.")
        sys.exit(_SPOILT)
    print("\nNothing here would spoil the result.")


def _show_progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{done:,} of {total:,} read", end=end, file=sys.stderr, flush=True)


def main() -> None:
    """The command `ood-data`."""
    app.run("ood-data", __doc__, _FLAGS, _audit)


if __name__ == "__main__":
    main()
