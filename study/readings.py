"""Table 1 with both readings of its Omniglot, by ours and by the robust recipes.

The paper has Omniglot "downsampled to 28 x 28" and says nothing of an inversion;
against MNIST its row is that of noise. Taken by its words, the characters stay dark on
light paper. Others invert them, which is harder. Here both are test sets of every run.
"""

import dataclasses
from typing import Any

from ood_keras.study.grid import Known, Method, Study, Training
from ood_keras.study.table1 import TABLE1

AS_DISTRIBUTED, INVERTED = "omniglot@as_distributed", "omniglot"


def _take(known: Known) -> Known:
    """A known set of Table 1, with both readings of Omniglot."""
    return dataclasses.replace(
        known, test_unknown=(*known.test_unknown, AS_DISTRIBUTED)
    )


def _train(name: str, title: str, description: str, **options: Any) -> Training:
    """A training that is scored by the probability of its unknown class and by more."""
    detectors = {
        "": ("", "unknown_probability", "the probability of the unknown class"),
        "_distances": (
            "; distances",
            "probability_and_distances",
            "its mean with the Mahalanobis distances of all layers, each standardised "
            "on known images",
        ),
        "_log_distances": (
            "; log distances",
            "probability_and_log_distances",
            "its mean with the logarithms of these distances, each standardised on "
            "known images",
        ),
    }
    methods = tuple(
        Method(
            name=f"{name}{ending}",
            title=f"{title}{more}",
            detector=detector,
            description=what,
        )
        for ending, (more, detector, what) in detectors.items()
    )
    return Training(
        name=name,
        methods=methods,
        exposure=("real", "synthetic"),
        description=description,
        **options,
    )


READINGS = Study(
    name="readings",
    against_paper=True,
    known=tuple(map(_take, TABLE1.known)),
    trainings=(
        _train(
            "ours_synthetic",
            "Ours, with synthetic outliers",
            "the training of this name in Table 1, once more",
        ),
        _train(
            "robust",
            "Ours, in random renderings",
            "the recipes `robust` and `robust_wide`, the default of `ood-train`, with "
            "the same loss and network: in random renderings, longer, and shown all "
            "training images of the source of exposure",
            recipe={"mnist": "robust", "fashion_mnist": "robust_wide"},
        ),
    ),
    seeds=(0, 1, 2),
    renderings="short",
    protocol={
        "training": "one source as exposure (EMNIST letters for MNIST, MNIST for "
        "Fashion-MNIST), and synthetic outliers. Ours, with synthetic outliers, is "
        "shown 6,000 images of the source, as in Table 1; ours in random renderings "
        "all of them, up to 60,000. So the two differ in more than the renderings",
        "readings of Omniglot": "as distributed, dark on light, and inverted, light on "
        "dark; both reduced to 28 x 28 by the bilinear filter",
        "renderings": "the strongest mild one of each sort of the suite of "
        "`evaluation.renderings`, on 500 images of each source. In the runs so far, "
        "dark ink on white paper, as in Omniglot as distributed, is rendered as if the "
        "ground were black: what a turn, zoom, shear or shift uncovers is black, and a "
        "thicker pen is a thinner one",
        "threshold": "accepts 99 % of the known validation images",
        "test images": "nothing is fitted to, tuned on or selected by any of them. "
        "What test scores had a say in, beside what is listed for Table 1: that a few "
        "known images have huge distances, beside which the probability hardly "
        "counts, was first seen on test scores of Table 1's first seed, and so was "
        "that logarithms mend it; that the paper's words fit Omniglot as distributed "
        "was concluded from its own row, when scores of both readings were known",
    },
)
