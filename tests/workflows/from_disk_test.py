"""A run whose data are on disk is the run with data in memory."""

import functools
import itertools
import json

import keras
import numpy as np
import pytest
from PIL import Image

from ood_keras import training, workflows
from ood_keras.training import checkpoints, recipes

RECIPE = recipes.get(
    "demo",
    epochs=2,
    filters=(4, 4),
    hidden_size=8,
    feature_size=8,
    batch_size=16,
    synthetic_images=60,
    validation_augment="random_shift",
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photographs of two classes and of unknown things, of several sizes."""
    random = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(("known/cat", "known/dog", "unknown")):
        (root / name).mkdir(parents=True)
        for row in range(40):
            pixels = random.normal(60 + 60 * number, 30, (8 + row % 3, 9, 3))
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            picture.resize((40, 36)).save(root / name / f"{row:02}.png")
    return root


def run(photos, run_dir):
    """Trains and measures."""
    known, unknown = (f"folder:{photos / name}" for name in ("known", "unknown"))
    workflows.train(
        known=known,
        unknown=["synthetic"],
        run_dir=run_dir,
        recipe=RECIPE,
        image_shape=(28, 28, 3),
    )
    report = workflows.evaluate(
        run_dir=run_dir,
        unknown=[unknown],
        detectors=["energy", "knn"],
        renderings="none",
    )
    return report.metrics


@pytest.fixture(scope="module")
def in_memory(photos, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("in_memory") / "run"
    return run_dir, run(photos, run_dir)


def test_a_run_is_the_same_from_disk(photos, in_memory, tmp_path, monkeypatch):
    monkeypatch.setenv("OOD_KERAS_MEMORY_GB", "0")
    monkeypatch.setenv("OOD_KERAS_CACHE_DIR", str(tmp_path / "cache"))
    # Epochs come from disk; a kill inside of one changes nothing.
    count, write = itertools.count(1), checkpoints.write

    def interrupted(folder, checkpoint):
        write(folder, checkpoint)
        if next(count) == 3:
            assert checkpoint.step
            raise KeyboardInterrupt

    often = functools.partial(training.fit, checkpoint_every=0)
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write", interrupted)
        patch.setattr(training, "fit", often)
        run(photos, tmp_path / "run")
    metrics = run(photos, tmp_path / "run")
    assert list((tmp_path / "cache").glob("*/*/pixels.npy"))
    expected_dir, expected_metrics = in_memory
    settings, expected = (
        json.loads((one / "run.json").read_text())["settings"]
        for one in (tmp_path / "run", expected_dir)
    )
    assert settings == expected
    models = [
        keras.models.load_model(one / "model.keras")
        for one in (tmp_path / "run", expected_dir)
    ]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)
    assert metrics == expected_metrics
