"""The check that an export must pass, and that it fails when it should."""

import json
import subprocess
import sys

import numpy as np
import pytest

from ood_keras import calibration, export
from ood_keras.export import parity, serving


def test_the_report_lists_what_was_compared(exported):
    report = json.loads((exported.path / "parity.json").read_text())
    assert report["failures"] == []
    assert report["images"] > len(exported.images)
    assert set(report["loaders"]) == {"session", "saved_model_load"}
    # The threshold was chosen on the first ones, and stands apart from all of them.
    for loader in report["loaders"].values():
        assert not set(loader["near_threshold"]) & set(range(len(exported.images)))
        assert max(loader["largest_difference"].values()) < 1e-5
        assert loader["decisions_that_differ"] <= len(loader["near_threshold"])


def test_the_fresh_process_cannot_have_our_code():
    code = (
        f"import runpy, sys; runpy.run_path({str(parity._SCRIPT)!r}, run_name='x')\n"
        "ours = [m for m in sys.modules if m.startswith(('keras', 'ood_keras'))]\n"
        "print(ours, [sys.modules[m] for m in ours])"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "['keras', 'ood_keras'] [None, None]"


def _other_threshold(exported, monkeypatch):
    save = serving.save

    def wrong(folder, detector, threshold, *rest):
        save(folder, detector, threshold + 0.5, *rest)

    monkeypatch.setattr(serving, "save", wrong)


def _other_weights(exported, monkeypatch):
    save = serving.save

    def wrong(folder, *rest):
        bias = exported.model.layers[-1].bias
        bias.assign_add([0.01, 0, 0, 0])
        save(folder, *rest)
        bias.assign_sub([0.01, 0, 0, 0])

    monkeypatch.setattr(serving, "save", wrong)


def _other_labels(exported, monkeypatch):
    save = serving.save

    def wrong(folder, detector, threshold, class_names, *others):
        save(folder, detector, threshold, class_names[::-1], *others)

    monkeypatch.setattr(serving, "save", wrong)


def _no_range_check(exported, monkeypatch):
    monkeypatch.setattr(serving, "RANGE_TOLERANCE", 1e6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_other_threshold, "decisions differ"),
        (_other_weights, "logits differs by up to 0.01"),
        (_other_labels, "decisions differ"),
        (_no_range_check, "0-255 pixels are not refused"),
    ],
)
def test_an_export_that_differs_fails_and_leaves_nothing(
    exported, tmp_path, monkeypatch, spoil, message
):
    spoil(exported, monkeypatch)
    with pytest.raises(export.ParityError, match=message):
        export.saved_model(
            exported.model,
            exported.detector,
            exported.threshold,
            tmp_path / "model" / "1",
            class_names=exported.class_names,
            sample_images=exported.images,
        )
    assert not list((tmp_path / "model").iterdir())


def test_a_crash_of_the_fresh_process_is_reported(exported, tmp_path, monkeypatch):
    script = tmp_path / "crash.py"
    script.write_text("import sys; sys.exit('out of luck')")
    monkeypatch.setattr(parity, "_SCRIPT", script)
    with (
        parity.FreshProcess() as process,
        pytest.raises(export.ParityError, match=r"code 1 and said:\nout of luck"),
    ):
        parity.check(
            process,
            exported.path,
            exported.detector,
            exported.threshold,
            exported.class_names,
            exported.images,
        )


def test_the_fresh_process_ends_with_an_export_that_fails():
    with pytest.raises(KeyError), parity.FreshProcess() as process:
        assert process._process.poll() is None
        raise KeyError
    assert process._process.returncode is not None


def test_a_model_that_has_diverged_is_not_exported(exported, tmp_path):
    class Diverged:
        num_classes = 3

        def call(self, images):
            outputs = exported.detector.call(images)
            return {**outputs, "ood_score": outputs["ood_score"] * np.nan}

    with pytest.raises(ValueError, match="diverged"):
        parity.check(
            None,
            exported.path,
            Diverged(),
            calibration.quantile([0.0], 0.5),
            exported.class_names,
            exported.images,
        )


class _Amplifies:
    """A live model that amplifies rounding on some images, as random networks do."""

    num_classes = 3

    def __init__(self, detector, images):
        self._detector, self._images = detector, images

    def call(self, images):
        outputs = self._detector.call(images)
        there = (images.numpy()[:, None] == self._images).all(axis=(2, 3, 4)).any(1)
        near = (np.abs(images.numpy()[:, None] - self._images) < 1e-6).all((2, 3, 4))
        noise = np.where(there, 0.05, -0.05) * near.any(1)
        return {**outputs, "ood_score": outputs["ood_score"] + noise.astype("float32")}


def test_where_rounding_decides_for_the_live_model_it_may_for_the_exported(exported):
    images = parity.images(exported.images.shape[1:], exported.images)
    # Of zeros there is no last bit to change.
    live = _Amplifies(exported.detector, images[len(exported.images) + 1 :])
    with parity.FreshProcess() as process:
        report = parity.check(
            process,
            exported.path,
            live,
            exported.threshold,
            exported.class_names,
            images,
        )
    for loader in report["loaders"].values():
        assert loader["largest_difference"]["ood_score"] > 1e-2
        assert loader["largest_difference"]["logits"] < 1e-5

    # What does not hang on rounding is not excused by it.
    class Moved:
        num_classes = 3

        def call(self, images):
            outputs = exported.detector.call(images)
            return {**outputs, "ood_score": outputs["ood_score"] + 2e-3}

    with (
        pytest.raises(export.ParityError, match=r"ood_score differs by up to 0\.00"),
        parity.FreshProcess() as process,
    ):
        parity.check(
            process,
            exported.path,
            Moved(),
            exported.threshold,
            exported.class_names,
            exported.images,
        )


def test_probes_are_varied_images_and_always_the_same():
    images = parity.probes((9, 7, 3))
    assert images.shape == (32, 9, 7, 3) and images.dtype == np.float32
    assert images.min() == 0 and images.max() == 1
    np.testing.assert_array_equal(images, parity.probes((9, 7, 3)))
    assert len(np.unique(images.reshape(32, -1), axis=0)) == 32
