"""Measures what noise, attacks and renderings of images do to a trained run.

  ood-robustness --run_dir=runs/mnist --unknown=kmnist,notmnist --output=runs/robustness
  ood-robustness --model=mnist --unknown=kmnist --output=runs/renderings

White noise, Gaussian noise, FGSM and PGD in growing strength: known accuracy, share
rejected and AUROC, for several detectors. Renderings (blurred, resized, turned,
thicker, in other contrast, ...) of known and unknown images alike: share accepted,
accuracy, and AUROC of all renderings together beside that of the images as they are.
With --compare_with, the same for a second run on the same known source, such as one
whose network lacks the block. Writes robustness.json and the pictures curves.png,
densities.png, inputs.png, renderings.png and rendering_curves.png. Of an exported
model, renderings alone are measured, at its own threshold: renderings.json.
"""

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_output("run_dir", "A run of ood-train.")
_FLAGS.add_string(
    "model",
    "In its place, an exported model: DIR/VERSION, or mnist or fashion_mnist, which "
    "come with the package.",
)
_FLAGS.add_string(
    "known",
    "The known test source of --model; default: the one that it was trained on.",
)
_FLAGS.add_string("compare_with", "A second run to compare with.")
_FLAGS.add_specs(
    "unknown", "The sources of unknown test images, separated by commas.", required=True
)
_FLAGS.add_output("output", "The folder to write into.", required=True)
_FLAGS.add_data_dir("the one that ood-train was given")
_FLAGS.add_list(
    "detectors",
    "The detectors to measure; the pictures show the answers of the first one. "
    "Default: unknown_probability where the networks have an unknown class, msp, "
    "energy.",
)
_FLAGS.add_integer(
    "num_images",
    "How many test images of each source, spread evenly over its classes. PGD takes "
    "ten gradients of each at each strength.",
    2000,
    lower_bound=1,
)
_FLAGS.add_renderings("full")


def _measure() -> None:
    if (_FLAGS.run_dir is None) == (_FLAGS.model is None):
        raise ValueError("give either --run_dir or --model")
    if _FLAGS.model is not None:
        _measure_exported()
        return
    workflow = app.load("workflows.robustness")
    result = workflow.measure_robustness(
        **_FLAGS.read_arguments("run_dir", "model", "known", "compare_with"),
        run_dirs=[_FLAGS.run_dir] + [_FLAGS.compare_with] * bool(_FLAGS.compare_with),
    )
    print(workflow.describe(result))
    print(f"Curves, inputs and all numbers: {_FLAGS.output}")


def _measure_exported() -> None:
    given = {
        "--compare_with": _FLAGS.compare_with,
        "--detectors": _FLAGS.detectors,
        "--renderings": _FLAGS.renderings == "none",
    }
    if any(given.values()):
        wrong = ", ".join(name for name, value in given.items() if value)
        raise ValueError(
            f"--model measures the renderings of one exported model; leave out {wrong}"
        )
    workflow = app.load("workflows.renderings")
    result = workflow.measure_renderings(
        model=_FLAGS.model,
        known=_FLAGS.known,
        unknown=_FLAGS.unknown,
        output=_FLAGS.output,
        data_dir=_FLAGS.data_dir,
        short=_FLAGS.renderings == "short",
        num_images=min(_FLAGS.num_images, 1000),
    )
    print(workflow.describe(result))
    print(f"Pictures and all numbers: {_FLAGS.output}")


def main() -> None:
    """The command `ood-robustness`."""
    app.run("ood-robustness", __doc__, _FLAGS, _measure)


if __name__ == "__main__":
    main()
