"""What a spec string names, whatever part of it is asked for."""

import re


def spec_name(spec: str) -> str:
    """Returns a spec without its choice of classes, `tfds:` and a version.

    Example:

    >>> spec_name("tfds:mnist:3.0.1[0-4]")
    'mnist'
    """
    whole = re.sub(r"\[[^\[\]]*\]$", "", spec)
    return re.sub(r"^tfds:(.+?)(:[\d.*]+)?$", r"\1", whole)
