"""The pictures of the grid of Table 1, from small made-up results of its runs."""

import json
import shutil

import made_up_study
import numpy as np
import pytest

from ood_keras.evaluation import figures
from ood_keras.study import summary as study_summary
from ood_keras.study import table1_misses, table1_pictures
from ood_keras.study.table1 import TABLE1


def make_run(folder, training):
    """Finishes `mnist/TRAINING/seed_0` with invented numbers."""
    (run,) = TABLE1.runs(f"mnist/{training}/seed_0")
    job = run.job()
    method, *_ = job["methods"]
    made_up_study.write_scores(folder, method=method, training=training)
    row = {metric: 0.999 for metric in made_up_study.METRICS[:3]}
    row |= {metric: 0.001 for metric in made_up_study.METRICS[3:]}
    unknown = {
        source: {"seen": source in job["unknown"], **row}
        for source in ("emnist/letters", "kmnist", "uniform_noise")
    }
    record = {
        **job,
        "methods": {
            name: {"detector": detector, "config": {}}
            for name, detector in job["methods"].items()
        },
        "run": {"versions": {}, "settings": {"data": {}}},
        "machine": {},
        "minutes": {},
    }
    metrics = {
        "known": {"source": "mnist", "accuracy": 0.99},
        "detectors": {name: {"unknown": unknown} for name in job["methods"]},
        "selected_detector": method,
    }
    for name, content in (("run", record), ("metrics", metrics)):
        (folder / run.name / f"{name}.json").write_text(json.dumps(content))


def features(folder, training, name):
    path = folder / "mnist" / training / "seed_0" / "examples.npz"
    with np.load(path) as arrays:
        return arrays[f"{name}/features"]


@pytest.fixture
def drawn(monkeypatch):
    """What `figures.compare_features` was given."""
    given = []
    original = figures.compare_features

    def compare_features(networks):
        given.append(networks)
        return original(networks)

    monkeypatch.setattr(figures, "compare_features", compare_features)
    return given


def test_the_grid_has_what_figures_5_6_and_7_need(tmp_path, drawn):
    folder, images = tmp_path / "results", tmp_path / "images"
    for training in ("ours", "no_block", "features_2", "features_2_no_block"):
        make_run(folder, training)
    # The features of the two must not be taken for each other.
    path = folder / "mnist/features_2_no_block/seed_0/examples.npz"
    with np.load(path) as arrays:
        arrays = dict(arrays)
    arrays["known/features"] = arrays["known/features"] + 1
    np.savez(path, **arrays)
    study_summary.write(TABLE1, folder)
    names = {written.name for written in table1_pictures.draw(folder, images)}
    assert names == {
        *(
            f"results_mnist_ours_{x}.png"
            for x in ("roc", "density", "grid", "mistakes")
        ),
        *(f"results_mnist_without_block_{x}.png" for x in ("roc", "density")),
        "results_mnist_features.png",
    }
    (networks,) = drawn
    assert list(networks) == ["without the block", "with the modified block"]
    for training, (known, labels, unknown) in zip(
        ("features_2_no_block", "features_2"), networks.values(), strict=True
    ):
        np.testing.assert_array_equal(known, features(folder, training, "known"))
        assert labels.tolist() == [index % 10 for index in range(90)]
        # As in the paper: the source that training had seen.
        assert list(unknown) == ["emnist/letters"]
        np.testing.assert_array_equal(
            unknown["emnist/letters"],
            features(folder, training, "unknown/emnist/letters"),
        )


def test_a_run_of_another_recipe_is_not_drawn(tmp_path):
    make_run(tmp_path, "synthetic_only")
    path = tmp_path / "mnist/synthetic_only/seed_0/run.json"
    record = json.loads(path.read_text())
    record["recipe"]["epochs"] += 1
    path.write_text(json.dumps(record))
    study_summary.write(TABLE1, tmp_path)
    assert table1_pictures.draw(tmp_path, tmp_path / "images") == []


def test_one_network_alone_is_drawn_too(tmp_path, drawn):
    make_run(tmp_path, "features_2")
    study_summary.write(TABLE1, tmp_path)
    (path,) = table1_pictures.draw(tmp_path, tmp_path / "images")
    assert path.name == "results_mnist_features.png"
    assert list(drawn[0]) == ["with the modified block"]


@pytest.mark.parametrize(
    "training", [*table1_misses.METHODS[1:], "ours_synthetic_longer"]
)
def test_mistakes_are_drawn_of_every_way_that_ours_is_trained(tmp_path, training):
    make_run(tmp_path, training)
    run_dir = tmp_path / f"mnist/{training}/seed_0"
    study_summary.write(TABLE1, tmp_path)
    (path,) = table1_pictures.draw(tmp_path, tmp_path / "images")
    assert path.name == f"results_mnist_{training}_mistakes.png"
    shutil.copy(
        run_dir / "examples.npz", run_dir / f"examples_{training}_distances.npz"
    )
    paths = table1_pictures.draw(tmp_path, tmp_path / "images")
    assert [path.name for path in paths] == [
        f"results_mnist_{training}_mistakes.png",
        f"results_mnist_{training}_distances_mistakes.png",
    ]
