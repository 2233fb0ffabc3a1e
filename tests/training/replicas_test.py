"""Two replicas of `tf.distribute.MirroredStrategy` against one device."""

import json
import pathlib
import subprocess
import sys

import pytest

# Half a minute, most of it for building everything four times.
pytestmark = pytest.mark.slow

SCRIPT = pathlib.Path(__file__).with_name("replicas_script.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the script measured; logical devices must be set up before all else."""
    path = tmp_path_factory.mktemp("replicas") / "found.json"
    process = subprocess.run(
        [sys.executable, str(SCRIPT), str(path)], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return json.loads(path.read_text())


@pytest.mark.parametrize("way", ["plain", "fit"])
def test_two_replicas_train_as_one_device(found, way):
    one, two = found[way]["one"], found[way]["two"]
    assert one.keys() == two.keys()
    for name in one:
        if name != "seconds":
            assert two[name] == pytest.approx(one[name], abs=1e-3)
    # Batch normalisation per replica moves weights by several times as much.
    assert found[way]["largest_difference"] < 5e-3


def test_metrics_that_cannot_add_up_say_so(found):
    assert len(found["errors"]) == 3
    for error in found["errors"]:
        assert "has 2. Use ood_keras.metrics.StreamingRanking" in error
