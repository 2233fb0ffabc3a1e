"""Detectors fitted on pictures in shards are those of all pictures at once."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

from ood_keras import detectors, engines, losses, pipelines, workflows
from ood_keras.detectors import collected_files
from ood_keras.inference import shards
from ood_keras.training import recipes
from ood_keras.workflows import fitting

SHAPE = (8, 8, 1)
CLASSES = ("bar", "dot", "ring")


def make_pictures(folder, number, seed=0):
    """Pictures of several sizes in a folder for each class, and an IDX file in one."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(CLASSES):
        (folder / name / "more").mkdir(parents=True)
        for index in range(number):
            pixels = rng.integers(0, 120, (8 + index % 3, 8), np.uint8)
            pixels[2 * label : 2 * label + 3] += 100
            place = folder / name / ("more" if index % 2 else "")
            Image.fromarray(pixels).save(place / f"{index:03d}.png")
    pixels = rng.integers(0, 256, (number, 8, 8), np.uint8)
    header = b"\0\0\x08\x03" + np.array(pixels.shape, ">i4").tobytes()
    (folder / "dot" / "many.idx").write_bytes(header + pixels.tobytes())
    return folder


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("train"), 20)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(6, activation="relu"),
            keras.layers.Dense(len(CLASSES)),
        ]
    )
    path = tmp_path_factory.mktemp("model") / "model.keras"
    network.save(path)
    return path


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """The engine without processes; shards come in another order."""
    monkeypatch.setitem(
        engines.ENGINES,
        "local",
        lambda work, pieces, _: [(piece, work(piece), None) for piece in pieces[::-1]],
    )


def fit(model, train, output, detector="mahalanobis", num_shards=5, **options):
    return workflows.fit(
        model=model,
        detector=detector,
        paths=[train],
        output=output,
        num_shards=num_shards,
        **options,
    )


def read_batches(output, detector, train, **reading):
    """The batches of all shards, one after the other."""
    reading = {
        "class_names": CLASSES,
        "image_shape": SHAPE,
        "background": 255,
        "exif_orientation": True,
        "skip_bad": False,
        **reading,
    }
    folder = output / f"{detector}.parts" / shards.SHARDS
    return [
        batch
        for listing in sorted(folder.glob("*.jsonl"))
        for batch in fitting.KnownPictures(listing, [str(train)], **reading)
    ]


