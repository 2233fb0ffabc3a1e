"""EMNIST's characters stand upright, whichever way its files come."""

import gzip
import string
import struct
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from ood_keras import pipelines
from ood_keras.pipelines.sources import idx_sets, orientation

# Printed letters, rendered: the network of `orientation` was fitted to written ones.
UPRIGHT = pipelines.load("glyphs").test.images[::9]
TURNED = UPRIGHT.transpose(0, 2, 1, 3)
SETS = ("letters", "digits", "balanced", "byclass", "bymerge", "mnist")


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error", pipelines.DataWarning)
        yield


def idx_bytes(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def files(images, name="letters", stem="{}", test="t10k"):
    """`{file name: content}` of a train and a test part of one set of EMNIST."""
    first = 1 if name == "letters" else 0
    return {
        f"{stem.format(part)}-{kind}-ubyte.gz": gzip.compress(idx_bytes(array))
        for part in ("train", test)
        for kind, array in (
            ("images-idx3", images[..., 0]),
            ("labels-idx1", first + np.arange(len(images)) % 10),
        )
    }


def write(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def write_zip(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(f"gzip/{name}", content)


def as_set(images):
    return set(map(bytes, images))


@pytest.mark.parametrize("images", [UPRIGHT, TURNED], ids=["upright", "transposed"])
@pytest.mark.parametrize("name", SETS)
def test_files_with_the_usual_names(name, images, tmp_path):
    write(tmp_path / f"emnist_{name}", files(images, name))
    source = pipelines.load(f"emnist/{name}", data_dir=tmp_path)
    assert as_set(source.test.images) == as_set(UPRIGHT)
    assert as_set(source.train.images) <= as_set(UPRIGHT)
    assert source.test.labels.tolist() == (np.arange(len(UPRIGHT)) % 10).tolist()


@pytest.mark.parametrize("test", ["test", "t10k"])
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    "place",
    [
        *("emnist_{}", "emnist_{}/gzip", "emnist", "emnist/gzip"),
        *("emnist_{}/gzip.zip", "emnist/gzip.zip", "gzip.zip"),
    ],
)
def test_files_with_the_publisher_s_names(place, name, test, tmp_path):
    contents = {}
    for other in SETS:
        images = TURNED if other == name else TURNED[:30]
        contents |= files(images, other, f"emnist-{other}-{{}}", test)
    path = tmp_path / place.format(name)
    (write_zip if path.suffix else write)(path, contents)
    source = pipelines.load(f"emnist/{name}", data_dir=tmp_path)
    assert as_set(source.test.images) == as_set(UPRIGHT)


def test_what_shows_no_direction_is_taken_by_its_name(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 28, 28, 1), np.uint8)
    turned = noise.transpose(0, 2, 1, 3)
    write(tmp_path / "emnist", files(turned, stem="emnist-letters-{}"))
    source = pipelines.load("emnist/letters", data_dir=tmp_path)
    assert as_set(source.test.images) == as_set(noise)
    folder = tmp_path / "emnist_letters"
    write(folder, files(noise))
    source = pipelines.load("emnist/letters", data_dir=tmp_path)
    with pytest.warns(pipelines.DataWarning, match=r"cannot be told.*orientation\.txt"):
        images = source.test.images
    assert as_set(images) == as_set(noise)
    for word, expected in (("Transposed\n", turned), ("upright", noise)):
        (folder / "orientation.txt").write_text(word)
        images = pipelines.load("emnist/letters", data_dir=tmp_path).test.images
        assert as_set(images) == as_set(expected)
    (folder / "orientation.txt").write_text("sideways")
    with pytest.raises(ValueError, match="must hold the word upright or transposed"):
        _ = pipelines.load("emnist/letters", data_dir=tmp_path).test


def test_what_the_user_says_holds_and_is_doubted(tmp_path):
    folder = tmp_path / "emnist_letters"
    write(folder, files(UPRIGHT))
    (folder / "orientation.txt").write_text("transposed")
    source = pipelines.load("emnist/letters", data_dir=tmp_path)
    with pytest.warns(pipelines.DataWarning, match="says transposed, but .* upright"):
        images = source.test.images
    assert as_set(images) == as_set(TURNED)


def test_a_folder_of_idx_files_called_emnist_is_turned_too(tmp_path):
    write(tmp_path / "mine", files(TURNED, stem="emnist-letters-{}", test="test"))
    images = pipelines.load(f"idx:{tmp_path / 'mine'}").test.images
    assert as_set(images) == as_set(UPRIGHT)
    write(tmp_path / "EMNIST", files(TURNED))
    images = pipelines.load(f"idx:{tmp_path / 'EMNIST'}").test.images
    assert as_set(images) == as_set(UPRIGHT)
    # Other characters may well lie: nothing says that these are Latin ones.
    write(tmp_path / "runes", files(TURNED))
    images = pipelines.load(f"idx:{tmp_path / 'runes'}").test.images
    assert as_set(images) == as_set(TURNED)


def test_evidence_changes_its_sign_alone_when_an_image_is_transposed():
    evidence = orientation.evidence(UPRIGHT)
    np.testing.assert_allclose(orientation.evidence(TURNED), -evidence, atol=1e-12)
    assert evidence.mean() > 0.3
    assert orientation.judge(UPRIGHT[:0]) is None
    assert orientation.judge(np.zeros((50, 28, 28, 1), np.uint8)) is None


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["emnist_letters", "mnist"])
def test_twenty_written_characters_are_enough(name, real_data_dir):
    spec = f"idx:{real_data_dir / name}"
    images = pipelines.load(spec).test.images
    random = np.random.default_rng(0)
    answers = []
    for _ in range(200):
        some = images[random.choice(len(images), 20, replace=False)]
        answers.append(orientation.judge(some))
        turned = orientation.judge(some.transpose(0, 2, 1, 3))
        assert (answers[-1] is None) == (turned is None)
        assert turned in (None, orientation.TRANSPOSED)
    assert set(answers) <= {None, orientation.UPRIGHT}
    assert answers.count(orientation.UPRIGHT) > 190


def test_every_part_of_emnist_has_a_source():
    classes = {name: idx_sets.IDX_SETS[f"emnist/{name}"].class_names for name in SETS}
    # Table II of Cohen et al. 2017, arXiv:1702.05373.
    assert {name: len(names) for name, names in classes.items()} == {
        **{"byclass": 62, "bymerge": 47, "balanced": 47},
        **{"letters": 26, "digits": 10, "mnist": 10},
    }
    merged = set(string.ascii_letters) - set(classes["balanced"])
    assert merged == set("cijklmopsuvwxyz")


@pytest.mark.parametrize("kind", ["npz", "folder", "dark"])
def test_where_nothing_is_turned_the_user_is_told(kind, tmp_path):
    def spec(images):
        place = tmp_path / f"EMNIST_{kind}_{len(list(tmp_path.iterdir()))}"
        if kind == "npz":
            np.savez(f"{place}.npz", images=images)
            return f"npz:{place}.npz"
        place.mkdir()
        for number, image in enumerate(images):
            pixels = 255 - image if kind == "dark" else image
            Image.fromarray(pixels[..., 0]).save(place / f"{number:04d}.png")
        return f"folder:{place}"

    turned = spec(TURNED)
    with pytest.warns(pipelines.DataWarning, match="look transposed.*@transposed"):
        assert len(pipelines.load(turned).train)
    # No warning is an error.
    upright = pipelines.load(spec(UPRIGHT))
    found = pipelines.load(f"{turned}@transposed")
    for role in upright.roles:
        np.testing.assert_array_equal(
            found.split(role).images, upright.split(role).images
        )
