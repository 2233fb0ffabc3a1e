"""Manifests that are not what export wrote, with checksums made anew."""

import copy
import json
import pathlib
import shutil

import numpy as np
import pytest

from ood_keras import calibration, export
from ood_keras.export import model_card
from ood_keras.inference import manifest, manifest_form
from ood_keras.inference.shipped_models import names as shipped_names

pytestmark = pytest.mark.usefixtures("compared_in_this_process")

KINDS = ("saved_model", "float32", "int8", "onnx")
# One value of every type that JSON has, and some that are nearly right.
VALUES = (
    None,
    True,
    0,
    -1,
    2.5,
    1e30,
    10**400,
    -(10**400),
    "",
    "text",
    [],
    [None],
    ["a", "a"],
    {},
    {"a": 1},
)


@pytest.fixture(scope="module")
def folders(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("forms")
    options = {"known_images": exported.images}
    export.tflite(
        exported.path, folder / "tflite", formats=["float32", "int8"], **options
    )
    export.onnx(exported.path, folder / "onnx", **options)
    return {
        "saved_model": exported.path,
        "float32": folder / "tflite" / "float32",
        "int8": folder / "tflite" / "int8",
        "onnx": folder / "onnx",
    }


@pytest.fixture(params=KINDS)
def folder(request, folders, tmp_path):
    return pathlib.Path(shutil.copytree(folders[request.param], tmp_path / "1"))


def rewrite(folder, content):
    """Writes a manifest with checksums that are right."""
    content = {**content}
    if isinstance(content.get("files"), dict):
        content["files"] = {
            name: manifest._measure(path)
            for name, path in manifest._files(folder).items()
        }
    content["manifest_sha256"] = manifest._own_checksum(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def stated(folder):
    return json.loads((folder / "manifest.json").read_text())


def changed(content, path, value):
    """A copy with the entry at `path` changed, or removed for `...`."""
    content = copy.deepcopy(content)
    *parents, last = path
    inner = content
    for name in parents:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return content


def paths_in(content, prefix=(), depth=4):
    for name in content:
        yield (*prefix, name)
        if isinstance(content[name], dict) and len(prefix) < depth:
            yield from paths_in(content[name], (*prefix, name), depth)


def test_what_export_writes_has_the_right_form(folders, exported):
    for path in folders.values():
        assert manifest_form.problems(stated(path)) == []
    for name in shipped_names():
        assert manifest_form.problems(stated(export.shipped(name))) == []


def test_wrong_types_are_errors_that_name_the_entry(folder):
    content = stated(folder)
    (folder / "manifest.json").unlink()
    tried = refused = 0
    for path in paths_in(content):
        for value in (..., *VALUES):
            if path[0] in ("files", "manifest_sha256"):
                continue
            new = changed(content, path, value)
            rewrite(folder, new)
            tried += 1
            try:
                read = manifest.read(folder)
            except ValueError as error:
                refused += 1
                assert str(folder) in str(error)
                # Once the checksums are right, the entry is named.
                if path != ("format",):
                    assert ".".join(path[:2]) in str(error) or path[0] in str(error)
                continue
            # What is let through is of no harm: it is what it was, or free in form.
            assert manifest_form.problems(read) == []
    assert tried > 500 and refused > 250


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["image", "range"], [-1, 1]),
        (["image", "range"], [0, 256]),
        (["image_bytes", "background"], 300),
        (["image_bytes", "background"], "white"),
        (["image_bytes", "background"], True),
        (["image_bytes", "exif_orientation"], "yes"),
        (["image_bytes", "max_pixels"], 0),
    ],
)
def test_what_is_said_of_pixels_must_be_what_export_writes(folder, path, value):
    rewrite(folder, changed(stated(folder), ["input", *path], value))
    with pytest.raises(
        ValueError, match=rf"not as export.*input\.{path[0]}\.{path[1]}"
    ):
        manifest.read(folder)


def test_a_manifest_without_files_says_what_they_become(folder):
    content = changed(stated(folder), ["input", "image_bytes"], None)
    assert manifest.background(content) is None
    assert manifest.exif_orientation(content) is False


def test_no_manifest_ends_in_anything_but_a_value_error(folder):
    content = stated(folder)
    paths = [
        path
        for path in paths_in(content, depth=3)
        if path[0] in ("class_names", "threshold", "operating_points", "input", "files")
        or len(path) == 1
    ]
    random = np.random.default_rng(0)
    for path in random.permutation(np.array(paths, object))[:8]:
        path = tuple(path) if not isinstance(path, str) else (path,)
        rewrite(folder, changed(content, path, VALUES[random.integers(len(VALUES))]))
        try:
            model = export.load(folder)
        except ValueError:
            continue
        shape = (2, *model.image_shape)
        assert len(model.predict(np.full(shape, 0.5, np.float32))["label"]) == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"null", b'"text"', b"\xff", b"[" * 5000, b"{}",
     b'{"manifest_sha256": 1, "files": [], "format": "1"}'],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read|was changed|not as export"):
        export.load(folder)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_that_are_none_are_refused(folder, number):
    content = stated(folder)
    content["threshold"]["value"] = "HERE"
    text = json.dumps(content).replace('"HERE"', number)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="cannot be read"):
        export.load(folder)