def test_one_walk_over_shards_is_one_fit(model, train, tmp_path):
    path, counts = fit(model, train, tmp_path)
    assert counts == {"images": 80, "unreadable": 0, "shards": 5}
    batches = read_batches(tmp_path, "mahalanobis", train)
    labels = np.concatenate([labels for _, labels in batches])
    assert np.bincount(labels).tolist() == [20, 40, 20]
    # Class 1 has its pictures in rows 2 to 4.
    bright = np.concatenate([images for images, _ in batches]).mean(axis=(2, 3))
    assert bright[labels == 0].mean(axis=0).argmax() in (0, 1, 2)
    assert bright[labels == 2].mean(axis=0).argmax() in (4, 5, 6)
    network = keras.models.load_model(model)
    parts = sorted((tmp_path / "mahalanobis.parts").glob("*.npz"))
    merged = detectors.merge(map(detectors.read_collected, parts))
    at_once = detectors.get("mahalanobis", num_classes=3)
    expected = at_once.collect(network, batches).statistics
    for name, sums in merged.statistics.items():
        for found, wanted in (
            (sums.class_means(3), expected[name].class_means(3)),
            (sums.pooled_covariance(), expected[name].pooled_covariance()),
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    fitted = detectors.load(path, network)
    images = np.concatenate([images for images, _ in batches])
    np.testing.assert_allclose(
        fitted.score(images),
        at_once.fit(network, batches).score(images),
        rtol=1e-5,
        atol=1e-5,
    )


def test_a_bank_of_shards_holds_every_picture(model, train, tmp_path):
    path, _ = fit(model, train, tmp_path, "knn", arguments={"k": 3})
    batches = read_batches(tmp_path, "knn", train)
    network = keras.models.load_model(model)
    at_once = detectors.get("knn", num_classes=3, k=3).fit(network, batches)
    banks = [
        np.array(sorted(map(tuple, detector.get_arrays()["bank"])))
        for detector in (detectors.load(path, network), at_once)
    ]
    assert banks[0].shape == (80, 6)
    np.testing.assert_allclose(*banks, rtol=1e-6, atol=1e-6)


def test_a_part_that_is_there_is_not_made_again(model, train, tmp_path, monkeypatch):
    path, counts = fit(model, train, tmp_path)
    before = path.read_bytes(), path.with_suffix(".npz").read_bytes()
    parts = sorted((tmp_path / "mahalanobis.parts").glob("*.npz"))
    times = [os.stat(part).st_mtime_ns for part in parts]
    parts[2].unlink()
    assert fit(model, train, tmp_path)[1] == counts
    assert (path.read_bytes(), path.with_suffix(".npz").read_bytes()) == before
    again = [os.stat(part).st_mtime_ns for part in parts]
    changed = [new != old for new, old in zip(again, times, strict=True)]
    assert changed == [False, False, True, False, False]
    with pytest.raises(ValueError, match="begun with other settings: config"):
        fit(model, train, tmp_path, arguments={"shrinkage": 0.1})
    parts[1].write_bytes(parts[0].read_bytes())
    with pytest.raises(ValueError, match=r"shard-00001\.npz is no part of this fit"):
        fit(model, train, tmp_path)
    parts[1].write_bytes(b"junk")
    with pytest.raises(ValueError, match="cannot be read as what a detector collected"):
        fit(model, train, tmp_path)


def test_what_cannot_be_read_is_named_or_counted(model, tmp_path):
    train = make_pictures(tmp_path / "train", 6)
    (train / "bar" / "junk.png").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"junk\.png"):
        fit(model, train, tmp_path / "a")
    _, counts = fit(model, train, tmp_path / "b", skip_bad=True)
    assert counts == {"images": 24, "unreadable": 1, "shards": 5}
    Image.new("L", (8, 8)).save(train / "stray.png")
    with pytest.raises(ValueError, match=r"stray\.png lies in no folder of a class"):
        fit(model, train, tmp_path / "c", skip_bad=True)


