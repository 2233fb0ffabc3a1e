"""The audit as text, as a page, as JSON, as a command; and what a training costs."""

import inspect
import json
import re
import sys

import keras
import numpy as np
import pages
import pytest
import small_backbone
import tensorflow as tf
from PIL import Image

from ood_keras import pipelines, workflows
from ood_keras.tools import data as command
from ood_keras.training import recipes
from ood_keras.workflows import auditing, cost


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(0)
    root = tmp_path / "<b>pictures"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(25):
            pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    return root


def spoil(root):
    (root / "dog/same.png").write_bytes((root / "cat/03.png").read_bytes())
    (root / "cat/empty.png").write_bytes(b"")
    (root / "cat/no\nte.txt").write_text("notes")


def test_the_audit_is_text_a_page_and_json(pictures, tmp_path):
    spoil(pictures)
    found = workflows.audit(known=[f"folder:{pictures}"], output=tmp_path / "audit")
    assert found.spoils
    text = str(found)
    assert re.search(r"cat +15 +5 +5 +25 +8x8", text)
    assert re.search(r"dog +16 +5 +5 +26 +8x8", text)
    assert "!! 1 picture under several labels" in text
    assert "     cat/03.png = dog/same.png\n" in text
    assert "!! 1 file cannot be read" in text and "cat/empty.png is no readable" in text
    content = json.loads((tmp_path / "audit/audit.json").read_text())
    assert content["spoils"] is True
    assert content["sources"][0]["pictures"]["cat"] == {
        "train": 15,
        "validation": 5,
        "test": 5,
    }
    kinds = {one["kind"]: one for one in content["findings"]}
    assert kinds["equal_labels"]["pictures"] == [
        [{"source": 0, "name": "cat/03.png"}, {"source": 0, "name": "dog/same.png"}]
    ]
    page = (tmp_path / "audit/audit.html").read_text()
    assert "Something here would spoil the result" in page
    assert page.count("data:image/jpeg;base64,") >= 2
    # Names are shown, and never taken for markup.
    assert "<b>pictures" not in page and "&lt;b&gt;pictures" in page
    assert "http" not in page


def test_the_page_fits_a_phone(pictures, tmp_path):
    spoil(pictures)
    pictures = pictures.rename(tmp_path / ("x" * 80))
    (pictures / "cat").rename(pictures / "a_class_with_a_name_that_goes_on")
    workflows.audit(known=[f"folder:{pictures}"], output=tmp_path)
    text = (tmp_path / "audit.html").read_text()
    assert "<bdi>a_<wbr>class_<wbr>with_<wbr>a_<wbr>name_" in text
    with pages.on_phone(tmp_path / "audit.html") as page:
        assert pages.width(page) == pages.WIDTH
        box = page.locator(".scroll").first
        assert pages.hidden(box) > 10
        assert pages.shadows(box) == (False, True)
        pages.scroll_to_end(box)
        assert pages.shadows(box) == (False, False)


def test_without_output_nothing_is_written(pictures, tmp_path):
    found = workflows.audit(known=[f"folder:{pictures}"])
    assert not found.spoils and found.cost is None
    assert [path.name for path in tmp_path.iterdir()] == [pictures.name]


def test_nothing_to_look_at():
    with pytest.raises(ValueError, match="Name sources, such as folder:PICTURES"):
        workflows.audit(known=[])


def test_the_exit_status_says_whether_something_spoils(pictures, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ood-data", f"folder:{pictures}"])
    command.main()
    assert "Nothing here would spoil the result." in capsys.readouterr().out
    spoil(pictures)
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 3
    assert "What is marked !! would spoil" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["ood-data", f"folder:{pictures}/nowhere"])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 1


