"""Classifies image files with an exported model, or rejects them.

  ood-predict --model=saved_models/mnist/1 IMAGE...

Prints one line per PNG or JPEG file: the class, or __unknown__ when the model rejects
the image; its ood_score (higher means more likely unknown); and whether the file could
be read as an image at all.
"""

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_MODEL = flags.DEFINE_string(
    "model", None, "The version folder of a model.", required=True, flag_values=_FLAGS
)
_PICTURE = flags.DEFINE_string(
    "picture",
    None,
    "Where to draw the images with their answers, a PNG, PDF or SVG file.",
    flag_values=_FLAGS,
)


def _predict(positional):
    if not positional:
        raise ValueError(
            "no image was given; try ood-predict --model=DIR/1 a.png b.png"
        )
    print(
        app.load_jobs().predict(
            model=_MODEL.value, paths=positional, picture=_PICTURE.value
        )
    )


def main():
    """The command `ood-predict`."""
    app.run("ood-predict", __doc__, _FLAGS, _predict)


if __name__ == "__main__":
    main()