def test_what_makes_no_sense_is_said_before_anything_is_read(model, train, tmp_path):
    with pytest.raises(ValueError, match="'energy' learns nothing from pictures"):
        fit(model, train, tmp_path, "energy")
    with pytest.raises(FileNotFoundError, match="no such image file"):
        fit(model, tmp_path / "gone", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gone\.keras"):
        fit(tmp_path / "gone.keras", train, tmp_path)
    with pytest.raises(ValueError, match="one of local, ray"):
        fit(model, train, tmp_path, engine="spark")
    with pytest.raises(ValueError, match="at least one shard"):
        fit(model, train, tmp_path, num_shards=0)
    (tmp_path / "two" / "bar").mkdir(parents=True)
    with pytest.raises(ValueError, match="1 known classes need 1 logits, or 2"):
        Image.new("L", (8, 8)).save(tmp_path / "two" / "bar" / "a.png")
        fit(model, tmp_path / "two", tmp_path)


@pytest.fixture(scope="module")
def two_folders(tmp_path_factory):
    """Pictures of two of the three classes: the one in the middle is missing."""
    folder = make_pictures(tmp_path_factory.mktemp("two"), 6)
    shutil.rmtree(folder / "dot")
    return folder


def save_with(model, loss, path):
    network = keras.models.load_model(model)
    network.compile(loss=loss)
    network.save(path)
    return path


def test_a_missing_folder_does_not_pass_for_an_unknown_class(
    model, two_folders, tmp_path
):
    saw = r"3 outputs, and there are folders of 2 classes \(bar, ring\)"
    with pytest.warns(
        pipelines.DataWarning, match=f"{saw}: the last .*--unknown_class"
    ):
        fit(model, two_folders, tmp_path / "warned")
    with pytest.raises(ValueError, match=rf"{saw}\. Expected .* all known.*: 3"):
        fit(model, two_folders, tmp_path / "refused", unknown_class=False)
    closed = losses.EntropicOpenSet(num_classes=3)
    with pytest.raises(ValueError, match=rf"{saw}\. Expected .* all known"):
        closed = save_with(model, closed, tmp_path / "closed.keras")
        fit(closed, two_folders, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_an_unknown_class_that_is_said_needs_no_warning(
    model, train, two_folders, tmp_path, recwarn
):
    fit(model, two_folders, tmp_path / "said", unknown_class=True)
    open_set = save_with(model, losses.OpenSetLoss(2), tmp_path / "open.keras")
    fit(open_set, two_folders, tmp_path / "read")
    assert not [each for each in recwarn if "outputs" in str(each.message)]
    with pytest.raises(ValueError, match=r"3 classes .* the last one for unknown.*: 2"):
        fit(model, train, tmp_path / "many", unknown_class=True)


def test_every_class_of_a_run_needs_a_folder(run_dir, two_folders, train, tmp_path):
    with pytest.raises(ValueError, match=r"1 of the 3 classes of the model \(dot\)"):
        fit(run_dir, two_folders, tmp_path / "fitted")
    assert not (tmp_path / "fitted").exists()
    # In another root it may be.
    other = tmp_path / "other"
    shutil.copytree(train / "dot", other / "dot")
    paths = [two_folders, other]
    _, counts = workflows.fit(
        model=run_dir,
        detector="mahalanobis",
        paths=paths,
        output=tmp_path / "fitted",
        num_shards=2,
    )
    assert counts["images"] == 6 + 40 + 6


def test_a_link_to_a_class_folder_is_read_as_it(model, train, two_folders, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in CLASSES:
        (linked / name).symlink_to(train / name, target_is_directory=True)
    found, counts = fit(model, linked, tmp_path / "links")
    assert counts == {"images": 80, "unreadable": 0, "shards": 5}
    expected, _ = fit(model, train, tmp_path / "folders")
    for (_, one), (_, two) in zip(
        *(
            sorted(np.load(path.with_suffix(".npz")).items())
            for path in (found, expected)
        ),
        strict=True,
    ):
        np.testing.assert_allclose(one, two, rtol=1e-5)


def test_a_class_without_pictures_is_said_and_stops_no_second_try(model, tmp_path):
    train = make_pictures(tmp_path / "train", 6)
    shutil.rmtree(train / "ring")
    (train / "ring").mkdir()
    (train / "ring" / "notes.txt").write_text("none yet")
    with pytest.raises(
        ValueError, match=r"no picture .*: ring\. Left out: 1 other file: 1 \.txt"
    ):
        fit(model, train, tmp_path / "fitted")
    Image.new("L", (8, 8)).save(train / "ring" / "a.png")
    _, counts = fit(model, train, tmp_path / "fitted")
    assert counts["images"] == 6 + 12 + 1
    assert counts["left_out"] == {".txt (no picture)": 1}


def test_a_class_of_pictures_that_cannot_be_read_is_said(model, tmp_path):
    train = make_pictures(tmp_path / "train", 6)
    shutil.rmtree(train / "ring")
    (train / "ring").mkdir()
    (train / "ring" / "junk.png").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"a class has no picture .*remove .*parts"):
        fit(model, train, tmp_path / "fitted", num_shards=1, skip_bad=True)


def test_files_of_no_picture_are_no_plan(model, tmp_path):
    train = tmp_path / "train"
    empty = b"\0\0\x08\x03" + np.array([0, 8, 8], ">i4").tobytes()
    for name in CLASSES:
        (train / name).mkdir(parents=True)
        (train / name / "none.idx").write_bytes(empty)
    with pytest.raises(ValueError, match="hold no image"):
        fit(model, train, tmp_path / "fitted")
    make_pictures(tmp_path / "more", 6)
    shutil.copytree(tmp_path / "more", train, dirs_exist_ok=True)
    assert fit(model, train, tmp_path / "fitted")[1]["images"] == 24


@pytest.fixture
def run_dir(model, tmp_path):
    """A run as `ood-train` leaves it, with classes in another order than by name."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.keras").write_bytes(model.read_bytes())
    settings = {
        "known": "folder:pictures",
        "unknown": [],
        "data_dir": None,
        "image_shape": list(SHAPE),
        "class_names": list(CLASSES[::-1]),
        "recipe": dataclasses.asdict(recipes.get("demo")),
        "data": None,
        "background": 0,
    }
    run = {"settings": settings, "seed": 0}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def test_a_run_says_its_classes_and_how_pictures_are_read(run_dir, train, tmp_path):
    fit(run_dir, train, tmp_path / "fitted")
    (part, *_) = sorted((tmp_path / "fitted" / "mahalanobis.parts").glob("*.npz"))
    reading = collected_files.read_about(part)["settings"]["reading"]
    assert reading == {
        "class_names": ["ring", "dot", "bar"],
        "image_shape": [8, 8, 1],
        "background": 0,
        "exif_orientation": False,
        "skip_bad": False,
    }
    (train / "square").mkdir()
    try:
        with pytest.raises(ValueError, match="no class of the model: square"):
            fit(run_dir, train, tmp_path / "other")
    finally:
        (train / "square").rmdir()


def test_an_ensemble_sets_its_scale_on_validation_pictures(model, train, tmp_path):
    validation = make_pictures(tmp_path / "validation", 5, seed=1)
    path, _ = fit(model, train, tmp_path, "ensemble", validation=validation)
    fitted = detectors.load(path, keras.models.load_model(model))
    assert np.isfinite(fitted.score(np.zeros((2, *SHAPE), np.float32))).all()
    with pytest.raises(ValueError, match="sets the scale of its members"):
        fit(model, train, tmp_path, "ensemble")


def start(model, train, output, engine):
    command = [sys.executable, "-m", "ood_keras.tools.fit", f"--model={model}"]
    command += ["--detector=mahalanobis", f"--output={output}", "--shards=12"]
    return subprocess.Popen(
        [*command, f"--engine={engine}", "--workers=1", str(train)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "RAY_worker_niceness": "0"},
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_killed_fit_goes_on(model, tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray", reason="Ray is not installed")
    train = make_pictures(tmp_path / "train", 400)
    output = tmp_path / "fitted"
    process = start(model, train, output, engine)
    parts = pathlib.Path(output) / "mahalanobis.parts"
    deadline = time.monotonic() + 600
    while len(list(parts.glob("shard-*.npz"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    before = {path: os.stat(path).st_mtime_ns for path in parts.glob("shard-*.npz")}
    assert 2 <= len(before) < 12
    assert not (output / "mahalanobis.json").exists()
    process = start(model, train, output, engine)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert "Learnt from 1,600 pictures in 12 shards; 0 unreadable" in said
    assert all(os.stat(path).st_mtime_ns == seen for path, seen in before.items())
    network = keras.models.load_model(model)
    fitted = detectors.load(output / "mahalanobis.json", network)
    batches = read_batches(output, "mahalanobis", train)
    at_once = detectors.get("mahalanobis", num_classes=3).fit(network, batches)
    images = batches[0][0]
    np.testing.assert_allclose(
        fitted.score(images), at_once.score(images), rtol=1e-5, atol=1e-5
    )
