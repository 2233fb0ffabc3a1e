import dataclasses

import pytest

from ood_keras.pipelines import check_roles


@pytest.fixture
def roles(make_split):
    """An experiment without leaks."""

    def split(name, role, first, num_classes=None):
        return make_split(6, num_classes, name=name, role=role, first=first)

    known = {
        role: split("known", role, 100 * index, 3)
        for index, role in enumerate(("train", "validation", "test"))
    }
    unknown = {
        "train": [split("letters", "train", 400, 2), split("noise", "train", 500)],
        "validation": [split("letters", "validation", 600, 2)],
        "test": [split("letters", "test", 700, 2), split("kana", "test", 800, 4)],
    }
    return known, unknown


def test_an_experiment_without_leaks_passes(roles):
    check_roles(*roles)
    check_roles({"test": roles[0]["test"]}, {})


def test_the_same_split_in_two_roles(roles):
    known, unknown = roles
    known["validation"] = known["train"]
    with pytest.raises(
        ValueError, match=r"used twice: known .*known train.*validation"
    ):
        check_roles(known, unknown)


def test_the_same_images_under_another_name(roles):
    known, unknown = roles
    copied = dataclasses.replace(
        unknown["train"][0].as_unknown(), source="copy", role="test", class_names=()
    )
    unknown["test"].append(copied)
    with pytest.raises(ValueError, match=r"letters .*copy .*unknown test"):
        check_roles(known, unknown)


def test_a_test_split_is_never_trained_on(roles):
    known, unknown = roles
    unknown["train"].append(unknown["test"].pop())
    with pytest.raises(ValueError, match=r"kana \(test\) is a test split.*`.train`"):
        check_roles(known, unknown)


def test_a_class_both_known_and_unknown(roles, make_split):
    known, unknown = roles
    unknown["test"].append(make_split(6, 3, name="KNOWN", role="test", first=900))
    with pytest.raises(ValueError, match=r"both known and unknown.*known 0, known 1"):
        check_roles(known, unknown)


def test_a_class_stays_known_when_its_labels_are_hidden(roles, make_split):
    known, unknown = roles
    hidden = make_split(6, 3, name="known", role="test", first=900).as_unknown()
    unknown["test"].append(hidden)
    with pytest.raises(ValueError, match="both known and unknown"):
        check_roles(known, unknown)


def test_an_unknown_role_lists_the_roles(roles):
    with pytest.raises(ValueError, match=r"`val` is no role.*train, validation, test"):
        check_roles({"val": roles[0]["validation"]}, {})
