"""The lines of the guide for Dask, Spark and Beam, run as they stand there.

`pip install dask distributed`, `pyspark pandas` or `apache-beam`, then `pytest -m slow
tests/export/other_engines_test.py`.
"""

import pathlib
import re
import subprocess
import sys

import pytest
from disturbing import NUM_SHARDS, SECONDS, check_whole, read_all

pytestmark = pytest.mark.slow

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "scale.md"
# What stands for a cluster, and the lines of the guide that name another one.
ENGINES = {
    "dask.distributed": (
        "from dask.distributed import LocalCluster\n"
        "cluster = LocalCluster(n_workers=2, threads_per_worker=1)\n",
        ('"tcp://HEAD:8786"', "cluster"),
        "client.close()\ncluster.close()\n",
    ),
    "pyspark": (
        "from pyspark.sql import SparkSession\n"
        'SparkSession.builder.master("local[2]").getOrCreate()\n',
        None,
        "spark.stop()\n",
    ),
    "apache_beam": ("", None, ""),
}


def find_lines(pattern):
    """The one code block of the guide with such a line."""
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.S | re.M)
    (found,) = (block for block in blocks if re.search(pattern, block, re.M))
    return found


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_scores_each_shard_by_the_lines_of_the_guide(
    small_tflite, many_pictures, undisturbed, tmp_path, monkeypatch, name
):
    pytest.importorskip(name, reason=f"{name} is not installed")
    if name == "pyspark":
        pytest.importorskip("pandas", reason="pandas, which PySpark asks for, is not")
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    output = tmp_path / "answers"
    before, change, after = ENGINES[name]
    lines = find_lines(rf"^(import|from) {name}\b")
    if change is not None:
        assert change[0] in lines
        lines = lines.replace(*change)
    plan = find_lines("^planned = shards.plan")
    for shared, own in {
        "/shared/mnist/1": small_tflite,
        "/shared/pictures": many_pictures,
        "/shared/answers": output,
        "1000": NUM_SHARDS,
    }.items():
        assert shared in plan
        plan = plan.replace(shared, str(own))
    work = "".join([before, plan, lines, after])
    script = tmp_path / "script.py"
    script.write_text(
        "def main():\n"
        + "".join(f"    {line}\n" if line else "\n" for line in work.splitlines())
        + f"    print(shards.finish(planned, {str(output)!r})['images'])\n\n\n"
        "if __name__ == '__main__':\n    main()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = f"{int(done.stdout.split()[-1]):,} images"
    check_whole(said, read_all(output), undisturbed)
