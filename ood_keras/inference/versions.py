"""The numbered version folders of an exported model."""

import pathlib


def next_version(folder):
    """The number after the largest version number in `folder`; 1 if there is none."""
    folder = pathlib.Path(folder)
    numbers = [
        int(child.name)
        for child in (folder.iterdir() if folder.is_dir() else ())
        if child.name.isascii() and child.name.isdigit()
    ]
    return max(numbers, default=0) + 1
