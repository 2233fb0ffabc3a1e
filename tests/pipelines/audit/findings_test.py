"""Each thing that an audit looks for is planted, and found; nothing else is."""

import io

import numpy as np
import pytest
from PIL import Image

from ood_keras import pipelines, transcoding
from ood_keras.pipelines import audit
from ood_keras.pipelines.audit import findings
from ood_keras.pipelines.sources import registry
from ood_keras.workflows import run_data


def photograph(seed, side=48):
    """Large and small forms in colours, unlike those of another seed."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 5, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.BICUBIC))
    noise = random.integers(-9, 10, (side, side, 3))
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def encode(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Two classes of twelve different pictures each; a function that adds files."""
    root = tmp_path / "pictures"

    def add(name, content):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    for seed in range(24):
        name = ("cat", "dog")[seed % 2]
        add(f"{name}/{seed:02}.png", encode(photograph(seed)))
    add.root = root
    return add


def find(*known, unknown=(), decode=True):
    collection = audit.gather(known, unknown, decode=decode)
    found = audit.find(collection)
    names = {
        one.kind: [
            {collection.pictures[row].name for row in group} for group in one.groups
        ]
        for one in found
    }
    return {one.kind: one for one in found}, names


# Of 24 pictures any test may leave few in a split, and some label looks odd.
_ALWAYS = {"small_splits", "suspect_labels", "odd_ones"}


def test_good_pictures_have_no_findings(folder):
    found, _ = find(f"folder:{folder.root}")
    assert set(found) <= _ALWAYS
    assert not audit.spoils(found.values())


