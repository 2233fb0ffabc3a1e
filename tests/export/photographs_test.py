"""Photographs of cameras are answered alike, by whatever path they come to a model."""

import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from small_export import Python, Session, classifier

from ood_keras import (
    calibration,
    detectors,
    export,
    image_files,
    resizing,
    transcoding,
)
from ood_keras.pipelines.sources import pictures
from ood_keras.workflows import prediction
from ood_keras.workflows.demo import answers as demo_answers

IMAGE_SHAPE = (16, 14, 3)
CLASS_NAMES = ["apple", "bell_pepper", "orange"]
DECISIONS = ("class_id", "label", "accepted", "valid")
# Of what an export is allowed, see `export.fresh_process`, relative to the value or to
# 1. And where the graph of a SavedModel shrinks a picture: it may round a value that
# lies half way between two levels to the other, see `file_agreement`.
ROUNDING, OF_A_LEVEL = 1e-4, 1e-3


@pytest.fixture(scope="module")
def photographs(real_data_dir, tmp_path_factory):
    """A folder of them: those of the data set, in other formats, and of other sizes."""
    data = real_data_dir / "camera_photos"
    if not (data / "images.zip").is_file():
        pytest.skip(f"no photographs in {data}")
    folder = tmp_path_factory.mktemp("photographs")
    with zipfile.ZipFile(data / "images.zip") as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        for name in names:
            (folder / name.replace("/", " ")).write_bytes(archive.read(name))
        turned = archive.read("other/landscape_6.jpg")
    (folder / "phone.heic").write_bytes((data / "IMG_5195.HEIC").read_bytes())
    with Image.open(io.BytesIO(turned)) as picture:
        for kind in ("PNG", "TIFF", "WEBP", "GIF", "BMP", "AVIF"):
            if kind in transcoding.formats():
                picture.save(folder / f"saved.{kind.lower()}", kind)
        picture.convert("CMYK").save(folder / "ink.jpg", exif=picture.getexif())
        picture.resize((10, 10)).save(folder / "tiny.png")
        picture.resize((10_000, 100)).save(folder / "wide.jpg", exif=picture.getexif())
    outside = tmp_path_factory.mktemp("outside") / "photograph.jpg"
    outside.write_bytes(turned)
    (folder / "link.jpg").symlink_to(outside)
    assert len(names) == 63
    return folder


@pytest.fixture(scope="module")
def trained(photographs):
    """`{name: image}`, float32, of the files that training reads."""
    images = {}
    for path in sorted(photographs.iterdir()):
        if path.name == "phone.heic" and "HEIC" not in transcoding.formats():
            continue
        pixels = pictures.decode(path.read_bytes(), path)
        image = resizing.adapt(pixels[np.newaxis], IMAGE_SHAPE)[0]
        images[path.name] = image.astype(np.float32) / 255
    return images


@pytest.fixture(scope="module")
def exported(compared_in_this_process, trained, tmp_path_factory):
    """A function from a kind of file to one that takes photographs for many things."""
    images = np.stack(list(trained.values()))
    model = classifier(IMAGE_SHAPE)
    logits = model.predict(images, verbose=0)
    # Random weights find all pictures alike; so it is differences that decide.
    scale = 3 / logits.std(0)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * scale, (bias - logits.mean(0)) * scale])
    detector = detectors.get("unknown_probability", num_classes=3).fit(model)
    scores = np.sort(detector.score(images))
    # In the widest gap of the middle, where rounding decides nothing.
    first, last = 2 * len(scores) // 5, 3 * len(scores) // 4
    gaps = np.diff(scores[first:last])
    below = first + int(gaps.argmax())
    assert gaps.max() > 4 * OF_A_LEVEL
    threshold = dataclasses.replace(
        calibration.quantile(scores, 0.25),  # It promises less than it accepts.
        value=float(scores[below] + scores[below + 1]) / 2,
    )
    folder = tmp_path_factory.mktemp("exported")
    saved = export.saved_model(
        model,
        detector,
        threshold,
        folder / "1",
        class_names=CLASS_NAMES,
        sample_images=images,
    )
    made = {"saved_model": saved}

    def locate(kind):
        if kind not in made:
            options = {"formats": ["float32"]} if kind == "tflite" else {}
            convert = getattr(export, kind)
            convert(saved, folder / kind, known_images=images, **options)
            file = "tflite/float32/model.tflite" if options else "onnx/model.onnx"
            made[kind] = folder / file
        return made[kind]

    return locate


