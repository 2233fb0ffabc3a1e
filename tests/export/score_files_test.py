"""Answers on disk, read back as a sketch, and thresholds chosen on them."""

import json
import shutil

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from brightness import Brightness, idx

from ood_keras import calibration, export, metrics
from ood_keras.evaluation import score_files
from ood_keras.inference import answer_files, batch_scoring, loading, shards
from ood_keras.workflows.calibration import calibrate_on_scores
from ood_keras.workflows.score_evaluation import evaluate_scores, split_named
from ood_keras.workflows.thresholds import ThresholdRequest


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """Answers in one file and in parts, and the scores as they are."""
    monkeypatch.setattr(loading, "load", lambda path: Brightness())
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (300, 3, 2), np.uint8)
    known, unknown = tmp_path / "known.idx", tmp_path / "unknown.idx"
    known.write_bytes(idx(pixels[:200]))
    unknown.write_bytes(idx(pixels[200:]))
    batch_scoring.score_to_file(Brightness(), [known], tmp_path / "known.parquet")
    shards._open.cache_clear()
    planned = shards.plan("m", [unknown], tmp_path / "unknown", num_shards=3)
    for shard in planned:
        shards.score_shard(shard)
    shards.finish(planned, tmp_path / "unknown")
    scores = pixels.reshape(300, -1).astype(np.float32) / 255
    return tmp_path, scores.mean(axis=1)


def test_files_and_parts_count_every_score_once(answers):
    folder, scores = answers
    found = score_files.read([folder / "known.parquet"], [folder / "unknown"])
    expected = metrics.ScoreSketch().update(scores[:200], scores[200:])
    # Rounding of the mean may move a score over the edge of a bin.
    assert abs(found.sketch.counts - expected.counts).sum() <= 6
    assert (found.sketch.num_known, found.sketch.num_unknown) == (200, 100)
    assert found.left_out == {"known": 0, "unknown": 0}
    assert found.models == {"0" * 64}
    exact = metrics.evaluate_scores(scores[:200], scores[200:])["auroc"]
    low, high = found.sketch.intervals()["auroc"]
    assert low - 0.01 <= exact <= high + 0.01


@pytest.mark.parametrize(
    ("known", "unknown"),
    [
        (["known.parquet", "known.parquet"], ["unknown"]),
        (["known.parquet", "link.parquet"], ["unknown"]),
        (["known.parquet"], ["unknown", "unknown"]),
        (["unknown", "unknown/parts/shard-00001.parquet"], []),
    ],
)
def test_a_file_that_is_given_twice_is_refused(answers, known, unknown):
    folder, _ = answers
    (folder / "link.parquet").symlink_to("known.parquet")
    with pytest.raises(ValueError, match="is given twice, and each"):
        score_files.read(
            [folder / name for name in known], [folder / name for name in unknown]
        )


def write(path, scores, valid, about):
    table = pyarrow.table(
        {
            "ood_score": pyarrow.array(scores, pyarrow.float32()),
            "valid": pyarrow.array(valid),
            "accepted": pyarrow.array([score == 1.0 for score in scores]),
        }
    )
    metadata = {answer_files.METADATA_KEY: json.dumps(about).encode()}
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), path)


def test_rows_without_a_score_are_left_out_and_counted(tmp_path):
    path = tmp_path / "a.parquet"
    write(
        path,
        [1.0, None, 2.0, 3.0],
        [True, False, True, False],
        {"model_sha256": "a"},
    )
    found = score_files.read([path])
    assert found.sketch.num_known == 2
    assert found.left_out == {"known": 2, "unknown": 0}
    assert found.accepted == {"known": 1, "unknown": 0}


def test_what_is_no_answer_is_explained(answers):
    folder, _ = answers
    nameless = folder / "nameless.parquet"
    write(nameless, [1.0], [True], {})
    with pytest.raises(ValueError, match="does not say which model"):
        score_files.read([nameless])
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), nameless)
    with pytest.raises(ValueError, match="no column accepted or ood_score or valid"):
        score_files.read([nameless])
    with pytest.raises(ValueError, match="no Parquet file"):
        score_files.read([folder / "known.idx"])
    with pytest.raises(FileNotFoundError, match="no file or folder of answers"):
        score_files.read([folder / "gone"])
    write(nameless, [1.0, float("nan")], [True, True], {"model_sha256": "a"})
    with pytest.raises(ValueError, match="has NaN for 1 scores"):
        score_files.read([nameless])
    whole, parts = folder / "known.parquet", folder / "unknown" / shards.PARTS
    shutil.copy(whole, parts / "more.parquet")
    with pytest.raises(ValueError, match=r"more.parquet, which .* does not count"):
        score_files.read([folder / "unknown"])
    (parts / "more.parquet").rename(parts / "shard-00001.parquet")
    with pytest.raises(ValueError, match=r"has 200 rows, and .* counts 34"):
        score_files.read([folder / "unknown"])
    (parts / "shard-00001.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 3 parts are missing"):
        score_files.read([folder / "unknown"])
    (folder / "unknown" / shards.MANIFEST).unlink()
    with pytest.raises(FileNotFoundError, match="not all of its shards"):
        score_files.read([folder / "unknown"])
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no Parquet file"):
        score_files.read([folder / "empty"])


