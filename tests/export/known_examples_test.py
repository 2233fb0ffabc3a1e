"""Known images and scores that travel with an exported model."""

import dataclasses
import json

import numpy as np
import pytest

from ood_keras import calibration, export

pytestmark = pytest.mark.usefixtures("compared_in_this_process")


@pytest.fixture(scope="module")
def examples(exported):
    scores = exported.detector.score(exported.images)
    return export.KnownExamples(
        exported.pixels[:6], np.arange(6) % 3, scores[:30], scores[30:]
    )


@pytest.fixture(scope="module")
def with_examples(exported, examples, tmp_path_factory):
    return export.saved_model(
        exported.model,
        exported.detector,
        exported.threshold,
        tmp_path_factory.mktemp("with_examples") / "1",
        known_examples=examples,
    )


def same(first, second):
    for name, value in vars(first).items():
        np.testing.assert_array_equal(value, getattr(second, name))


def test_they_come_back_as_they_were(with_examples, examples):
    predictor = export.load(with_examples)
    same(predictor.known_examples, examples)
    files = json.loads((with_examples / "manifest.json").read_text())["files"]
    assert "assets.extra/known_examples.npz" in files


def test_they_change_no_answer(with_examples, exported):
    plain, other = export.load(exported.path), export.load(with_examples)
    assert plain.known_examples is None
    np.testing.assert_array_equal(
        plain.predict(exported.images)["ood_score"],
        other.predict(exported.images)["ood_score"],
    )


def test_recalibrating_keeps_them(with_examples, examples):
    new = export.recalibrate(with_examples, calibration.quantile([0.0, 1.0], 0.5))
    same(export.load(new).known_examples, examples)


def test_many_scores_are_thinned_to_quantiles_without_nan():
    scores = np.random.default_rng(0).normal(size=50_000).astype(np.float32)
    images = np.zeros((1, 4, 4, 1), np.uint8)
    kept = export.KnownExamples(images, [0], [np.nan, np.inf, *scores]).known_scores
    assert len(kept) == 2001
    assert set(kept) <= set(scores)
    assert (kept.min(), kept.max()) == (scores.min(), scores.max())
    for share in (0.05, 0.5, 0.99):
        limit = np.quantile(scores, share)
        assert np.mean(kept <= limit) == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": np.zeros((2, 4, 4, 1))}, TypeError, "uint8.*float64"),
        ({"images": np.zeros((2, 4, 4), np.uint8)}, ValueError, r"\(2, 4, 4\)"),
        ({"labels": [0]}, ValueError, r"one label per image.*\(1,\)"),
        ({"known_scores": [np.nan]}, ValueError, "no finite score"),
    ],
)
def test_what_is_no_set_of_examples_is_refused(change, error, message):
    good = {
        "images": np.zeros((2, 4, 4, 1), np.uint8),
        "labels": [0, 1],
        "known_scores": [0.0],
    }
    with pytest.raises(error, match=message):
        export.KnownExamples(**good | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((6, 28, 28, 1), np.uint8)}, r"\(12, 10, 1\).*\(28, 28, 1"),
        ({"labels": np.full(6, 3)}, r"0 to 2.*\[3\]"),
    ],
)
def test_examples_of_another_model_are_refused(
    exported, examples, tmp_path, change, message
):
    with pytest.raises(ValueError, match=message):
        export.saved_model(
            exported.model,
            exported.detector,
            exported.threshold,
            tmp_path / "1",
            known_examples=dataclasses.replace(examples, **change),
        )
    assert not (tmp_path / "1").exists()
