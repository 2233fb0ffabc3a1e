"""The look of every figure, in one place.

The colours are the ten of Petroff (2021, arXiv:2107.02270), chosen to stay apart under
colour-vision deficiency and in print. What carries meaning is never colour alone: seen
sources are dashed and named so, classes are written beside their points.
"""

import functools

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

# Networks by what stands in the block's place, as recipes name it.
BLOCKS = {
    "none": "without the block",
    "se": "with plain squeeze-and-excitation",
    "modified_se": "with the modified block",
}

_SETTINGS = {
    "font.family": "DejaVu Sans",  # Ships with Matplotlib: the same picture everywhere.
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


def styled(figure_function):
    """Runs a figure function under this style, whatever the user's own is.

    The user's settings, backend and open figures are left as they were.
    """

    @functools.wraps(figure_function)
    def wrapper(*args, **kwargs):
        import matplotlib.style

        with matplotlib.style.context(["default", _SETTINGS]):
            return figure_function(*args, **kwargs)

    return wrapper


def source_color(index):
    """Returns the colour of the unknown source at `index`; they repeat after nine."""
    return SOURCES[index % len(SOURCES)]


def class_color(index):
    """Returns the colour of known class `index`; they repeat after ten."""
    return CLASSES[index % len(CLASSES)]


def title(name):
    """Returns the name of a perturbation as it is written in figures."""
    return {"fgsm": "FGSM", "pgd": "PGD"}.get(name, name.replace("_", " "))