def test_answers_are_measured_within_their_bounds(tmp_path):
    rng = np.random.default_rng(0)
    scores = {
        "known": rng.normal(0, 1, 3000).astype(np.float32),
        "near": rng.normal(1, 1, 2000).astype(np.float32),
        "far": rng.normal(5, 1, 1000).astype(np.float32),
    }
    for name, values in scores.items():
        texts = [*values.tolist(), None]
        write(tmp_path / name, texts, [True] * len(texts), {"model_sha256": "a" * 64})
    report = evaluate_scores(
        scores=[tmp_path / "known"],
        unknown_scores=split_named([f"close={tmp_path / 'near'}", f"{tmp_path}/far"]),
        output=tmp_path / "report.json",
    )
    assert (report.known.scores, report.known.left_out) == (3000, 1)
    assert list(report.unknown) == ["close", "far"]
    for name, values in (("close", scores["near"]), ("far", scores["far"])):
        exact = metrics.evaluate_scores(scores["known"], values)
        found = report.unknown[name].metrics
        assert set(found) == set(exact)
        for metric, (value, low, high) in found.items():
            assert low <= exact[metric] <= high
            assert abs(value - exact[metric]) <= 0.005
    written = json.loads((tmp_path / "report.json").read_text())
    assert (
        written["unknown"]["far"]["metrics"]["auroc"]["value"]
        == (report.unknown["far"].metrics["auroc"][0])
    )
    assert "far: 1,000 scores, 1 images without one; 0 % accepted" in str(report)


def test_answers_of_two_models_are_not_compared(tmp_path):
    for name in "ab":
        write(tmp_path / name, [1.0, 2.0], [True] * 2, {"model_sha256": name * 64})
    with pytest.raises(ValueError, match="several models cannot be compared"):
        evaluate_scores(scores=[tmp_path / "a"], unknown_scores={"b": [tmp_path / "b"]})
    with pytest.raises(ValueError, match="give answers on unknown images"):
        evaluate_scores(scores=[tmp_path / "a"], unknown_scores={})
    with pytest.raises(ValueError, match=r"NAME=PATH.*Received: 'x='"):
        split_named(["x="])
    write(tmp_path / "none", [None], [False], {"model_sha256": "a" * 64})
    with pytest.raises(ValueError, match="no image of nothing has a score"):
        evaluate_scores(
            scores=[tmp_path / "a"], unknown_scores={"nothing": [tmp_path / "none"]}
        )


@pytest.mark.usefixtures("compared_in_this_process")
def test_a_model_is_calibrated_on_its_own_answers(exported, tmp_path):
    path = shutil.copytree(exported.path, tmp_path / "model" / "1")
    predictor = export.load(path)
    rng = np.random.default_rng(0)
    height, width, _ = exported.pixels.shape[1:]
    pixels = np.concatenate(
        [
            exported.pixels[..., 0],
            rng.integers(0, 256, (60, height, width), np.uint8),
        ]
    )
    pictures = tmp_path / "many.idx"
    pictures.write_bytes(idx(pixels))
    output = tmp_path / "answers.parquet"
    batch_scoring.score_to_file(predictor, [pictures], output)
    scores = predictor.predict(pixels[..., None].astype(np.float32) / 255)["ood_score"]
    newer, threshold, found = calibrate_on_scores(
        model=path,
        scores=[output],
        unknown_scores=[output],
        target_acceptance=0.8,
        operating_points={"half": 0.5},
    )
    exact = calibration.conformal(scores, 0.8)
    assert threshold.accepts(scores).mean() >= 0.8
    assert abs(threshold.value - exact.value) <= 0.004 * abs(exact.value)
    assert found.sketch.num_known == len(pixels)
    renewed = export.load(newer)
    assert renewed.threshold == threshold.value
    assert "unknown images it accepts" in str(
        renewed.manifest["operating_points"]["half"]["guarantee"]
    )
    # The newer version has other answers as far as anyone knows.
    with pytest.raises(ValueError, match=r"not those of .*A new version has a new"):
        calibrate_on_scores(model=newer, scores=[output])
    with pytest.raises(ValueError, match="ood-predict --probabilities"):
        calibrate_on_scores(model=path, scores=[output], method="conformal_per_class")
    with pytest.raises(ValueError, match="--unknown_scores"):
        calibrate_on_scores(
            model=path, scores=[output], method="lowest_cost", prior_unknown=0.1
        )


def test_scores_are_parted_by_the_class_that_is_predicted(answers):
    folder, _ = answers
    path, known = folder / "likely.parquet", [folder / "known.parquet"]
    batch_scoring.score_to_file(
        Brightness(), [folder / "known.idx"], path, probabilities=True
    )
    found = score_files.read([path], [folder / "unknown"], num_classes=3)
    pixels = np.frombuffer((folder / "known.idx").read_bytes()[16:], np.uint8)
    best = pixels.reshape(200, 3, 2).astype(np.float32).mean(axis=2).argmax(axis=1)
    # Of rejected images too, whose answer names no class.
    table = pyarrow.parquet.read_table(path)
    assert -1 in table["class_id"].to_pylist()
    rows = np.array(table["ood_score"].to_pylist(), np.float32)
    for number, sketch in enumerate(found.of_class):
        expected = metrics.ScoreSketch().update(rows[best == number])
        np.testing.assert_array_equal(sketch.counts, expected.counts)
    assert sum(sketch.num_known for sketch in found.of_class) == 200
    assert score_files.read(known).of_class == ()
    request = ThresholdRequest(method="conformal_per_class", target_acceptance=0.8)
    threshold, _ = request.choose(found.sketch, num_classes=3, of_class=found.of_class)
    exact = calibration.conformal_per_class(rows, best, 3, 0.8)
    assert threshold.guarantee == exact.guarantee
    assert np.all(threshold.accepts(rows, best) >= exact.accepts(rows, best))
    with pytest.raises(ValueError, match="which class each rejected image"):
        score_files.read(known, num_classes=3)
    with pytest.raises(ValueError, match=r"expected 4 for each image, received 600"):
        score_files.read([path], num_classes=4)
