"""Exports a shipped model again: the same weights and threshold in today's graph.

  python -m ood_keras.tools.reexport --model=mnist --output=NEW/mnist

For whoever releases the package, after the graph of exported models has changed. The
network is built from the recipe in the manifest, its weights are those of the exported
model, and everything that the manifest says of training and results stays. It fails if
one decision, or a score by more than rounding, differs from the model that is shipped,
of which a name means the newest version. Then put `NEW/mnist/1` in the place of
`saved_models/mnist/3`; for an earlier version give `--model=saved_models/mnist/1`.
"""

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_string("model", "A shipped model, or DIR/VERSION.", required=True)
_FLAGS.add_output("output", "The folder that receives a version folder.", required=True)
_FLAGS.add_string(
    "fitted",
    "The JSON file of the fitted detector, where it has learnt from features; of a "
    "shipped model it is in saved_models/.",
)


def _reexport() -> None:
    path = app.load("workflows.reexporting").reexport(**_FLAGS.read_arguments())
    print(f"Done: {path}")


def main() -> None:
    """The command."""
    app.run("reexport", __doc__, _FLAGS, _reexport)


if __name__ == "__main__":
    main()
