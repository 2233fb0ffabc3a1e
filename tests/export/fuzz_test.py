"""Malformed input by the thousand: no crash, no hang, no class for garbage.

Thousands more: `python benchmarks/fuzz.py`.
"""

import time

import fuzzing
from small_export import IMAGE_SHAPE, Session

from ood_keras import export

COUNT = 350


def share(counts, *outcomes):
    total = sum(sum(counted.values()) for counted in counts.values())
    return (
        sum(counted.get(name, 0) for counted in counts.values() for name in outcomes)
        / total
    )


def test_malformed_files_get_no_class(exported):
    run = Session(exported.path)
    start = time.monotonic()
    counts = fuzzing.files(run, COUNT)
    assert time.monotonic() - start < 0.1 * COUNT
    assert share(counts, "invalid") > 0.9


def test_malformed_images_get_no_class(exported):
    fuzzing.images(Session(exported.path), COUNT, IMAGE_SHAPE)


def test_a_folder_of_malformed_input_ends_in_rows_that_say_so(exported, tmp_path):
    counts = fuzzing.predict(exported.path, tmp_path / "images", 200, IMAGE_SHAPE)
    assert share(counts, "error") > 0.6
    kinds = {kind.split("_")[0] for kind in counts}
    assert kinds == {"file", "idx", "tfrecord", "no", "in"}


def test_malformed_input_without_tensorflow(exported, tmp_path):
    model = export.tflite(
        exported.path,
        tmp_path / "edge",
        known_images=exported.images,
        formats=["float32"],
    )
    path = model / "float32" / "model.tflite"
    counts = fuzzing.predict(path, tmp_path / "images", 200, IMAGE_SHAPE, seed=1)
    assert share(counts, "error") > 0.6