def test_all_that_cannot_be_read_is_named_at_once(folder):
    folder("cat/empty.png", b"")
    folder("cat/cut.png", encode(photograph(50))[:700])
    folder("dog/text.jpg", b"no picture at all")
    folder("dog/ends.jpg", encode(photograph(51), "JPEG")[:-200])
    folder("dog/notes.txt", b"notes")
    folder("dog/phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    for decode in (True, False):
        found, names = find(f"folder:{folder.root}", decode=decode)
        unreadable = found["unreadable"]
        assert unreadable.severity == "spoils"
        expected = {"cat/empty.png", "cat/cut.png", "dog/text.jpg", "dog/ends.jpg"}
        if "HEIC" in transcoding.formats():
            expected.add("dog/phone.heic")
        assert set().union(*names["unreadable"]) == expected
        (empty,) = (line for line in unreadable.lines if "empty.png" in line)
        assert "it is empty" in empty
        assert found["left_out"].severity == "look"
        left_out = [f"folder:{folder.root}: dog/notes.txt: .txt (no picture)"]
        if "HEIC" not in transcoding.formats():
            left_out.append(f"folder:{folder.root}: dog/phone.heic: .heic (HEIC)")
        assert found["left_out"].lines == tuple(left_out)


def test_one_picture_under_two_labels(folder):
    folder("dog/same.png", encode(photograph(0)))
    folder("dog/other_bytes.png", encode(photograph(2), compress_level=1))
    found, names = find(f"folder:{folder.root}")
    assert found["equal_labels"].severity == "spoils"
    assert names["equal_labels"] == [
        {"cat/00.png", "dog/same.png"},
        {"cat/02.png", "dog/other_bytes.png"},
    ]
    # Without decoding, equal files are found and equal pixels are not.
    found, names = find(f"folder:{folder.root}", decode=False)
    assert names["equal_labels"] == [{"cat/00.png", "dog/same.png"}]


def test_copies_within_a_class_and_in_other_sizes(folder):
    folder("cat/again.png", encode(photograph(0)))
    small = Image.fromarray(photograph(2)).resize((40, 40), Image.LANCZOS)
    folder("cat/small.jpg", encode(np.asarray(small), "JPEG", quality=85))
    folder("dog/saved_again.jpg", encode(photograph(4), "JPEG", quality=85))
    found, names = find(f"folder:{folder.root}")
    assert found["equal_repeated"].severity == "look"
    assert names["equal_repeated"] == [{"cat/00.png", "cat/again.png"}]
    assert names["near_repeated"] == [{"cat/02.png", "cat/small.jpg"}]
    assert found["near_labels"].severity == "look"
    assert names["near_labels"] == [{"cat/04.png", "dog/saved_again.jpg"}]
    assert "shapes" in found


def test_very_small_and_very_wide_pictures_are_only_said_to_be_so(folder):
    """Of 10 pixels a side nobody can say whether two are nearly equal."""
    for seed in (0, 2):
        tiny = Image.fromarray(photograph(seed)).resize((10, 10), Image.LANCZOS)
        folder(f"cat/tiny_{seed}.png", encode(np.asarray(tiny)))
    wide = Image.fromarray(photograph(61)).resize((10_000, 100), Image.BICUBIC)
    folder("dog/wide.jpg", encode(np.asarray(wide), "JPEG"))
    for decode in (True, False):
        found, _ = find(f"folder:{folder.root}", decode=decode)
        assert set(found) <= _ALWAYS | {"shapes"}
        assert not audit.spoils(found.values())
        if decode:
            assert found["shapes"].lines == (
                "10 to 100 high (median 48), 10 to 10000 wide (median 48)",
            )


def test_a_picture_in_two_splits(tmp_path, folder):
    for part in ("train", "test"):
        for seed in range(24):
            path = folder(f"{part}/cat/{seed:02}.png", encode(photograph(seed + 100)))
            if part == "test" and seed > 1:
                path.write_bytes(encode(photograph(seed + 200)))
    for name in ("cat", "dog"):
        (folder.root / name).rename(tmp_path / name)
    found, names = find(f"folder:{folder.root}")
    assert found["equal_splits"].severity == "spoils"
    assert names["equal_splits"] == [
        {"train/cat/00.png", "test/cat/00.png"},
        {"train/cat/01.png", "test/cat/01.png"},
    ]


def test_one_label_in_two_sources_is_one_label(tmp_path, folder):
    for name in ("Cat", "fox"):
        (tmp_path / "more" / name).mkdir(parents=True)
        for seed in range(6):
            pixels = photograph(600 + seed + 10 * (name == "fox"))
            (tmp_path / "more" / name / f"{seed}.png").write_bytes(encode(pixels))
    (tmp_path / "more/Cat/same.png").write_bytes(encode(photograph(0)))
    (tmp_path / "more/fox/other.png").write_bytes(encode(photograph(2)))
    found, names = find(f"folder:{folder.root}", f"folder:{tmp_path / 'more'}")
    assert names["equal_repeated"] == [{"cat/00.png", "Cat/same.png"}]
    assert names["equal_labels"] == [{"cat/02.png", "fox/other.png"}]
    assert found["equal_repeated"].severity == "look"


def test_letters_of_both_cases_are_two_labels():
    source = audit.AuditedSource("letters", "known", ("A", "a"), {})
    some = [audit.Picture(0, name, name) for name in source.class_names]
    assert findings.harm_of(audit.Collection([source], some), some) == "labels"


def test_a_picture_and_a_class_known_and_unknown(tmp_path, folder):
    others = tmp_path / "others"
    for name in ("Cat", "fox"):
        (others / name).mkdir(parents=True)
        for seed in range(3):
            pixels = photograph(300 + seed + 10 * (name == "fox"))
            (others / name / f"{seed}.png").write_bytes(encode(pixels))
    (others / "fox/known.png").write_bytes(encode(photograph(7)))
    found, names = find(f"folder:{folder.root}", unknown=[f"folder:{others}"])
    assert found["known_and_unknown_class"].severity == "spoils"
    (line,) = found["known_and_unknown_class"].lines
    assert "cat = " in line and line.endswith(": Cat")
    assert names["equal_known_and_unknown"] == [{"dog/07.png", "fox/known.png"}]
    found, _ = find(f"folder:{folder.root}", unknown=[f"folder:{others}[fox]"])
    assert "known_and_unknown_class" not in found
    assert "equal_known_and_unknown" in found


def test_classes_that_differ_by_case_and_empty_ones(folder):
    folder("DOG/1.png", encode(photograph(60)))
    (folder.root / "fish").mkdir()
    found, _ = find(f"folder:{folder.root}")
    case, empty = sorted(found["classes"].lines, key=lambda line: "fish" in line)
    assert "'DOG' and 'dog'" in case
    assert "fish has no pictures" in empty
    assert found["classes"].severity == "spoils"


def test_links_out_of_the_folder_are_named(tmp_path, folder):
    outside = tmp_path / "outside"
    outside.mkdir()
    for seed in (80, 81):
        (outside / f"{seed}.png").write_bytes(encode(photograph(seed)))
    (folder.root / "cat/link.png").symlink_to(outside / "80.png")
    (folder.root / "cat/inner.png").symlink_to(folder.root / "dog/01.png")
    (folder.root / "fox").symlink_to(outside)
    found, _ = find(f"folder:{folder.root}")
    assert found["links"].severity == "look"
    assert found["links"].lines == (
        f"folder:{folder.root}: cat/link.png to {outside / '80.png'}",
        f"folder:{folder.root}: fox to {outside}",
    )
    with pytest.warns(pipelines.DataWarning, match=r"2 links lead out.*cat/link\.png"):
        pipelines.load(f"folder:{folder.root}")


def test_blank_pictures_and_a_class_of_them(folder):
    folder("cat/cap.png", encode(np.full((48, 48, 3), 7, np.uint8)))
    dim = np.random.default_rng(0).integers(90, 95, (48, 48, 3)).astype(np.uint8)
    folder("dog/dim.png", encode(dim))
    found, names = find(f"folder:{folder.root}")
    assert found["blank"].severity == "look"
    assert names["blank"] == [{"cat/cap.png"}, {"dog/dim.png"}]
    for level in range(10):
        folder(f"fog/{level}.png", encode(np.full((48, 48, 3), level, np.uint8)))
    assert find(f"folder:{folder.root}")[0]["blank"].severity == "spoils"


def test_classes_of_very_different_sizes(folder):
    for seed in range(2):
        folder(f"fox/{seed}.png", encode(photograph(400 + seed)))
    found, _ = find(f"folder:{folder.root}")
    (line,) = found["imbalance"].lines
    assert "cat has 12 pictures, fox 2" in line
    assert "ood-train --class_weight=balanced" in found["imbalance"].advice
    lines = found["small_splits"].lines
    assert any(
        "fox" in line and "train 2, validation 0, test 0" in line for line in lines
    )


def test_suspect_labels_are_few_and_never_those_of_copies(tmp_path):
    def write(name, seed, kind):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        mixed = 0.6 * photograph(kind) + 0.4 * photograph(seed)
        path.write_bytes(encode(mixed.astype(np.uint8)))

    for seed in range(80):
        name = ("cat", "dog")[seed % 2]
        write(f"{name}/{seed}.png", seed, 1000 + seed % 2)
    write("cat/a_dog.png", 90, 1001)
    found, names = find(f"folder:{tmp_path}")
    assert names["suspect_labels"] == [{"cat/a_dog.png"}]
    assert found["suspect_labels"].severity == "note"
    assert found["suspect_labels"].lines == ("cat/a_dog.png: rather dog?",)
    write("dog/a_dog.png", 90, 1001)
    found, names = find(f"folder:{tmp_path}")
    assert names["equal_labels"] == [{"cat/a_dog.png", "dog/a_dog.png"}]
    assert {"cat/a_dog.png"} not in names.get("suspect_labels", [])


def test_splits_are_those_that_the_source_deals(folder):
    for seed in range(5):
        folder(f"fox/{seed}.png", encode(photograph(500 + seed)))
    for spec in (f"folder:{folder.root}", f"folder:{folder.root}[1,2]"):
        collection = audit.gather([spec])
        source = pipelines.load(spec)
        for role in ("train", "validation", "test"):
            dealt = {one.name for one in collection.pictures if one.role == role}
            assert dealt == set(source.split(role).files)


@pytest.mark.parametrize("group_by", ["none", ["none"], [], "copies", "(.)_never_"])
def test_splits_are_dealt_as_in_a_training_whatever_is_grouped(folder, group_by):
    for seed in range(0, 24, 2):
        folder(f"cat/copy{seed}.png", encode(photograph(0)))
    spec = f"folder:{folder.root}"
    ways = [group_by] if isinstance(group_by, str) else group_by
    recorded = {"group_by": ways, "formats": transcoding.formats()}
    # Names of unknown pictures need not tell what those of known ones do.
    is_unknown = group_by == "(.)_never_"
    known, unknown = ([], [spec]) if is_unknown else ([spec], [])
    collection = audit.gather(known, unknown, group_by=group_by)
    source = run_data.load_as_recorded(spec, recorded)
    for role in ("train", "validation", "test"):
        dealt = {one.name for one in collection.pictures if one.role == role}
        assert dealt == set(source.split(role).files)


def test_made_images_are_not_looked_at(folder):
    collection = audit.gather([f"folder:{folder.root}"], ["synthetic", "uniform_noise"])
    assert [one.is_made for one in collection.sources] == [False, True, True]
    assert len(collection.pictures) == 24
    with pytest.raises(ValueError, match="synthetic has no form"):
        audit.gather([f"folder:{folder.root}"], ["synthetic@negative"])


def test_sources_of_several_sizes_are_brought_to_one(monkeypatch):
    def of_sizes(request):
        def reader(side):
            shape = (4, side, side, 3)
            images = np.random.default_rng(side).integers(0, 256, shape, np.uint8)
            return lambda: (images, np.arange(4) % 2)

        parts = {"train": reader(8), "test": reader(9)}
        return pipelines.from_parts(request, ["cat", "dog"], parts)

    monkeypatch.setitem(
        registry._SOURCES, "of_sizes", registry.Registered("of_sizes", of_sizes)
    )
    with pytest.raises(ValueError, match="image_shape"):
        audit.gather(["of_sizes"])
    collection = audit.gather(["of_sizes"], image_shape=(8, 8, 3))
    assert {one.shape for one in collection.pictures} == {(8, 8, 3)}


def test_arrays_are_looked_at_too(tmp_path):
    images = np.stack([photograph(seed, 32) for seed in range(20)])
    images[13] = images[2]
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(20) % 2)
    found, names = find(f"npz:{tmp_path / 'set.npz'}")
    assert found["equal_labels"].severity == "spoils"
    (group,) = names["equal_labels"]
    assert len(group) == 2


