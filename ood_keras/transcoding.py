"""Pictures that no graph decodes, as PNG files that every one does, pixel for pixel.

The graph of a SavedModel reads PNG and JPEG (`image_files`), since TensorFlow has no
decoder of TIFF, AVIF or HEIC, those that it has of GIF and BMP follow other rules than
Pillow's, and none is in a runtime without TensorFlow. So files of other formats, and
JPEG files of more pixels than are read, become PNG files first, by Pillow: in training,
in the audit and in `ood-predict` alike, and what follows is the same path. Whoever
sends such files to a served model itself converts them before.
"""

import functools
import importlib.util
import io
from typing import TYPE_CHECKING

import numpy as np

from ood_keras import file_content, image_files

if TYPE_CHECKING:
    from PIL import Image

# What was read before there was a choice; runs that say nothing else keep to it.
FIRST_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_GREY = ("1", "L", "LA")
_MODES = (*_GREY, "P", "PA", "RGB", "RGBA")
_DEEP = ("I;16", "I;16B", "I;16L")
_BITS_TAG, _PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 258, 262, 0
_TILE_TAGS = (322, 323)  # TileWidth and TileLength.
# Tiles are unpacked whole, however little of them the picture covers: so many times as
# large they may be, and small ones in any case.
_TILE_RATIO, _SMALL_TILE = 4, 2**20
_CURES = {
    "HEIC": "pip install pillow-heif reads it",
    "AVIF": "Pillow 11.3 or newer reads it",
}


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats of pictures that can be read here, as `file_content` names them."""
    from PIL import features

    found = [*FIRST_FORMATS, "TIFF"]
    # Older versions of Pillow do not know the question.
    if "avif" in features.get_supported_modules():
        found.append("AVIF")
    if importlib.util.find_spec("pillow_heif") is not None:
        found.append("HEIC")
    return tuple(found)


def find_cure(format: str) -> str | None:
    """How to have a format read that is not read here, or `None`."""
    return None if format.upper() in formats() else _CURES.get(format.upper())


def is_direct(content: bytes) -> bool:
    """Whether a file is a PNG or JPEG that is read as it is, or nothing at all."""
    if content.startswith(image_files.JPEG):
        return not image_files.is_large_jpeg(content)
    return content.startswith(image_files.PNG) or not content


def as_read(content: bytes, exif_orientation: bool = True) -> bytes:
    """Returns a file that `image_files.read` and graphs read, of the same pixels.

    Args:
        content: The bytes of a picture file.
        exif_orientation: Whether to turn it as its camera's note says; TIFF and HEIC
            are turned in any case, by what decodes them. Of a PNG or JPEG that stays as
            it is, that is left to whoever reads it.

    Returns:
        The file itself where it is a PNG or a JPEG of not too many pixels; else a PNG,
        of an animation or of several pages the first picture. A JPEG of more pixels is
        decoded at the half, quarter or eighth of its size, as libjpeg does from the
        coefficients of its blocks.

    Raises:
        image_files.Refused: it cannot be read, with the reason and what to do.
    """
    if is_direct(content):
        return content
    if content.startswith(image_files.JPEG):
        return _as_png(image_files.reduce_jpeg(content, exif_orientation))
    return _as_png(_read_other(content, exif_orientation))


def holds_several(content: bytes) -> bool:
    """Whether `as_read` leaves out pictures: frames of an animation, or pages.

    Args:
        content: The bytes of a picture file that is read.
    """
    if is_direct(content) or content.startswith(image_files.JPEG):
        return False
    with _open(content) as picture:
        return bool(getattr(picture, "is_animated", False))


def _as_png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    # It is read at once, so that its size counts for little.
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _open(content: bytes) -> "Image.Image":
    """The file as Pillow opens it, one of the formats that are read here."""
    from PIL import Image

    found = file_content.picture_format(content[: file_content.HEAD_BYTES])
    name = (found or "").upper()
    if name == "HEIC" and "HEIC" in formats():
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)
    if found is not None and name not in formats():
        cure = find_cure(found)
        article = "an" if found[0] in "AI" else "a"
        raise image_files.Refused(
            f"is {article} {found} picture, which is not read here. "
            + (f"{cure}; or convert it" if cure else "Convert it, or remove it")
        )
    # Pillow knows what another package reads only once that was asked to, as above.
    chosen = [one for one in formats()[2:] if one != "HEIC"]
    chosen += ["HEIF"] if name == "HEIC" else []
    return Image.open(io.BytesIO(content), formats=chosen)


def _read_other(content: bytes, exif_orientation: bool) -> np.ndarray:
    """uint8 `(height, width, channels)`, alpha the last of 2 or 4 channels."""
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with _open(content) as picture:
            image_files.check_size(*picture.size)
            _check_tiles(picture)
            if picture.mode in _DEEP:
                return _read_deep(picture)
            if picture.mode not in _MODES:
                raise image_files.Refused(
                    f"has mode {picture.mode}; expected 8 bits per channel, grey or "
                    "RGB. Convert it"
                )
            if exif_orientation:
                ImageOps.exif_transpose(picture, in_place=True)
            colour = "L" if picture.mode in _GREY else "RGB"
            alpha = "A" * picture.has_transparency_data
            pixels = np.asarray(picture.convert(colour + alpha))
            return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
    except (image_files.Refused, MemoryError):
        raise
    except UnidentifiedImageError as error:  # Its words name the place in memory.
        raise image_files.Refused(
            f"is no readable picture: of none of {', '.join(formats())}. Convert "
            "it, or remove it"
        ) from error
    # Pillow's decoders raise many types on broken content; each means the same to us.
    except Exception as error:
        raise image_files.Refused(
            "is no readable picture: corrupt, truncated or not one of "
            f"{', '.join(formats())} ({type(error).__name__}: {error}). Fetch or save "
            "it again, or remove it"
        ) from error


def _read_deep(picture: "Image.Image") -> np.ndarray:
    """The upper 8 bits of a grey picture of more, as of a PNG of 16 bits."""
    tags = getattr(picture, "tag_v2", {})
    # What Pillow does with TIFF files of 8 bits, and not with these.
    bits = 12 if tags.get(_BITS_TAG) == (12,) else 16
    pixels = (np.asarray(picture).astype(np.uint16) >> (bits - 8)).astype(np.uint8)
    if tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
        pixels = 255 - pixels
    return pixels[..., np.newaxis]


def _check_tiles(picture: "Image.Image") -> None:
    """Raises `Refused` if a TIFF file has tiles far larger than its picture.

    They would be a way to declare few pixels and have very many unpacked.
    """
    if picture.format != "TIFF":
        return
    tags = picture.tag_v2  # type: ignore[attr-defined]
    width, height = (int(tags.get(tag, 0)) for tag in _TILE_TAGS)
    most = max(_TILE_RATIO * picture.width * picture.height, _SMALL_TILE)
    if width * height > most:
        raise image_files.Refused(
            f"is a TIFF picture of {picture.width}x{picture.height} pixels in tiles of "
            f"{width}x{height}; tiles of at most {most} pixels are read. Save it again"
        )
