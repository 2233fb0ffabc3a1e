"""Each group in one split, each class in every split, shares near what is asked."""

import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.pipelines import dealing

ROLES = ("train", "validation", "test")


def deal(labels, groups, roles=ROLES):
    labels, groups = np.asarray(labels), np.asarray(groups)
    rows = pipelines.deal_out(labels, groups, roles)
    assert tuple(rows) == tuple(roles)
    joined = np.concatenate(list(rows.values()))
    assert sorted(joined.tolist()) == list(range(len(labels)))
    for number in np.unique(groups):
        inside = [role for role in roles if number in groups[rows[role]]]
        assert len(inside) == 1, f"group {number} is in {inside}"
    return rows


def count(rows, labels):
    classes = np.max(labels) + 1
    return {
        role: np.bincount(np.asarray(labels)[some], minlength=classes).tolist()
        for role, some in rows.items()
    }


def test_without_groups_shares_are_exact_for_each_class():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    rows = deal(labels, np.arange(160))
    assert count(rows, labels) == {
        "train": [60, 30, 6],
        "validation": [20, 10, 2],
        "test": [20, 10, 2],
    }
    # At equal distances, so that what lies in one order is in every split.
    assert np.diff(rows["test"][:20]).max() <= 6


def test_groups_stay_together_and_shares_are_near():
    random = np.random.default_rng(0)
    sizes = random.integers(1, 9, 300)
    groups = np.repeat(np.arange(300), sizes)
    labels = np.repeat(random.integers(0, 4, 300), sizes)
    # Some groups hold two classes.
    labels[::37] = (labels[::37] + 1) % 4
    order = random.permutation(len(groups))
    groups, labels = groups[order], labels[order]
    found = count(deal(labels, groups), labels)
    for label in range(4):
        total = np.sum(labels == label)
        for role, share in zip(ROLES, (0.6, 0.2, 0.2), strict=True):
            assert abs(found[role][label] / total - share) < 0.03


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # Pictures in each group of the one class; how many each split gets.
        ([1], (1, 0, 0)),
        ([1, 1], (1, 1, 0)),
        ([1, 1, 1], (1, 1, 1)),
        ([1, 1, 1, 1], (2, 1, 1)),
        ([5], (5, 0, 0)),
        ([5, 5, 5], (5, 5, 5)),
        ([9, 1, 1], (9, 1, 1)),
        ([2, 9, 2, 2], (9, 4, 2)),
        ([3, 1], (3, 1, 0)),
    ],
)
def test_tiny_classes_are_in_as_many_splits_as_they_can(sizes, expected):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rows = deal(np.zeros(len(groups), int), groups)
    assert tuple(len(rows[role]) for role in ROLES) == expected
    # Beside a large class, too.
    groups = np.concatenate([groups, np.arange(100, 200)])
    labels = np.repeat([0, 1], [sum(sizes), 100])
    found = count(deal(labels, groups), labels)
    assert tuple(found[role][0] for role in ROLES) == expected
    assert [found[role][1] for role in ROLES] == [60, 20, 20]


def test_what_is_missing_is_named():
    labels = np.array([0] * 10 + [1, 1, 2, -1])
    rows = deal(labels, np.arange(14))
    assert dealing.find_missing(labels, rows, ("a", "b", "c")) == {
        "b": ["test"],
        "c": ["validation", "test"],
    }


def test_a_twelfth_of_a_training_part_is_for_validation():
    labels = np.repeat([0, 1], [120, 2])
    rows = deal(labels, np.repeat(np.arange(61), 2), ("train", "validation"))
    assert count(rows, labels) == {"train": [110, 2], "validation": [10, 0]}


def test_dealing_knows_no_chance():
    random = np.random.default_rng(1)
    labels, groups = random.integers(0, 3, 200), random.integers(0, 80, 200)
    first, again = deal(labels, groups), deal(labels, groups)
    assert all(np.array_equal(first[role], again[role]) for role in ROLES)
    # Numbers of groups say nothing but what is the same.
    other = deal(labels, 1000 - groups)
    assert all(np.array_equal(first[role], other[role]) for role in ROLES)


def test_wrong_arguments_teach():
    with pytest.raises(ValueError, match=r"dealt out to .*train.*Received: \('test'"):
        pipelines.deal_out(np.zeros(3, int), np.zeros(3, int), ("test",))
    with pytest.raises(ValueError, match="one group for each label"):
        pipelines.deal_out(np.zeros(3, int), np.zeros(4, int))
