"""Under what terms the images of a source may be used, as far as it is known."""

from ood_keras.pipelines.sources import tfds
from ood_keras.pipelines.sources.spec_name import spec_name

_UNKNOWN = "not recorded; ask whoever gave you the images"
_LICENCES = {
    "mnist": "copyright Yann LeCun and Corinna Cortes; commonly stated to be under "
    "CC BY-SA 3.0, though no licence text comes with the files",
    "fashion_mnist": "MIT, copyright 2017 Zalando SE",
    "kmnist": 'CC BY-SA 4.0; "KMNIST Dataset" (created by CODH), adapted from '
    '"Kuzushiji Dataset" (created by NIJL and others), doi:10.20676/00000341',
    **dict.fromkeys(
        tfds.emnist_sets(),
        "derived from NIST Special Database 19, a work of the United States "
        "government; cite arXiv:1702.05373",
    ),
    "notmnist": "no licence text comes with the data (Yaroslav Bulatov)",
    "omniglot": "MIT, copyright 2015 Brenden Lake",
    "cifar10": "none stated by the publisher (Alex Krizhevsky), who asks to cite "
    '"Learning Multiple Layers of Features from Tiny Images", 2009',
    "digits": "CC BY 4.0; Optical Recognition of Handwritten Digits (Alpaydin and "
    "Kaynak), UCI Machine Learning Repository",
    "glyphs": "rendered from the fonts that Matplotlib ships, under the fonts' terms",
    "synthetic": "made from the known images, under their terms",
    "uniform_noise": "made by a random generator",
    "gaussian_noise": "made by a random generator",
}


def licence(spec: str) -> str:
    """Returns a sentence about the terms of use of a source.

    Args:
        spec: A spec string as for `pipelines.load`, with or without a choice of
            classes.

    Example:

    >>> licence("fashion_mnist[0-4]")
    'MIT, copyright 2017 Zalando SE'
    """
    return _LICENCES.get(spec_name(spec), _UNKNOWN)