@pytest.mark.real_data
def test_the_flowers_have_what_their_description_says(real_data_dir, tmp_path):
    import zipfile

    path = real_data_dir / "flowers" / "images.zip"
    if not path.is_file():
        pytest.skip(f"no flowers in {path}")
    with zipfile.ZipFile(path) as archive:
        some = ("rose/", "tulip/", "sunflower/")
        for name in archive.namelist():
            if name.startswith(some) and not name.endswith("/"):
                kind, file = name.split("/")
                (tmp_path / kind).mkdir(exist_ok=True)
                (tmp_path / kind / file).write_bytes(archive.read(name))
    found, names = find(f"folder:{tmp_path}")
    assert "unreadable" not in found and "left_out" not in found
    both = (
        "15922772266_1167a06620",
        "17104364030_ee31ee279b_n",
        "17291451621_0e39f08b9e_n",
        "17291930305_79deae6a90_n",
    )
    assert names["equal_labels"] == [
        {f"rose/{name}.jpg", f"tulip/{name}.jpg"} for name in both
    ]
    assert names["equal_repeated"] == [
        {
            "sunflower/14889392928_9742aed45b_m.jpg",
            "sunflower/15066430311_fb57fa92b0_m.jpg",
        },
        {
            "sunflower/15069459615_7e0fd61914_n.jpg",
            "sunflower/15072973261_73e2912ef2_n.jpg",
        },
    ]
    two_sizes = "7166539842 7166550328 7166552648 7166567320 7166606598 7166644048"
    near = [sorted(group) for group in names["near_repeated"]]
    for number in two_sizes.split():
        (pair,) = (group for group in near if f"/{number}_" in group[0])
        assert pair[1] == pair[0].replace(".jpg", "_n.jpg")
    assert len(near) <= 15
    assert "near_labels" not in names
