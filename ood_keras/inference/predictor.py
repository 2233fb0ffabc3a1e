"""An exported model in Python."""

import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from ood_keras import batches
from ood_keras.conventions import MOST_EXPLAINED, UNKNOWN_LABEL, check_count
from ood_keras.inference import answers, known_examples, manifest
from ood_keras.inference.file_formats import FILE_FORMATS
from ood_keras.types import Answer, Images, ImageShape, Json, Path

# `tf.string` in a graph, before TensorFlow is loaded.
_STRING = 7


class Predictor:
    """A model that rejects what it does not know; made by `export.load`.

    Any number of threads may ask one predictor at the same time.

    Attributes:
        path: The folder, a `pathlib.Path`.
        manifest: The content of `manifest.json`, a dict.
        threshold: Largest accepted `ood_score`, as the manifest states it; a tuple of
            one for each predicted class if it was exported with such.
        operating_points: Other thresholds that the model offers, by name.
        class_names: Labels of the known classes, by class id.
        image_shape: `(height, width, channels)` of the images it takes.
        background: Grey level on which it lays transparent pixels of image files;
            `None` if it drops alpha.
        exif_orientation: Whether it turns JPEG files as their camera's note says.
        known_examples: The `KnownExamples` that it was exported with, or `None`.
    """

    def __init__(self, path: Path) -> None:
        self.path = pathlib.Path(path)
        self.manifest: Json = manifest.read(self.path)
        if "converted_to" in self.manifest:
            raise ValueError(
                f"{path} holds no SavedModel but a copy converted to "
                f"{self.manifest['converted_to']}; open it with export.load or export."
                + " or export.".join(each.predictor for each in FILE_FORMATS)
            )
        self.class_names: tuple[str, ...] = tuple(self.manifest["class_names"])
        self.threshold = answers.own_threshold(self.manifest)
        self.operating_points = answers.operating_points(self.manifest)
        self.image_shape: ImageShape = tuple(
            self.manifest["input"]["image"]["shape"][1:]
        )
        self.background = manifest.background(self.manifest)
        self.exif_orientation = manifest.exif_orientation(self.manifest)
        self.known_examples = known_examples.read(self.path)
        import tensorflow as tf

        # The functions of a loaded model live no longer than the model.
        self._model = tf.saved_model.load(str(self.path))
        manifest.check_alike(self.path, dict(self._read_stated_and_found()))

    def predict(
        self,
        images: Images,
        threshold: float | str | None = None,
        batch_size: int = 256,
    ) -> Answer:
        """Decides for each image: a known class, or unknown.

        Args:
            images: Float images `(num_images, height, width, channels)` in [0, 1], or a
                dataset of batches of them. NaN, infinite and out-of-range pixels make
                an image invalid; it is then rejected.
            threshold: Largest accepted `ood_score`, a number or the name of an
                operating point; `None` takes the model's own.
            batch_size: Images per run, for arrays.

        Returns:
            A dict of arrays with one row for each image: `class_id` int32, -1 if
            rejected; `label`, "__unknown__" if rejected; `probabilities` float32
            `(num_images, N)`, the softmax over the known classes, all 0 for an invalid
            image; `ood_score` float32, higher means more likely unknown; `accepted`
            bool, whether `ood_score <= threshold`; `valid` bool.

        Raises:
            TypeError: images are integers, or `threshold` is no single number.
            ValueError: images have another shape than the model takes, `batch_size` is
                not positive, or there is no such operating point.
        """
        if threshold is not None:
            threshold = answers.threshold_value(threshold, self.operating_points)
        parts = []
        for batch in self._batches(images, batch_size):
            if threshold is None:
                parts.append(self._run("serving_default", image=batch))
            else:
                limits = np.full(len(batch), threshold, np.float32)
                parts.append(self._run("predict_at", image=batch, threshold=limits))
        return answers.join(parts)

    def predict_bytes(
        self,
        contents: Sequence[bytes],
        threshold: float | str | None = None,
        batch_size: int = 256,
    ) -> Answer:
        """Decides for each image file; one that cannot be decoded is invalid.

        Args:
            contents: A list of `bytes`, the content of one PNG or JPEG file each, of
                any size; converted as the manifest says under `input`.
            threshold: As for `predict`.
            batch_size: Files per run.

        Returns:
            As `predict` does.

        Raises:
            TypeError: `contents` is not a list of bytes.
            ValueError: the model takes images that no image file holds, `batch_size` is
                not positive, or there is no such operating point.
        """
        answers.check_contents(contents, self.image_shape)
        batch_size = check_count("batch_size", batch_size)
        starts = range(0, max(1, len(contents)), batch_size)
        answer = answers.join(
            [
                self._run(
                    "predict_bytes",
                    image_bytes=np.array(contents[start : start + batch_size], object),
                )
                for start in starts
            ]
        )
        if threshold is None:
            return answer
        # There is no `predict_at` for files; scores do not depend on the threshold.
        threshold = answers.threshold_value(threshold, self.operating_points)
        return answers.at_threshold(answer, threshold, self.class_names)

    def features(self, images: Images, batch_size: int = 256) -> Answer:
        """The layer before the classifier and the logits, all 0 for an invalid image.

        Args:
            images: As for `predict`.
            batch_size: Images per run, for arrays.

        Returns:
            A dict of float32 arrays: `features` `(num_images, D)` and `logits`
            `(num_images, K)`.
        """
        return answers.join(
            [
                self._run("features", image=batch)
                for batch in self._batches(images, batch_size)
            ]
        )

    @property
    def explains(self) -> bool:
        """Whether it was exported with the signature `explain`."""
        return "explain" in self._model.signatures

    def explain(self, images: Images, batch_size: int = 16) -> np.ndarray:
        """What in each image is strange, all 0 for an invalid one.

        Args:
            images: As for `predict`.
            batch_size: Images per run, for arrays; each takes two hundred runs of the
                network.

        Returns:
            Float32 `(num_images, height, width)`, as `heat_maps` gives it.

        Raises:
            ValueError: the model was exported without; `inference.heat_maps` does the
                same for any.
        """
        if not self.explains:
            raise ValueError(
                f"{self.path} has no signature explain. Export it with explain=True, "
                "or ask inference.heat_maps, which works with every model"
            )
        # The batches of a dataset may be larger than a request may be.
        requests = (
            batch[start : start + MOST_EXPLAINED]
            for batch in self._batches(images, batch_size)
            for start in range(0, len(batch) or 1, MOST_EXPLAINED)
        )
        return np.concatenate(
            [self._run("explain", image=request)["heat"] for request in requests]
        )

    def _batches(self, images: Images, batch_size: int) -> Iterator[np.ndarray]:
        """Yields batches of the right shape: one empty one if there are no images."""
        empty = True
        for batch, _ in batches.iterate(images, batch_size):
            empty = False
            yield answers.check_shape(batch, self.image_shape)
        if empty:
            array = images[0] if isinstance(images, tuple) else images
            if hasattr(array, "shape"):
                answers.check_shape(array, self.image_shape)
            yield np.zeros((0, *self.image_shape), np.float32)

    def _read_stated_and_found(self):
        """Yields what the manifest says and what the graph is, see `check_alike`."""
        found = self._model.signatures
        names = {"serving_default", "predict_at", "features"}
        if self.image_shape[-1] in (1, 3):
            names |= {"predict_bytes"}
        yield "signatures", (sorted(names), sorted(names & set(found)))
        image = found["serving_default"].structured_input_signature[1]["image"]
        shape = (None, *self.image_shape)
        yield "shape of images", (shape, tuple(image.shape))
        yield "type of images", (self._image_type(), image.dtype.name)
        outputs = found["serving_default"].structured_outputs
        count = outputs["probabilities"].shape[-1]
        yield "number of classes", (len(self.class_names), count)
        if isinstance(self.threshold, tuple):
            of_classes = len(self.threshold)
            yield "number of thresholds", (len(self.class_names), of_classes)
        yield "class names", (self.class_names, self._labels())
        threshold = getattr(self._model, "threshold", None)
        made = None if threshold is None else threshold.numpy().tolist()
        if isinstance(made, list):
            # One for all classes may be written once for each.
            alike = not isinstance(self.threshold, tuple) and len(set(made)) == 1
            made = made[0] if alike else tuple(made)
        yield "threshold", (self.threshold, made)
        if self.known_examples is not None:
            shown = self.known_examples.images.shape[1:]
            yield "shape of known_examples", (self.image_shape, shown)
            labels = self.known_examples.labels
            inside = (labels >= 0) & (labels < len(self.class_names))
            yield "labels of known_examples", ([], labels[~inside].tolist())

    @property
    def has_class_thresholds(self) -> bool:
        """Whether its graph has a place for the threshold of each predicted class."""
        threshold = getattr(self._model, "threshold", None)
        return threshold is not None and threshold.shape.rank == 1

    def _image_type(self) -> str:
        return self.manifest["input"]["image"]["dtype"]

    def _labels(self):
        """The class names in the graph, or `None` if they are not found in it."""
        path = self.path / "saved_model.pb"
        if not path.is_file():  # Graphs beyond 2 GB are stored in parts.
            return None
        from tensorflow.core.protobuf import saved_model_pb2

        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
        for graph in model.meta_graphs:
            for function in graph.graph_def.library.function:
                for node in function.node_def:
                    tensor = node.attr["value"].tensor if node.op == "Const" else None
                    if tensor is None or tensor.dtype != _STRING:
                        continue
                    first, *names = tensor.string_val or (b"",)
                    if first == UNKNOWN_LABEL.encode():
                        return tuple(name.decode() for name in names)
        return None

    def _run(self, signature, **inputs):
        if "image_bytes" in inputs:
            import tensorflow as tf

            inputs["image_bytes"] = tf.constant(inputs["image_bytes"], tf.string)
        outputs = self._model.signatures[signature](**inputs)
        answer = {name: output.numpy() for name, output in outputs.items()}
        if "label" in answer:
            answer["label"] = np.array(
                [label.decode() for label in answer["label"]], object
            )
        return answer
