"""Training, the runtimes without TensorFlow and the graph read the same files.

20,000 more: `python benchmarks/file_agreement.py`.
"""

import io
import zipfile

import file_agreement
import jpeg_variants
import numpy as np
import pytest
from PIL import Image

from ood_keras import image_files, resizing, transcoding
from ood_keras.inference import pillow_decoder
from ood_keras.pipelines.sources import pictures


# Of few sizes, since each is a graph to make.
@pytest.mark.parametrize(
    ("background", "count", "sizes"),
    [(255, 450, ((17, 13),)), (77, 100, ((150, 130),))],
)
def test_the_three_paths_agree_on_every_file(background, count, sizes):
    counts, disagreements = file_agreement.compare(count, background, background, sizes)
    assert not disagreements, [
        (kind, what, content[:2000]) for kind, content, what in disagreements[:5]
    ]
    totals = {
        name: sum(counted.get(name, 0) for counted in counts.values())
        for name in ("read", "refused", "rounded", "behind_the_rows")
    }
    assert totals["read"] + totals["refused"] + totals["behind_the_rows"] == count
    assert totals["behind_the_rows"] < 0.05 * count
    # Neither all nor none, or nothing was compared.
    assert totals["read"] > 0.3 * count and totals["refused"] > 0.2 * count
    assert totals["rounded"] < 0.02 * count
    assert counts["png/whole"].keys() == counts["jpeg/whole"].keys()
    assert not counts["png/whole"].get("refused")
    assert not counts["jpeg/whole"].get("refused")


