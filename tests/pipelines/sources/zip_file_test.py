"""A zip file of pictures is the folder that it was packed from."""

import os
import struct
import threading
import zipfile

import numpy as np
import pytest

from ood_keras import file_content, pipelines
from ood_keras.pipelines import DataNotFoundError, audit
from ood_keras.pipelines.sources import zip_paths

RANDOM = np.random.default_rng(0)


@pytest.fixture
def write(tmp_path, png):
    """A function that writes pictures below a folder, by their names."""

    def write(*names, shape=(6, 5, 3)):
        for name in names:
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(RANDOM.integers(0, 256, shape, np.uint8)))
        return tmp_path / "photos"

    return write


def pack(folder, method=zipfile.ZIP_DEFLATED, folders=False, **others):
    """Packs a folder as other programs do; `others` are further members."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            if folders or file.is_file():
                archive.write(file, file.relative_to(folder))
        for name, content in others.items():
            archive.writestr(name, content)
    return path


def numbered(*folders, count=10):
    return [f"{folder}/{n:02}.png" for folder in folders for n in range(count)]


def assert_same(spec, other, **options):
    """Both sources have the same classes, splits, pictures and labels."""
    found, expected = (pipelines.load(one, **options) for one in (spec, other))
    assert found.class_names == expected.class_names
    assert found.roles == expected.roles
    for role in found.roles:
        one, another = found.split(role), expected.split(role)
        np.testing.assert_array_equal(one.images, another.images)
        np.testing.assert_array_equal(one.labels, another.labels)
        assert one.fingerprint() == another.fingerprint()
        if all(name.count("/") == 1 and "zip" not in name for name in one.files):
            assert one.files == another.files


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    "names",
    [
        numbered("10", "9", "cat"),
        numbered("photos/Training/cat", "photos/Training/dog", "photos/Testing/cat")
        + numbered("photos/Testing/dog"),
        [f"{number}.png" for number in range(10)],
        numbered("test", "Train", "VAL", count=3),
    ],
)
def test_it_is_the_folder(write, names, method):
    folder = write(*names)
    assert_same(f"zip:{pack(folder, method)}", f"folder:{folder}")
    assert_same(f"zip:{pack(folder, method, folders=True)}", f"folder:{folder}")


@pytest.mark.parametrize("group_by", ["copies", "folder", r"film(\d+)"])
def test_pictures_are_kept_together_as_in_the_folder(write, group_by):
    folder = write(
        *(
            f"{name}/film{n}/{m}.png"
            for name in ("a", "b")
            for n in "12345"
            for m in "12"
        )
    )
    with pytest.warns(pipelines.DataWarning, match="10 folders lie within"):
        assert_same(f"zip:{pack(folder)}", f"folder:{folder}", group_by=group_by)


def test_clutter_is_no_data_and_other_files_are_counted(write):
    folder = write(*numbered("cat", "dog"))
    path = pack(
        folder,
        **{
            "__MACOSX/cat/._00.png": b"resource fork",
            "cat/.DS_Store": b"",
            "dog/notes.txt": b"no picture",
            "dog/phone.heif": b"\0\0\0\x18ftypmp42" + bytes(40),
        },
    )
    with pytest.warns(pipelines.DataWarning, match=r"2 files .*\.txt \(no picture\)"):
        source = pipelines.load(f"zip:{path}")
    assert source.class_names == ("cat", "dog")
    assert sum(len(source.split(role)) for role in source.roles) == 20


def test_a_folder_in_it_may_be_named(write):
    folder = write(*numbered("known/cat", "known/dog", "other"))
    path = pack(folder)
    assert_same(f"zip:{path}/known", f"folder:{folder}/known")
    assert_same(f"zip:{path}/known[dog]", f"folder:{folder}/known[dog]")
    assert pipelines.load(f"zip:{path}/other").class_names == ()
    with pytest.raises(DataNotFoundError, match=r"no folder knwon.*known, other"):
        pipelines.load(f"zip:{path}/knwon")
    with pytest.raises(DataNotFoundError, match=r"no folder known/cat/00\.png"):
        pipelines.load(f"zip:{path}/known/cat/00.png")


def test_a_folder_around_all_classes_is_told_what_to_write(write):
    path = pack(write(*numbered("all/cat", "all/dog")))
    with pytest.raises(ValueError, match=rf"If the classes are in .*give {path}/all"):
        pipelines.load(f"zip:{path}")
    assert pipelines.load(f"zip:{path}/all").class_names == ("cat", "dog")


def test_names_that_are_utf_8_and_do_not_say_so(write, tmp_path):
    folder = write(*numbered("Löwenzahn", "ひまわり"))
    path = pack(folder)
    content = path.read_bytes()
    # Bit 11 of the flags, at byte 6 of local headers and byte 8 of central ones.
    for magic, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        parts = content.split(magic)
        for number, part in enumerate(parts[1:], 1):
            at = place - 4
            flags = struct.unpack_from("<H", part, at)[0] & ~0x800
            parts[number] = part[:at] + struct.pack("<H", flags) + part[at + 2 :]
        content = magic.join(parts)
    other = tmp_path / "other.zip"
    other.write_bytes(content)
    assert zipfile.ZipFile(other).namelist() != zipfile.ZipFile(path).namelist()
    assert pipelines.load(f"zip:{other}").class_names == ("Löwenzahn", "ひまわり")
    assert_same(f"zip:{other}", f"folder:{folder}")


def change(path, name, **fields):
    """Writes other values into the entry of a member, in both of its headers."""
    layouts = {"crc": ("<I", 14, 16), "size": ("<I", 22, 24), "flags": ("<H", 6, 8)}
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo(name).header_offset
    content = bytearray(path.read_bytes())
    central = content.index(name.encode(), content.index(b"PK\1\2")) - 46
    for field, value in fields.items():
        form, local, other = layouts[field]
        struct.pack_into(form, content, offset + local, value)
        struct.pack_into(form, content, central + other, value)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 5}, r"cannot be unpacked: Bad CRC"),
        ({"size": 9999}, r"cannot be unpacked: .*it has 9999 bytes, and has \d+"),
        (
            {"size": 2**31},
            r"cannot be unpacked: .* says that it has 2147483648 bytes; at most 1342",
        ),
        ({"crc": 7}, r"cannot be unpacked: .*CRC"),
    ],
)
def test_members_that_lie_are_named_with_all_that_cannot_be_read(
    write, fields, message
):
    path = pack(write(*numbered("cat", "dog")))
    change(path, "cat/03.png", **fields)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("dog/zero.png", b"")
    with pytest.raises(ValueError, match="2 pictures cannot be read") as error:
        _ = pipelines.load(f"zip:{path}").train
    assert f"{path}/dog/zero.png is no readable picture: it is empty" in str(
        error.value
    )
    with pytest.raises(ValueError, match=rf"{path}/cat/03.png {message}"):
        _ = pipelines.load(f"zip:{path}").train
    left = pipelines.load(f"zip:{path}", leave_out=["cat/03.png", "dog/zero.png"])
    assert sum(len(left.split(role)) for role in left.roles) == 19


def test_a_member_that_grows_is_read_no_further_than_it_says(write, monkeypatch):
    monkeypatch.setattr(file_content, "MAX_PICTURE_BYTES", 10_000)
    path = pack(write("cat/1.png"), **{"cat/bomb.png": bytes(10**7)})
    change(path, "cat/bomb.png", size=9_999)
    place = zip_paths.ZipPath(zip_paths.Archive(path), ("cat", "bomb.png"))
    with pytest.raises(ValueError, match=r"9999 bytes|CRC"):
        place.read_bytes()


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("../cat/1.png", 0, "lies outside the folder"),
        ("/cat/1.png", 0, "lies outside the folder"),
        ("cat/../../1.png", 0, "lies outside the folder"),
        ("C:/cat/1.png", 0, "lies outside the folder"),
        ("../empty/", 0, "lies outside the folder"),
        ("..\\cat\\1.png", 0, "lies outside the folder"),
        ("C:\\cat\\1.png", 0, "lies outside the folder"),
        ("pics\\cat\\1.png", 0, "has a backslash in its name; in a zip file, / parts"),
        ("dog: small/1.png", 0, "has a colon at the start of its path"),
        ("dog: small/", 0, "has a colon at the start of its path"),
        ("cat/./00.png", 0, "twice"),
        ("cat/00.png/1.png", 0, "twice, or as a file and as a folder"),
    ],
)
def test_archives_that_are_refused(write, name, flags, message):
    path = pack(write(*numbered("cat", "dog")))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"")
    with pytest.raises(ValueError, match=message):
        pipelines.load(f"zip:{path}")


def test_the_folder_itself_may_be_a_member(write):
    path = pack(write(*numbered("cat", "dog")))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("./", b"")
        archive.writestr("./cat/more.png", archive.read("cat/00.png"))
    source = pipelines.load(f"zip:{path}")
    assert source.class_names == ("cat", "dog")
    assert sum(len(source.split(role)) for role in source.roles) == 21


def test_links_encrypted_members_and_other_compressions_are_refused(write):
    folder = write(*numbered("cat", "dog"))
    path = pack(folder)
    link = zipfile.ZipInfo("dog/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match=r"'dog/link.png' in .* is a link"):
        pipelines.load(f"zip:{path}")
    path = pack(folder)
    change(path, "cat/05.png", flags=1)
    with pytest.raises(ValueError, match=r"'cat/05.png' in .* is encrypted"):
        pipelines.load(f"zip:{path}")
    path = pack(folder, zipfile.ZIP_BZIP2)
    with pytest.raises(ValueError, match="is compressed by method 12"):
        pipelines.load(f"zip:{path}")


def test_what_is_no_zip_file_is_told_what_to_write(write, tmp_path, monkeypatch):
    folder = write(*numbered("cat", "dog"))
    path = pack(folder)
    with pytest.raises(DataNotFoundError, match=rf"is a zip file: write zip:{path}"):
        pipelines.load(f"folder:{path}")
    with pytest.raises(DataNotFoundError, match=rf"write zip:{path}/cat"):
        pipelines.load(f"folder:{path}/cat")
    with pytest.raises(DataNotFoundError, match=rf"write folder:{folder}"):
        pipelines.load(f"zip:{folder}")
    with pytest.raises(DataNotFoundError, match=r"there is no file .*nowhere\.zip"):
        pipelines.load(f"zip:{tmp_path}/nowhere.zip")
    (tmp_path / "a.tar").write_bytes(b"no zip file")
    with pytest.raises(ValueError, match=r"a\.tar is no zip file, or a damaged one"):
        pipelines.load(f"zip:{tmp_path}/a.tar")
    (tmp_path / "half.zip").write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"half\.zip is no zip file, or a damaged one"):
        pipelines.load(f"zip:{tmp_path}/half.zip")
    monkeypatch.chdir(tmp_path)
    for text in ("photos.zip", "photos.zip/cat"):
        with pytest.raises(ValueError, match=rf"Did you mean zip:{text}\?"):
            pipelines.load(text)


def test_nothing_is_unpacked_to_disk(write, tmp_path):
    path = pack(write(*numbered("cat", "dog")))
    before = {file for file in tmp_path.rglob("*")}
    source = pipelines.load(f"zip:{path}")
    _ = source.train, source.test
    assert {file for file in tmp_path.rglob("*")} == before


def test_threads_read_one_zip_file_at_once(write):
    path = pack(write(*numbered("cat", count=40), shape=(60, 50, 3)))
    folder = zip_paths.ZipPath(zip_paths.Archive(path), ("cat",))
    files = sorted(folder.iterdir())
    expected = {file: file.read_bytes() for file in files}
    wrong = []

    def read(seed):
        for index in np.random.default_rng(seed).permutation(len(files)):
            if files[index].read_bytes() != expected[files[index]]:
                wrong.append(files[index])

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_large_ones_are_read_from_the_pixel_cache(write, tmp_path, monkeypatch):
    monkeypatch.setenv("OOD_KERAS_MEMORY_GB", "0")
    monkeypatch.setenv("OOD_KERAS_CACHE_DIR", str(tmp_path / "cache"))
    folder = write(*numbered("cat", "dog"))
    path = pack(folder)
    assert_same(f"zip:{path}", f"folder:{folder}")
    source = pipelines.load(f"zip:{path}", image_shape=(4, 4, 3))
    assert isinstance(source.train.images, pipelines.StoredImages)
    # Decoded once: where nothing changed, no member is read again.
    with monkeypatch.context() as patch:
        patch.setattr(zip_paths.Archive, "read", None)
        again = pipelines.load(f"zip:{path}", image_shape=(4, 4, 3))
        assert again.train.fingerprint() == source.train.fingerprint()
    write("cat/00.png")
    stat = path.stat()
    pack(folder)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    changed = pipelines.load(f"zip:{path}", image_shape=(4, 4, 3))
    assert changed.test.fingerprint() != source.test.fingerprint() or (
        changed.train.fingerprint() != source.train.fingerprint()
    )


def test_the_audit_names_what_lies_in_it(write):
    folder = write(*numbered("cat", "dog"), shape=(40, 40, 3))
    copied = (folder / "cat" / "01.png").read_bytes()
    path = pack(folder, **{"dog/copy.png": copied, "dog/bad.png": b"no picture"})
    change(path, "cat/07.png", crc=1)
    for decode in (True, False):
        found = audit.gather([f"zip:{path}"], decode=decode)
        errors = {one.name: one.error for one in found.pictures if one.error}
        assert errors.keys() == {"cat/07.png", "dog/bad.png"}
        assert "cannot be unpacked" in errors["cat/07.png"]
        left_out = audit.leave_out.choose(found)[f"zip:{path}"]
        assert left_out.keys() == {*errors, "cat/01.png", "dog/copy.png"}


def test_a_zip_file_is_listed_in_one_walk(write, monkeypatch):
    """What is there is looked up, not searched for: quick for very many members."""
    path = pack(write(*numbered("cat", "dog")))
    place = zip_paths.ZipPath(zip_paths.Archive(path))
    assert sorted(one.name for one in place.iterdir()) == ["cat", "dog"]
    assert (place / "cat").is_dir() and not (place / "cat").is_file()
    assert (place / "cat" / "00.png").is_file() and not (place / "cow").is_dir()
    assert str(place / "cat") == f"{path}/cat" and place.name == "photos.zip"
    assert {place / "cat": 1}[zip_paths.ZipPath(place.archive, ("cat",))] == 1
    with pytest.raises(NotADirectoryError):
        (place / "cat" / "00.png").iterdir()
    with pytest.raises(FileNotFoundError, match="holds no file cow"):
        (place / "cow").read_bytes()
