"""Folders of pictures: a user's own data."""

import pathlib
import zipfile

from ood_keras.pipelines.sources import base, layout, listed


@listed.register(name="folder")
def list_folder(request: base.Request, *, go_on: bool = False) -> layout.Layout:
    """Lists the pictures of `folder:PATH`.

    Sub-folders are classes; a folder without sub-folders is one unknown class. If the
    sub-folders are called train, validation and test (or some of these, or as
    `base.role_of` knows them: Training, val, ...), each of them is such a folder and
    becomes that split; else the images are dealt out 60 : 20 : 20. Pictures in folders
    within a class folder count for the class, which a `DataWarning` says. Files that
    are no pictures are left out with a `DataWarning` that counts them. All pictures
    that cannot be read are named in one error.
    """
    return layout.read(_find(request), go_on=go_on, formats=request.formats)


def _find(request: base.Request) -> pathlib.Path:
    """Returns the folder that a request asks for.

    Raises:
        DataNotFoundError: there is none.
    """
    root = pathlib.Path(request.argument).expanduser()
    if not root.is_dir():
        raise base.DataNotFoundError(
            f"{request.spec}: there is no folder {root.absolute()}. Expected a folder "
            "with one sub-folder of pictures per class, or with unknown pictures"
            f"{_advise(request.argument, root)}"
        )
    return root


def _advise(argument: str, root: pathlib.Path) -> str:
    """What to write where the path is not a folder but a file; or ""."""
    file = next((path for path in (root, *root.parents) if path.is_file()), None)
    if file is None:
        return ""
    if zipfile.is_zipfile(file):
        return f". {file} is a zip file: write zip:{argument}"
    if ".tfrec" in file.name.lower():
        return f". {file} is a file of TFRecords: write tfrecord:{argument}"
    return f". {file} is a file"
