import pathlib

import numpy as np
import pytest

from ood_keras import pipelines

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"
PLACES = [{"images": "known", "source": "mine", "index": row} for row in range(4)]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import export_parity

    return export_parity


def answer(scores, class_ids):
    return {
        "ood_score": np.array(scores, np.float32),
        "class_id": np.array(class_ids, np.int32),
    }


def test_what_differs_is_listed_and_only_rounding_is_excused(benchmark):
    live = answer([-10, -5, 1, -2.0000005], [3, 0, -1, 1])
    here = answer([-10, -5.5, 1, -1.9999999], [3, 1, -1, -1])
    found = benchmark.compare(live, here, -2.0, PLACES)
    assert found["equal_decisions"] == 0.5
    assert found["differing_decisions"] == 2
    assert found["differing_not_near_threshold"] == 1
    assert found["largest_score_difference"] == 0.5
    assert found["largest_relative_score_difference"] == pytest.approx(0.1)
    first, second = found["differing"]
    assert (first["index"], first["live"], first["here"]) == (1, 0, 1)
    assert first["distance_to_threshold"] == 3
    assert second["index"] == 3
    assert second["distance_to_threshold"] < 1e-6
    assert not benchmark.judged("onnx", found)["met"]
    assert benchmark.judged("onnx", {**found, "differing_not_near_threshold": 0})["met"]


@pytest.mark.parametrize(
    ("changes", "met"),
    [
        ({}, True),
        ({"equal_decisions": 0.9949}, False),
        ({"auroc_difference_to_float32": 0.0011}, False),
        ({"bytes_per_float32_byte": 0.31}, False),
    ],
)
def test_the_bars_of_int8(benchmark, changes, met):
    entry = {
        "equal_decisions": 0.995,
        "auroc_difference_to_float32": 0.001,
        "bytes_per_float32_byte": 0.3,
    }
    judged = benchmark.judged("tflite_int8", {**entry, **changes})
    assert judged["met"] == met
    assert set(judged["bars"]) == set(entry)


def test_unknown_images_come_evenly_from_all_sources(benchmark):
    def split(source, count, value):
        images = np.full((count, 4, 4, 1), value, np.uint8)
        return pipelines.Split(source, "test", images, np.full(count, -1))

    known = split("digits", 30, 10)
    unknown = {"a": split("a", 20, 20), "b": split("b", 3, 30)}
    images, is_unknown, places = benchmark.test_images(known, unknown, 10)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(is_unknown, [0] * 10 + [1] * 8)
    rounded = np.rint(255 * images[:, 0, 0, 0])
    np.testing.assert_array_equal(rounded, [10] * 10 + [20] * 5 + [30] * 3)
    assert [place["source"] for place in places] == ["digits"] * 10 + [*"aaaaabbb"]
    assert places[16] == {"images": "unknown", "source": "b", "index": 1}


@pytest.mark.slow
def test_every_runtime_is_compared_with_the_live_model(benchmark, tmp_path):
    from ood_keras import workflows

    run, other = tmp_path / "run", tmp_path / "other"
    for folder, seed in ((run, 0), (other, 1)):
        workflows.train(
            known="digits",
            unknown=["synthetic"],
            run_dir=folder,
            recipe="demo",
            overrides=["epochs=2"],
            seed=seed,
        )
        workflows.evaluate(run_dir=folder, unknown=["glyphs"], renderings="none")
    model, _ = workflows.export(run_dir=run, output=tmp_path / "model")
    found = benchmark.measure(run, model, num_images=200, progress=lambda line: None)
    assert (found["num_known"], found["unknown"]) == (200, {"glyphs": 200})
    assert set(found["runtimes"]) == set(benchmark.BARS)
    for name, entry in found["runtimes"].items():
        if "skipped" not in entry and benchmark.BARS[name] is None:
            assert entry["met"], name
    assert found["runtimes"]["tflite_int8"]["bytes_per_float32_byte"] < 0.3
    with pytest.raises(ValueError, match="made from this run"):
        benchmark.measure(other, model, num_images=50, progress=lambda line: None)
