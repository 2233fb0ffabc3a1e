import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import reject_head_overhead

    return reject_head_overhead


def test_sides_take_turns_and_each_is_timed_as_itself(benchmark, monkeypatch):
    now, asked = 0, []

    def side(name, nanoseconds):
        def run():
            nonlocal now
            asked.append(name)
            now += nanoseconds

        return run

    monkeypatch.setattr(benchmark.time, "perf_counter_ns", lambda: now)
    found = benchmark.side_by_side(side("bare", 2_000_000), side("head", 3_000_000), 10)
    assert found == {
        "bare_ms": 2,
        "head_ms": 3,
        "ratio": 1.5,
        "ratio_in_blocks": [1.5, 1.5],
    }
    counted = asked[-20:]
    assert counted[:4] == ["head", "bare", "bare", "head"]
    assert counted.count("head") == counted.count("bare")


@pytest.mark.slow
def test_every_runtime_is_measured(benchmark, tmp_path):
    from ood_keras import workflows

    run = tmp_path / "run"
    workflows.train(
        known="digits",
        unknown=["synthetic"],
        run_dir=run,
        recipe="demo",
        overrides=["epochs=1"],
    )
    workflows.evaluate(run_dir=run, unknown=["glyphs"], renderings="none")
    model, _ = workflows.export(run_dir=run, output=tmp_path / "model")
    rounds = {1: 10, 128: 5}
    found = benchmark.measure(run, model, rounds, progress=lambda line: None)
    assert set(found["runtimes"]) == set(benchmark.RUNTIMES)
    for runtime, batches in found["runtimes"].items():
        assert len(batches) == (1 if runtime == "tflite" else 2)
        for batch in batches.values():
            assert batch["bare_ms"] > 0 and batch["met"] == (
                batch["ratio"] <= batch["bar"]
            )


@pytest.mark.parametrize(
    "name", ["export_parity", "reject_head_overhead", "serving_load"]
)
def test_help_teaches_at_once(name):
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert f"python benchmarks/{name}.py" in done.stdout
    assert "--output" in done.stdout
