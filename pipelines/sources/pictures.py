"""Reads PNG, JPEG, BMP, GIF and WebP pictures, never trusting what they say."""

import io
import pathlib
import zipfile
import zlib

import numpy as np

from ood_keras import image_files, resizing

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
# These are read for training only; what is served takes PNG and JPEG.
_OTHER_FORMATS = ("BMP", "GIF", "WEBP")
_GREY = ("1", "L", "LA")
_MODES = (*_GREY, "P", "PA", "RGB", "RGBA")

# What a member of a zip may claim before anything of it is unpacked: a small file can
# say that it holds gigabytes.
MAX_BYTES = 64 * 2**20


def decode(content, name, background=image_files.BACKGROUND):
    """Returns the picture as uint8 `(height, width, channels)`, channels 1 or 3.

    By the rules of `image_files`, as exported models read their files; BMP, GIF and
    WebP, which they do not take, alike: of an animation the first frame.

    Args:
        content: The bytes of the file.
        name: What error messages call it.
        background: Grey level on which transparent pixels are laid; `None` drops alpha.

    Raises:
        ValueError: corrupt, truncated, too large, or of more than 8 bits per channel,
            but for PNG, whose 16 bits become 8.
    """
    try:
        if content.startswith((image_files.PNG, image_files.JPEG)) or not content:
            return image_files.read(content, background)
        return _read_other(content, background)
    except image_files.Refused as error:
        raise ValueError(f"{name} {error}") from error


def _read_other(content, background):
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=_OTHER_FORMATS) as picture:
            image_files.check_size(*picture.size)
            if picture.mode not in _MODES:
                raise image_files.Refused(
                    f"has mode {picture.mode}; expected 8 bits per channel, grey or "
                    "RGB. Convert it"
                )
            grey = picture.mode in _GREY
            if not picture.has_transparency_data:
                pixels = np.asarray(picture.convert("L" if grey else "RGB"))
                return pixels if pixels.ndim == 3 else pixels[..., None]
            pixels = np.asarray(picture.convert("LA" if grey else "RGBA"))
    except (image_files.Refused, MemoryError):
        raise
    # Pillow's decoders raise many types on broken content; each means the same to us.
    except Exception as error:
        formats = ", ".join(("PNG", "JPEG", *_OTHER_FORMATS))
        raise image_files.Refused(
            f"is no readable picture: corrupt, truncated or not one of {formats} "
            f"({type(error).__name__}: {error}). Fetch or save it again, or remove it"
        ) from error
    return image_files.compose(pixels[..., :-1], pixels[..., -1], background)


class Zip:
    """The pictures of a zip file, read in memory and never unpacked to disk.

    Args:
        path: The zip file.

    Raises:
        ValueError: it is no zip file, or a picture in it says that it is huge.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = archive.infolist()
        except zipfile.BadZipFile as error:
            raise self._corrupt(error) from error
        members = [
            member
            for member in members
            if member.filename.lower().endswith(SUFFIXES)
            and not member.filename.startswith("__MACOSX")
        ]
        for member in members:
            if member.file_size > MAX_BYTES:
                raise ValueError(
                    f"{member.filename} in {self.path} says that it has "
                    f"{member.file_size} bytes; at most {MAX_BYTES} are read"
                )
        self.names = sorted(member.filename for member in members)
        if not self.names:
            raise ValueError(f"{self.path} holds no pictures ({', '.join(SUFFIXES)})")

    def read(self, background=image_files.BACKGROUND):
        """Yields the decoded pictures in the order of `names`; see `decode`."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                for name in self.names:
                    content = archive.read(name)
                    yield decode(content, f"{name} in {self.path}", background)
        except (
            # Of encryption, of an unknown compression, of corrupt members.
            RuntimeError,
            NotImplementedError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
        ) as error:
            raise self._corrupt(error) from error

    def _corrupt(self, error):
        return ValueError(
            f"{self.path} is a corrupt or unreadable zip file ({error}); fetch it again"
        )


def stack(pictures, names, image_shape=None):
    """Returns pictures as one uint8 `(num_images, height, width, channels)` array.

    Args:
        pictures: Iterable of uint8 `(height, width, channels)`.
        names: One name per picture, for messages.
        image_shape: Shape to bring each picture to, or `None` to keep the one they
            share.

    Raises:
        ValueError: without `image_shape`, two pictures have different shapes.
    """
    images, waiting, shape = [], [], image_shape

    def flush():
        if waiting:
            batch = np.stack(waiting)
            if image_shape is not None:
                batch = resizing.adapt(batch, image_shape)
            images.append(batch)
            waiting.clear()

    for picture, name in zip(pictures, names, strict=True):
        shape = shape or picture.shape
        if image_shape is None and picture.shape != shape:
            raise ValueError(
                "pictures must have one size and either all be grey or all RGB. "
                f"Received: {names[0]} {shape}, {name} {picture.shape}. Give "
                "image_shape=(height, width, channels), --image_shape=H,W,C of "
                "ood-train, to convert them all"
            )
        # Neighbours of one size are resized together.
        if waiting and (waiting[0].shape != picture.shape or len(waiting) == 256):
            flush()
        waiting.append(picture)
    flush()
    if not images:
        raise ValueError("there are no pictures to stack")
    return np.concatenate(images)


def reduced(picture, image_shape):
    """Returns a picture at the given height and width by Pillow's bilinear filter.

    For sets that are compared with published results, which reduce them so; all others
    are reduced by `resizing.adapt`, which averages areas. Smaller pictures and the
    number of channels stay as they are.

    Args:
        picture: uint8 `(height, width, channels)`, channels 1 or 3.
        image_shape: `(height, width, channels)` to be had in the end.
    """
    from PIL import Image

    height, width = image_shape[:2]
    if picture.shape[0] < height or picture.shape[1] < width:
        return picture
    grey = picture.shape[2] == 1
    image = Image.fromarray(picture[..., 0] if grey else picture)
    small = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return small[..., None] if grey else small
