"""Measures a trained run against unknown test images, honestly.

  ood-evaluate --run_dir=runs/mnist --unknown=kmnist,notmnist,uniform_noise

Every detector is scored; the one with the lowest FPR95 on the validation data is
selected before any test image is read. Sources that were seen in training are marked.
A source without a test part of its own, such as a folder of pictures, is tested on as a
whole, unless training or selection uses a part of it; how many images were tested is
printed. Known and unknown test images are also scored in other renderings (blurred,
resized, turned, in other contrast, ...): whether the threshold keeps its promise then
is said in words. At the end there is a verdict: how many unknown pictures of each kind
pass, how many known ones are kept, and "do not ship" where that is so; it stops nobody.
Writes metrics.json, scores.npz, figures/, report.html, the fitted detectors and a few
sample images into the run. Next: ood-export.

With --scores no image is read: measured are answers that a model gave before, of any
number of images in constant memory, each metric with the bounds of the exact one:

  ood-predict --model=DIR/1 --output=answers/known --shards=100 KNOWN_PICTURES/
  ood-predict --model=DIR/1 --output=answers/kmnist --shards=100 KMNIST_PICTURES/
  ood-evaluate --scores=answers/known --unknown_scores=kmnist=answers/kmnist
"""

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_output("run_dir", "A run of ood-train.")
_FLAGS.add_specs("unknown", "The sources of unknown test images, separated by commas.")
_FLAGS.add_list(
    "scores",
    "In place of --run_dir: Parquet files of answers on known test images, or folders "
    "of them, separated by commas, that ood-predict wrote.",
)
_FLAGS.add_list(
    "unknown_scores",
    "With --scores: NAME=PATH, the same of unknown images, for each kind of them; "
    "separated by commas. Paths with one name count together.",
)
_FLAGS.add_string(
    "model",
    "With --scores: the model that the answers must be of; default: any, but one.",
)
_FLAGS.add_output(
    "output", "With --scores: a JSON file to write the metrics and bounds to."
)
_FLAGS.add_data_dir("the one that ood-train was given")
_FLAGS.add_list(
    "detectors",
    "The detectors to compare; default: unknown_probability where the network has an "
    "unknown class, msp, max_logit, energy, objectosphere.",
)
_FLAGS.add_specs(
    "validation_unknown",
    "The sources whose validation images select and tune, separated by commas; "
    "default: those that the run was trained with.",
)
_FLAGS.add_string(
    "validation_augment",
    "The augmentation that renders the validation images which choose detector and "
    "threshold, such as mild_rendering; none leaves them as they are. Default: that of "
    "the run's recipe.",
)
_FLAGS.add_bool(
    "tune", "Tune odin and mahalanobis on validation images; takes minutes."
)
_FLAGS.add_list(
    "metrics",
    "Metrics to report beside the built-in ones, separated by commas, by the names "
    "under which modules of your own register them.",
    [],
)
_FLAGS.add_bool(
    "skip_bad",
    "Of pictures in files that training did not read, leave out those that cannot be "
    "read and copies of known pictures, and count them.",
)
_FLAGS.add_renderings()
_OF_SCORES = {"scores", "unknown_scores", "model", "output"}


def _evaluate() -> None:
    given = {name for name in _FLAGS.read_arguments() if _FLAGS[name].present}
    if given & _OF_SCORES:
        _evaluate_scores(given)
        return
    if not {"run_dir", "unknown"} <= given:
        raise ValueError("give --run_dir and --unknown, or --scores of answers")
    report = app.load("workflows.evaluation").evaluate(
        **_FLAGS.read_arguments("validation_unknown", "metrics", *_OF_SCORES),
        validation_unknown=_FLAGS.validation_unknown or None,
        further_metrics=_FLAGS.metrics,
    )
    print(report)
    print("\nTested on:")
    for name, split in report.metrics["data"].items():
        print(f"  {split['images']:,} images of {name.rpartition('/')[0]}")
    if left_out := report.metrics.get("left_out"):
        print(app.load("workflows.data_check").list_left_out(left_out))
    print(f"\n{report.verdict}")
    print(
        f"\nPictures and all detectors: {_FLAGS.run_dir}/report.html\nNext:\n"
        f"  ood-export{_FLAGS.repeat_plugins()} --run_dir={_FLAGS.run_dir} "
        "--output=saved_models/NAME"
    )


def _evaluate_scores(given: set[str]) -> None:
    if _FLAGS.scores is None or given - _OF_SCORES:
        raise ValueError(
            f"--{', --'.join(sorted(_OF_SCORES))} go together, and with none of the "
            f"others. Received: --{', --'.join(sorted(given))}"
        )
    workflow = app.load("workflows.score_evaluation")
    report = workflow.evaluate_scores(
        scores=_FLAGS.scores,
        unknown_scores=workflow.split_named(_FLAGS.unknown_scores or ()),
        model=_FLAGS.model,
        output=_FLAGS.output,
    )
    print(report)


def main() -> None:
    """The command `ood-evaluate`."""
    app.run("ood-evaluate", __doc__, _FLAGS, _evaluate)


if __name__ == "__main__":
    main()
