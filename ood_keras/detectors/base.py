"""The contract of all detectors."""

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, Self

import keras
import numpy as np

from ood_keras import batches
from ood_keras.conventions import UNKNOWN, check_num_classes
from ood_keras.detectors import first_layers, perturbation
from ood_keras.detectors.collected import Collected, Statistics, check_shard
from ood_keras.detectors.compiled import as_constant, compile_function, over_batches
from ood_keras.detectors.memory import Memory, class_names_of
from ood_keras.detectors.network import Network, check_model, image_shape
from ood_keras.inference.file_formats import FILE_FORMATS
from ood_keras.types import Arrays, Images, Json, Outputs, Tensor

# One for all detectors, which can then be copied; it is held for an instant.
_compiling = threading.Lock()
# The detectors that are being fitted, and a lock on that.
_fitted_now: "weakref.WeakSet[Detector]" = weakref.WeakSet()
_looking = threading.Lock()


class Detector:
    """Base class: `fit` on a trained model and known images, then `score` images.

    The score is `ood_score`: float32, one per image, higher means more likely unknown.
    The model is only read, never changed. Any number of threads may score with one
    detector at the same time; none may fit it meanwhile, and only one at a time.

    A subclass sets `name`, implements `score_outputs`, and, if it learns something,
    sets `learns` and overrides `fit_arrays`, which iterates over `self.known_batches`
    once and leaves NumPy arrays in `self.arrays`; those travel into graphs and files.
    In place of `fit_arrays` it may override `collect_statistics` and `learn_arrays`;
    then it learns from parts of the data too, see `collect`.

    Args:
        num_classes: N, the number of known classes; `None` infers it from the labels
            given to `fit`, which costs an extra pass over the data; give it explicitly
            where the last class may be absent. The model has N logits, or N + 1 with an
            unknown class, whose logit is the last.
        logits: Name of the layer that makes the logits; `None` finds it.
        features: Name of the layer whose output the features are; `None` takes the
            input of the layer that makes the logits.

    Attributes:
        num_classes: N, known after `fit`.
        network: The `Network` around the model, known after `fit`.
        memory: What was scored since, a `Memory`; see `score`.
        class_names: Those of the dataset that `fit` was given, a tuple, or `None`.
        arrays: The fitted state, a dict of NumPy arrays.
        layers: Names of inner layers that `score_outputs` needs.
        learns: Whether `fit` needs data to learn from.
        needs_labels: Whether that data must be labelled even if N is given.
        least_classes: 2 if it compares known classes, so that one alone gives nothing.
        pools_layers: Whether of inner layers it reads only their means over positions,
            so that these may be what it is given in their place.
        changes_input: Whether scoring runs the model on changed images, so that one
            pass of the network cannot serve this detector and others together.
        exports: The formats that this detector can be exported to.

    Example:

    >>> detector = detectors.get("energy", num_classes=10).fit(model)
    >>> ood_score = detector.score(images)
    """

    # A subclass that is registered has one.
    name: ClassVar[str] = None  # type: ignore[assignment]
    learns: bool = False
    needs_labels: bool = False
    least_classes: Literal[1, 2] = 1
    pools_layers: bool = False
    changes_input: bool = False
    exports: tuple[str, ...] = (
        "saved_model",
        *(each.name for each in FILE_FORMATS),
    )

    # Until `fit`, the first three are None.
    network: Network
    memory: Memory
    class_names: tuple[str, ...] | None
    arrays: Arrays

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        logits: str | None = None,
        features: str | None = None,
    ) -> None:
        self._given_num_classes = (
            None
            if num_classes is None
            else check_num_classes(num_classes, least=self.least_classes)
        )
        for argument, name in (("logits", logits), ("features", features)):
            if not (name is None or (isinstance(name, str) and name)):
                raise TypeError(
                    f"`{argument}` must be the name of a layer, or None. Received: "
                    f"{argument}={name!r}"
                )
        self._logits_name = logits
        self._features_name = features
        self._forget()

    def fit(
        self,
        model: keras.Model,
        data: Images | None = None,
        validation: Images | None = None,
    ) -> Self:
        """Learns what the detector needs, forgetting any earlier fit.

        Args:
            model: A trained `keras.Model`; it is not changed.
            data: Known training images with labels `0..N-1`, as arrays
                `(images, labels)` or a dataset of such batches; images labelled -1 are
                left out. Detectors that read only the output do not need it, except to
                learn `num_classes` where that is not given.
            validation: Known images that the model was not trained on, of the same
                form, for detectors that set a scale on them (`gram`, `ensemble`); the
                others do not look at it.

        Returns:
            The detector itself.

        Raises:
            TypeError: `model` is not a `keras.Model`, or `data` cannot be read.
            ValueError: data or `num_classes` is missing, labels are out of range, a
                class has no images, an image to learn from has pixels that are not
                finite, or the network gives NaN for it, or the model is not made for
                this detector.
            RuntimeError: the detector perturbs its input, and Keras runs on a backend
                that takes no gradients; or it is being fitted already.
        """
        with self._alone():
            self._forget()
            network = self._open(model, data, validation)
            self._fit_network(network, data, validation)
            self.class_names = class_names_of(data)
        return self

    def collect(
        self,
        model: keras.Model,
        data: Images,
        validation: Images | None = None,
        *,
        shard: int = 0,
    ) -> Collected:
        """What `fit` would learn from, of one part of the data, in one walk over it.

        Parts of data that no machine holds are collected where they are, merged
        (`detectors.merge`) and learnt from with `learn`:

            parts = [detector.collect(model, part, shard=n) for n, part in ...]
            detector.learn(model, detectors.merge(parts))

        Sums merge exactly, up to the rounding of float64. Random samples (the banks of
        `knn`, `nnguide` and `combood`, the sampled features of others) merge exactly
        while they hold all images, and else into another sample of the same size.
        `gram` without `validation` sets every tenth image of each part aside.

        Args:
            model: As for `fit`; the same weights for all parts.
            data: Images of the part, with labels as for `fit`.
            validation: As for `fit`, of the part; `ensemble`s do not look at it here.
            shard: The number of the part, at least 0; each its own.

        Returns:
            A `Collected`, arrays whose size does not grow with that of the data. This
            detector is left as it is.

        Raises:
            TypeError: a detector of your own defines `fit_arrays` and not
                `collect_statistics` and `learn_arrays`, so that nobody knows how what
                it learns merges.
            ValueError: as for `fit`; also, `num_classes` is not given: a part need not
                hold images of all classes.
        """
        if self._given_num_classes is None:
            raise ValueError(
                "a part of the data need not hold images of all classes. Give "
                f"num_classes=... to {self.name!r}"
            )
        worker = type(self).from_config(self.get_config())
        worker._check_collects()
        network = worker._open(model, data, validation)
        worker._prepare_inner(network, self._given_num_classes)
        worker._prepare(network, self._given_num_classes)
        statistics = worker.collect_statistics(
            network, data, validation, check_shard(shard)
        )
        return Collected(
            detector=self.name,
            config=self._config_to_learn(),
            statistics=statistics,
            shards=(shard,),
        )

    def learn(
        self,
        model: keras.Model,
        collected: Collected,
        validation: Images | None = None,
    ) -> Self:
        """Learns from what was collected, forgetting any earlier fit.

        Args:
            model: The model that it was collected with.
            collected: Of a detector of the same class and arguments.
            validation: Known images, for an `ensemble`, which sets the scale of its
                fitted members on them; the others do not look at it.

        Returns:
            The detector itself, as `fit` on all parts at once would leave it.

        Raises:
            ValueError: it is of another detector; or as for `fit`.
            RuntimeError: as for `fit`.
        """
        own = (self.name, self._config_to_learn())
        if own != (collected.detector, collected.config):
            raise ValueError(
                f"expected what {own[0]!r} with {own[1]} collected. Received: what "
                f"{collected.detector!r} with {collected.config} did"
            )
        with self._alone():
            self._forget()
            network = self._open(model, validation, None, learns=False)
            # `collect` had it, and the arguments are the same.
            num_classes: Any = self._given_num_classes
            self._prepare_inner(network, num_classes)
            self._prepare(network, num_classes)
            self._learn_all(network, collected.statistics, validation)
            self._begin(network)
        return self

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Raises if this detector is being fitted; two fits at once would mix."""
        with _looking:
            if self in _fitted_now:
                raise RuntimeError(
                    f"this {type(self).__name__} is being fitted already, by another "
                    "thread or by what reads its data. Fit one detector for each "
                    "thread, detectors.get(...)"
                )
            _fitted_now.add(self)
        try:
            yield
        finally:
            with _looking:
                _fitted_now.discard(self)

    def _open(self, model, data, validation, learns=None):
        """The network around the model, after a look at the data."""
        if (self.learns if learns is None else learns) and data is None:
            raise ValueError(
                f"{self.name!r} learns from known training images: expected "
                "fit(model, (images, labels)) or a dataset of such batches"
            )
        if self.changes_input:
            perturbation.check_backend()
        for name, images in (("data", data), ("validation", validation)):
            if hasattr(images, "__next__"):
                raise ValueError(
                    f"`{name}` can be walked over only once. Expected arrays (images, "
                    "labels), a tf.data.Dataset or a list of batches. Received: "
                    f"{type(images).__name__}"
                )
        check_model(model)
        return Network(
            model,
            logits=self._logits_name,
            features=self._features_name,
            sample=_first_images(data) if image_shape(model) is None else None,
        )

    def score(self, data: Images, batch_size: int = 256) -> np.ndarray:
        """The `ood_score` of each image: higher means more likely unknown.

        The detector remembers a random sample of the images, at most 64 and about 4 MB
        of each of the last calls, their range and the dataset's `class_names`, until
        it is fitted again. No score depends on them and no file holds them:
        `export.saved_model` uses them to check that the exported model accepts what
        the threshold was chosen on.

        Args:
            data: Float images `(num_images, height, width, channels)` in [0, 1], or a
                dataset, with or without labels; labels are not looked at. Images of
                uint8 are divided by 255, unless the network begins with a layer for
                pixels from 0 to 255, which such images would then not be.
            batch_size: Most images in the network at once, for arrays.

        Returns:
            Float32 array `(num_images,)`; NaN for an image with pixels that are NaN or
            infinite, which no threshold accepts.

        Raises:
            RuntimeError: `fit` has not been called, or was called in another thread
                before the scores were ready.
            ValueError: images have other channels than the model takes, or
                `batch_size` is not positive.
        """
        memory, network = self.memory, self.network
        if memory is None or network is None:
            self._check_fitted()
        watch = memory.watch(
            batches.iterate_images(
                data,
                batch_size,
                takes_bytes=lambda: first_layers.takes_bytes(network),
            ),
            class_names_of(data),
        )
        try:
            scores: Any = list(over_batches(self._scorer_for(network), watch))
        except Exception as error:
            self._check_still_fitted(network, error)
            raise
        self._check_still_fitted(network)
        scores = np.concatenate([np.zeros((0,), np.float32), *scores])
        memory.add(watch, scores)
        return scores

    def call(self, images: Tensor) -> Outputs:
        """One pass over a batch of images, eagerly or inside a graph.

        Args:
            images: Float32 tensor `(batch, height, width, channels)` in [0, 1].

        Returns:
            A dict of float32 tensors: `ood_score` `(batch,)`, `logits` `(batch, K)`
            and `features` `(batch, D)`.

        Raises:
            RuntimeError: `fit` has not been called.
        """
        self._check_fitted()
        outputs = self.network(images, self.layers)
        return {
            "ood_score": self.score_outputs(outputs),
            "logits": outputs["logits"],
            "features": outputs["features"],
        }

    def score_outputs(self, outputs: Outputs) -> Tensor:
        """The `ood_score` `(batch,)` from what a pass of `network` returned.

        Args:
            outputs: The dict of `self.network(images, self.layers)`.
        """
        raise NotImplementedError

    def choose_layers(self, network: Network) -> tuple[str, ...]:
        """Names of the inner layers that `score_outputs` reads; override it for some.

        Args:
            network: The network around the model, with `inner_layers` to choose from.
        """
        return ()

    def fit_arrays(
        self, network: Network, data: Images, validation: Images | None
    ) -> None:
        """Learns `self.arrays`; override this, or the next two, whose parts merge.

        Args:
            network: The network around the model; `known_batches` runs it.
            data: What `fit` was given; `self.num_classes` is known already.
            validation: What `fit` was given under that name, or `None`.
        """
        statistics = self.collect_statistics(network, data, validation, 0)
        self.learn_arrays(network, statistics)

    def collect_statistics(
        self, network: Network, data: Images, validation: Images | None, shard: int
    ) -> Statistics:
        """What `learn_arrays` learns from, of a part of the data, in one walk over it.

        Override it with `learn_arrays`, and the detector learns from parts of the data
        too; see `collect`.

        Args:
            network: As for `fit_arrays`.
            data: As for `fit_arrays`, or a part of it.
            validation: As for `fit_arrays`, or a part of it.
            shard: The number of the part, so that random samples of two parts differ.

        Returns:
            A dict of objects with `merge(other)`, which adds what `other` has seen.
        """
        return {}

    def learn_arrays(self, network: Network, statistics: Statistics) -> None:
        """Learns `self.arrays` from what `collect_statistics` returned.

        Args:
            network: As for `fit_arrays`.
            statistics: Of all parts, merged.
        """

    def known_batches(
        self,
        network: Network,
        data: Images,
        read: Callable[[Outputs], Any] | None = None,
        name: str = "data",
    ) -> Iterator[tuple[Any, Any]]:
        """Runs the network once over the known images; for `fit_arrays` and the like.

        Args:
            network: As for `fit_arrays`.
            data: Images, of which those labelled -1 are left out.
            read: Function of the outputs of a batch, whose result is yielded in their
                place, as in `Network.batches`.
            name: What errors call `data`.

        Yields:
            `(outputs, labels)`, NumPy arrays: `outputs` as `score_outputs` gets them,
            `labels` integers from 0 to N - 1 `(batch,)`, or `None` where there are none
            and the class does not set `needs_labels`.

        Raises:
            ValueError: there is no known image, a label is out of range or needed and
                missing, or the network gives NaN.
        """
        num_images = 0
        for outputs, labels in network.batches(
            data, layers=self.layers, read=read, pooled=self.pools_layers
        ):
            if labels is None:
                if self.needs_labels:
                    raise ValueError(
                        f"{self.name!r} needs labelled images, (images, labels), to "
                        "learn from. Received: images only"
                    )
            else:
                known = labels != UNKNOWN
                if not known.all():
                    outputs, labels = _rows((outputs, labels), known)
                if np.any((labels < 0) | (labels >= self.num_classes)):
                    raise ValueError(
                        f"known labels must be integers below {self.num_classes}, and "
                        f"{UNKNOWN} for unknown images. Received: labels from "
                        f"{labels.min()} to {labels.max()}"
                    )
            count = len(keras.tree.flatten(outputs)[0])
            if count:
                check_finite(outputs, name)
                num_images += count
                yield outputs, labels
        if not num_images:
            raise no_known_image(name)

    def known_head(self, network: Network) -> tuple[np.ndarray, np.ndarray]:
        """Kernel `(D, N)` and bias `(N,)` of the known logits, float32 arrays.

        Raises:
            ValueError: the model does not end in a `Dense` layer on its features.
        """
        kernel, bias = network.head
        return kernel[:, : self.num_classes], bias[: self.num_classes]

    def get_tensor(self, name: str, *, transposed: bool = False) -> Tensor:
        """One of the fitted `arrays` as a float32 tensor, for `score_outputs`.

        Args:
            name: Its key.
            transposed: Whether to give the transpose of a matrix; quicker than to
                transpose what this returns.
        """
        return as_constant(self.arrays[name], transposed=transposed)

    @property
    def layers(self) -> tuple[str, ...]:
        return self._layer_names

    @property
    def num_classes(self) -> int:
        if self._fitted_num_classes is None:
            return self._given_num_classes
        return self._fitted_num_classes

    def get_config(self) -> Json:
        """The constructor's arguments, as plain JSON values."""
        return {
            "num_classes": self._given_num_classes,
            "logits": self._logits_name,
            "features": self._features_name,
        }

    @classmethod
    def from_config(cls, config: Json) -> Self:
        """A new, unfitted detector with these arguments."""
        return cls(**config)

    def get_arrays(self) -> Arrays:
        """The fitted state, a dict of NumPy arrays; empty if there is none."""
        self._check_fitted()
        return dict(self.arrays)

    def restore(
        self,
        model: keras.Model,
        arrays: Arrays,
        num_classes: int,
        sample: Tensor | None = None,
    ) -> Self:
        """Puts back a fitted state, as if `fit(model, ...)` had learnt it.

        Args:
            model: The model that the detector was fitted on, or one like it.
            arrays: What `get_arrays` returned.
            num_classes: N.
            sample: Float images `(n, height, width, channels)` to try the model on;
                needed only where the model does not know its input shape.

        Returns:
            The detector itself.
        """
        network = Network(
            model,
            logits=self._logits_name,
            features=self._features_name,
            sample=sample,
        )
        return self._restore(network, arrays, num_classes)

    def _fit_network(
        self,
        network: Network,
        data: Images,
        validation: Images | None,
        num_classes: int | None = None,
    ) -> Self:
        """`fit` on a network that is made already; `num_classes` may be known too."""
        self._forget()
        if num_classes is None:
            num_classes = self._infer_num_classes(network, data)
        self._prepare(network, num_classes)
        self.fit_arrays(network, data, validation)
        self._begin(network)
        return self

    def _prepare(self, network: Network, num_classes: int) -> None:
        """Finds out what must be known before anything is learnt."""
        self._fitted_num_classes = self._check_num_classes(network, num_classes)
        self._layer_names = self.choose_layers(network)

    def _prepare_inner(self, network: Network, num_classes: int) -> None:
        """`_prepare` of the detectors inside of this one, before its own."""

    def _config_to_learn(self) -> Json:
        """The arguments that what is collected depends on."""
        return self.get_config()

    def _restore(self, network: Network, arrays: Arrays, num_classes: int) -> Self:
        """`restore` on a network that is made already."""
        self._forget()
        self._prepare(network, num_classes)
        self.arrays = dict(arrays)
        self._begin(network)
        return self

    def _begin(self, network: Network) -> None:
        """Makes the detector one that can score, when all else is in place."""
        self.memory = Memory(network.image_shape)
        # Last, for it is what other threads look at.
        self.network = network

    def _scorer_for(self, network):
        """The compiled function from images to scores that belongs to this fit."""
        with _compiling:
            if self._scorer is None or self._scorer[0] is not network:
                run = compile_function(lambda images: self.call(images)["ood_score"])
                self._scorer = network, run
            return self._scorer[1]

    def _check_still_fitted(
        self, network: Network, cause: Exception | None = None
    ) -> None:
        if self.network is not network:
            raise RuntimeError(
                f"this {type(self).__name__} was fitted again while it scored, so its "
                "scores would be of two fits. Fit first, then score; any number of "
                "threads may score at the same time"
            ) from cause

    def _learn_all(
        self, network: Network, statistics: Statistics, validation: Images | None
    ) -> None:
        """`learn_arrays`, and that of the detectors inside of this one, before."""
        self.learn_arrays(network, statistics)

    def _check_collects(self) -> None:
        """Raises a TypeError if what this detector learns cannot be collected."""
        kind = type(self)
        if (
            kind.fit_arrays is not Detector.fit_arrays
            and kind.collect_statistics is Detector.collect_statistics
        ):
            raise TypeError(
                f"{kind.__name__} defines fit_arrays alone, so that nobody knows how "
                "what it learns from parts of the data merges. Define "
                "collect_statistics and learn_arrays"
            )

    def _infer_num_classes(self, network: Network, data: Images | None) -> int:
        if self._given_num_classes is not None:
            return self._given_num_classes
        if data is None:
            raise ValueError(
                f"the model has {network.num_logits} logits, and nothing says whether "
                "the last one is an unknown class. Give num_classes=..., the number of "
                "known classes, to the detector, or labelled known images to `fit`"
            )
        largest = -1
        for _, labels in batches.iterate(data):
            if labels is None:
                raise ValueError(
                    "`data` has images only; expected (images, labels), from which the "
                    "number of known classes is read. Or give num_classes=..."
                )
            largest = max(largest, int(labels.max(initial=-1)))
        if largest < 0:
            raise no_known_image("data")
        return check_num_classes(largest + 1, least=self.least_classes)

    def _check_num_classes(self, network: Network, num_classes: int) -> int:
        if network.num_logits not in (num_classes, num_classes + 1):
            raise ValueError(
                f"{num_classes} known classes need {num_classes} logits, or "
                f"{num_classes + 1} with an unknown class. Received: a model with "
                f"{network.num_logits} logits. Check `num_classes`, the labels given "
                "to `fit`, and `logits`"
            )
        return num_classes

    def _check_fitted(self) -> None:
        if self.network is None:
            raise RuntimeError(
                f"this {type(self).__name__} has learnt nothing yet; call "
                "fit(model, data) before scoring"
            )

    def _forget(self):
        self._fitted_num_classes = None
        self._layer_names = ()
        self.network = self.memory = self.class_names = None
        self.arrays = {}
        self._scorer = None


