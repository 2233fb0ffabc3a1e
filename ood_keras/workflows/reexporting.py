"""Exports a model again: the same weights and threshold in today's graph."""

import dataclasses
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ood_keras import calibration, detectors, export
from ood_keras.calibration import any_threshold
from ood_keras.export import parity, serving
from ood_keras.inference.shipped_models import locate
from ood_keras.training import recipes
from ood_keras.types import Path


def reexport(model: Path, output: Path, fitted: Path | None = None) -> pathlib.Path:
    """Exports a model of a recipe once more, from what was exported.

    Args:
        model: Name of a shipped model, or `DIR/VERSION`.
        output: Folder that receives the next version.
        fitted: The JSON file of the model's detector, as `detectors.save` wrote it,
            where it has learnt from features.

    Returns:
        The `pathlib.Path` of the new version.

    Raises:
        ValueError: the model was not made by a recipe; or its detector has learnt from
            features, and `fitted` is not given or is another detector.
        ParityError: the new version decides otherwise than the old one.
    """
    old = export.Predictor(locate(model))
    manifest = old.manifest
    network = _network(old)
    detector = _detector(old, network, fitted)
    points = manifest.get("operating_points", {})
    examples = old.known_examples
    known = None if examples is None else examples.images.astype(np.float32) / 255
    images = parity.images(old.image_shape, known)
    path = pathlib.Path(output)
    path = export.saved_model(
        network,
        detector,
        any_threshold.from_dict(manifest["threshold"]),
        path / str(export.next_version(path)),
        class_names=manifest["class_names"],
        operating_points={
            name: calibration.Threshold.from_dict(point)
            for name, point in points.items()
        },
        **{name: manifest[name] for name in ("metrics", "at_threshold", "training")},
        sample_images=known,
        known_examples=examples,
    )
    _compare(old.predict(images), export.load(path).predict(images))
    return path


def _detector(
    old: export.Predictor, network: keras.Model, fitted: Path | None
) -> detectors.Detector:
    """The detector of an exported model, on its network."""
    stated = old.manifest["detector"]
    made = detectors.get(stated["name"], **stated["config"])
    if fitted is None and made.learns:
        raise ValueError(
            f"the detector of {old.path}, {stated['name']!r}, has learnt from "
            "features, which are no part of its configuration. Give the file that "
            f"ood-evaluate wrote of it, RUN/detectors/{stated['name']}.json"
        )
    if fitted is None:
        return made.fit(network)
    loaded = detectors.load(fitted, network)
    if (loaded.name, loaded.get_config()) != (made.name, made.get_config()):
        raise ValueError(
            f"{fitted} is not the detector of {old.path}: expected {made.name!r} with "
            f"{made.get_config()}, received {loaded.name!r} with {loaded.get_config()}"
        )
    return loaded


def _network(old: export.Predictor) -> keras.Model:
    """The Keras model of an exported one, with its weights."""
    training = old.manifest["training"] or {}
    fields = {field.name for field in dataclasses.fields(recipes.Recipe)}
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in training.get("recipe", {}).items()
    }
    if not settings or set(settings) - fields:
        raise ValueError(
            "the model must have been made by a recipe. Received: "
            f"recipe={training.get('recipe')}"
        )
    # What is exported computes in float32, whatever the training did.
    recipe = recipes.Recipe(**{**settings, "mixed_precision": None})
    network = recipe.objective.build_model(old.image_shape, len(old.class_names))
    # In the order of the graph, as they were exported.
    look = tf.function(
        lambda image: network(image, training=False), autograph=False
    ).get_concrete_function(tf.TensorSpec((None, *old.image_shape), tf.float32))
    variables = serving.list_variables(look)
    weights = tf.saved_model.load(str(old.path)).weights
    shapes = [[tuple(one.shape) for one in some] for some in (variables, weights)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "the network of the recipe has other weights than the exported model: "
            f"{shapes[0]} instead of {shapes[1]}"
        )
    for variable, weight in zip(variables, weights, strict=True):
        variable.assign(weight)
    return network


def _compare(old, new):
    for name in ("class_id", "accepted", "valid"):
        if not np.array_equal(old[name], new[name]):
            raise parity.ParityError(
                f"{name} differs from that of the model that is there"
            )
    np.testing.assert_allclose(new["ood_score"], old["ood_score"], rtol=1e-5, atol=1e-5)
