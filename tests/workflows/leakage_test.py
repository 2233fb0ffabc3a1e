"""No test image reaches training, selection or tuning, whatever a job is asked for.

Every image of the data sets made here is one of a kind, so that a single one that is
looked at too early is found.
"""

import gzip
import struct

import numpy as np
import pytest

from ood_keras import batches, evaluation, training, workflows
from ood_keras.training import recipes

# {folder: (number of classes, first label, {part: images})}
DATA_SETS = {
    "mnist": (10, 0, {"train": 240, "t10k": 30}),
    "emnist_letters": (26, 1, {"train": 624, "t10k": 52}),
    "kmnist": (10, 0, {"t10k": 20}),
}
TEST_UNKNOWN = ["emnist/letters", "kmnist", "gaussian_noise"]
RECIPE = recipes.get(
    "demo",
    epochs=1,
    filters=(2, 2),
    hidden_size=4,
    feature_size=4,
    unknown_images=30,
    synthetic_images=39,
)


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), 1))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for name, (num_classes, first, parts) in DATA_SETS.items():
        (folder / name).mkdir()
        for part, count in parts.items():
            images = generator.integers(0, 256, (count, 28, 28), np.uint8)
            labels = (first + np.arange(count) % num_classes).astype(np.uint8)
            write_idx(folder / name / f"{part}-images-idx3-ubyte.gz", images)
            write_idx(folder / name / f"{part}-labels-idx1-ubyte.gz", labels)
    (folder / "emnist_letters" / "orientation.txt").write_text("upright")
    return folder


def pixels(data):
    """The images of `data`, as a set."""
    return {
        np.rint(255 * image).astype(np.uint8).tobytes()
        for images, _ in batches.iterate(data)
        for image in np.asarray(images)
    }


class Enough(Exception):
    """Raised where only the rest of the evaluation would follow."""


@pytest.mark.parametrize(
    ("unknown", "changes", "detectors", "uses"),
    [
        (
            ["emnist/letters", "synthetic"],
            {},
            ["unknown_probability"],
            {"training", "validation", "selection"},
        ),
        (
            [],
            {"loss": "cross_entropy"},
            ["msp", "odin", "mahalanobis"],
            {"training", "validation", "selection", "tuning", "fitting"},
        ),
    ],
)
def test_test_images_are_only_reported_on(
    unknown, changes, detectors, uses, data_dir, tmp_path, monkeypatch
):
    looked_at = {}

    def look(use, *parts):
        for data in parts:
            if data is not None:
                looked_at.setdefault(use, set()).update(pixels(data))

    originals = training.fit, evaluation.tune_odin, evaluation.tune_mahalanobis

    def fit(model, data, *, validation, **kwargs):
        look("training", data.epoch(0))
        look("validation", *validation)
        return originals[0](model, data, validation=validation, **kwargs)

    def tune_odin(model, *, known, unknown, **kwargs):
        look("tuning", known, unknown)
        few = {"temperatures": (10.0,), "steps": (0.0,)}
        return originals[1](model, known=known, unknown=unknown, **kwargs, **few)

    def tune_mahalanobis(model, data, *, known, unknown, **kwargs):
        look("fitting", data)
        look("tuning", known, unknown)
        few = {"steps": (0.0,)}
        return originals[2](model, data, known=known, unknown=unknown, **kwargs, **few)

    def evaluate(fitted, *, known, unknown, validation_known, validation_unknown, **_):
        look("selection", validation_known, validation_unknown)
        look("test", known[1], *unknown.values())
        raise Enough

    monkeypatch.setattr(training, "fit", fit)
    for function in (tune_odin, tune_mahalanobis, evaluate):
        monkeypatch.setattr(evaluation, function.__name__, function)
    common = {"run_dir": tmp_path, "data_dir": data_dir}
    recipe = recipes.Recipe(**{**vars(RECIPE), **changes})
    workflows.train(known="mnist", unknown=unknown, recipe=recipe, **common)
    with pytest.raises(Enough):
        workflows.evaluate(
            unknown=TEST_UNKNOWN,
            detectors=detectors,
            validation_unknown=unknown or ["emnist/letters"],
            tune=True,
            **common,
        )
    test = looked_at.pop("test")
    assert len(test) == 30 + 52 + 20 + 10_000
    assert set(looked_at) == uses
    for use, images in looked_at.items():
        assert len(images) >= 20, use
        assert not images & test, f"{use} looks at test images"
    # What a network learns from judges nothing.
    learnt = looked_at["training"] | looked_at.get("fitting", set())
    for use in uses - {"training", "fitting"}:
        assert not looked_at[use] & learnt, use
