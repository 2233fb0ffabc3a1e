"""Measures what noise and adversarial changes of known images do to a trained run.

  ood-robustness --run_dir=runs/mnist --unknown=kmnist,notmnist --output=runs/robustness

White noise, Gaussian noise, FGSM and PGD in growing strength: known accuracy, share
rejected and AUROC, for several detectors. With --compare_with, the same for a second
run on the same known source, such as one whose network lacks the block. Writes
robustness.json and the pictures curves.png, densities.png and inputs.png.
"""

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "A run of ood-train.", required=True, flag_values=_FLAGS
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


def _measure(positional: list[str]) -> None:
    if positional:
        raise ValueError(f"ood-robustness takes flags only; received: {positional}")
    workflow = app.load("workflows.robustness")
    from ood_keras.evaluation import robustness

    runs = [_RUN_DIR.value] + [_COMPARE_WITH.value] * bool(_COMPARE_WITH.value)
    result = workflow.measure_robustness(
        run_dirs=runs,
        unknown=app.split_specs(_UNKNOWN.value),
        output=_OUTPUT.value,
        data_dir=_DATA_DIR.value,
        detectors=_DETECTORS.value,
        num_images=_NUM_IMAGES.value,
    )
    for title, network in result["networks"].items():
        for name, measured in network["detectors"].items():
            worst = robustness.most_accepted_wrong(measured)
            print(f"{title}, {name}: at most {100 * worst:.2f} % accepted and misread")
    print(f"Curves, inputs and all numbers: {_OUTPUT.value}")


def main() -> None:
    """The command `ood-robustness`."""
    app.run("ood-robustness", __doc__, _FLAGS, _measure)


if __name__ == "__main__":
    main()