def test_two_entries_of_one_name_are_refused(folder):
    text = (folder / "manifest.json").read_text()
    assert text.startswith("{")
    (folder / "manifest.json").write_text('{"class_names": ["x", "y"], ' + text[1:])
    with pytest.raises(ValueError, match="cannot be read"):
        export.load(folder)


def with_names(content, names):
    return changed(content, ["class_names"], names)


CONTRADICTIONS = {
    "number of classes": lambda c: with_names(c, [*c["class_names"], "another"]),
    "class names": lambda c: with_names(c, c["class_names"][::-1]),
    "threshold": lambda c: changed(
        c, ["threshold", "value"], float(np.float32(c["threshold"]["value"] + 1))
    ),
    "shape of images": lambda c: changed(
        c, ["input", "image", "shape", 1], c["input"]["image"]["shape"][1] + 1
    ),
    "type of images": lambda c: changed(
        c,
        ["input", "image"],
        {**c["input"]["image"], **_OTHER_TYPE[c["input"]["image"]["dtype"]]},
    ),
}
_OTHER_TYPE = {
    "float32": {"dtype": "uint8", "range": [0, 255]},
    "uint8": {"dtype": "float32", "range": [0, 1]},
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_a_manifest_that_contradicts_its_graph_is_refused(folder, what):
    rewrite(folder, stated(folder))
    export.load(folder)
    rewrite(folder, CONTRADICTIONS[what](stated(folder)))
    with pytest.raises(ValueError, match=rf"contradicts the model.*{what}"):
        export.load(folder)


def test_fewer_classes_are_refused(folder):
    content = stated(folder)
    rewrite(folder, with_names(content, content["class_names"][:2]))
    with pytest.raises(ValueError, match="number of classes: 2 in the manifest, 3"):
        export.load(folder)


def test_a_manifest_of_another_format_is_refused(folder, folders):
    content = stated(folder)
    if "converted_to" not in content:
        rewrite(folder, {**content, "converted_to": "int8"})
        with pytest.raises(ValueError, match="holds no SavedModel"):
            export.Predictor(folder)
        return
    rewrite(folder, {**content, "converted_to": "something"})
    with pytest.raises(ValueError, match=r"contradicts the model.*format"):
        export.load(folder)


def test_the_threshold_that_recalibrating_writes_is_the_graphs(
    folders, exported, tmp_path
):
    path = pathlib.Path(shutil.copytree(folders["saved_model"], tmp_path / "m" / "1"))
    scores = export.load(path).predict(exported.images)["ood_score"]
    threshold = calibration.quantile(scores, 0.5)
    new = export.recalibrate(path, threshold)
    assert export.load(new).threshold == threshold.value
    rewrite(new, {**stated(new), "threshold": stated(path)["threshold"]})
    with pytest.raises(ValueError, match="contradicts the model"):
        export.recalibrate(new, threshold)
    with pytest.raises(ValueError, match="contradicts the model"):
        export.onnx(new, tmp_path / "onnx", known_images=exported.images)
    assert not (tmp_path / "onnx").exists()
    assert not (new.parent / "3").exists()


def test_another_graph_beside_the_manifest_is_refused(folders, tmp_path):
    """Checksums made anew, and the file of another model put in its place."""
    for kind, name in (("int8", "model.tflite"), ("float32", "model.tflite")):
        folder = shutil.copytree(folders[kind], tmp_path / kind)
        other = "float32" if kind == "int8" else "int8"
        shutil.copyfile(folders[other] / name, folder / name)
        rewrite(folder, stated(folder))
        with pytest.raises(ValueError, match=r"contradicts the model.*type of images"):
            export.load(folder)
    folder = shutil.copytree(folders["onnx"], tmp_path / "onnx")
    (folder / "model.onnx").write_bytes(b"no graph at all")
    rewrite(folder, stated(folder))
    with pytest.raises(ValueError, match="ONNX model cannot be run"):
        export.load(folder)


def test_edited_metrics_do_not_stop_the_model_card(folders, tmp_path):
    path = pathlib.Path(shutil.copytree(folders["saved_model"], tmp_path / "m" / "1"))
    content = stated(path)
    for metrics in ({"known": 3}, {"known": {"source": 1, "accuracy": "x"}}, {}):
        rewrite(path, {**content, "metrics": metrics})
        assert "No results" in model_card.render(manifest.read(path))
