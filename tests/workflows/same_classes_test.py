import pytest

from ood_keras import pipelines
from ood_keras.workflows.same_classes import check_same_classes


@pytest.mark.parametrize(
    ("name", "source_names", "model_names", "fits"),
    [
        ("folder:place", ("Cat", "dog"), ("dog", "cat"), True),
        ("folder:place", ("caf\u00e9", "dog"), ("dog", "cafe\u0301"), True),
        ("mnist[0-4]", "01234", "01234", True),
        ("mnist", "0123456789", "01234", False),
        ("mnist[5-9]", "56789", "01234", False),
        ("mnist", "0123456789", [f"hiragana {name}" for name in range(10)], False),
        ("folder:place", ("0", "1"), ("cat", "dog"), False),
        ("npz:place", ("0", "1"), ("cat", "dog"), True),
        ("npz:place", ("0", "1", "2"), ("cat", "dog"), False),
        # Where case alone tells classes apart, it counts.
        ("tfds:emnist/byclass", "ABab", "ABab", True),
        ("tfds:emnist/byclass", "ABab", "AB", False),
        ("tfds:emnist/balanced", "ABab", "ABb", False),
    ],
)
def test_classes_are_compared_by_name(name, source_names, model_names, fits):
    source = pipelines.Source(name, source_names, (), None)
    if fits:
        check_same_classes(source, model_names)
    else:
        with pytest.raises(ValueError, match=r"must have the \d+ classes of the model"):
            check_same_classes(source, model_names)
