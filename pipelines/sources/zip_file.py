"""Zip files of pictures: a folder of pictures that is packed, and stays so."""

import pathlib
import zipfile

from ood_keras.pipelines.sources import base, layout, listed
from ood_keras.pipelines.sources.zip_paths import Archive, ZipPath


@listed.register(name="zip")
def list_zip(request: base.Request, *, go_on: bool = False) -> layout.Layout:
    """Lists the pictures of `zip:PATH`, or of a folder in it, `zip:PATH/FOLDER`.

    Its members are laid out as files of a `folder:` are, and read in memory: nothing is
    unpacked to disk. A member that cannot be read is like such a file of a folder. A
    zip file is refused as a whole where a member lies outside of it, is a link, is
    encrypted, is there twice, or is compressed by anything but deflate.
    """
    return layout.read(_find(request), go_on=go_on, formats=request.formats)


def _find(request: base.Request) -> ZipPath:
    """Returns the place that a request asks for, in its zip file.

    Raises:
        DataNotFoundError: there is no such file, or no such folder in it.
        ValueError: it is no zip file, or one that is refused.
    """
    path = pathlib.Path(request.argument).expanduser()
    file = next((some for some in (path, *path.parents) if some.is_file()), None)
    if file is None:
        advice = f"; it is a folder, write folder:{request.argument}"
        raise base.DataNotFoundError(
            f"{request.spec}: there is no file {path.absolute()}"
            f"{advice if path.is_dir() else ''}. Expected a zip file of pictures, or "
            "a folder in one, as zip:photos.zip/train"
        )
    if not zipfile.is_zipfile(file):
        raise ValueError(
            f"{request.spec}: {file} is no zip file, or a damaged one. Pack the "
            "pictures into a zip file, or unpack it and write folder:PATH"
        )
    top = ZipPath(Archive(file))
    place = ZipPath(top.archive, path.relative_to(file).parts)
    if not place.is_dir():
        folders = [folder.name for folder in layout.list_folders(top)]
        raise base.DataNotFoundError(
            f"{request.spec}: {file} has no folder {'/'.join(place.parts)}. Its "
            f"folders: {', '.join(folders[:20]) or 'none'}"
        )
    return place
