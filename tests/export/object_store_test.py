"""Answers in an object store, by the protocol of S3: kills leave nothing half written.

`pip install 'moto[server]' s3fs`, then `pytest -m slow
tests/export/object_store_test.py`. The server is moto's, on this machine.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from disturbing import NUM_IMAGES, NUM_SHARDS, check_whole, start, wait_for, watch

from ood_keras.inference import shards

pytestmark = pytest.mark.slow

BUCKET = "bucket"


class Store:
    """A server of S3 that keeps what it was asked, and can hold a put back."""

    def __init__(self, application):
        self.asked = []
        self.held, self.released = threading.Event(), threading.Event()
        self._application = application
        self._holds = False
        self._lock = threading.Lock()

    def hold_next_part(self):
        """The next put of a part waits for `released`, and comes to nothing."""
        self.held.clear()
        self.released.clear()
        self._holds = True

    def __call__(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        with self._lock:
            self.asked.append((method, path, environ["QUERY_STRING"]))
            is_held = self._holds and method == "PUT" and path.endswith(".parquet")
            self._holds = self._holds and not is_held
        if is_held:
            self.held.set()
            self.released.wait()
            # As where the connection breaks before the last byte: nothing is stored.
            start_response("400 Bad Request", [("Content-Length", "0")])
            return [b""]
        return self._application(environ, start_response)

    def puts(self):
        """The paths of the objects that were put, and the queries of these requests."""
        return [(path, query) for method, path, query in self.asked if method == "PUT"]


@pytest.fixture
def store(monkeypatch):
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    pytest.importorskip("flask", reason="moto[server] is not installed")
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    import werkzeug.serving

    store = Store(server.DomainDispatcherApplication(server.create_backend_app))
    serving = werkzeug.serving.make_server("127.0.0.1", 0, store, threaded=True)
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{serving.port}",
    }.items():
        monkeypatch.setenv(name, value)
    client().create_bucket(Bucket=BUCKET)
    yield store
    store.released.set()
    serving.shutdown()
    thread.join()


def client():
    """Not what is tested: the store's own client."""
    import boto3

    return boto3.client("s3")


def read_all(folder):
    """`{name: bytes}` of all objects of a folder of the bucket."""
    found = client().list_objects_v2(Bucket=BUCKET, Prefix=f"{folder}/")
    assert not found["IsTruncated"]
    return {
        each["Key"].removeprefix(f"{folder}/"): client()
        .get_object(Bucket=BUCKET, Key=each["Key"])["Body"]
        .read()
        for each in found.get("Contents", [])
    }


def list_parts(folder):
    return [name for name in read_all(folder) if name.startswith(f"{shards.PARTS}/")]


def find_writers(driver, temporary):
    """The processes below `driver` that have a part open in a folder."""
    writers = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{process}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
            files = [
                os.readlink(f"/proc/{process}/fd/{number}")
                for number in os.listdir(f"/proc/{process}/fd")
            ]
            if parent == driver and any(
                path.startswith(str(temporary)) and path.endswith(".parquet")
                for path in files
            ):
                writers.append(int(process))
    return writers


def ask(tool, *arguments):
    """Runs one of the commands; returns what it prints."""
    return subprocess.run(
        [sys.executable, "-m", f"ood_keras.tools.{tool}", *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_kills_leave_every_image_in_one_object(
    store, small_tflite, many_pictures, undisturbed, tmp_path
):
    url, temporary = f"s3://{BUCKET}/answers", tmp_path / "temporary"
    temporary.mkdir()
    arguments = (small_tflite, many_pictures, url, "local")
    process = start(*arguments, TMPDIR=str(temporary))
    # A worker in the midst of a part, which lies on its own machine.
    for _ in watch(process):
        if writers := find_writers(process.pid, temporary):
            os.kill(writers[0], signal.SIGKILL)
            break
    # The command, while the store has begun to take a part.
    store.hold_next_part()
    for _ in watch(process):
        if store.held.is_set() and list_parts("answers"):
            break
    process.kill()
    process.communicate()
    store.released.set()
    assert 1 <= len(list_parts("answers")) < NUM_SHARDS
    assert shards.MANIFEST not in read_all("answers")
    before = read_all("answers")
    num_puts = len(store.puts())

    said = wait_for(start(*arguments))
    check_whole(said, read_all("answers"), undisturbed)
    # What was there is left; of each other part, there is one put, of the whole.
    after = read_all("answers")
    assert all(after[name] == content for name, content in before.items())
    new = store.puts()[num_puts:]
    assert sorted(path for path, _ in new) == sorted(
        f"/{BUCKET}/answers/{name}" for name in after.keys() - before.keys()
    )
    assert {query for _, query in store.puts()} <= {"", "x-id=PutObject"}

    num_puts = len(store.puts())
    check_whole(wait_for(start(*arguments)), read_all("answers"), undisturbed)
    again = store.puts()[num_puts:]
    assert [path for path, _ in again] == [f"/{BUCKET}/answers/{shards.MANIFEST}"]


def test_commands_read_answers_from_the_store(
    store, small_tflite, many_pictures, tmp_path
):
    url = f"s3://{BUCKET}/answers"
    wait_for(start(small_tflite, many_pictures, url, "local"))
    here = tmp_path / "answers"
    wait_for(start(small_tflite, many_pictures, here, "local"))
    reports = {}
    for name, scores in {"store": url, "here": str(here)}.items():
        output = tmp_path / f"{name}.json"
        ask(
            "evaluate",
            f"--scores={scores}",
            f"--unknown_scores=same={scores}",
            f"--output={output}",
        )
        reports[name] = json.loads(output.read_text())
    assert reports["store"] == reports["here"]
    assert reports["store"]["known"]["scores"] == NUM_IMAGES
    auroc = reports["store"]["unknown"]["same"]["metrics"]["auroc"]
    assert auroc["low"] <= 0.5 <= auroc["high"]
