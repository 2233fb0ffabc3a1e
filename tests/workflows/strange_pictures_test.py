"""Why pictures were rejected, in the report: heat on a patch, and the nearest one."""

import types

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from ood_keras import pipelines
from ood_keras.calibration import Threshold
from ood_keras.evaluation import figures
from ood_keras.workflows import strange_pictures

SIDE = 20


class Bright:
    """Counts bright pixels; its features say which half of a picture is lighter."""

    def __init__(self):
        self.num_runs = tf.Variable(0)

    def call(self, images):
        self.num_runs.assign_add(ops.shape(images)[0])
        halves = [images[:, :, : SIDE // 2], images[:, :, SIDE // 2 :]]
        means = [ops.mean(half, axis=(1, 2, 3)) for half in halves]
        return {
            "ood_score": ops.sum(ops.cast(images > 0.8, "float32"), axis=(1, 2, 3)),
            "features": ops.stack(means, axis=-1),
        }


def split_of(images, labels, role):
    names = ("left", "right")
    return pipelines.Split("made", role, images, np.asarray(labels), names)


@pytest.fixture
def world():
    """Known pictures are lighter left (class 0) or right; unknown ones have a patch."""
    generator = np.random.default_rng(0)

    def draw(count):
        labels = np.arange(count) % 2
        images = generator.integers(0, 40, (count, SIDE, SIDE, 1))
        for image, label in zip(images, labels, strict=True):
            image[:, label * SIDE // 2 : (label + 1) * SIDE // 2] += 60
        return images.astype(np.uint8), labels

    known = split_of(*draw(40), "validation")
    test = split_of(*draw(300), "test")
    patched, sides = draw(100)
    patched[:, 6:11, 3:8] = 250
    unknown = split_of(patched, np.full(100, -1), "test")
    detector = Bright()
    scores = {
        name: np.asarray(
            detector.call(ops.convert_to_tensor(split.images / 255.0))["ood_score"]
        )
        for name, split in (("known", test), ("patched", unknown))
    }
    detector.num_runs.assign(0)
    report = types.SimpleNamespace(
        metrics={"selected_detector": "bright"},
        known=types.SimpleNamespace(scores={"bright": scores["known"]}),
        unknown={
            "patched": types.SimpleNamespace(scores={"bright": scores["patched"]})
        },
        thresholds={"bright": Threshold(3.0, "quantile", "made", 40, 0.95)},
        class_names=["left", "right"],
    )
    return report, detector, known, {"known": test, "patched": unknown}, sides


def test_red_lies_on_the_patch_and_the_nearest_is_of_its_kind(world):
    report, detector, known, tests, _ = world
    rows = strange_pictures.explain(report, detector, known, tests)
    # No known picture is rejected, so there is nothing to say of them.
    assert list(rows) == ["patched: 100 of 100 rejected"]
    images, captions = rows["patched: 100 of 100 rejected"]
    # Four hundred pictures pay for two heat maps.
    assert images.shape == (6, SIDE, SIDE, 3)
    assert captions[0] == "score 25.00" and captions[1] == "what is strange"
    patch = np.zeros((SIDE, SIDE), bool)
    patch[6:11, 3:8] = True
    for first in (0, 3):
        redness = images[first + 1][..., 0] - images[first + 1][..., 1]
        assert redness[patch].sum() > 0.5 * redness[redness > 0].sum()
        # The patch is on the left, and makes it lighter there.
        assert captions[first + 2].startswith("nearest known:\n")
        assert any(
            np.array_equal(
                images[first + 2][..., 0], known_image[..., 0] / np.float32(255)
            )
            for known_image in known.images
        )
    assert figures.pictures(rows) is not None


def test_few_pictures_get_few_heat_maps(world):
    report, detector, known, tests, _ = world
    few = {
        "known": tests["known"],
        "patched": split_of(tests["patched"].images[:9], np.full(9, -1), "test"),
    }
    few["known"] = split_of(tests["known"].images[:9], np.zeros(9, int), "test")
    for name, scored in (
        ("known", report.known),
        ("patched", report.unknown["patched"]),
    ):
        scored.scores["bright"] = scored.scores["bright"][: len(few[name])]
    (row,) = strange_pictures.explain(report, detector, known, few).values()
    assert row[1].count("what is strange") == 1
    assert 200 < int(detector.num_runs) < 600


class Endless(Bright):
    """What has a patch is infinitely strange."""

    def call(self, images):
        outputs = super().call(images)
        score = outputs["ood_score"]
        outputs["ood_score"] = ops.where(score > 20, np.inf, score)
        return outputs


def test_pictures_without_a_finite_score_get_no_heat_map(world):
    report, _, known, tests, _ = world
    report.unknown["patched"].scores["bright"] = np.full(100, np.inf)
    (row,) = strange_pictures.explain(report, Endless(), known, tests).values()
    assert row[1] == ["score inf", row[1][1]] * 2
    assert row[1][1].startswith("nearest known")


def test_nothing_is_shown_where_no_picture_shows_it(world):
    report, detector, known, tests, _ = world
    two = split_of(np.repeat(known.images, 2, axis=-1), known.labels, "validation")
    assert strange_pictures.explain(report, detector, two, tests) == {}
