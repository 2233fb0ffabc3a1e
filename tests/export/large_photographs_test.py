"""Phone pictures of real size are reduced while they are decoded: memory says so."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from small_export import IMAGE_SHAPE

from ood_keras import export, image_files, resizing
from ood_keras.inference import pillow_decoder

pytest.importorskip("resource", reason="nobody says here what memory a process had")
pytestmark = pytest.mark.slow

SCRIPT = pathlib.Path(__file__).with_name("large_photographs.py")
# The first is turned: it is stored lying, and shown standing.
SIZES = {"48": (8064, 6048, 6), "108": (12000, 9000, 1)}


@pytest.fixture(scope="module")
def picture():
    """A few smooth colours, which no reducing changes."""
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(colours)


@pytest.fixture(scope="module")
def photographs(picture, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    paths = {"small": folder / "small.jpg"}
    picture.resize((400, 300), Image.BICUBIC).save(paths["small"])
    for name, (width, height, orientation) in SIZES.items():
        exif = Image.Exif()
        exif[image_files.ORIENTATION_TAG] = orientation
        paths[name] = folder / f"{name}.jpg"
        large = picture.resize((width, height), Image.BICUBIC)
        large.save(paths[name], quality=95, exif=exif)
    return paths


@pytest.fixture(scope="module")
def read(exported, photographs, tmp_path_factory):
    """A function that reads by a path, in a process of its own."""

    def read(path, names):
        folder = tmp_path_factory.mktemp(path)
        files = [photographs[name] for name in ("small", *names)]
        result = subprocess.run(
            [sys.executable, SCRIPT, path, exported.path, folder, *files],
            capture_output=True,
            text=True,
            cwd=SCRIPT.parents[2],
        )
        assert result.returncode == 0, result.stderr[-2000:]
        return dict(zip(names, json.loads(result.stdout.splitlines()[-1]), strict=True))

    return read


@pytest.fixture(scope="module")
def whole(read):
    """What a photograph takes that is not reduced, by its size, from that of one."""
    (found,) = read("whole", ["48"]).values()
    assert tuple(found["shape"]) == (8064, 6048, 3)
    per_pixel = found["grown"] / (8064 * 6048)
    # As Pillow has it and as an array alone.
    assert per_pixel > 7
    return lambda name: per_pixel * SIZES[name][0] * SIZES[name][1]


@pytest.fixture(scope="module")
def trained(read):
    return read("training", SIZES)


def test_training_reads_them_in_the_memory_of_reduced_ones(trained, picture, whole):
    for name, (width, height, orientation) in SIZES.items():
        shape = (height // 2, width // 2, 3)
        if orientation > 4:
            shape = (shape[1], shape[0], 3)
        assert tuple(trained[name]["shape"]) == shape
        shown = image_files.turn(np.asarray(picture.resize((400, 300))), orientation)
        expected = resizing.adapt(shown[np.newaxis], IMAGE_SHAPE)[0]
        np.testing.assert_allclose(trained[name]["small"], expected, atol=8)
        # A quarter of the pixels is left.
        assert trained[name]["grown"] < whole(name) / 2


@pytest.mark.parametrize("path", ["predict", "demo"])
def test_what_answers_reads_them_in_the_memory_of_reduced_ones(
    path, read, trained, photographs, exported, whole
):
    found = read(path, SIZES)
    for name, answer in found.items():
        assert answer["valid"] and answer["error"] is None
        assert answer["grown"] < whole(name) / 2
        # A graph alone refuses what is not reduced.
        content = photographs[name].read_bytes()
        assert pillow_decoder.decode(content, IMAGE_SHAPE) is None
        small = np.array(trained[name]["small"], np.float32)[np.newaxis] / 255
        expected = export.load(exported.path).predict(small)["ood_score"]
        assert answer["ood_score"] == pytest.approx(expected.item(), abs=1e-3)
