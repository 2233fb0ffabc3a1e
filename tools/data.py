"""Looks at pictures before anything is trained on them.

  ood-data folder:PICTURES
  ood-data --known=folder:PICTURES --unknown=folder:OTHERS --output=runs/audit
  ood-data zip:PICTURES.zip
  ood-data folder:PICTURES --recipe=robust_wide --image_shape=64,64,3

Reads every picture of the sources, and lists, all at once: what cannot be read and
what is left out, with the reason; copies, equal or nearly so, of one picture under
several labels, in several splits, known here and unknown there; classes that differ by
case; blank pictures; classes of few pictures; labels and pictures to look at first.
With --output it writes a page with the pictures, audit.html, and audit.json. With
--recipe it estimates what a training will cost, where the pictures have one size or
--image_shape says which they are brought to.

Sources are as for ood-train; those without a flag are known ones. Exit status: 0 if
nothing would spoil the result of a training, 3 if something would, 1 if the audit
failed, 2 if the command line is wrong.
"""

import sys

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_specs(
    "known", "Sources of known images, separated by commas; the same as without a flag."
)
_FLAGS.add_specs("unknown", "Sources of unknown images, separated by commas.")
_FLAGS.add_output("output", "A folder that receives audit.html and audit.json.")
_FLAGS.add_data_dir()
_FLAGS.add_string(
    "recipe",
    "A recipe of ood-train, of which a few steps are run to estimate what it costs.",
)
_FLAGS.add_list(
    "image_shape",
    "HEIGHT,WIDTH,CHANNELS that would be trained with; for --recipe, and for sources "
    "of several sizes that are no files.",
)
_FLAGS.add_background()
_FLAGS.add_repeated(
    "group_by",
    "What makes pictures belong together; see ood-train.",
    ["copies"],
)
_SPOILT = 3


def _audit(paths: list[str]) -> None:
    found = app.load("workflows.auditing").audit(
        **_FLAGS.read_arguments("known"),
        known=[*paths, *_FLAGS.known],
        progress=_show_progress if sys.stderr.isatty() else None,
    )
    print(found)
    if _FLAGS.output:
        print(f"\nWith pictures: {_FLAGS.output}/audit.html")
    if found.spoils:
        print("\nWhat is marked !! would spoil the result. Mend it before you train.")
        sys.exit(_SPOILT)
    print("\nNothing here would spoil the result.")


def _show_progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{done:,} of {total:,} read", end=end, file=sys.stderr, flush=True)


def main() -> None:
    """The command `ood-data`."""
    app.run("ood-data", __doc__, _FLAGS, _audit, takes_paths=True)


if __name__ == "__main__":
    main()
