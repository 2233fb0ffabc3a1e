"""Runs the whole job on data that needs no download, in minutes.

  ood-quickstart --run_dir=runs/demo

Handwritten digits are known. The model trains with synthetic outliers only, made from
the digits; then it meets letters and noise, which it has never seen, and rejects them.
Each step prints the command that does the same.
"""

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_output("run_dir", "The folder that receives everything.", "runs/demo")


def _quickstart() -> None:
    app.load("workflows.training")  # Starts TensorFlow without what it prints.
    app.load("workflows.quickstart").run_all(**_FLAGS.read_arguments())


def main() -> None:
    """The command `ood-quickstart`."""
    app.run("ood-quickstart", __doc__, _FLAGS, _quickstart, trains=True)


if __name__ == "__main__":
    main()
