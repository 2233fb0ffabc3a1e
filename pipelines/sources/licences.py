"""Under what terms the images of a source may be used, as far as it is known."""

from ood_keras.pipelines.sources import registry
from ood_keras.pipelines.sources.spec_name import spec_name

_UNKNOWN = "not recorded; ask whoever gave you the images"


def licence(spec: str) -> str:
    """Returns a sentence about the terms of use of a source.

    Args:
        spec: A spec string as for `pipelines.load`, with or without a choice of
            classes.

    Example:

    >>> licence("fashion_mnist[0-4]")
    'MIT, copyright 2017 Zalando SE'
    """
    registered = registry.find(spec_name(spec).partition(":")[0])
    return (registered and registered.licence) or _UNKNOWN
