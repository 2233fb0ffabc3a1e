"""What a spec string names, whatever part or form of it is asked for."""

import re

from ood_keras.pipelines.sources import spec as specs


def spec_name(spec: str) -> str:
    """Returns a spec without its choice of classes, its forms, `tfds:` and a version.

    Example:

    >>> spec_name("tfds:mnist:3.0.1@negative[0-4]")
    'mnist'
    """
    return re.sub(r"^tfds:(.+?)(:[\d.*]+)?$", r"\1", specs.parse(spec).base)
