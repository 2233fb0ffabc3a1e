import numpy as np

from ood_keras.pipelines.audit import suspects


def clusters(count=60, distance=12.0, seed=0):
    random = np.random.default_rng(seed)
    centres = distance * np.eye(4, 20)
    labels = np.repeat(np.arange(4), count)
    return centres[labels] + random.uniform(-1.7, 1.7, (4 * count, 20)), labels


def test_planted_labels_are_found_with_the_right_one():
    vectors, truth = clusters()
    labels = truth.copy()
    planted = [3, 70, 71, 130, 200]
    labels[planted] = (truth[planted] + 1) % 4
    found = dict(suspects.suspect_labels(vectors, labels))
    assert set(found) == set(planted)
    assert all(found[row] == truth[row] for row in planted)


def test_nothing_is_suspect_among_good_labels():
    vectors, labels = clusters()
    assert suspects.suspect_labels(vectors, labels) == []


def test_the_most_suspect_comes_first():
    vectors, labels = clusters(seed=1)
    labels = labels.copy()
    # Half way between two classes, and in the middle of the other one.
    vectors[0] = (vectors[labels == 0].mean(0) + 1.6 * vectors[labels == 1].mean(0)) / 2
    vectors[1] = 1.5 * vectors[labels == 1].mean(0)
    order = [row for row, _ in suspects.suspect_labels(vectors, labels)]
    assert order[0] == 1


def test_small_classes_and_single_ones_are_left_out():
    vectors, labels = clusters()
    few = np.r_[0:60, 60:63]
    assert suspects.suspect_labels(vectors[few], labels[few]) == []
    assert suspects.suspect_labels(vectors[:0], labels[:0]) == []
    assert suspects.odd_ones(vectors[:20], labels[:20]) == []


def test_planted_odd_ones_are_found_furthest_first():
    vectors, labels = clusters()
    assert suspects.odd_ones(vectors, labels) == []
    vectors[10] += 30 * np.eye(20)[10]
    vectors[100] += 60 * np.eye(20)[11]
    assert suspects.odd_ones(vectors, labels) == [100, 10]


def test_what_is_drawn_is_sorted_bounded_and_repeatable(monkeypatch):
    monkeypatch.setattr(suspects, "MAX_PICTURES", 50)
    np.testing.assert_array_equal(suspects.draw(50), np.arange(50))
    drawn = suspects.draw(1000)
    assert len(set(drawn)) == 50 and (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(drawn, suspects.draw(1000))
