"""Exports a run as a SavedModel that rejects what it does not know.

  ood-export --run_dir=runs/mnist --output=saved_models/digits

Calibrates the threshold of the selected detector on the known validation scores of the
run, writes OUTPUT/VERSION (the next free number) for TensorFlow Serving, and compares
what was written with the live model in a fresh process. Says at the end how many known
and unknown test pictures the threshold accepts, and whether that speaks against using
the model; the model card says the same. Next: ood-predict.

Other thresholds travel with the model under names of yours, and the one that decides
may weigh costs, or be one for each class:

  ood-export ... --operating_points=strict=0.9,lenient=0.99
  ood-export ... --method=lowest_cost --prior_unknown=0.1 --cost_false_accept=5
  ood-export ... --per_class --target_acceptance=0.9
"""

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_output("run_dir", "A run of ood-train, after ood-evaluate.", required=True)
_FLAGS.add_output("output", "The folder that receives a version folder.", required=True)
_FLAGS.add_thresholds()
_FLAGS.add_string(
    "detector", "Default: the detector that was selected on validation data."
)
_FLAGS.add_exported()


def _export() -> None:
    workflow = app.load("workflows.exporting")
    arguments = app.load("workflows.thresholds").read_flags(_FLAGS.read_arguments())
    path, threshold = workflow.export(**arguments)
    promises = app.load("workflows.promises")
    print(
        f"{promises.describe_thresholds(path, threshold)}\n\n"
        f"{promises.describe_verdict(path)}\n\nDone: {path}\n"
        f"Next:\n  ood-predict --model={path} IMAGE..."
    )


def main() -> None:
    """The command `ood-export`."""
    app.run("ood-export", __doc__, _FLAGS, _export)


if __name__ == "__main__":
    main()
