"""An export that is killed leaves no version, and the next one cleans up."""

import signal
import subprocess
import sys

from ood_keras import export

# Killed where the export has written the SavedModel and compares it.
_KILLED = """
import os, pathlib, signal, sys
import small_export
from ood_keras.export import parity

def check(_, folder, *rest):
    assert pathlib.Path(folder, "saved_model.pb").exists()
    os.kill(os.getpid(), signal.SIGKILL)

parity.check = check
small_export.Exported(pathlib.Path(sys.argv[1]))
"""


def test_the_next_export_removes_what_a_killed_one_left(exported, tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", _KILLED, tmp_path],
        cwd=__file__.rpartition("/")[0],
        capture_output=True,
        text=True,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".1.") and (left / "saved_model.pb").exists()
    assert export.next_version(tmp_path) == 1
    path = export.saved_model(
        exported.model, exported.detector, exported.threshold, tmp_path / "1"
    )
    assert [child.name for child in tmp_path.iterdir()] == ["1"]
    assert export.load(path).threshold == exported.threshold.value
