"""Trains a classifier that knows what it does not know.

  ood-train --known=digits --unknown=synthetic --recipe=demo --run_dir=runs/digits
  ood-train --known=mnist --unknown=emnist/letters --data_dir=DIR --run_dir=runs/mnist

Known and unknown are data sources: mnist, fashion_mnist, emnist/letters, kmnist,
omniglot, notmnist, kannada_mnist, dig_mnist, cifar10, tfds:NAME, folder:PATH, idx:PATH,
npz:PATH, uniform_noise, gaussian_noise, synthetic (needs no unknown images), digits,
glyphs; mnist[0-4] takes some of the classes, mnist@negative another form. A run that
was stopped, even killed, goes on when the same command is given again and ends with the
same weights. Next: ood-evaluate.
"""

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_string("known", "The source of the known classes.", required=True)
_FLAGS.add_specs(
    "unknown",
    "The sources of unknown images to train with, separated by commas; none for a "
    "recipe whose loss learns from known images alone.",
)
_FLAGS.add_string(
    "run_dir",
    "The folder that receives everything; give the same one to resume.",
    required=True,
)
_FLAGS.add_data_dir()
_FLAGS.add_list(
    "image_shape",
    "HEIGHT,WIDTH,CHANNELS to convert all images to, with 1 or 3 channels, such as "
    "32,32,3; default: those of the known images, which then must have one size.",
)
_FLAGS.add_string(
    "background",
    "What transparent pixels of picture files are laid on: white, black, or a grey "
    "level from 0 to 255; kept with the run and the exported model.",
    "white",
)
_FLAGS.add_string(
    "recipe",
    "robust (drawings and characters) or robust_wide (things), which learn from images "
    "in random renderings: more blurred, thicker, turned, in other contrast; fast and "
    "wide, the same without renderings, in less time, for benchmarks whose test "
    "images are scanned alike; paper (section 3.6: 150 epochs); demo (seconds). "
    "For photographs: photos, on features of a --backbone, and photos_scratch, a small "
    "residual network from random weights. Default: photos with a --backbone, else "
    "robust or robust_wide, by what the known images look like.",
)
_FLAGS.add_repeated(
    "override",
    "A field of the recipe to change, such as epochs=2, filters=[16,32] or "
    "augment=none.",
    [],
)
_FLAGS.add_string(
    "backbone",
    "A network of keras.applications to begin with, such as MobileNetV2, "
    "EfficientNetV2B0 or MobileNetV2:alpha=0.35. It is frozen and what is on top of it "
    "trains on its features, which are computed once; --override=fine_tune_epochs=5 "
    "then trains all of it in the last epochs.",
)
_FLAGS.add_string(
    "backbone_weights",
    "Weights of the backbone: imagenet, which are downloaded once (the default); a "
    ".weights.h5, .h5 or .keras file; or none for random ones.",
)
_FLAGS.add_enum(
    "mixed_precision",
    "What the network computes in while it trains: faster on GPUs made for it. Weights "
    "and losses stay float32, and so does all that is measured and exported. Kept with "
    "the run.",
    ["bfloat16", "float16", "none"],
)
_FLAGS.add_string(
    "class_weight",
    "balanced, so that classes of few images count as much as others; or weights of "
    "classes in the loss by name, as in rose=2,tulip=0.5, the others being 1.",
)
_FLAGS.add_bool(
    "skip_bad",
    "Of folders of pictures, leave out files that would spoil the result, and count "
    "them in run.json and the report: those that cannot be read, and copies of one "
    "picture under several labels, in several splits, or known and unknown. Without "
    "it, training stops at them and names them all. See ood-data.",
)
_FLAGS.add_repeated(
    "group_by",
    "What makes pictures of a folder belong together, so that all of them are in one "
    "split: copies, equal or nearly equal pictures (the default); folder, folders of "
    "one name within the class folders; or a regular expression with one group, such "
    "as 'patient(\\d+)_', whose text their names share. May be given several times. "
    "none deals pictures out one by one. Ignored for folders that have train, "
    "validation and test.",
)
_FLAGS.add_integer("seed", "Decides everything.", 0)


def _train() -> None:
    workflow = app.load("workflows.training")
    workflow.train(**_FLAGS.read_arguments("override"), overrides=_FLAGS.override)
    verdict = workflow.describe_verdict(_FLAGS.run_dir)
    if verdict:
        print(f"\n{verdict}")
    print(
        f"\nDone. Next:\n  ood-evaluate{_FLAGS.repeat_plugins()} "
        f"--run_dir={_FLAGS.run_dir} --unknown=SOURCES"
    )


def main() -> None:
    """The command `ood-train`."""
    app.run("ood-train", __doc__, _FLAGS, _train)


if __name__ == "__main__":
    main()
