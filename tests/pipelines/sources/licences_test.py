import pytest

from ood_keras.pipelines.sources.licences import licence


@pytest.mark.parametrize("start", ["", "tfds:"])
@pytest.mark.parametrize("end", ["", "[0-4]"])
def test_a_part_or_another_place_is_under_the_same_licence(start, end):
    assert licence(f"{start}fashion_mnist{end}") == "MIT, copyright 2017 Zalando SE"


def test_a_version_is_too_and_an_own_folder_has_none_on_record():
    assert licence("tfds:fashion_mnist:3.*.*[1,2]") == licence("fashion_mnist")
    assert "not recorded" in licence("folder:fashion_mnist")
