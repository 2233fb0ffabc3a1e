"""A run on a zip file or on TFRecords is the run on the folder of the same pictures."""

import functools
import itertools
import json
import shutil
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ood_keras import pipelines, training, workflows
from ood_keras.training import checkpoints, recipes
from ood_keras.workflows import run_data
from ood_keras.workflows.adoption import adopt, files_check

CLASSES = ("cat", "dog")
RECIPE = recipes.get(
    "demo", epochs=1, filters=(4, 4), hidden_size=8, feature_size=8, batch_size=16
)


def write_record(writer, content, label=None):
    features = {"image/encoded": content, "image/class/text": label}
    made = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in features.items()
        if value is not None
    }
    example = tf.train.Example(features=tf.train.Features(feature=made))
    writer.write(example.SerializeToString())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The same pictures as a folder, a zip file and TFRecords; one cannot be read."""
    random = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("photos")
    places = [f"known/{name}" for name in CLASSES] + ["other"]
    for number, place in enumerate(places):
        (root / "folder" / place).mkdir(parents=True)
        for row in range(40):
            pixels = random.normal(60 + 60 * number, 30, (9 + row % 3, 9, 3))
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            path = root / "folder" / place / f"{row:02}.png"
            picture.resize((40, 36)).save(path)
    (root / "folder" / "known" / "dog" / "07.png").write_bytes(b"no picture")
    with zipfile.ZipFile(root / "photos.zip", "w") as archive:
        for path in sorted((root / "folder").rglob("*.png")):
            archive.write(path, path.relative_to(root / "folder"))
    for kind, labels in (("known", CLASSES), ("other", (None,))):
        # Files are divided anywhere.
        files = [
            (path.read_bytes(), label and label.encode())
            for label in labels
            for path in sorted((root / "folder" / kind / (label or "")).iterdir())
        ]
        for shard, pack in enumerate((None, "GZIP")):
            name = root / f"{kind}-0000{shard}-of-00002"
            half = files[: len(files) // 3], files[len(files) // 3 :]
            with tf.io.TFRecordWriter(str(name), pack) as writer:
                for content, label in half[shard]:
                    write_record(writer, content, label)
    return root


def specs(photos, kind):
    if kind == "tfrecord":
        return [f"tfrecord:{photos}/{name}-*" for name in ("known", "other")]
    place = {"folder": "folder", "zip": "photos.zip"}[kind]
    return [f"{kind}:{photos}/{place}/{name}" for name in ("known", "other")]


def train(photos, kind, run_dir):
    known, other = specs(photos, kind)
    workflows.train(
        known=known,
        unknown=[other, "synthetic"],
        run_dir=run_dir,
        recipe=RECIPE,
        image_shape=(28, 28, 3),
        skip_bad=True,
        overrides=["synthetic_images=60"],
    )


def read_weights(run_dir):
    return keras.models.load_model(run_dir / "model.keras").get_weights()


@pytest.fixture(scope="module")
def on_the_folder(photos, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "folder"
    train(photos, "folder", run_dir)
    return run_dir


@pytest.mark.parametrize("kind", ["zip", "tfrecord"])
def test_weights_are_the_same_bit_for_bit_also_resumed(
    photos, on_the_folder, tmp_path, monkeypatch, kind
):
    monkeypatch.setenv("OOD_KERAS_MEMORY_GB", "0")
    monkeypatch.setenv("OOD_KERAS_CACHE_DIR", str(tmp_path / "cache"))
    count, write = itertools.count(1), checkpoints.write

    def interrupted(folder, checkpoint):
        write(folder, checkpoint)
        if next(count) == 3:
            assert checkpoint.step
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write", interrupted)
        patch.setattr(
            training, "fit", functools.partial(training.fit, checkpoint_every=0)
        )
        train(photos, kind, tmp_path / "run")
    train(photos, kind, tmp_path / "run")
    assert list((tmp_path / "cache").glob("*/*/pixels.npy"))
    for one, other in zip(
        read_weights(tmp_path / "run"), read_weights(on_the_folder), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    settings, expected = (
        json.loads((run_dir / "run.json").read_text())["settings"]
        for run_dir in (tmp_path / "run", on_the_folder)
    )
    assert settings["class_names"] == expected["class_names"] == list(CLASSES)
    assert settings["group_by"] == expected["group_by"] == ["copies"]
    prints = [
        sorted(part["sha256"] for part in one["data"].values())
        for one in (settings, expected)
    ]
    assert prints[0] == prints[1]
    (left_out,) = settings["left_out"].values()
    assert list(left_out) == [
        {"zip": "dog/07.png", "tfrecord": "known-00001-of-00002[21]"}[kind]
    ]


@pytest.mark.parametrize("kind", ["zip", "tfrecord"])
def test_later_commands_find_the_data_of_the_run(photos, tmp_path, monkeypatch, kind):
    def begin(*_, run_dir, **arguments):
        run_dir.mkdir()
        run = {"settings": arguments["settings"], "seed": 0}
        (run_dir / "run.json").write_text(json.dumps(run))
        (run_dir / "model.keras").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", begin)
    copied = tmp_path / "photos"
    shutil.copytree(photos, copied)
    other = specs(copied, kind)[1]
    with pytest.raises(KeyboardInterrupt):
        train(copied, kind, tmp_path / "run")
    data = run_data.load_run_data(tmp_path / "run", [other, "digits"])
    assert len(data.known.test) == 16
    assert data.seen == [other]
    # A picture that changes is noticed.
    if kind == "zip":
        with zipfile.ZipFile(copied / "photos.zip", "a") as archive:
            archive.write(copied / "folder/known/cat/01.png", "known/cat/new.png")
    else:
        (copied / "known-00002").write_bytes(
            (copied / "known-00000-of-00002").read_bytes()
        )
    with pytest.raises(ValueError, match="is not the data that"):
        run_data.load_run_data(tmp_path / "run", [other])


@pytest.mark.parametrize("kind", ["zip", "tfrecord"])
def test_what_cannot_be_read_stops_a_training(photos, tmp_path, kind):
    known, _ = specs(photos, kind)
    with pytest.raises(ValueError, match=r"1 .*cannot be read") as error:
        workflows.train(
            known=known, unknown=["synthetic"], run_dir=tmp_path / "run", recipe="demo"
        )
    name = {"zip": "dog/07.png", "tfrecord": "known-00001-of-00002[21]"}[kind]
    assert name in str(error.value) and "--skip_bad" in str(error.value)


def test_known_and_unknown_of_one_archive_are_told_apart(photos):
    known, other = specs(photos, "zip")
    assert run_data.find_seen([other], [known]) == []
    assert run_data.find_seen([other], [other]) == [other]
    assert run_data.find_seen([other], [known.removesuffix("/known")]) == [other]
    assert pipelines.load(other).class_names == ()


@pytest.mark.parametrize("kind", ["folder", "zip", "tfrecord"])
def test_what_adopts_a_network_finds_the_files_of_pictures(photos, kind):
    _, other = specs(photos, kind)
    split = pipelines.load(other, image_shape=(36, 40, 3)).test
    contents, number = next(files_check._batches(split, range(len(split))))
    assert number == len(split) == 8
    for content, image in zip(contents, split.images, strict=True):
        np.testing.assert_array_equal(tf.io.decode_png(content).numpy(), image)
    changed = pipelines.load(f"{other}@negative").test
    assert next(files_check._batches(changed, range(8)))[1] == 0


def test_a_path_in_place_of_a_spec_is_understood_by_what_adopts(photos):
    for path in (photos / "photos.zip", photos / "photos.zip" / "known"):
        assert adopt._as_spec(path) == adopt._as_spec(str(path)) == f"zip:{path}"
    assert adopt._as_spec(photos / "folder") == f"folder:{photos / 'folder'}"
    assert adopt._as_spec("digits") == "digits"