@pytest.fixture(scope="module")
def expected(exported, trained):
    """What the Python predictor says of training's pixels, `{name: answer}`."""
    answers = export.load(exported("saved_model")).predict(
        np.stack(list(trained.values()))
    )
    labels, counts = np.unique(answers["label"], return_counts=True)
    assert {"__unknown__"} < set(labels) and len(labels) > 2
    assert counts.max() < 0.8 * len(trained)
    return by_name(trained, answers)


def by_name(names, answers):
    columns = (*DECISIONS, "ood_score", "probabilities")
    return {
        name: {column: answers[column][row] for column in columns}
        for row, name in enumerate(names)
    }


def check(found, expected, allowed=OF_A_LEVEL):
    assert list(found) == list(expected)
    for name, answer in expected.items():
        for column in DECISIONS:
            assert found[name][column] == answer[column], (name, column)
        for column in ("ood_score", "probabilities"):
            np.testing.assert_allclose(
                found[name][column],
                answer[column],
                rtol=allowed,
                atol=allowed,
                err_msg=f"{name} {column}",
            )


@pytest.mark.real_data
@pytest.mark.parametrize("kind", ["saved_model", "tflite", "onnx"])
def test_the_command_answers_files_as_the_model_answers_trainings_pixels(
    kind, exported, photographs, expected, tmp_path
):
    output = tmp_path / "answers.jsonl"
    prediction.predict_to_file(
        model=exported(kind), paths=[photographs], output=output, probabilities=True
    )
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    found = {row["path"].rpartition("/")[2]: row for row in rows}
    assert {row["error"] for row in rows} == {None}
    check(found, expected, OF_A_LEVEL if kind == "saved_model" else ROUNDING)


@pytest.mark.real_data
def test_the_demo_answers_files_as_the_model_answers_trainings_pixels(
    exported, photographs, trained, expected
):
    demo = demo_answers.Demo(exported("saved_model"))
    found = {}
    for name in expected:
        answer = demo.file((photographs / name).read_bytes())
        assert answer.reason is None
        np.testing.assert_array_equal(answer.image, trained[name])
        label = answer.label if answer.accepted else "__unknown__"
        found[name] = {
            "class_id": CLASS_NAMES.index(label) if answer.accepted else -1,
            "label": label,
            "accepted": answer.accepted,
            "valid": answer.valid,
            "ood_score": answer.ood_score,
            "probabilities": answer.probabilities,
        }
    check(found, expected)


@pytest.mark.real_data
@pytest.mark.parametrize("path", ["session", "python", "saved_model", "tflite", "onnx"])
def test_what_takes_no_other_formats_answers_the_rest_and_rejects_those(
    path, exported, photographs, expected
):
    """Whoever asks a graph, or a predictor with bytes, converts before."""
    names = sorted(entry.name for entry in photographs.iterdir())
    contents = [(photographs / name).read_bytes() for name in names]
    if path in ("session", "python"):
        run = {"session": Session, "python": Python}[path](exported("saved_model"))
        answers = run("predict_bytes", image_bytes=np.array(contents, object))
        answers["label"] = [label.decode() for label in answers["label"]]
    else:
        answers = export.load(exported(path)).predict_bytes(contents)
    found = by_name(names, answers)
    others = {"phone.heic"} | {name for name in names if name.startswith("saved.")}
    others.discard("saved.png")
    for name, content in zip(names, contents, strict=True):
        if name not in others:
            continue
        answer = found.pop(name)
        decisions = [answer[column] for column in DECISIONS]
        assert decisions == [-1, "__unknown__", False, False], name
        assert not answer["probabilities"].any()
        with pytest.raises(image_files.Refused, match=r"neither PNG nor JPEG\. Conv"):
            image_files.read(content)
    read_by_all = {name: expected[name] for name in expected if name not in others}
    assert len(read_by_all) == 68
    check(found, read_by_all, ROUNDING if path in ("tflite", "onnx") else OF_A_LEVEL)
