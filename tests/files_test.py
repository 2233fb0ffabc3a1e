"""Written whole or not at all: full disks, failures in the middle, existing targets."""

import calendar
import errno
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

from ood_keras import files


def leftovers(folder):
    return sorted(path.name for path in folder.rglob("*"))


def fill_disk(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)


def test_file_appears_with_its_folder(tmp_path):
    files.write_text(tmp_path / "a" / "b.txt", "grüße")
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == "grüße"
    assert leftovers(tmp_path) == ["a", "b.txt"]


@pytest.mark.parametrize(
    "url", ["s3://bucket/a.txt", pathlib.Path("gs://bucket/a.txt"), b"memory://a"]
)
def test_a_url_does_not_become_a_folder_of_this_machine(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for write in (files.atomic_file, files.atomic_directory):
        with pytest.raises(ValueError, match=r"of this machine.*Received: .*:/"):
            write(url).__enter__()
    assert not leftovers(tmp_path)
    for path in ("a.txt", "/a:/b", "C:/a.txt", pathlib.Path("a/b:c")):
        files.check_local(path)


def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.atomic_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == ["file.txt"]


def test_full_disk_says_which_file_and_what_to_do(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    path.write_text("old")
    fill_disk(monkeypatch)
    with pytest.raises(
        OSError, match=r"file\.txt: No space left.*free space"
    ) as caught:
        files.write_text(path, "new")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == ["file.txt"]


def test_read_only_disk_is_a_clear_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(OSError, match="Read-only file system"):
        files.write_text(tmp_path / "file.txt", "new")
    directory = files.atomic_directory(tmp_path / "folder")
    with pytest.raises(OSError, match="Read-only file system"), directory:
        pass


def test_temporary_keeps_the_suffix_that_writers_look_at(tmp_path):
    with files.atomic_file(tmp_path / "model.keras") as temporary:
        assert temporary.suffix == ".keras"
        temporary.touch()


def test_json_refuses_what_json_cannot_say(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": [1, 0.5, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, 0.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"b": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, 0.5, None]}


def test_arrays_are_what_numpy_reads_and_the_same_bytes_each_time(
    tmp_path, monkeypatch
):
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1],
        "b/c": np.array("text"),
        "d": np.zeros((0, 3), np.int8),
        "file": np.arange(3) == 1,
    }
    for compressed in (False, True):
        path = tmp_path / f"{compressed}.npz"
        files.write_arrays(path, arrays, compressed=compressed)
        with np.load(path, allow_pickle=False) as found:
            assert found.files == list(arrays)
            for name, array in arrays.items():
                assert found[name].dtype == array.dtype
                np.testing.assert_array_equal(found[name], array)
        before = path.read_bytes()
        for year in (1970, 2001, 2120):
            set_clock(monkeypatch, year)
            files.write_arrays(path, arrays, compressed=compressed)
            assert path.read_bytes() == before
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        files.write_arrays(tmp_path / "x.npz", {"a": np.array([{}])})


def set_clock(monkeypatch, year):
    """Lets the clock say another year to whoever asks for seconds or fields."""
    seconds = calendar.timegm((year, 6, 1, 0, 0, 0))
    localtime = time.gmtime
    monkeypatch.setattr(time, "time", lambda: seconds)
    monkeypatch.setattr(
        time, "localtime", lambda at=None: localtime(seconds if at is None else at)
    )


def test_a_clock_that_zip_files_cannot_hold_is_an_error_that_helps(monkeypatch):
    files.check_clock()
    for year in (1970, 1979, 2108):
        set_clock(monkeypatch, year)
        with pytest.raises(ValueError, match=f"clock says {year}-06-01.*Set the clock"):
            files.check_clock()
    for year in (1980, 2107):
        set_clock(monkeypatch, year)
        files.check_clock()


def test_two_writers_in_one_process_do_not_meet(tmp_path):
    path = tmp_path / "file.txt"
    with files.atomic_file(path) as first, files.atomic_file(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert leftovers(tmp_path) == ["file.txt"]


def test_a_folder_in_a_folder_says_once_which_one_could_not_be_written(
    tmp_path, monkeypatch
):
    fill_disk(monkeypatch)
    with (
        pytest.raises(OSError) as caught,
        files.atomic_directory(tmp_path / "out") as outer,
        files.atomic_directory(outer / "inner") as inner,
    ):
        files.write_text(inner / "file.txt", "new")
    assert str(caught.value).count("could not write") == 1
    assert f"could not write {tmp_path / 'out'}: No space left" in str(caught.value)
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_one_in_the_words_of_another_library_too(tmp_path):
    full, wrong = "SaveV2 /x/0; No space left on device [Op:a]", "the model is wrong"
    for write in (files.atomic_file, files.atomic_directory):
        expected = pytest.raises(OSError, match=r"could not write .*out: No space")
        with expected as caught, write(tmp_path / "out"):
            raise RuntimeError(full)
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(RuntimeError, match=wrong), write(tmp_path / "out"):
            raise RuntimeError(wrong)
    with (
        tempfile.TemporaryDirectory(prefix=files.TEMPORARY) as temporary,
        pytest.raises(OSError, match=r"temporary files, .*TMPDIR names another"),
        files.atomic_directory(tmp_path / "out"),
    ):
        raise RuntimeError(f"SaveV2 {temporary}/a; File too large")
    assert leftovers(tmp_path) == []


def test_directory_appears_whole(tmp_path):
    with files.atomic_directory(tmp_path / "out" / "1") as temporary:
        (temporary / "a").write_text("a")
        assert not (tmp_path / "out" / "1").exists()
    assert leftovers(tmp_path) == ["1", "a", "out"]


def test_directory_failure_leaves_nothing(tmp_path):
    directory = files.atomic_directory(tmp_path / "1")
    with pytest.raises(ZeroDivisionError), directory as temporary:
        (temporary / "a").write_text("a")
        raise ZeroDivisionError
    assert leftovers(tmp_path) == []


def test_directory_is_never_overwritten(tmp_path):
    (tmp_path / "1").mkdir()
    directory = files.atomic_directory(tmp_path / "1")
    with pytest.raises(FileExistsError, match="never overwritten"), directory:
        pass


def writer(path):
    """A process that is in the middle of writing the folder `path`."""
    code = (
        "import sys\nfrom ood_keras import files\n"
        "with files.atomic_directory(sys.argv[1]) as folder:\n"
        "    (folder / 'half').write_text('half')\n"
        "    print(folder, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    strangers = [".1.abc.tmp", ".mine.ood_keras.tmp2", "1.ood_keras.tmp"]
    for name in strangers:
        (tmp_path / name / "in").mkdir(parents=True)
    (tmp_path / ".file.ood_keras.tmp").write_text("no folder")
    (tmp_path / ".link.ood_keras.tmp").symlink_to(tmp_path / strangers[0])
    before = leftovers(tmp_path)
    killed, left = writer(tmp_path / "1")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert os.listdir(left) == ["half"]
    living, unfinished = writer(tmp_path / "1")
    assert not os.path.exists(left)
    with files.atomic_directory(tmp_path / "2"):
        assert os.listdir(unfinished) == ["half"]
    living.communicate()
    assert living.returncode == 0
    assert leftovers(tmp_path) == sorted([*before, "1", "2", "half"])


def test_a_folder_that_is_taken_away_before_it_is_locked_is_made_again(
    tmp_path, monkeypatch
):
    made, make = [], files.tempfile.mkdtemp

    def taken_away(**arguments):
        made.append(make(**arguments))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(files.tempfile, "mkdtemp", taken_away)
    with files.atomic_directory(tmp_path / "1") as temporary:
        assert str(temporary) == made[1]
    assert len(made) == 2 and leftovers(tmp_path) == ["1"]


def test_a_second_process_is_told_that_another_one_writes_the_same(tmp_path):
    first, unfinished = writer(tmp_path / "1")
    again = files.atomic_directory(tmp_path / "1")
    with pytest.raises(BlockingIOError, match=r"another process is writing .*1\. Wait"):
        again.__enter__()
    again = files.atomic_directory(tmp_path / "1.5")
    with files.atomic_directory(tmp_path / "1.5"), pytest.raises(BlockingIOError):
        again.__enter__()
    assert os.listdir(unfinished) == ["half"]
    first.communicate()
    assert leftovers(tmp_path) == ["1", "1.5", "half"]


def test_what_appeared_meanwhile_is_not_overwritten(tmp_path):
    for content in ([], ["theirs"]):
        path = tmp_path / str(len(content))
        directory = files.atomic_directory(path)
        with pytest.raises(FileExistsError, match="never overwritten"), directory:
            path.mkdir()
            for name in content:
                (path / name).touch()
        assert leftovers(path) == content
    assert leftovers(tmp_path) == ["0", "1", "theirs"]


def test_a_lock_ends_with_the_descriptor_and_holds_every_other_one_up(tmp_path):
    path = tmp_path / "lock"
    path.write_text("what an earlier process left")
    with path.open() as first, path.open() as second:
        assert files.lock(first.fileno())
        assert not files.lock(second.fileno())
        first.close()
        assert files.lock(second.fileno())
    assert path.read_text() == "what an earlier process left"
    again = files.lock_folder(tmp_path)
    with files.lock_folder(tmp_path), pytest.raises(BlockingIOError, match="locked"):
        again.__enter__()
    with files.lock_folder(tmp_path):
        pass


_WITHOUT_FCNTL = """
import sys
sys.modules["fcntl"] = None
import pathlib
import ood_keras
from ood_keras import export, files, training
from ood_keras.inference import batch_scoring
from ood_keras.training import run_directory
from ood_keras.workflows.demo import page as demo_page
from ood_keras import workflows
from ood_keras.study import engine, summary, worker
folder = pathlib.Path(sys.argv[1])
with files.atomic_directory(folder / "1") as temporary:
    (temporary / "a").write_text("a")
files.write_text(folder / "b", "b")
try:
    with run_directory.open_run(folder / "run", {}):
        pass
except OSError as error:
    print(error)
"""


def test_all_works_without_fcntl_but_what_must_not_run_twice(tmp_path):
    """As on Windows, but without the locks that it has; they cannot be had here."""
    process = subprocess.run(
        [sys.executable, "-c", _WITHOUT_FCNTL, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "cannot be locked" in process.stdout
    assert leftovers(tmp_path) == [".lock", "1", "a", "b", "run"]


def test_what_is_flushed_is_open_for_writing(tmp_path, monkeypatch):
    """Windows fails otherwise."""
    fsync = os.fsync

    def windows_fsync(descriptor):
        os.write(descriptor, b"")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", windows_fsync)
    files.write_text(tmp_path / "a", "a")
    assert (tmp_path / "a").read_text() == "a"


def test_locks_have_one_owner():
    root = pathlib.Path(__file__).resolve().parents[1]
    users = [
        path.relative_to(root).as_posix()
        for folder in ("ood_keras", "pipelines", "tools")
        for path in (root / folder).rglob("*.py")
        if re.search(
            r"^\s*(import|from) (fcntl|msvcrt|filelock)", path.read_text(), re.M
        )
    ]
    assert users == ["ood_keras/files.py"]
