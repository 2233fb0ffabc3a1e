"""Training on a frozen backbone: its features, exact resume, and fine-tuning."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest
import small_backbone
from small_backbone import SHAPE

from ood_keras import UNKNOWN, models, pipelines, training
from ood_keras.training import features, recipes
from ood_keras.training.features import (
    FeatureData,
    FeatureStore,
    FeatureValidation,
)
from ood_keras.training.validation import Validation

RNG = np.random.default_rng(0)


def make_split(count, role="train", unknown=False):
    images = RNG.integers(0, 256, (count, *SHAPE), np.uint8)
    labels = np.full(count, UNKNOWN) if unknown else np.arange(count) % 3
    names = () if unknown else ("a", "b", "c")
    return pipelines.Split(f"made {unknown}", role, images, labels, names)


KNOWN, OTHER = make_split(30), make_split(14, unknown=True)
JUDGING = make_split(9, "validation"), make_split(6, "validation", unknown=True)


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        small_backbone.install(patch)
        yield


@pytest.fixture(scope="module")
def bare():
    return small_backbone.make_trained()


@pytest.fixture(scope="module")
def weights(bare, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "bare.weights.h5"
    bare.save_weights(path)
    return path


@pytest.fixture(scope="module")
def recipe(weights):
    return recipes.get(
        "photos",
        epochs=3,
        batch_size=8,
        backbone="TinyNet",
        backbone_weights=str(weights),
        filters=[6],
        hidden_size=8,
        feature_size=6,
        feature_renderings=2,
    )


@pytest.fixture(scope="module")
def parts(recipe):
    model = recipe.objective.build_model(SHAPE, 3)
    return model, *models.cut(model, "map")


@pytest.fixture
def store(parts, tmp_path):
    return FeatureStore(parts[1], tmp_path / "features")


def mix(augment=None, **options):
    return pipelines.Interleave(
        KNOWN, OTHER, 3, batch_size=8, augment=augment, **options
    )


def test_untouched_features_are_those_of_the_mixed_images(parts, store):
    data, backbone = mix(), parts[1]
    kept = FeatureData(data, store, progress=False)
    assert kept.steps_per_epoch == data.steps_per_epoch
    for start in (0, 2):
        expected = list(data.epoch(1, start))
        found = list(kept.epoch(1, start))
        assert len(found) == len(expected) > 2
        for (maps, labels), (images, own) in zip(found, expected, strict=True):
            np.testing.assert_array_equal(labels, own)
            np.testing.assert_allclose(maps, backbone(images), rtol=2e-3, atol=1e-6)


def test_an_image_shows_its_renderings_in_turn(store):
    data = mix("random_photo_rendering")
    kept = FeatureData(data, store, renderings=2, progress=False)
    plain = FeatureData(mix(), store, progress=False)
    shown = {row: [] for row in range(len(KNOWN) + len(OTHER))}
    for index in range(4):
        order = data.order(index)
        epochs = kept.epoch(index), plain.epoch(index)
        maps, untouched = (np.concatenate([m for m, _ in one]) for one in epochs)
        for row, map_, same in zip(order, maps, untouched, strict=True):
            shown[row].append(np.array_equal(map_, same))
    # Known images are in every epoch: as they are in every other one. (One image in
    # five stays as it is in the other rendering, too.)
    in_turn = [
        shown[row] in ([True, False, True, False], [False, True, False, True])
        for row in range(len(KNOWN))
    ]
    assert 0.5 < np.mean(in_turn) < 1
    assert all(sum(shown[row]) >= 2 for row in range(len(KNOWN)))


def test_class_weights_stay_with_their_images(store):
    data = mix(class_weight={1: 3.0, UNKNOWN: 0.5})
    kept = FeatureData(data, store, progress=False)
    for _, labels, image_weights in kept.epoch(0):
        expected = np.select([labels == 1, labels == UNKNOWN], [3.0, 0.5], 1.0)
        np.testing.assert_array_equal(image_weights, expected)


def test_features_are_computed_once(store, tmp_path):
    before = next(iter(FeatureData(mix(), store, progress=False).epoch(0)))[0]
    store._compute = None  # Nothing can be computed any more.
    again = FeatureData(mix(), store, progress=False)
    np.testing.assert_array_equal(next(iter(again.epoch(0)))[0], before)
    with pytest.raises(TypeError):
        FeatureData(mix(), store, 2, progress=False).epoch(0)
    assert [path.name for path in (tmp_path / "features").iterdir()] == [
        "rendering_0.npy"
    ]


def test_a_full_disk_is_said_before_anything_is_computed(store, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match=r"44 images need 0 MiB.*feature_renderings=1"):
        FeatureData(mix(), store, renderings=3).epoch(0)
    assert not list((tmp_path / "features").iterdir())


def test_validation_on_features_is_that_on_images(parts, store, tmp_path):
    model, backbone, head = parts
    pair = JUDGING[0].dataset(), JUDGING[1].dataset()
    on_images = Validation(model, pair, 3, "unknown_probability").measure()
    on_features = FeatureValidation(head, store, pair, 3, "unknown_probability")
    for _ in range(2):
        assert on_features.measure() == pytest.approx(on_images, abs=0.02)
    other = FeatureStore(backbone, tmp_path / "known")
    known_only = FeatureValidation(head, other, (pair[0], None), 3, "msp")
    assert set(known_only.measure()) == {"known_accuracy", "known_loss"}


class Stopped(Exception):
    """Stands for the end of a process."""


def train(recipe, run_dir, stop_at=None):
    """Trains, or stops where the `stop_at`-th epoch of data is asked for."""
    training.set_seed(0)
    data = mix("random_photo_rendering")
    model = recipe.objective.build_model(SHAPE, 3)
    asked = []

    class Stopping:
        def __init__(self, inner):
            self._inner, self.steps_per_epoch = inner, inner.steps_per_epoch

        def get_config(self):
            return self._inner.get_config()

        def epoch(self, index, start_step=0):
            asked.append(index)
            if len(asked) - 1 == stop_at:
                raise Stopped
            return self._inner.epoch(index, start_step)

    history = training.fit_transfer(
        model,
        data,
        objective=recipe.objective,
        run_dir=run_dir,
        validation=(JUDGING[0].dataset(), JUDGING[1].dataset()),
        num_classes=3,
        settings={"recipe": recipe.to_json()},
        seed=0,
        wrap=Stopping,
        progress=False,
    )
    rows = [
        {name: x for name, x in row.items() if name != "seconds"} for row in history
    ]
    return rows, model.get_weights()


@pytest.mark.parametrize(("fine_tune_epochs", "stops"), [(0, [2]), (1, [1, 1])])
def test_a_run_that_was_stopped_ends_as_if_it_had_not(
    recipe, tmp_path, fine_tune_epochs, stops
):
    recipe = dataclasses.replace(recipe, fine_tune_epochs=fine_tune_epochs)
    expected = train(recipe, tmp_path / "whole")
    assert len(expected[0]) == (fine_tune_epochs or 3)
    for stop in stops:
        with pytest.raises(Stopped):
            train(recipe, tmp_path / "stopped", stop)
    history, found = train(recipe, tmp_path / "stopped")
    assert history == expected[0]
    for weight, other in zip(found, expected[1], strict=True):
        np.testing.assert_array_equal(weight, other)
    for run_dir in (tmp_path / "whole", tmp_path / "stopped"):
        assert not list(run_dir.rglob("features"))
        saved = keras.models.load_model(run_dir / "model.keras")
        for weight, other in zip(saved.get_weights(), expected[1], strict=True):
            np.testing.assert_array_equal(weight, other)


def test_fine_tuning_goes_on_from_the_best_head_and_moves_the_backbone(
    recipe, bare, tmp_path
):
    recipe = dataclasses.replace(recipe, fine_tune_epochs=1)
    train(recipe, tmp_path / "run")
    frozen, tuned = (
        keras.models.load_model(tmp_path / "run" / path)
        for path in ("frozen/model.keras", "model.keras")
    )
    kept = frozen.get_layer("backbone").get_weights()
    for weight, expected in zip(kept, bare.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    moved = tuned.get_layer("backbone").get_weights()[0] - kept[0]
    assert 0 < np.abs(moved).max() < 1
    head = tuned.get_layer("logits").get_weights()[0]
    assert 0 < np.abs(head - frozen.get_layer("logits").get_weights()[0]).max() < 1


def test_folders_that_hold_something_else_are_refused_at_once(recipe, tmp_path):
    tuning = dataclasses.replace(recipe, fine_tune_epochs=1)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"no run: it has no run\.json.*notes"):
        train(tuning, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="a run without a first part in frozen/"):
        train(tuning, run_dir)