def _rows(nest: Any, kept: np.ndarray) -> Any:
    return keras.tree.map_structure(lambda rows: rows[kept], nest)


def _first_images(data: Images | None) -> np.ndarray | None:
    if data is None:
        return None
    images = next(batches.iterate_images(data, 2), None)
    if images is None or not len(images):
        raise no_known_image("data")
    return images


def known_images(data: Images, batch_size: int = 256) -> Iterator[np.ndarray]:
    """Yields batches of the images that are not labelled as unknown."""
    for images, labels in batches.iterate(data, batch_size):
        yield images if labels is None else images[labels != UNKNOWN]


def no_known_image(name: str) -> ValueError:
    """The error of `data`, or of other images of that name, without a known image."""
    return ValueError(f"`{name}` holds no known image; expected labels from 0 up")


def check_finite(outputs: Any, name: str) -> None:
    """Raises a ValueError if NaN or infinity is in a nest of arrays of a batch."""
    for array in keras.tree.flatten(outputs):
        strange = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
        if strange.any():
            raise ValueError(
                f"the network gives NaN or infinite numbers for {strange.sum()} of "
                f"{len(array)} images in a batch of `{name}`, and nothing can be "
                "learnt from them. Look for such pixels, or for weights that diverged"
            )


def check_layers(layers: Any) -> list[str] | None:
    """`layers` as a list, or None; a ValueError if it is neither."""
    if layers is not None and (
        not isinstance(layers, (list, tuple))
        or not layers
        or not all(isinstance(name, str) for name in layers)
    ):
        raise ValueError(
            "`layers` must be a list of layer names, or None for the usual ones. "
            f"Received: layers={layers!r}"
        )
    return None if layers is None else list(layers)
