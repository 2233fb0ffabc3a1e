"""Upside down."""

import numpy as np

from ood_keras.evaluation import renderings


def turn(images, strength):
    """Turns every image by half a circle, whatever the strength."""
    return np.flip(images, (1, 2))


renderings.register(
    renderings.Rendering(
        name="lookout_turn",
        title="upside down",
        strengths=(1.0,),
        num_mild=1,
        render=turn,
    )
)
