"""What is kept for pictures is what the report holds, and small."""

import numpy as np
import pytest

from ood_keras import evaluation
from ood_keras.evaluation import examples


@pytest.fixture(scope="module")
def loaded(case, tmp_path_factory):
    path = tmp_path_factory.mktemp("examples") / "examples.npz"
    evaluation.record_examples(case.report, path)
    return evaluation.load_examples(path)


def test_sets_and_threshold_return(case, loaded):
    assert list(loaded["unknown"]) == list(case.unknown)
    assert loaded["threshold"] == case.report.threshold.value
    assert loaded["class_names"] == ["zero", "one"]
    assert loaded["plane"] == "2 principal components of 3 features"


def test_sampled_features_and_confidences_are_those_of_the_images(case, loaded):
    report = case.report
    for data, kept in (
        (report.known, loaded["known"]),
        *((report.unknown[name], loaded["unknown"][name]) for name in case.unknown),
    ):
        index = data.sample["index"]
        np.testing.assert_allclose(
            kept["confidence"], data.confidence[index], atol=0.001
        )
        # A projection keeps or shortens distances.
        distances = np.linalg.norm(np.diff(data.sample["features"], axis=0), axis=1)
        drawn = np.linalg.norm(np.diff(kept["features"].astype(float), axis=0), axis=1)
        assert (drawn <= distances + 0.01).all() and drawn.max() > 0.1
    labels = case.known[1][report.known.sample["index"]]
    np.testing.assert_array_equal(loaded["known"]["feature_labels"], labels)


def test_rows_are_those_of_the_report(case, loaded):
    sets = {"known": loaded["known"]}
    sets |= {f"unknown/{name}": kept for name, kept in loaded["unknown"].items()}
    rows = examples.mistake_rows(sets, loaded["threshold"], loaded["class_names"])
    expected = examples.mistake_rows(
        examples.worst_mistakes(case.report, case.report.metrics["selected_detector"]),
        case.report.threshold.value,
        case.report.class_names,
    )
    assert list(rows) == list(expected)
    for title, (images, captions) in rows.items():
        assert captions == expected[title][1]
        np.testing.assert_allclose(images, expected[title][0], atol=0.5 / 255 + 1e-6)


def test_another_detector_has_its_own_mistakes_and_threshold(case, loaded, tmp_path):
    other, *_ = set(case.fitted) - {case.report.metrics["selected_detector"]}
    evaluation.record_examples(case.report, tmp_path / "other.npz", other)
    kept = evaluation.load_examples(tmp_path / "other.npz")
    known = case.report.scores[f"known/{other}"]
    accepted = known <= case.report.thresholds[other].value
    assert kept["threshold"] == case.report.thresholds[other].value
    assert kept["known"]["accepted"] == np.mean(accepted)
    assert kept["known"]["scores"][0] == known.max()


def test_only_the_wrong_side_is_shown():
    mistakes = {
        "known": {
            "images": np.zeros((2, 1, 1, 1)),
            "scores": np.array([2.0, 1.0]),
            "predictions": np.array([1, 0]),
            "labels": np.array([0, 0]),
            "accepted": 0.75,
            "total": 4000,
        },
        "unknown/a/b": {
            "images": np.zeros((2, 1, 1, 1)),
            "scores": np.array([1.0, 1.5]),
            "predictions": np.array([1, 1]),
            "accepted": 0.5,
            "total": 2,
        },
    }
    rows = examples.mistake_rows(mistakes, threshold=1.0)
    assert {title: captions for title, (_, captions) in rows.items()} == {
        "known: 25.00 % of 4,000 images rejected, worst first": [
            "0\nread as 1\nscore 2.00"
        ],
        "a/b: 50.00 % of 2 images accepted, worst first": ["read as 1\nscore 1.00"],
    }
