"""Printed letters, rendered from the fonts that Matplotlib ships."""

import dataclasses
import pathlib
import string
from collections.abc import Sequence

import numpy as np

from ood_keras.pipelines.sources import base
from ood_keras.pipelines.sources.registry import register

# Whole families per split: a font seen in training is never tested on.
FONTS = {
    "train": (
        *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique"),
        *("DejaVuSans-BoldOblique", "DejaVuSerif", "DejaVuSerif-Bold"),
        *("DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    ),
    "validation": (
        *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
        "DejaVuSansMono-BoldOblique",
    ),
    "test": (
        *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
        *("cmb10", "cmr10", "cmss10", "cmti10", "cmtt10"),
    ),
}
# Printed, these are digits: 0, 1, 2, 5, 6, 8 and 9. Counting a 0 that is accepted as a
# mistake would measure the typeface.
_LOOK_LIKE_DIGITS = "OoDQIilZzSsbGBgq"
CHARACTERS = [
    character
    for character in string.ascii_letters
    if character not in _LOOK_LIKE_DIGITS
]
_CLASS_NAMES = sorted({character.upper() for character in CHARACTERS})
NUM_VARIANTS = 8
_CANVAS = 56


@register(
    name="glyphs",
    licence="rendered from the fonts that Matplotlib ships, under the fonts' terms",
)
def open_glyphs(request: base.Request) -> base.Source:
    """Opens `glyphs`: letters a-z and A-Z but those that look like digits.

    Bright on black, in eight variants of size, place and angle for each letter and
    font. The fonts are fixed for each split, so are the variants.
    """
    request = dataclasses.replace(
        request, image_shape=request.image_shape or (28, 28, 1)
    )

    def reader(role):
        return lambda: _draw(FONTS[role])

    readers = {role: reader(role) for role in FONTS}
    return base.from_parts(request, _CLASS_NAMES, readers)


def render(
    fonts: Sequence[str], characters: Sequence[str], random: np.random.Generator
) -> np.ndarray:
    """Draws characters in every font and variant.

    Args:
        fonts: Names of font files that Matplotlib ships, such as those of `FONTS`.
        characters: The characters, such as `CHARACTERS`.
        random: Chooses places and angles.

    Returns:
        uint8 `(fonts * NUM_VARIANTS * characters, 56, 56, 1)`, bright on black, to be
        reduced; the characters change fastest, then the variants.
    """
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    images = []
    for font in fonts:
        for size in np.linspace(32, 46, NUM_VARIANTS).astype(int):
            face = ImageFont.truetype(str(folder / f"{font}.ttf"), int(size))
            for character in characters:
                picture = Image.new("L", (_CANVAS, _CANVAS))
                draw = ImageDraw.Draw(picture)
                left, top, right, bottom = draw.textbbox((0, 0), character, face)
                shift = random.integers(-3, 4, 2)
                place = (
                    (_CANVAS - left - right) / 2 + shift[0],
                    (_CANVAS - top - bottom) / 2 + shift[1],
                )
                draw.text(place, character, fill=255, font=face)
                angle = random.uniform(-12, 12)
                turned = picture.rotate(angle, Image.Resampling.BILINEAR)
                images.append(np.asarray(turned))
    return np.stack(images)[..., None]


def _draw(fonts):
    images = render(fonts, CHARACTERS, np.random.default_rng(len(fonts)))
    labels = [_CLASS_NAMES.index(character.upper()) for character in CHARACTERS]
    return images, np.tile(np.array(labels, np.int32), len(fonts) * NUM_VARIANTS)
