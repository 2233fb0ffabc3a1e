"""The commands, one after the other, with what `lookout` registers.

python journey.py FOLDER
"""

import pathlib
import sys

import keras

from ood_keras import pipelines
from ood_keras.tools import calibrate, evaluate, export, predict, train


def call(command, *arguments):
    sys.argv = [command.__name__, "--plugin=lookout", *map(str, arguments)]
    command.main()


def main(folder):
    call(
        train,
        "--known=lookout/shapes",
        "--unknown=grey:3",
        f"--run_dir={folder / 'run'}",
        "--recipe=demo",
        "--override=epochs=2",
        "--override=filters=[4,4]",
        "--override=hidden_size=8",
        "--override=feature_size=8",
        "--override=unknown_images=60",
        "--override=loss=brier",
        "--override=augment=random_mirror",
    )
    call(
        evaluate,
        f"--run_dir={folder / 'run'}",
        "--unknown=grey:9",
        "--detectors=nearest_mean",
        "--metrics=fpr80",
    )
    call(
        export,
        f"--run_dir={folder / 'run'}",
        f"--output={folder / 'model'}",
        "--method=halfway",
        "--target_acceptance=0.8",
    )
    call(
        calibrate,
        f"--model={folder / 'model' / '1'}",
        "--known=lookout/shapes",
        "--method=halfway",
        "--target_acceptance=0.6",
    )
    picture = pipelines.load("lookout/shapes").test.images[0]
    keras.utils.save_img(folder / "bar.png", picture, scale=False)
    call(predict, f"--model={folder / 'model' / '1'}", folder / "bar.png")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
