"""Detectors on disk whose JSON somebody wrote by hand."""

import hashlib
import io
import json

import numpy as np
import pytest

from ood_keras import detectors

VALUES = (None, True, 0, -1, 2.5, 1e30, 10**30, "", "text", [], [1, 2], {}, {"a": 1})
KINDS = {
    "energy": {"num_classes": 3},
    "knn": {"k": 2},
    "odin": {"detector": "energy", "num_classes": 3},
    "ensemble": {"detectors": ["energy", {"name": "knn", "k": 2}]},
    "gram": {},
}


@pytest.fixture(scope="module", params=KINDS)
def saved(request, trained, data, tmp_path_factory):
    """`(path, model, content)` of a detector on disk."""
    detector = detectors.get(request.param, **KINDS[request.param])
    detector.fit(trained[3], data.train)
    path = detectors.save(detector, tmp_path_factory.mktemp(request.param))
    return path, trained[3], json.loads(path.read_text())


def valid_without(content):
    """Whether the detector can be made without its arguments."""
    return content["detector"] != "ensemble"


def test_entries_of_wrong_types_are_errors_that_teach(saved):
    path, model, content = saved
    try:
        for key in content:
            for value in (..., *VALUES):
                new = {k: v for k, v in content.items() if k != key}
                if value is not ...:
                    new[key] = value
                path.write_text(json.dumps(new))
                # An argument that is not named has its default.
                is_default = (key, value) == ("config", {}) and valid_without(content)
                if is_default or (key == "weights_sha256" and value in (..., None)):
                    detectors.load(path, model)
                    continue
                with pytest.raises(ValueError) as caught:
                    detectors.load(path, model)
                message = str(caught.value)
                assert str(path) in message or "num_classes" in message
                assert len(message) > 60
    finally:
        path.write_text(json.dumps(content))


def test_arguments_of_wrong_types_are_errors_that_teach(saved):
    path, model, content = saved
    tried = 0
    try:
        for key in content["config"]:
            for value in VALUES:
                if value == content["config"][key]:
                    continue
                config = {**content["config"], key: value}
                path.write_text(json.dumps({**content, "config": config}))
                tried += 1
                try:
                    detector = detectors.load(path, model)
                except ValueError as error:
                    assert len(str(error)) > 60
                    continue
                # Other values of the right type are the file's own affair.
                assert np.all(np.isfinite(detector.score(np.zeros((2, 8, 8, 1)))))
    finally:
        path.write_text(json.dumps(content))
    assert tried


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '"a"', "[" * 10_000, "{}"]
)
def test_what_is_no_description_is_refused(saved, text):
    path, model, content = saved
    path.write_text(text)
    try:
        with pytest.raises(ValueError, match="cannot be read as a detector"):
            detectors.load(path, model)
    finally:
        path.write_text(json.dumps(content))


def test_arrays_of_another_kind_are_refused(saved):
    path, model, content = saved
    arrays = path.with_suffix(".npz")
    whole = arrays.read_bytes()
    objects, empty = io.BytesIO(), io.BytesIO()
    np.savez(objects, bank=np.array([{}], object))
    np.savez(empty)
    needed = bool(np.load(arrays).files)
    try:
        for other in (b"", b"junk", objects.getvalue(), empty.getvalue()):
            arrays.write_bytes(other)
            digest = hashlib.sha256(other).hexdigest()
            path.write_text(json.dumps({**content, "arrays_sha256": digest}))
            if other == empty.getvalue() and not needed:
                continue
            with pytest.raises(ValueError):
                detectors.load(path, model)
    finally:
        arrays.write_bytes(whole)
        path.write_text(json.dumps(content))
    detectors.load(path, model)