def make_split(count, num_classes=None):
    images = np.zeros((count, 28, 28, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    labels = np.arange(count) % num_classes if num_classes else np.full(count, -1)
    names = tuple(map(str, range(num_classes or 0)))
    return pipelines.Split(f"made {num_classes}", "train", images, labels, names)


def test_what_a_training_costs():
    recipe = recipes.get("demo", filters=(4, 4), hidden_size=4, batch_size=8)
    known, unknown = make_split(37, 3), make_split(90)
    found = cost.estimate(
        recipe, (28, 28, 1), num_classes=3, num_train=37, num_validation=10
    )
    data = pipelines.Interleave(
        known,
        [unknown],
        3,
        batch_size=8,
        seed=0,
        unknown_per_epoch=recipe.unknown_per_epoch,
    )
    assert found["steps_per_epoch"] == data.steps_per_epoch
    assert found["epochs"] == recipe.epochs
    # 500 outliers at least judge beside the known images.
    steps = found["steps_per_epoch"] + 510 / 8 / 3
    seconds = found["epochs"] * steps * found["seconds_per_step"]
    assert found["minutes"] == pytest.approx(seconds / 60)
    pixels = (37 + 510 + recipe.synthetic_images) * 28 * 28
    assert pixels < found["memory_bytes"] < pixels + 2**34
    assert "Estimate for the recipe demo at 28x28x1" in cost.describe(found)
    with pytest.raises(ValueError, match="no readable training images"):
        cost.estimate(recipe, (28, 28, 1), num_classes=3, num_train=0, num_validation=0)


def test_what_is_too_large_to_time_is_said():
    recipe = recipes.get("robust_wide")
    with pytest.raises(ValueError, match=r"1920x1080x3 takes 3\.0 GiB.*--image_shape"):
        cost.estimate(
            recipe, (1920, 1080, 3), num_classes=3, num_train=90, num_validation=9
        )


def test_what_an_epoch_begins_with_is_not_counted_for_each_step(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(cost.time, "perf_counter", lambda: clock[0])

    class Model:
        """Takes long to begin an epoch, and then a second a step."""

        def fit(self, data, callbacks=(), **options):
            clock[0] += 1000
            for number in range(len(data)):
                clock[0] += 1
                for callback in callbacks:
                    callback.on_train_batch_end(number, None)

    data = tf.data.Dataset.range(20)
    assert cost._time_steps(Model(), data, data) == 1


@pytest.mark.parametrize("fine_tune_epochs", [0, 6])
def test_what_training_on_a_frozen_backbone_costs(monkeypatch, fine_tune_epochs):
    small_backbone.install(monkeypatch)
    build = small_backbone.TinyNet
    asked = []

    def record(**arguments):
        asked.append(arguments["weights"])
        return build(**arguments)

    record.__module__, record.__signature__ = build.__module__, inspect.signature(build)
    monkeypatch.setattr(keras.applications, "TinyNet", record)
    recipe = recipes.get(
        "photos",
        backbone="TinyNet:alpha=0.5",
        backbone_weights="no/such.weights.h5",
        filters=(6,),
        hidden_size=8,
        feature_size=6,
        batch_size=8,
        epochs=6,
        fine_tune_epochs=fine_tune_epochs,
        feature_renderings=3,
        augment=None,
    )
    found = cost.estimate(
        recipe, (32, 32, 3), num_classes=3, num_train=37, num_validation=10
    )
    assert set(asked) == {None}
    data = pipelines.Interleave(make_split(37, 3), [make_split(37)], 3, batch_size=8)
    assert found["steps_per_epoch"] == data.steps_per_epoch
    # As many outliers as images, in each rendering, and at least 500 that judge.
    pictures = 3 * (37 + 37) + 10 + 500 if fine_tune_epochs < 6 else 0
    assert found["feature_images"] == pictures
    # 8 x 8 pixels of 4 channels, 16 bits each.
    assert found["feature_bytes"] == pictures * 8 * 8 * 4 * 2
    passes = data.steps_per_epoch + 510 / 8 / 3
    seconds = pictures * found["seconds_per_image"]
    seconds += (6 - fine_tune_epochs) * passes * found["seconds_per_step"]
    seconds += fine_tune_epochs * passes * found.get("seconds_per_fine_tune_step", 0)
    np.testing.assert_allclose(60 * found["minutes"], seconds)
    assert found["seconds_per_image"] > 0 < found["seconds_per_step"]
    text = cost.describe(found)
    assert ("features of 732 renderings" in text) == bool(pictures)
    assert ("random weights" in text) == bool(pictures)
    assert (f"{6 - fine_tune_epochs} epochs of" in text) == bool(pictures)
    assert ("of the whole network" in text) == bool(fine_tune_epochs)
    assert ("of disk for the features" in text) == bool(pictures)


def test_of_one_class_and_known_images_alone_a_backbone_costs_too(monkeypatch):
    small_backbone.install(monkeypatch)
    options = {"backbone": "TinyNet", "batch_size": 8, "block": "none", "augment": None}
    for num_classes, changes in ((1, {}), (20, {"loss": "cross_entropy"})):
        recipe = recipes.get("photos", **options, **changes)
        found = cost.estimate(
            recipe, (32, 32, 1), num_classes=num_classes, num_train=40, num_validation=9
        )
        # Of the mean over the map 8 numbers are left.
        assert found["feature_bytes"] == found["feature_images"] * 8 * 2
        judged = 509 if num_classes == 1 else 9
        assert found["feature_images"] == 4 * (80 if num_classes == 1 else 40) + judged


def test_pictures_of_several_sizes_are_audited_and_cost_nobody_knows_what(
    pictures, tmp_path
):
    spoil(pictures)
    pixels = np.zeros((9, 9, 3), np.uint8)
    Image.fromarray(pixels).save(pictures / "cat/large.png")
    found = workflows.audit(
        known=[f"folder:{pictures}"], recipe="demo", output=tmp_path / "audit"
    )
    assert found.spoils and found.cost is None
    why = "What a training would cost cannot be told: the pictures have 2 sizes"
    assert why in str(found) and "Give --image_shape" in found.no_cost
    content = json.loads((tmp_path / "audit/audit.json").read_text())
    assert content["no_cost"] == found.no_cost and "cost" not in content
    assert why in (tmp_path / "audit/audit.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "dem"}, "demo"),
        ({"recipe": "demo", "image_shape": (8, 8)}, "`image_shape` must be"),
    ],
)
def test_what_is_asked_for_is_checked_before_any_picture_is_read(
    pictures, monkeypatch, options, message
):
    monkeypatch.setattr(auditing.data_audit, "gather", None)
    with pytest.raises(ValueError, match=message):
        workflows.audit(known=[f"folder:{pictures}"], **options)


def test_many_classes_cost_no_images_that_nobody_gave(monkeypatch):
    class Interleave:
        def __init__(self, known, *_, **__):
            assert len(set(known.labels.tolist())) == 90
            raise KeyboardInterrupt

    monkeypatch.setattr(cost.pipelines, "Interleave", Interleave)
    recipe = recipes.get("demo", batch_size=8)
    with pytest.raises(KeyboardInterrupt):
        cost.estimate(
            recipe, (28, 28, 1), num_classes=90, num_train=90, num_validation=9
        )


def test_made_images_are_named_and_not_looked_at(pictures, tmp_path):
    found = workflows.audit(
        known=[f"folder:{pictures}"], unknown=["synthetic"], output=tmp_path / "audit"
    )
    assert "synthetic (unknown): its images are made, not looked at" in str(found)
    page = (tmp_path / "audit/audit.html").read_text()
    assert page.count("Its images are made, not looked at.") == 1


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_a_page_of_arrays_that_no_picture_file_can_hold(tmp_path, channels):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (20, 8, 8, channels), np.uint8)
    images[3] = images[2]
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(20) % 2)
    found = workflows.audit(
        known=[f"npz:{tmp_path / 'set.npz'}"], output=tmp_path / "audit"
    )
    assert "1 picture under several labels" in str(found)
    assert (tmp_path / "audit/audit.html").is_file()
