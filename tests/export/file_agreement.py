"""Whether training, the runtimes without TensorFlow and the graph read files alike."""

import collections
import functools

import jpeg_variants
import malformed
import numpy as np
import png_variants
import tensorflow as tf

from ood_keras import image_files, resizing
from ood_keras.export import image_bytes
from ood_keras.inference import pillow_decoder
from ood_keras.pipelines.sources import pictures

# Few, since each is a graph; among them one pixel, less than a block of a JPEG, less
# than the passes of a laced PNG, more than a block in both directions, and enough for
# files that the graph does not unpack apart from their pixels.
SIZES = ((1, 1), (3, 2), (1, 9), (17, 13), (40, 33), (150, 130))
_SHARES = {(150, 130): 0.05}
# Shrunk, enlarged, and grey: here a value may lie half way between two levels, and sums
# of another order round it to the other. One level is allowed, and counted.
SMALL = (12, 10, 1)
_READ_BY_ALL = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_BATCH = 64


def files(count, seed=0, sizes=SIZES):
    """Yields `(kind, content, (height, width))`: PNG, JPEG and other files.

    The size is one of `sizes`, the one that the file was made with; it need not say so
    any more.
    """
    shares = np.array([_SHARES.get(size, 0.2) for size in sizes])
    generator = np.random.default_rng(seed)
    damaged = malformed.files(count, seed)
    for index in range(count):
        which = generator.choice(len(sizes), p=shares / shares.sum())
        height, width = sizes[int(which)]
        if index % 10 == 9:
            kind, content = next(damaged)
            yield f"any/{kind}", content, (height, width)
        elif index % 2:
            kind, content = jpeg_variants.variant(generator, width, height)
            yield f"jpeg/{kind}", content, (height, width)
        else:
            kind, content = png_variants.variant(generator, width, height)
            yield f"png/{kind}", content, (height, width)


class Paths:
    """The three ways in which a file becomes pixels, on one background.

    Each takes `(contents, image_shape)` and returns the uint8 pixels of each file,
    `None` for what it refuses.

    Args:
        background: Grey level that transparent pixels are laid on.
    """

    def __init__(self, background):
        self._background = background
        self._graphs = {}

    def training(self, contents, image_shape):
        return [
            None
            if pixels is None
            else resizing.adapt(pixels[np.newaxis], image_shape)[0]
            for pixels in map(self.trained, contents)
        ]

    def trained(self, content):
        """What training reads, in the file's own size."""
        # Of other formats, the others get what `transcoding` makes of them.
        if not content.startswith(_READ_BY_ALL):
            return None
        try:
            return pictures.decode(content, "file", self._background)
        except ValueError:
            return None

    def edge(self, contents, image_shape):
        return [
            pillow_decoder.decode(content, image_shape, self._background)
            for content in contents
        ]

    def graph(self, contents, image_shape):
        if image_shape not in self._graphs:
            self._graphs[image_shape] = tf.function(
                lambda contents: image_bytes.decode(
                    contents, image_shape, self._background
                ),
                input_signature=[tf.TensorSpec([None], tf.string)],
                autograph=False,
            )
        images = self._graphs[image_shape](tf.constant(contents, tf.string)).numpy()
        refused = np.isnan(images).any((1, 2, 3))
        assert (refused == np.isnan(images).all((1, 2, 3))).all()
        return [
            None if missing else np.rint(image * 255).astype(np.uint8)
            for image, missing in zip(images, refused, strict=True)
        ]


# Its graphs are made once.
_paths = functools.cache(Paths)


def compare(count, seed=0, background=255, sizes=SIZES):
    """Sends `count` files down the three paths, in their own size and in `SMALL`.

    Two things are allowed, and counted:

    * "rounded": see `SMALL`.
    * "behind_the_rows": a long PNG with something behind its last row, or without an
      end of its zlib stream, which training and edge refuse and the graph reads.
      TensorFlow unpacks a zlib stream whole or not at all, so the graph cannot look
      whether there is more of a long one without making room for all of it.

    Returns:
        `(counts, disagreements)`: `{kind: {"read", "refused", "rounded",
        "behind_the_rows"}}`, of which "rounded" ones are also "read", and `(kind,
        content, what)` of what is not allowed.
    """
    paths = _paths(background)
    waiting = collections.defaultdict(list)
    counts = collections.defaultdict(collections.Counter)
    disagreements = []
    for kind, content, size in files(count, seed, sizes):
        waiting[size].append((kind, content))
        if len(waiting[size]) == _BATCH:
            _compare(paths, waiting.pop(size), size, counts, disagreements)
    for size, batch in waiting.items():
        _compare(paths, batch, size, counts, disagreements)
    return {kind: dict(counts[kind]) for kind in sorted(counts)}, disagreements


def _compare(paths, batch, size, counts, disagreements):
    contents = [content for _, content in batch]
    whats = [[] for _ in batch]
    read, rounded = [False] * len(batch), [False] * len(batch)
    for shape in ((*size, 3), SMALL):
        answers = [
            path(contents, shape) for path in (paths.training, paths.edge, paths.graph)
        ]
        for row, answer in enumerate(zip(*answers, strict=True)):
            what, levels = difference(*answer)
            read[row] = answer[0] is not None
            if not what and levels:
                exact = (
                    paths.trained(contents[row]).shape[:2] == size and shape != SMALL
                )
                if exact or levels > 1:
                    what = f"levels differ by {levels} in the graph"
                rounded[row] = True
            if what:
                whats[row].append(f"{shape}: {what}")
    for (kind, content), what, is_read, is_rounded in zip(
        batch, whats, read, rounded, strict=True
    ):
        if what and _is_behind_the_rows(content, what):
            counts[kind]["behind_the_rows"] += 1
        elif what:
            disagreements.append((kind, content, "; ".join(what)))
        else:
            counts[kind]["read" if is_read else "refused"] += 1
            counts[kind]["rounded"] += is_rounded


def _is_behind_the_rows(content, what):
    """Whether the graph may read a file that the others refuse."""
    if any("read by graph only" not in one for one in what):
        return False
    try:
        image_files.read(content)
    except image_files.Refused as error:
        reasons = ("more behind its last row", "the end and the checksum")
        # No chunk but IDAT is long here.
        longer = len(content) * image_files.DEFLATE_RATIO > image_bytes.MAX_UNPACKED
        return longer and any(reason in str(error) for reason in reasons)
    return False


def difference(training, edge, graph):
    """How the three differ: in words, and by how many levels the graph does."""
    found = {"training": training, "edge": edge, "graph": graph}
    read = [name for name, pixels in found.items() if pixels is not None]
    if not read:
        return "", 0
    if len(read) < len(found):
        return f"read by {' and '.join(read)} only", 0
    if not np.array_equal(training, edge):
        return "other pixels on the edge than in training", 0
    return "", int(np.abs(training.astype(int) - graph).max())
