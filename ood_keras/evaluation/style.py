"""The look of every figure, in one place.

The colours are the ten of Petroff (2021, arXiv:2107.02270), chosen to stay apart under
colour-vision deficiency and in print. What carries meaning is never colour alone: seen
sources are dashed and named so, classes are written beside their points.
"""

import functools
import unicodedata
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ParamSpec

from ood_keras import names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Arguments = ParamSpec("_Arguments")

KNOWN = "#3f90da"
UNKNOWN = "#000000"
THRESHOLD = "#bd1f01"
GRID = "#d9d9d9"
MUTED = "#595959"

CLASSES = (
    KNOWN,
    "#ffa90e",
    THRESHOLD,
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
# Curves of unknown sources: `CLASSES` without the blue of the known images, the strong
# colours first.
SOURCES = (
    "#e76300",
    "#832db6",
    "#bd1f01",
    "#717581",
    "#ffa90e",
    "#a96b59",
    "#92dadd",
    "#b9ac70",
    "#94a4a2",
)

DPI = 150

# What stands for a character that the font does not have.
MISSING = "□"
# Shows nothing, and keeps what is around a name in its place.
LEFT_TO_RIGHT = "\u200e"

# Networks by what stands in the block's place, as recipes name it.
BLOCKS = {
    "none": "without the block",
    "se": "with plain squeeze-and-excitation",
    "modified_se": "with the modified block",
}

_FONT = "DejaVu Sans"
_SETTINGS = {
    "font.family": _FONT,  # Ships with Matplotlib: the same picture everywhere.
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "figure.dpi": DPI,
    "figure.constrained_layout.use": True,
}


def use_style(
    figure_function: "Callable[_Arguments, Figure]",
) -> "Callable[_Arguments, Figure]":
    """Runs a figure function under this style, whatever the user's own is.

    The user's settings, backend and open figures are left as they were.
    """

    @functools.wraps(figure_function)
    def wrapper(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> "Figure":
        import matplotlib.style

        with matplotlib.style.context(["default", _SETTINGS]):
            return figure_function(*args, **kwargs)

    return wrapper


def source_color(index: int) -> str:
    """Returns the colour of the unknown source at `index`; they repeat after nine."""
    return SOURCES[index % len(SOURCES)]


def class_color(index: int) -> str:
    """Returns the colour of known class `index`; they repeat after ten."""
    return CLASSES[index % len(CLASSES)]


def title(name: str) -> str:
    """Returns the name of a perturbation as it is written in figures."""
    return {"fgsm": "FGSM", "pgd": "PGD"}.get(name, name.replace("_", " "))


def shorten(texts: Iterable[str], width: int = 28) -> list[str]:
    """Shortens the names of classes, sources or detectors as figures write them.

    On one line, short enough not to cover what is beside them, and different from one
    another; tables have the full names.

    Args:
        texts: Names, an iterable.
        width: Most characters of each.

    Returns:
        A list of texts for Matplotlib.
    """
    short = names.shortened(
        texts, width, lambda text: _replace_undrawable(names.one_line(text)) or MISSING
    )
    return [_embed(text.replace("$", r"\$")) for text in short]


def literal(text: object) -> str:
    """`text` so that Matplotlib writes it as it is, lines included.

    A dollar begins no formula, and what the font has no picture of is `MISSING`.
    """
    lines = (
        _replace_undrawable(names.one_line(line)) for line in str(text).split("\n")
    )
    return "\n".join(lines).replace("$", r"\$")


def _embed(text: str) -> str:
    """A name between marks, if it is written from right to left."""
    if any(unicodedata.bidirectional(letter) in ("R", "AL", "AN") for letter in text):
        return f"{LEFT_TO_RIGHT}{text}{LEFT_TO_RIGHT}"
    return text


def _replace_undrawable(text: str) -> str:
    known = _characters()
    return "".join(
        character if ord(character) in known else MISSING for character in text
    )


@functools.cache
def _characters() -> frozenset[int]:
    """The numbers of all characters that the font has."""
    from matplotlib import font_manager

    path = font_manager.findfont(_FONT, fallback_to_default=False)
    return frozenset(font_manager.get_font(path).get_charmap())
