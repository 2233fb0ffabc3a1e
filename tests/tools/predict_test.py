"""The command `ood-predict`, as it is typed."""

import csv
import io
import os
import struct
import subprocess
import sys
import types
import zlib

import numpy as np
import pytest
from export.small_export import Exported
from PIL import Image

from ood_keras import export, image_files
from ood_keras.inference import loading
from ood_keras.tools import predict
from ood_keras.workflows import prediction


@pytest.fixture(scope="module")
def exported(compared_in_this_process, tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def edge(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("edge")
    known = {"known_images": exported.images}
    export.tflite(exported.path, folder / "tflite", formats=["int8"], **known)
    export.onnx(exported.path, folder / "onnx", **known)
    return {
        "tflite": folder / "tflite/int8/model.tflite",
        "onnx": folder / "onnx/model.onnx",
    }


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for row in range(10):
        Image.fromarray(exported.pixels[row, ..., 0]).save(folder / f"{row}.png")
    (folder / "junk.png").write_bytes(b"junk")
    return folder


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["ood-predict", *map(str, arguments)])
    try:
        predict.main()
        status = 0
    except SystemExit as stop:
        status = stop.code
    finally:
        predict._FLAGS.unparse_flags()
        for name in predict._FLAGS:
            predict._FLAGS[name].unparse()
    return status, *capsys.readouterr()


def test_it_prints_a_line_per_image_and_a_summary(
    exported, folder, monkeypatch, capsys, tmp_path
):
    picture = tmp_path / "answers.png"
    status, out, error = run(
        monkeypatch, capsys, f"--model={exported.path}", f"--picture={picture}", folder
    )
    assert status == 0, error
    lines = out.splitlines()
    assert len(lines) == 13 and lines[0].split() == ["image", "label", "ood_score"]
    assert "no readable image" in lines[11] and "__unknown__" in lines[11]
    accepted = export.load(exported.path).predict(exported.images[:10])["accepted"]
    assert lines[12].startswith(
        f"11 images: {accepted.sum()} accepted, {(~accepted).sum()} rejected, "
        "1 unreadable; "
    )
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_is_scored_is_drawn_whatever_else_the_file_holds(
    exported, monkeypatch, capsys, tmp_path
):
    """Chunks that the rules ignore, and that Pillow alone would refuse to open."""
    long = b"a\0\0" + zlib.compress(bytes(2**24))
    for name, kind, data in (("wrong", b"tEXt", b"a\0b"), ("long", b"zTXt", long)):
        file = io.BytesIO()
        Image.fromarray(exported.pixels[0, ..., 0]).save(file, "PNG")
        content = file.getvalue()
        checksum = zlib.crc32(kind + data) ^ (name == "wrong")
        chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
        path = tmp_path / "pictures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content[:33] + chunk + content[33:])
        with pytest.raises((OSError, ValueError)):
            Image.open(path).load()
    picture = tmp_path / "answers.png"
    status, out, error = run(
        monkeypatch,
        capsys,
        f"--model={exported.path}",
        f"--picture={picture}",
        tmp_path / "pictures",
    )
    assert status == 0, error
    assert " 0 unreadable" in out and picture.is_file()


def test_it_explains_what_it_rejects(exported, folder, monkeypatch, capsys, tmp_path):
    explained = tmp_path / "explained"
    arguments = [f"--model={exported.path}", f"--explain={explained}", "--threshold"]
    scores = export.load(exported.path).predict(exported.images[:10])["ood_score"]
    # Two of the ten, so that few runs are needed.
    threshold = np.sort(scores)[-3]
    arguments[-1] += f"={threshold}"
    status, out, error = run(monkeypatch, capsys, *arguments, folder)
    assert status == 0, error
    assert out.splitlines()[-1].startswith("Explained: 2 of 2 rejected images (at most")
    names = sorted(path.name for path in explained.iterdir())
    expected = [f"{row}.png" for row in np.flatnonzero(scores > threshold)]
    assert [name.split("_", 1)[1] for name in names] == expected
    assert [name.split("_", 1)[0] for name in names] == ["001", "002"]
    with Image.open(explained / names[0]) as picture:
        height, width, _ = exported.images.shape[1:]
        assert picture.width / picture.height == 2 * width / height
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    left, right = np.split(pixels, 2, axis=1)
    # The image as it is, of grey levels, and the same with red.
    assert np.ptp(left, axis=2).max() == 0
    assert np.all(right[..., 0] >= right[..., 1])
    status, _, error = run(monkeypatch, capsys, *arguments, folder)
    assert status == 1 and "name a new folder" in error


def test_it_draws_the_nearest_known_image(
    exported, folder, monkeypatch, capsys, tmp_path
):
    """The image itself, turned dark, is among the known ones."""
    known = exported.pixels[:10] // 2
    path = export.saved_model(
        exported.model,
        exported.detector,
        exported.threshold,
        tmp_path / "1",
        known_examples=export.KnownExamples(known, np.arange(10) % 3, [0.0]),
    )
    scores = export.load(path).predict(exported.images[:10])["ood_score"]
    explained = tmp_path / "explained"
    status, _, error = run(
        monkeypatch,
        capsys,
        f"--model={path}",
        f"--explain={explained}",
        f"--threshold={np.sort(scores)[-2]}",
        folder,
    )
    assert status == 0, error
    features = export.load(path).features
    seen = features(exported.images[[scores.argmax()]])["features"][0]
    others = features(known / np.float32(255))["features"]
    nearest = (others @ seen / np.linalg.norm(others, axis=1)).argmax()
    (drawn,) = explained.iterdir()
    with Image.open(drawn) as picture:
        height, width, _ = exported.images.shape[1:]
        assert picture.width / picture.height == 3 * width / height
        pixels = np.split(np.asarray(picture.convert("L")).astype(int), 3, axis=1)[2]
    factor = len(pixels) // height
    np.testing.assert_array_equal(pixels[::factor, ::factor], known[nearest, ..., 0])


def test_it_writes_a_file_at_an_operating_point(
    exported, folder, monkeypatch, capsys, tmp_path
):
    output = tmp_path / "answers.csv"
    status, out, error = run(
        monkeypatch,
        capsys,
        f"--model={exported.path}",
        f"--output={output}",
        "--operating_point=strict",
        "--probabilities",
        f"{folder}/*.png",
    )
    assert status == 0 and "11 images" in out and str(output) in out
    assert "images/s" not in error  # The progress bar is for terminals.
    with open(output, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = export.load(exported.path).predict(exported.images[:10], "strict")
    assert [row["label"] for row in rows[:10]] == list(expected["label"])
    assert float(rows[0]["probability_δύο"]) == pytest.approx(
        expected["probabilities"][0, 2], abs=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model={model}"], "no image was given"),
        (["--model={model}", "gone.png"], "no such image file: gone.png"),
        (["--model={folder}", "{folder}"], "is not an exported model"),
        (["--model={model}", "--output=a.xls", "{folder}"], ".parquet"),
        (["--model={model}", "--operating_point=lax", "{folder}"], "has: strict"),
        (
            ["--model={model}", "--operating_point=strict", "--threshold=1", "x"],
            "not both",
        ),
        (["--model={model}", "--probabilities", "{folder}"], "give --output too"),
        (
            ["--model={model}", "--output=a.csv", "--picture=a.png", "{folder}"],
            "leave out --output",
        ),
        (
            ["--model={model}", "--output=a.csv", "--explain=a", "{folder}"],
            "leave out --output",
        ),
        (
            ["--model={model}", "--output=a.csv", "--share=0/2", "{folder}"],
            "--share need --shards",
        ),
        (
            ["--model={model}", "--output=a", "--shards=2", "--share=2/2", "{folder}"],
            "a share is K/N",
        ),
    ],
)
def test_mistakes_are_one_line(
    exported, folder, monkeypatch, capsys, arguments, message
):
    arguments = [
        argument.format(model=exported.path, folder=folder) for argument in arguments
    ]
    status, _, error = run(monkeypatch, capsys, *arguments)
    assert status == 1 and message in error
    assert error.startswith("ood-predict: error: ") and error.count("\n") == 1


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_files_for_devices_need_no_tensorflow(kind, edge, folder, exported, tmp_path):
    assert loading.kind_of(edge[kind]) == loading.kind_of(edge[kind].parent) == kind
    output = tmp_path / "answers.csv"
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name in ('tensorflow', 'keras'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from ood_keras.tools.predict import main\n"
        "main()\n"
        "print(*sys.modules)\n"
    )
    arguments = (f"--model={edge[kind]}", f"--output={output}", folder)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not {"scipy", "sklearn", "matplotlib"} & loaded
    assert not {"tensorflow", "keras"} & loaded
    with open(output, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["valid"] for row in rows] == ["true"] * 10 + ["false"]
    expected = export.load(edge[kind]).predict(exported.images[:10])
    assert [row["label"] for row in rows[:10]] == list(expected["label"])
    scores = np.array([row["ood_score"] for row in rows[:10]], np.float32)
    np.testing.assert_allclose(scores, expected["ood_score"], atol=1e-5)


def test_any_name_fits_into_a_line(exported, tmp_path):
    (tmp_path / "a\n\x1b[31m.png").write_bytes(b"")
    lines = list(prediction.table(model=exported.path, paths=[tmp_path]))
    assert len(lines) == 3 and r"a\n\x1b[31m.png" in lines[1]
    assert all(line.isprintable() for line in lines)


def test_any_error_and_any_label_fit_into_a_line(exported, tmp_path, monkeypatch):
    names = [b"bad\xff.tfrecord", b"n\new\x1b[31m.tfrecord"]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(b"no records at all")
    lines = list(prediction.table(model=exported.path, paths=[tmp_path]))
    assert len(lines) == 4 and "bad\\udcff.tfrecord is corrupt" in lines[1]
    row = {"path": "a.png", "index": None, "label": "two\nlines", "error": None}
    row |= {"ood_score": 1.0, "accepted": True, "valid": True}
    monkeypatch.setattr(export, "score", lambda *_, **__: [row])
    lines += prediction.table(model=exported.path, paths=["a.png"])
    assert r"two\nlines" in lines[5]
    assert all(line.isprintable() for line in lines)


def test_any_name_of_an_output_can_be_said(exported, folder, capsys, monkeypatch):
    output = folder.parent / os.fsdecode(b"answers\xff.csv")
    status, out, error = run(
        monkeypatch, capsys, f"--model={exported.path}", f"--output={output}", folder
    )
    assert status == 0, error
    assert out.endswith("answers\\udcff.csv\n") and output.is_file()


def test_negatives_of_the_known_images_are_noticed(tmp_path, monkeypatch, capsys):
    """A pen on paper is dark on light; every digit of MNIST is light on dark."""
    known = export.load("saved_models/mnist/1").known_examples.images[:6, ..., 0]
    said = []
    for name, pixels in (("paper", 255 - known), ("scan", known)):
        (tmp_path / name).mkdir()
        for row, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / name / f"{row}.png")
        status, out, _ = run(
            monkeypatch, capsys, "--model=saved_models/mnist/1", tmp_path / name
        )
        assert status == 0
        said.append("give their negatives" in out)
    assert said == [True, False]


@pytest.mark.parametrize("upright", [True, False])
def test_pictures_are_looked_at_again_as_they_were_scored(
    upright, tmp_path, monkeypatch
):
    """On the model's background, and turned only by a model that turns them."""
    alpha = np.zeros((40, 40, 4), np.uint8)
    alpha[:, 20:] = 255  # Transparent on the left, white on the right.
    Image.fromarray(alpha).save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[image_files.ORIENTATION_TAG] = 3
    Image.fromarray(alpha[..., :3]).save(tmp_path / "b.jpg", exif=exif)
    model = types.SimpleNamespace(
        image_shape=(28, 28, 1),
        background=0,
        exif_orientation=upright,
        known_examples=types.SimpleNamespace(images=None),
    )
    seen = []
    monkeypatch.setattr(
        prediction.ground, "describe_negative", lambda _, images: seen.extend(images)
    )
    rejected = {"index": None, "valid": True, "accepted": False}
    rows = [{"path": str(tmp_path / name), **rejected} for name in ("a.png", "b.jpg")]
    prediction._describe_negative(model, rows, {})
    halves = [
        [image[:, :20].mean() > 0.5, image[:, 36:].mean() > 0.5] for image in seen
    ]
    assert halves == [[False, True], [upright, not upright]]
