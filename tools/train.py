"""Trains a classifier that knows what it does not know.

  ood-train --known=digits --unknown=synthetic --recipe=demo --run_dir=runs/digits
  ood-train --known=mnist --unknown=emnist/letters --data_dir=DIR --run_dir=runs/mnist

Known and unknown are data sources: mnist, fashion_mnist, emnist/letters, kmnist,
omniglot, notmnist, kannada_mnist, dig_mnist, cifar10, cifar100, flowers, tfds:NAME,
folder:PATH, zip:PATH, tfrecord:PATH, idx:PATH, npz:PATH, uniform_noise, gaussian_noise,
synthetic (needs no unknown images), digits, glyphs; mnist[0-4] takes some of the
classes, mnist@negative another form. A run that was stopped, even killed, goes on when
the same command is given again and ends with the same weights. Next: ood-evaluate.
"""

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_training()
_FLAGS.add_output(
    "run_dir",
    "The folder that receives everything; give the same one to resume.",
    required=True,
)


def _train() -> None:
    app.load("workflows.training").train(
        **_FLAGS.read_arguments("override"), overrides=_FLAGS.override
    )
    verdict = app.load("workflows.training_verdict").describe_verdict(_FLAGS.run_dir)
    if verdict:
        print(f"\n{verdict}")
    print(
        f"\nDone. Next:\n  ood-evaluate{_FLAGS.repeat_plugins()} "
        f"--run_dir={_FLAGS.run_dir} --unknown=SOURCES"
    )


def main() -> None:
    """The command `ood-train`."""
    app.run("ood-train", __doc__, _FLAGS, _train, trains=True)


if __name__ == "__main__":
    main()