def test_the_three_paths_heed_the_same_notes_on_which_side_is_up():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (17, 13, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", progressive=True)
    contents = [
        jpeg_variants.join(
            jpeg_variants._camera_note(generator, jpeg_variants.parse(file.getvalue()))
        )
        for _ in range(150)
    ]
    turned = [image_files.read(content).shape[:2] != (17, 13) for content in contents]
    assert 10 < sum(turned) < 140
    paths = file_agreement._paths(255)
    answers = [
        path(contents, (17, 13, 3))
        for path in (paths.training, paths.edge, paths.graph)
    ]
    for answer in zip(*answers, strict=True):
        assert answer[0] is not None
        what, levels = file_agreement.difference(*answer)
        assert not what and levels <= 1
    different = {answer.tobytes() for answer in answers[0]}
    assert len(different) == 8


def test_how_colours_are_stored_must_stand_before_the_pixels():
    """Behind them, TensorFlow's decoder still inverted what Pillow's had not."""
    generator = np.random.default_rng(0)
    paths = file_agreement._paths(255)
    for mode, progressive in (("RGB", False), ("CMYK", False), ("CMYK", True)):
        image = generator.integers(0, 256, (17, 13, len(mode))).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(image, mode).save(file, "JPEG", progressive=progressive)
        segments = jpeg_variants.parse(file.getvalue())
        moved = jpeg_variants._colours_behind_the_scan(generator, segments)
        content = jpeg_variants.join(moved)
        for path in (paths.training, paths.edge, paths.graph):
            assert path([content], (17, 13, 3)) == [None]
        with pytest.raises(image_files.Refused, match="colours are stored"):
            image_files.read(content)


def test_other_formats_and_large_photographs_are_read_alike(monkeypatch):
    """Training reads the file; the others what `ood-predict` gives them."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (4, 17, 13, 4)).astype(np.uint8)
    contents = []
    kinds = [("TIFF", 4), ("TIFF", 3), ("BMP", 3), ("GIF", 3), ("WEBP", 4)]
    if "AVIF" in transcoding.formats():
        kinds += [("AVIF", 4), ("AVIF", 3)]
    if "HEIC" in transcoding.formats():
        import pillow_heif

        pillow_heif.register_heif_opener()
        kinds += [("HEIF", 4), ("HEIF", 3)]
    for image in images:
        for kind, channels in kinds:
            file = io.BytesIO()
            Image.fromarray(image[..., :channels]).save(file, kind)
            contents.append(file.getvalue())
        file = io.BytesIO()
        Image.fromarray(image[..., :3]).resize((26, 34)).save(file, "JPEG")
        contents.append(file.getvalue())
    # So the JPEG of 26 x 34 is a large one, and is halved.
    monkeypatch.setattr(image_files, "MAX_PIXELS", 400)
    # Graphs that another test has made.
    paths = file_agreement._paths(255)
    served = [transcoding.as_read(content) for content in contents]
    assert all(content.startswith(image_files.PNG) for content in served)
    for shape in ((17, 13, 3), file_agreement.SMALL):
        trained = [
            resizing.adapt(pictures.decode(content, "x")[np.newaxis], shape)[0]
            for content in contents
        ]
        answers = (trained, paths.edge(served, shape), paths.graph(served, shape))
        for answer in zip(*answers, strict=True):
            assert answer[1] is not None
            what, levels = file_agreement.difference(*answer)
            assert not what and levels <= (shape == file_agreement.SMALL)


@pytest.mark.parametrize("format", ["AVIF", "HEIC", "TIFF", "WEBP", "JPEG"])
def test_what_a_turned_camera_wrote_is_read_alike(format, monkeypatch):
    """A JPEG is a large one, and is halved; HEIC and AVIF say it in their own boxes."""
    if format not in transcoding.formats():
        pytest.skip(f"nothing here reads {format}: {transcoding.find_cure(format)}")
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    # Smooth, and so large that no format changes it much; one size for all turns.
    image = np.asarray(Image.fromarray(image).resize((26, 34), Image.BICUBIC))
    contents = [turned_file(image, format, turn) for turn in range(1, 9)]
    monkeypatch.setattr(image_files, "MAX_PIXELS", 26 * 34 - (format == "JPEG"))
    paths = file_agreement._paths(255)
    served = [transcoding.as_read(content) for content in contents]
    trained = [pictures.decode(content, "x") for content in contents]
    for turn, pixels in enumerate(trained, start=1):
        expected = image_files.turn(image, turn)
        if format == "JPEG":
            height, width = (side // 2 for side in expected.shape[:2])
            expected = resizing.adapt(expected[np.newaxis], (height, width, 3))[0]
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).mean() < 6
    # The shapes of the graphs that another test has made.
    for shape in ((17, 13, 3), file_agreement.SMALL):
        answers = (
            [resizing.adapt(pixels[np.newaxis], shape)[0] for pixels in trained],
            paths.edge(served, shape),
            paths.graph(served, shape),
        )
        for answer in zip(*answers, strict=True):
            assert answer[1] is not None
            what, levels = file_agreement.difference(*answer)
            assert not what and levels <= 1


def turned_file(image, format, orientation):
    """A file of an image that a camera held that way has noted so."""
    exif = Image.Exif()
    exif[image_files.ORIENTATION_TAG] = orientation
    options = {"exif": exif}
    if format == "HEIC":
        import pillow_heif

        pillow_heif.register_heif_opener()
        # Only of bytes does it make the boxes that turn the picture.
        format, options["exif"] = "HEIF", exif.tobytes()
    if format != "TIFF":
        options["quality"] = 95
    file = io.BytesIO()
    Image.fromarray(image).save(file, format, **options)
    return file.getvalue()


def test_a_difference_is_seen():
    image = np.full((2, 2, 1), 7, np.uint8)
    assert file_agreement.difference(None, None, None) == ("", 0)
    assert file_agreement.difference(image, image, image) == ("", 0)
    assert file_agreement.difference(image, image, image + 2) == ("", 2)
    what, _ = file_agreement.difference(image, None, image)
    assert what == "read by training and graph only"
    what, _ = file_agreement.difference(image, image + 1, image)
    assert what == "other pixels on the edge than in training"


@pytest.mark.real_data
def test_photographs_of_cameras_are_read_alike(real_data_dir):
    path = real_data_dir / "camera_photos" / "images.zip"
    if not path.is_file():
        pytest.skip(f"no photographs in {path}")
    paths = file_agreement.Paths(255)
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        contents = [archive.read(name) for name in names]
    for shape in (file_agreement.SMALL,):
        answers = [
            path(contents, shape) for path in (paths.training, paths.edge, paths.graph)
        ]
        for name, answer in zip(names, zip(*answers, strict=True), strict=True):
            assert answer[0] is not None, name
            what, levels = file_agreement.difference(*answer)
            assert not what and levels <= 1, name
    # One scene, stored in the eight orientations.
    scenes = [
        content
        for name, content in zip(names, contents, strict=True)
        if "landscape_" in name
    ]
    assert len(scenes) == 8

    def spread(exif_orientation):
        shown = np.array(
            [
                pillow_decoder.decode(content, (24, 32, 1), 255, exif_orientation)
                for content in scenes
            ],
            float,
        )
        return np.abs(shown - np.median(shown, axis=0)).mean()

    assert spread(True) < 0.3 * spread(False)
