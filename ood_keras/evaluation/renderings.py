"""The suite of renderings: changes of a picture that keep what it shows.

A rendering says how a picture was scanned, resized or drawn, and not what it shows.
Under mild ones a known image should keep its answer and an unknown one stay unknown.
The suite is deterministic and runs on NumPy and SciPy; the augmentation
`random_rendering` of the pipelines is other code with other numbers, so that the suite
stays a test of it.
"""

import dataclasses
import io
from collections.abc import Callable

import numpy as np

from ood_keras import plugins
from ood_keras.types import Tensor

DRAWING, PHOTO = "drawing", "photo"
# Of a picture whose edges are mostly lighter, the ground is white paper.
_LIGHT = 0.9


@dataclasses.dataclass(frozen=True)
class Rendering:
    """One kind of change, at graded strengths.

    Args:
        name: What results call it.
        title: What tables and pictures call it; `{}` stands for the strength.
        strengths: From weak to strong, in the unit of the title.
        num_mild: How many of them, from the front, count as mild: a known image should
            keep its answer.
        render: From float32 images `(num_images, height, width, channels)` in [0, 1]
            and a strength to images of the same shape; deterministic. What leaves
            [0, 1] is clipped.
        kinds: The kinds of picture it is for: "drawing", "photo" or both.
        needs_colour: Whether it changes colour alone, so that grey pictures have none.
        needs_file: Whether it goes by way of a picture file, which only images of one
            channel or of three can be.
    """

    name: str
    title: str
    strengths: tuple[float, ...]
    num_mild: int
    render: Callable[[np.ndarray, float], np.ndarray]
    kinds: tuple[str, ...] = (DRAWING, PHOTO)
    needs_colour: bool = False
    needs_file: bool = False

    def __post_init__(self):
        if not self.strengths or not 0 <= self.num_mild <= len(self.strengths):
            raise ValueError(
                f"the rendering {self.name!r} needs strengths, of which the first "
                f"`num_mild` are mild. Received: strengths={self.strengths}, "
                f"num_mild={self.num_mild}"
            )

    def __call__(self, images: np.ndarray, strength: float) -> np.ndarray:
        """The images rendered at one strength, float32 in [0, 1]."""
        rendered = np.asarray(self.render(images, strength), np.float32)
        if rendered.shape != images.shape:
            raise ValueError(
                f"the rendering {self.name!r} made images of shape {rendered.shape} "
                f"from {images.shape}; it must keep the shape"
            )
        return np.clip(rendered, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Step:
    """A rendering at one strength, called by `name`, such as "blur=0.5"."""

    rendering: Rendering
    strength: float
    mild: bool

    @property
    def name(self) -> str:
        return f"{self.rendering.name}={self.strength:g}"

    @property
    def title(self) -> str:
        return self.rendering.title.format(f"{self.strength:g}")

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.rendering(images, self.strength)


_RENDERINGS: dict[str, Rendering] = {}


def register(rendering: Rendering) -> Rendering:
    """Adds a rendering to the suite, or puts it in the place of the same one of before.

    Raises:
        TypeError: it is no `Rendering`.
        ValueError: one with another function `render` has its name.
    """
    if not isinstance(rendering, Rendering):
        raise TypeError(
            f"expected an evaluation.renderings.Rendering. Received: {rendering!r}"
        )
    taken = _RENDERINGS.get(rendering.name)
    plugins.check_free(
        "rendering", rendering.name, taken and taken.render, rendering.render
    )
    _RENDERINGS[rendering.name] = rendering
    return rendering


def names() -> list[str]:
    """The names of all renderings."""
    return list(_RENDERINGS)


def suite(
    kind: str, *, short: bool = False, colour: bool = True, files: bool = True
) -> list[Step]:
    """The renderings of a kind of picture, at each of their strengths.

    Args:
        kind: "drawing" (grey strokes on a plain background) or "photo".
        short: Only the strongest mild one of each, for a quick look.
        colour: Whether the pictures have colour; without, changes of it are left out.
        files: Whether the pictures can be picture files, which have one channel or
            three; without, what goes by way of one is left out.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in (DRAWING, PHOTO):
        raise ValueError(f"`kind` is 'drawing' or 'photo'. Received: {kind!r}")
    steps = []
    for rendering in _RENDERINGS.values():
        if kind not in rendering.kinds or (rendering.needs_colour and not colour):
            continue
        if rendering.needs_file and not files:
            continue
        every = [
            Step(rendering, strength, mild=place < rendering.num_mild)
            for place, strength in enumerate(rendering.strengths)
        ]
        mild = [step for step in every if step.mild]
        steps += mild[-1:] if short else every
    return steps


def kind_of(images: Tensor) -> str:
    """The kind of some pictures: "drawing" for thin strokes on plain paper, or "photo".

    Drawings are grey, nearly all of them have a black or white ground, and little of
    their ink is further from its edge than a tenth of the picture's size.

    Args:
        images: `(num_images, height, width, channels)`, bytes or floats in [0, 1].
    """
    from scipy import ndimage

    images = np.asarray(images)
    if images.shape[-1] != 1:
        return PHOTO
    levels = images[..., 0].astype(np.float32)
    if images.dtype == np.uint8:
        levels /= 255
    edges = (levels[:, 0], levels[:, -1], levels[:, :, 0], levels[:, :, -1])
    paper = np.median(np.concatenate(edges, axis=1), axis=1)
    if np.mean((paper < 0.1) | (paper > 0.9)) < 0.8:
        return PHOTO
    ink = np.abs(levels - paper[:, None, None])
    ink = ink > 0.5 * np.maximum(ink.max(axis=(1, 2), keepdims=True), 0.1)
    width = max(3, round(0.22 * min(ink.shape[1:])))
    inside = ndimage.binary_erosion(ink, np.ones((1, width, width)))
    return DRAWING if ink.any() and inside.sum() < 0.12 * ink.sum() else PHOTO


def _blur(images, sigma):
    from scipy import ndimage

    return ndimage.gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest")


def _sharpen(images, amount):
    return images + amount * (images - _blur(images, 0.7))


def _resample(images, factor, down, up):
    height, width = images.shape[1:3]
    small = max(1, round(height * factor)), max(1, round(width * factor))
    reduced = _resize(images, small, down)
    return _resize(np.clip(reduced, 0, 1), (height, width), up)


def _resize(images, shape, name):
    rows, columns = (
        _weights(old, new, name)
        for old, new in zip(images.shape[1:3], shape, strict=True)
    )
    return np.einsum("Hh,nhwc,Ww->nHWc", rows, images, columns, optimize=True)


def _weights(old, new, name):
    """The matrix `(new, old)` that resamples one axis; reducing widens the kernel."""
    scale = old / new
    stretch = max(scale, 1.0)
    centre = (np.arange(new)[:, None] + 0.5) * scale - 0.5
    distance = np.abs(np.arange(old) - centre) / stretch
    if name == "nearest":
        weights = np.zeros((new, old))
        nearest = np.minimum(np.floor((np.arange(new) + 0.5) * scale), old - 1)
        weights[np.arange(new), nearest.astype(int)] = 1.0
    elif name == "bilinear":
        weights = np.maximum(0.0, 1.0 - distance)
    else:
        # Keys' cubic with a = -0.5, as Pillow's.
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1.0
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4.0 * distance + 2.0
        weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _compress(images, quality):
    """JPEG and back; pictures lie side by side in one file, in blocks of their own."""
    from PIL import Image

    count, height, width, channels = images.shape
    # With colour sampled at every pixel, blocks have 8 x 8 pixels.
    pad = [(0, 0), (0, -height % 8), (0, -width % 8), (0, 0)]
    cells = np.pad(np.rint(images * 255).astype(np.uint8), pad, "edge")
    tall, wide = cells.shape[1:3]
    across = max(1, min(count, 16_384 // wide))
    rendered = []
    for start in range(0, count, across):
        strip = cells[start : start + across]
        row = strip.transpose(1, 0, 2, 3).reshape(tall, -1, channels)
        content = io.BytesIO()
        Image.fromarray(row[..., 0] if channels == 1 else row).save(
            content, "JPEG", quality=int(quality), subsampling=0
        )
        back = np.asarray(Image.open(content)).reshape(tall, -1, wide, channels)
        rendered.append(back.transpose(1, 0, 2, 3)[:, :height, :width])
    return np.concatenate(rendered).astype(np.float32) / 255


def _on_light_paper(images):
    """Which pictures have a light ground, dark ink on white paper: `(n, 1, 1, 1)`."""
    edges = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    levels = np.concatenate([edge.min(axis=-1) for edge in edges], axis=1)
    return (np.median(levels, axis=1) > _LIGHT)[:, None, None, None]


def _of_ink(render):
    """A rendering of light ink on a dark ground, of dark ink as well.

    What comes in from outside is then paper, and what gets thicker is the pen.
    """

    def render_either(images, strength):
        light = _on_light_paper(images)
        rendered = render(np.where(light, 1 - images, images), strength)
        return np.where(light, 1 - rendered, rendered)

    return render_either


def _thicken(images, share):
    from scipy import ndimage

    thick = ndimage.grey_dilation(images, footprint=_cross((1, 3, 3, 1)))
    return images + share * (thick - images)


def _thin(images, share):
    from scipy import ndimage

    thin = ndimage.grey_erosion(images, footprint=_cross((1, 3, 3, 1)))
    return images + share * (thin - images)


def _cross(size):
    footprint = np.zeros(size, bool)
    footprint[0, 1, :, 0] = footprint[0, :, 1, 0] = True
    return footprint


def _transform(images, matrix, shift=(0.0, 0.0), mode="constant"):
    """Pixels from `matrix` times output positions, both from the centre, bilinear."""
    from scipy import ndimage

    full = np.eye(4)
    full[1:3, 1:3] = matrix
    centre = (np.array(images.shape[1:3]) - 1) / 2
    offset = np.zeros(4)
    offset[1:3] = centre - np.asarray(matrix) @ centre - np.asarray(shift)
    return ndimage.affine_transform(images, full, offset, order=1, mode=mode)


def _rotate(images, degrees):
    """Turned to the left, which is against the clock, about the centre."""
    # Rows go down, and the matrix leads from output to input pixels.
    turn = -np.deg2rad(degrees)
    return _transform(
        images, [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    )


def _shear(images, amount):
    return _transform(images, [[1.0, 0.0], [amount, 1.0]])


def _zoom(images, factor):
    return _transform(images, np.eye(2) / factor)


def _shift(images, share):
    return _transform(
        images, np.eye(2), shift=[share * size for size in images.shape[1:3]]
    )


def _add_noise(images, sigma):
    generator = np.random.default_rng(20_26)
    return images + sigma * generator.standard_normal(images.shape, np.float32)


def _cast_colour(images, amount):
    gains = np.array([1.0 + amount, 1.0, 1.0 - amount], np.float32)
    return images * gains if images.shape[-1] == 3 else images


for _rendering in (
    Rendering("blur", "blur, sigma {} px", (0.5, 0.8, 1.2), 2, _blur),
    Rendering("sharpen", "sharpened by {}", (0.5, 1.0), 1, _sharpen),
    Rendering(
        "reduced_bilinear",
        "reduced to {} and back, bilinear",
        (0.8, 0.65, 0.5),
        2,
        lambda images, factor: _resample(images, factor, "bilinear", "bilinear"),
    ),
    Rendering(
        "enlarged_bicubic",
        "enlarged {} times bicubically and back",
        (4.0,),
        1,
        lambda images, factor: _resample(images, factor, "bicubic", "bicubic"),
    ),
    Rendering(
        "enlarged_bilinear",
        "enlarged {} times bilinearly and back",
        (4.0,),
        1,
        lambda images, factor: _resample(images, factor, "bilinear", "bilinear"),
    ),
    Rendering("jpeg", "JPEG, quality {}", (75, 40, 20), 2, _compress, needs_file=True),
    Rendering(
        "darker", "brightness times {}", (0.85, 0.7, 0.5), 2, lambda x, by: x * by
    ),
    Rendering("lighter", "brightness plus {}", (0.05, 0.15), 1, lambda x, by: x + by),
    Rendering(
        "contrast",
        "contrast {} about grey",
        (0.9, 0.8, 0.6),
        2,
        lambda x, by: 0.5 + by * (x - 0.5),
    ),
    Rendering("gamma_bright", "gamma {}", (0.8, 0.6), 1, lambda x, g: x**g),
    Rendering("gamma_dark", "gamma {}", (1.25, 1.7), 1, lambda x, g: x**g),
    Rendering("noise", "noise, sigma {}", (0.03, 0.08), 1, _add_noise),
    Rendering(
        "thicker", "pen thicker by {}", (0.5, 1.0), 1, _of_ink(_thicken), (DRAWING,)
    ),
    Rendering(
        "thinner", "pen thinner by {}", (0.3, 0.6), 1, _of_ink(_thin), (DRAWING,)
    ),
    Rendering(
        "binary",
        "binary at {}",
        (0.5,),
        1,
        lambda x, level: (x > level).astype(np.float32),
        (DRAWING,),
    ),
    Rendering(
        "turn_left", "turned left by {} degrees", (5, 10, 15), 2, _of_ink(_rotate)
    ),
    Rendering(
        "turn_right",
        "turned right by {} degrees",
        (5, 10, 15),
        2,
        _of_ink(lambda x, degrees: _rotate(x, -degrees)),
    ),
    Rendering("zoom_in", "zoomed {} times", (1.1, 1.2), 1, _of_ink(_zoom)),
    Rendering("zoom_out", "zoomed {} times", (0.9, 0.8), 1, _of_ink(_zoom)),
    Rendering("shear", "sheared by {}", (0.1, 0.2), 1, _of_ink(_shear)),
    Rendering("shift", "shifted by {} of the size", (0.05, 0.1), 1, _of_ink(_shift)),
    Rendering("warm", "colour cast {}", (0.1, 0.25), 1, _cast_colour, (PHOTO,), True),
):
    register(_rendering)
