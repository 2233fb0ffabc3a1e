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

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "A run of ood-train.", flag_values=_FLAGS
)
_UNKNOWN = flags.DEFINE_string(
    "unknown",
    None,
    "The sources of unknown test images, separated by commas.",
    flag_values=_FLAGS,
)
_SCORES = flags.DEFINE_list(
    "scores",
    None,
    "In place of --run_dir: Parquet files of answers on known test images, or folders "
    "of them, separated by commas, that ood-predict wrote.",
    flag_values=_FLAGS,
)
_UNKNOWN_SCORES = flags.DEFINE_list(
    "unknown_scores",
    None,
    "With --scores: NAME=PATH, the same of unknown images, for each kind of them; "
    "separated by commas. Paths with one name count together.",
    flag_values=_FLAGS,
)
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "With --scores: the model that the answers must be of; default: any, but one.",
    flag_values=_FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "With --scores: a JSON file to write the metrics and bounds to.",
    flag_values=_FLAGS,
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "The folder that holds the data sets; default: the one that ood-train was given.",
    flag_values=_FLAGS,
)
app.define_memory(_FLAGS)
_DETECTORS = flags.DEFINE_list(
    "detectors",
    None,
    "The detectors to compare; default: unknown_probability where the network has an "
    "unknown class, msp, max_logit, energy, objectosphere.",
    flag_values=_FLAGS,
)
_VALIDATION_UNKNOWN = flags.DEFINE_string(
    "validation_unknown",
    None,
    "The sources whose validation images select and tune, separated by commas; "
    "default: those that the run was trained with.",
    flag_values=_FLAGS,
)
_VALIDATION_AUGMENT = flags.DEFINE_string(
    "validation_augment",
    None,
    "The augmentation that renders the validation images which choose detector and "
    "threshold, such as mild_rendering; none leaves them as they are. Default: that of "
    "the run's recipe.",
    flag_values=_FLAGS,
)
_TUNE = flags.DEFINE_bool(
    "tune",
    False,
    "Tune odin and mahalanobis on validation images; takes minutes.",
    flag_values=_FLAGS,
)
_METRICS = flags.DEFINE_list(
    "metrics",
    [],
    "Metrics to report beside the built-in ones, separated by commas, by the names "
    "under which modules of your own register them.",
    flag_values=_FLAGS,
)
_RENDERINGS = flags.DEFINE_enum(
    "renderings",
    "short",
    ["none", "short", "full"],
    "Renderings of the test images to measure: none, one mild strength of each sort on "
    "500 images of each source, or every strength on 1,000.",
    flag_values=_FLAGS,
)


def _evaluate(positional: list[str]) -> None:
    if positional:
        raise ValueError(f"ood-evaluate takes flags only; received: {positional}")
    of_scores = {"scores", "unknown_scores", "model", "output"}
    given = {name for name in _FLAGS if _FLAGS[name].present} - {"traceback", "plugin"}
    if given & of_scores:
        if _SCORES.value is None or given - of_scores:
            raise ValueError(
                f"--{', --'.join(sorted(of_scores))} go together, and with none of the "
                f"others. Received: --{', --'.join(sorted(given))}"
            )
        workflow = app.load("workflows.score_evaluation")
        report = workflow.evaluate_scores(
            scores=_SCORES.value,
            unknown_scores=workflow.split_named(_UNKNOWN_SCORES.value or ()),
            model=_MODEL.value,
            output=_OUTPUT.value,
        )
        print(report)
        return
    if _RUN_DIR.value is None or _UNKNOWN.value is None:
        raise ValueError("give --run_dir and --unknown, or --scores of answers")
    report = app.load("workflows.evaluation").evaluate(
        run_dir=_RUN_DIR.value,
        unknown=app.split_specs(_UNKNOWN.value),
        data_dir=_DATA_DIR.value,
        detectors=_DETECTORS.value,
        validation_unknown=app.split_specs(_VALIDATION_UNKNOWN.value) or None,
        tune=_TUNE.value,
        further_metrics=_METRICS.value,
        renderings=_RENDERINGS.value,
        validation_augment=_VALIDATION_AUGMENT.value,
    )
    print(report)
    print("\nTested on:")
    for name, split in report.metrics["data"].items():
        print(f"  {split['images']:,} images of {name.rpartition('/')[0]}")
    print(f"\n{report.verdict}")
    print(
        f"\nPictures and all detectors: {_RUN_DIR.value}/report.html\nNext:\n"
        f"  ood-export{app.repeat_plugins(_FLAGS)} --run_dir={_RUN_DIR.value} "
        "--output=saved_models/NAME"
    )


def main() -> None:
    """The command `ood-evaluate`."""
    app.run("ood-evaluate", __doc__, _FLAGS, _evaluate)


if __name__ == "__main__":
    main()
