"""Measures what noise, attacks and renderings of images do to a trained run.

  ood-robustness --run_dir=runs/mnist --unknown=kmnist,notmnist --output=runs/robustness
  ood-robustness --model=saved_models/mnist/1 --unknown=kmnist --output=runs/renderings

White noise, Gaussian noise, FGSM and PGD in growing strength: known accuracy, share
rejected and AUROC, for several detectors. Renderings (blurred, resized, turned,
thicker, in other contrast, ...) of known and unknown images alike: share accepted,
accuracy, and AUROC of all renderings together beside that of the images as they are.
With --compare_with, the same for a second run on the same known source, such as one
whose network lacks the block. Writes robustness.json and the pictures curves.png,
densities.png, inputs.png, renderings.png and rendering_curves.png. Of an exported
model, renderings alone are measured, at its own threshold: renderings.json.
"""

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "A run of ood-train.", flag_values=_FLAGS
)
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "In its place, an exported model: DIR/VERSION, or mnist or fashion_mnist, which "
    "come with the package.",
    flag_values=_FLAGS,
)
_KNOWN = flags.DEFINE_string(
    "known",
    None,
    "The known test source of --model; default: the one that it was trained on.",
    flag_values=_FLAGS,
)
_COMPARE_WITH = flags.DEFINE_string(
    "compare_with", None, "A second run to compare with.", flag_values=_FLAGS
)
_UNKNOWN = flags.DEFINE_string(
    "unknown",
    None,
    "The sources of unknown test images, separated by commas.",
    required=True,
    flag_values=_FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The folder to write into.", required=True, flag_values=_FLAGS
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
    "The detectors to measure; the pictures show the answers of the first one. "
    "Default: unknown_probability where the networks have an unknown class, msp, "
    "energy.",
    flag_values=_FLAGS,
)
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images",
    2000,
    "How many test images of each source, spread evenly over its classes. PGD takes "
    "ten gradients of each at each strength.",
    lower_bound=1,
    flag_values=_FLAGS,
)
_RENDERINGS = flags.DEFINE_enum(
    "renderings",
    "full",
    ["none", "short", "full"],
    "Renderings to measure: none, one mild strength of each sort, or every strength.",
    flag_values=_FLAGS,
)


def _measure(positional: list[str]) -> None:
    if positional:
        raise ValueError(f"ood-robustness takes flags only; received: {positional}")
    if (_RUN_DIR.value is None) == (_MODEL.value is None):
        raise ValueError("give either --run_dir or --model")
    if _MODEL.value is not None:
        _measure_exported()
        return
    workflow = app.load("workflows.robustness")
    from ood_keras.evaluation import robustness, under_renderings

    runs = [_RUN_DIR.value] + [_COMPARE_WITH.value] * bool(_COMPARE_WITH.value)
    result = workflow.measure_robustness(
        run_dirs=runs,
        unknown=app.split_specs(_UNKNOWN.value),
        output=_OUTPUT.value,
        data_dir=_DATA_DIR.value,
        detectors=_DETECTORS.value,
        num_images=_NUM_IMAGES.value,
        renderings=_RENDERINGS.value,
    )
    for title, network in result["networks"].items():
        for name, measured in network["detectors"].items():
            worst = robustness.find_most_accepted_wrong(measured)
            print(f"{title}, {name}: at most {100 * worst:.2f} % accepted and misread")
        for name, measured in network.get("renderings", {"detectors": {}})[
            "detectors"
        ].items():
            for sentence in under_renderings.describe(measured):
                print(f"{title}, {name}: {sentence}")
    print(f"Curves, inputs and all numbers: {_OUTPUT.value}")


def _measure_exported() -> None:
    given = {
        "--compare_with": _COMPARE_WITH.value,
        "--detectors": _DETECTORS.value,
        "--renderings": _RENDERINGS.value == "none",
    }
    if any(given.values()):
        wrong = ", ".join(name for name, value in given.items() if value)
        raise ValueError(
            f"--model measures the renderings of one exported model; leave out {wrong}"
        )
    result = app.load("workflows.renderings").measure_renderings(
        model=_MODEL.value,
        known=_KNOWN.value,
        unknown=app.split_specs(_UNKNOWN.value),
        output=_OUTPUT.value,
        data_dir=_DATA_DIR.value,
        short=_RENDERINGS.value == "short",
        num_images=min(_NUM_IMAGES.value, 1000),
    )
    from ood_keras.evaluation import under_renderings

    for name, measured in result["detectors"].items():
        for sentence in under_renderings.describe(measured):
            print(f"{name}: {sentence}")
        for source, row in measured["summary"]["auroc"].items():
            print(
                f"{source}: AUROC {row['untouched']:.4f} untouched, {row['mild']:.4f} "
                f"over mild renderings, {row['full_spectrum']:.4f} over all"
            )
    print(f"Pictures and all numbers: {_OUTPUT.value}")


def main() -> None:
    """The command `ood-robustness`."""
    app.run("ood-robustness", __doc__, _FLAGS, _measure)


if __name__ == "__main__":
    main()
