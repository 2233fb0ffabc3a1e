"""A new threshold for a model that is exported already."""

import pathlib
import shutil
import uuid
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2

from ood_keras import files
from ood_keras.calibration import ClassThresholds, Threshold, any_threshold
from ood_keras.calibration.any_threshold import AnyThreshold
from ood_keras.export import model_card, parity, promise
from ood_keras.export.servable import (
    check_num_thresholds,
    describe_thresholds,
    output_contract,
)
from ood_keras.inference import manifest
from ood_keras.inference.predictor import Predictor
from ood_keras.inference.versions import next_version
from ood_keras.types import Answer, Path, Tensor

_THRESHOLD = "threshold/.ATTRIBUTES/VARIABLE_VALUE"


def recalibrate(
    path: Path,
    threshold: AnyThreshold,
    *,
    operating_points: Mapping[str, Threshold] | None = None,
    sample_images: np.ndarray | None = None,
) -> pathlib.Path:
    """Writes the next version of an exported model, with another threshold.

    Neither the training code nor the Keras model is needed, and the graph stays the
    same file: only the variable of the threshold, the manifest, the model card and the
    parity report change. TensorFlow Serving switches to the new version by itself.

    Args:
        path: `DIR/VERSION` of an exported model; it is left as it is.
        threshold: A `calibration.Threshold`, chosen on scores of this model, that is on
            `load(path).predict(known_images)["ood_score"]`; or
            `calibration.ClassThresholds`, for a model that was exported with such.
        operating_points: Other thresholds to offer, `{name: calibration.Threshold}`;
            those of the earlier version are dropped, as its threshold is.
        sample_images: Known float images `(num_images, height, width, channels)` in
            [0, 1], like those that the threshold was chosen on: to compare the two
            versions, besides noise, and to try whether they are accepted as promised.

    Returns:
        The `pathlib.Path` of the new version: one more than the largest in DIR.

    Raises:
        FileNotFoundError: `path` is not an exported model.
        ParityError: the new version does not decide as it should; or, a
            `PromiseError`, it rejects `sample_images` that it should accept.
        TypeError: `threshold` or an operating point is not a `Threshold`.
        ValueError: the model is damaged, or has no place for a threshold for each
            class.

    Example:

    >>> scores = export.load("saved_models/digits/1").predict(known_images)["ood_score"]
    >>> threshold = calibration.conformal(scores, target_acceptance=0.99)
    >>> export.recalibrate("saved_models/digits/1", threshold)
    PosixPath('saved_models/digits/2')
    """
    thresholds = describe_thresholds(threshold, operating_points)
    path = pathlib.Path(path)
    if path.name in ("", ".."):  # As in ".", whose parent is no other folder.
        path = path.resolve()
    model = Predictor(path)
    check_num_thresholds(threshold, len(model.class_names))
    if isinstance(threshold, ClassThresholds) and not model.has_class_thresholds:
        raise ValueError(
            f"the graph of {path} holds one threshold, and the graph is not changed: "
            "export the model again with thresholds for each class (ood-export "
            "--per_class), and such can be chosen anew"
        )
    images = parity.images(model.image_shape, sample_images)
    live = _Live(model)
    tried = promise.to_try(live, threshold, sample_images)
    new = path.parent / str(next_version(path.parent))
    with parity.FreshProcess() as process, files.atomic_directory(new) as folder:
        for name in model.manifest["files"]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path / name, folder / name)
        _set_threshold(folder, any_threshold.numbers(threshold))
        report = parity.check(
            process, folder, live, threshold, model.class_names, images, tried
        )
        files.write_json(folder / "parity.json", report)
        earlier = {
            name: model.manifest[name] for name in ("threshold", "created", "versions")
        }
        manifest.write(
            folder,
            {
                **{
                    key: model.manifest[key]
                    for key in model.manifest
                    if key != promise.KEY
                },
                **thresholds,
                "output": {
                    **model.manifest["output"],
                    "accepted": output_contract(threshold)["accepted"],
                },
                **promise.caveat(tried),
                "recalibrated_from": {"version": path.name, **earlier},
            },
            pages={model_card.NAME: model_card.render},
        )
    return new


class _Live:
    """The version that is there, in the place of the detector it was made from."""

    def __init__(self, model: Predictor) -> None:
        self.num_classes = len(model.class_names)
        self._model = model

    def call(self, images: Tensor) -> Answer:
        score = self._model.predict(images)["ood_score"]
        return {"ood_score": score, **self._model.features(images)}


def _set_threshold(folder: pathlib.Path, value: float | tuple[float, ...]) -> None:
    """Rewrites the variables in `folder`, and what TensorFlow notes about them."""
    prefix = str(folder / "variables" / "variables")
    reader = tf.train.load_checkpoint(prefix)
    values = {
        name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
    }
    # One number serves every class where the graph asks for each.
    values[_THRESHOLD] = np.full(values[_THRESHOLD].shape, value, np.float32)
    names = sorted(values)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(values[name]) for name in names],
    )
    path = folder / "fingerprint.pb"
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    index = pathlib.Path(prefix + ".index").read_bytes()
    digest = tf.fingerprint([index], method="farmhash64").numpy()
    fingerprint.checkpoint_hash = int.from_bytes(digest.tobytes(), "little")
    fingerprint.uuid = str(uuid.uuid4().int)
    path.write_bytes(fingerprint.SerializeToString())
