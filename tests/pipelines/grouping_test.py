"""Pictures that belong together are in one split, by whatever says so."""

import collections
import pathlib
import re
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from ood_keras import pipelines, resizing
from ood_keras.pipelines import audit, grouping

RANDOM = np.random.default_rng(0)


def photograph(random):
    """Something with large and small forms."""
    layers = [
        resizing.adapt(
            random.integers(0, 256, (1, side, side, 3), np.uint8), (96, 120, 3)
        )[0].astype(float)
        for side in (3, 7, 25)
    ]
    return Image.fromarray(np.average(layers, 0, (4, 2, 1)).astype(np.uint8))


def splits_of(source, key):
    """`{key of a file's name: splits that it is in}`."""
    found = collections.defaultdict(set)
    for role in source.roles:
        for name in source.split(role).files:
            found[key(name)].add(role)
    return found


def write(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        photograph(RANDOM).save(folder / f"{name}.png")


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    """Nine patients, some in both classes; pictures of each one after the other."""
    root = tmp_path_factory.mktemp("patients")
    for number in range(9):
        for class_name in ("benign", "malignant")[number % 3 == 0 :]:
            names = [f"p{number}_{shot}" for shot in range(4)]
            write(root / class_name, names)
    return root


def test_a_pattern_keeps_names_together(patients):
    source = pipelines.load(
        f"folder:{patients}", image_shape=(8, 8, 3), group_by=r"/p(\d+)_"
    )
    found = splits_of(source, lambda name: re.search(r"p(\d+)_", name)[1])
    assert len(found) == 9
    assert all(len(roles) == 1 for roles in found.values())
    for role in source.roles:
        assert set(source.split(role).labels.tolist()) == {0, 1}
    apart = splits_of(
        pipelines.load(f"folder:{patients}", image_shape=(8, 8, 3)),
        lambda name: re.search(r"p(\d+)_", name)[1],
    )
    assert any(len(roles) > 1 for roles in apart.values())


def test_folders_of_one_name_stay_together(tmp_path):
    for class_name in ("cat", "dog"):
        for film in range(6):
            write(tmp_path / class_name / f"film{film}", range(3))
    with pytest.warns(pipelines.DataWarning, match="12 folders lie within"):
        source = pipelines.load(
            f"folder:{tmp_path}", image_shape=(8, 8, 3), group_by="folder"
        )
    found = splits_of(source, lambda name: name.split("/")[0])
    assert set(found) == {f"film{film}" for film in range(6)}
    assert all(len(roles) == 1 for roles in found.values())


def test_copies_stay_together_and_the_audit_deals_alike(tmp_path):
    for class_name in ("cat", "dog"):
        write(tmp_path / class_name, [f"{number:02}" for number in range(20)])
    for number in range(0, 20, 3):
        with Image.open(tmp_path / "cat" / f"{number:02}.png") as picture:
            picture.resize((60, 48)).save(tmp_path / "cat" / f"z{number:02}.jpg")
            picture.save(tmp_path / "cat" / f"y{number:02}.png")
    spec = f"folder:{tmp_path}"
    source = pipelines.load(spec, image_shape=(8, 8, 3), group_by="copies")

    def key(name):
        return name[:3] + re.search(r"\d+", name)[0]

    assert all(len(roles) == 1 for roles in splits_of(source, key).values())
    apart = pipelines.load(spec, image_shape=(8, 8, 3))
    assert any(len(roles) > 1 for roles in splits_of(apart, key).values())
    collection = audit.gather([spec], group_by="copies")
    for role in source.roles:
        audited = [one.name for one in collection.pictures if one.role == role]
        assert audited == list(source.split(role).files)
    # Of a whole test set nothing is dealt out.
    assert len(source.whole_test()) == 54


@pytest.fixture
def parted(tmp_path):
    """Splits of one's own; of the test, two pictures of three are in train too."""
    for part, numbers in {
        "train": [*range(5), *range(10, 20)],
        "test": range(5, 8),
    }.items():
        write(tmp_path / part / "cat", [f"{number:02}" for number in numbers])
    with Image.open(tmp_path / "train/cat/01.png") as picture:
        # The same pixels in other bytes, and a copy that was scaled and compressed.
        picture.save(tmp_path / "test/cat/05.png", compress_level=1)
        picture.resize((60, 48)).save(tmp_path / "test/cat/07.jpg")
    (tmp_path / "test/cat/07.png").unlink()
    return tmp_path


def read_as_a_training_does(source):
    """Returns what is warned of; the shape is read off the test."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert source.image_shape == (8, 8, 3)
        assert len(source.train) and len(source.validation)
    return [str(one.message) for one in warned]


@pytest.mark.parametrize("memory", ["0.5", "0"])
def test_copies_in_splits_of_one_s_own_are_warned_of(
    parted, monkeypatch, tmp_path_factory, memory
):
    monkeypatch.setenv("OOD_KERAS_MEMORY_GB", memory)
    monkeypatch.setenv("OOD_KERAS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    spec = f"folder:{parted}"
    for _ in range(2):
        source = pipelines.load(spec, image_shape=(8, 8, 3), group_by="copies")
        (message,) = read_as_a_training_does(source)
        assert message.startswith(
            f"{spec}: 2 of 3 pictures in test are copies of pictures in train, equal "
            "or nearly so, for example test/cat/05.png of train/cat/01.png, "
            "test/cat/07.jpg of train/cat/01.png. "
        )
        assert f"ood-data {spec}" in message


def test_copies_that_are_left_out_or_not_looked_for_are_not_warned_of(parted):
    options = {"image_shape": (8, 8, 3)}
    for ways in ((), "none", r"(\d+)"):
        source = pipelines.load(f"folder:{parted}", group_by=ways, **options)
        assert read_as_a_training_does(source) == []
    names = ["test/cat/05.png", "test/cat/07.jpg"]
    source = pipelines.load(
        f"folder:{parted}", group_by="copies", leave_out=names, **options
    )
    assert read_as_a_training_does(source) == []


def test_each_two_of_three_splits_are_compared(parted):
    (parted / "validation/cat").mkdir(parents=True)
    for name in ("01", "03"):
        with Image.open(parted / f"train/cat/{name}.png") as picture:
            picture.save(parted / f"validation/cat/{name}.png", compress_level=1)
    source = pipelines.load(
        f"folder:{parted}", image_shape=(8, 8, 3), group_by="copies"
    )
    found = [
        re.search(r"(\d of \d) pictures in (\w+) are.* in (\w+), equal", message)
        for message in read_as_a_training_does(source)
    ]
    assert sorted(match.groups() for match in found) == [
        ("2 of 2", "validation", "train"),
        ("2 of 3", "test", "train"),
        ("2 of 3", "test", "validation"),
    ]


def test_copies_among_others_are_found_by_code_and_by_pixels():
    one, two, tiny = (
        np.asarray(photograph(RANDOM).resize(size))
        for size in ((64, 64), (64, 64), (8, 8))
    )
    looks, others = grouping.Looks(3), grouping.Looks(4)
    for image in (tiny, two, one):
        looks.add(looks.measure(image))
    for image in (one, tiny, tiny, np.clip(one, 3, None)):
        others.add(others.measure(image))
    assert grouping.find_across(looks.arrays(), others.arrays()) == {0: 1, 2: 0}
    assert grouping.find_across(others.arrays(), looks.arrays()) == {
        0: 2,
        1: 0,
        2: 0,
        3: 2,
    }
    nothing = grouping.Looks(0).arrays()
    assert grouping.find_across(nothing, looks.arrays()) == {}
    assert grouping.find_across(looks.arrays(), nothing) == {}


def test_small_and_blank_copies_are_found_by_their_pixels():
    looks = grouping.Looks(5)
    tiny = RANDOM.integers(0, 256, (8, 8, 3), np.uint8)
    black = np.zeros((64, 64, 3), np.uint8)
    for image in (tiny, black, tiny.copy(), black + 1, black.copy()):
        looks.add(looks.measure(image))
    assert grouping.find_copies(looks.arrays()) == [[0, 2], [1, 4]]
    assert grouping.find_copies(grouping.Looks(0).arrays()) == []


def test_a_class_that_lacks_groups_is_named(tmp_path):
    write(tmp_path / "cat", range(20))
    write(tmp_path / "dog", range(2))
    source = pipelines.load(
        f"folder:{tmp_path}", image_shape=(8, 8, 3), group_by="copies"
    )
    with pytest.warns(pipelines.DataWarning, match=r"1 classes .*dog \(none in test\)"):
        counts = [len(source.split(role)) for role in source.roles]
    assert sum(counts) == 22


def test_names_that_say_nothing(patients, tmp_path):
    spec = f"folder:{patients}"
    with pytest.raises(grouping.NothingGroupedError, match=r"'track\(.*finds nothing"):
        pipelines.load(spec, group_by=r"track(\d+)")
    with pytest.raises(grouping.NothingGroupedError, match="'folder' finds nothing"):
        pipelines.load(spec, group_by="folder")
    with pytest.warns(pipelines.DataWarning, match=r"nothing in \d+ of 60 names, for"):
        pipelines.load(spec, group_by=r"(p0)_")


@pytest.mark.parametrize(
    ("ways", "message"),
    [
        ("copy", r"has 0 groups.*Received: 'copy'"),
        (r"(a)(b)", "has 2 groups"),
        ("(", "no regular expression"),
        (["none", "copies"], "'none' or something else"),
    ],
)
def test_ways_that_are_none(ways, message, patients):
    with pytest.raises(ValueError, match=message):
        pipelines.load(f"folder:{patients}", group_by=ways)
    with pytest.raises(ValueError, match="pictures of a folder"):
        pipelines.load("digits", group_by="copies")


def test_none_asks_for_no_groups(patients):
    plain, none = (
        pipelines.load(f"folder:{patients}", image_shape=(8, 8, 3), **options)
        for options in ({}, {"group_by": "none"})
    )
    assert plain.test.files == none.test.files


@pytest.mark.slow
def test_copies_of_the_flowers_are_in_one_split(real_data_dir, tmp_path):
    """Six photographs in two sizes, two files twice, four under two labels."""
    with zipfile.ZipFile(pathlib.Path(real_data_dir, "flowers", "images.zip")) as file:
        for name in file.namelist():
            if not name.endswith("/"):
                kind, picture = name.split("/")
                (tmp_path / kind).mkdir(exist_ok=True)
                (tmp_path / kind / picture).write_bytes(file.read(name))
    spec = f"folder:{tmp_path}"
    source = pipelines.load(spec, image_shape=(32, 32, 3), group_by="copies")
    roles = splits_of(source, lambda name: name)
    pairs = [
        *((f"tulip/{name}.jpg", f"tulip/{name}_n.jpg") for name in _TWO_SIZES),
        *((f"rose/{name}.jpg", f"tulip/{name}.jpg") for name in _TWO_LABELS),
        *((f"sunflower/{one}.jpg", f"sunflower/{two}.jpg") for one, two in _TWICE),
    ]
    assert all(roles[one] == roles[two] for one, two in pairs)
    apart = splits_of(pipelines.load(spec, image_shape=(32, 32, 3)), lambda name: name)
    assert sum(apart[one] != apart[two] for one, two in pairs) > 2
    for role, share in zip(source.roles, (0.6, 0.2, 0.2), strict=True):
        assert len(source.split(role)) == pytest.approx(share * 4317, abs=3)


_TWO_SIZES = (
    *("7166539842_43b7e02883", "7166550328_de0d73cfa9", "7166552648_28b6dce578"),
    *("7166567320_0a2beb6d42", "7166606598_5d2cd307c3", "7166644048_b00a14f01b"),
)
_TWO_LABELS = (
    *("15922772266_1167a06620", "17104364030_ee31ee279b_n"),
    *("17291451621_0e39f08b9e_n", "17291930305_79deae6a90_n"),
)
_TWICE = (
    ("14889392928_9742aed45b_m", "15066430311_fb57fa92b0_m"),
    ("15069459615_7e0fd61914_n", "15072973261_73e2912ef2_n"),
)
