"""Statistics of a stream of features: float64, one walk, memory that does not grow."""

from typing import Any

import numpy as np

from ood_keras.types import Arrays

# What the rounding of a float32 network may amount to, relative to the numbers that go
# in: 8 units in the last place. What is not larger is no difference; which of the bits
# below come out differs from processor to processor, and with the size of a batch.
ROUNDING = 2.0**-20


class ClassSums:
    """Sums from which class means and covariances follow.

    Args:
        num_rows: At least the number of classes.
        size: D, the length of a feature vector.
    """

    def __init__(self, num_rows: int, size: int) -> None:
        self._counts = np.zeros(num_rows)
        self._sums = np.zeros((num_rows, size))
        self._squares = np.zeros((size, size))
        # Sums run around the first mean seen, so that squares stay small.
        self._origin: Any = None
        # Of the features as they are, which rounding is relative to.
        self._squared_lengths = 0.0

    def add(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Adds features `(batch, D)` with labels `(batch,)`, integers in range."""
        features = np.asarray(features, np.float64)
        if self._origin is None:
            self._origin = features.mean(axis=0)
        self._squared_lengths += np.square(features).sum()
        features = features - self._origin
        one_hot = np.eye(len(self._counts))[labels]
        self._counts += one_hot.sum(axis=0)
        self._sums += one_hot.T @ features
        self._squares += features.T @ features

    def merge(self, other: "ClassSums") -> None:
        """Adds the rows that another has seen, exactly but for float64 rounding."""
        if other._origin is None:
            return
        if self._origin is None:
            self._origin = other._origin
        # The other's sums run around an origin of its own.
        shift = other._origin - self._origin
        total = other._sums.sum(axis=0)
        cross = np.outer(shift, total)
        self._squares += other._squares + cross + cross.T
        self._squares += other._counts.sum() * np.outer(shift, shift)
        self._sums += other._sums + other._counts[:, None] * shift
        self._counts += other._counts
        self._squared_lengths += other._squared_lengths

    def second_moment(self) -> np.ndarray:
        """The mean of `x x'` over all rows x, about the origin, `(D, D)`."""
        cross = np.outer(self._origin, self._sums.sum(axis=0))
        count = self._counts.sum()
        about_origin = self._squares + cross + cross.T
        return about_origin / count + np.outer(self._origin, self._origin)

    def project(self, matrix: np.ndarray) -> "ClassSums":
        """The sums of the features times a matrix `(D, d)`, as if those were added."""
        found = ClassSums(len(self._counts), matrix.shape[1])
        found._counts = self._counts.copy()
        found._sums = self._sums @ matrix
        found._squares = matrix.T @ self._squares @ matrix
        found._origin = self._origin @ matrix
        # What rounded was the features as they are.
        found._squared_lengths = self._squared_lengths
        return found

    @property
    def counts(self) -> np.ndarray:
        return self._counts

    def mean(self) -> np.ndarray:
        """The mean over all classes, `(D,)`."""
        return self._origin + self._sums.sum(axis=0) / self._counts.sum()

    def class_means(self, num_classes: int) -> np.ndarray:
        """The mean of each class, `(num_classes, D)`.

        Raises:
            ValueError: a class has no images.
        """
        check_no_empty_class(self._counts[:num_classes])
        counts = self._counts[:num_classes, None]
        return self._origin + self._sums[:num_classes] / counts

    def pooled_covariance(self) -> np.ndarray:
        """The covariance about the class means, `(D, D)`."""
        seen = self._counts > 0
        sums, counts = self._sums[seen], self._counts[seen, None]
        return (self._squares - sums.T @ (sums / counts)) / counts.sum()

    def rounding_variance(self) -> float:
        """The variance that rounding may make of none, in any direction.

        A covariance is a difference of large sums, so it must be judged by their size:
        that of equal features is not 0 but noise, whose largest variance is no larger
        than the others.
        """
        count = self._counts.sum()
        of_features = ROUNDING**2 * self._squared_lengths / count
        of_sums = np.finfo(np.float64).eps * np.trace(self._squares)
        return of_features + of_sums

    def covariance(self) -> np.ndarray:
        """The covariance about the common mean, `(D, D)`."""
        total = self._sums.sum(axis=0)
        count = self._counts.sum()
        return (self._squares - np.outer(total, total) / count) / count


class SecondMoment:
    """The mean of `x x'` over rows x, about the origin.

    Args:
        size: D, the length of a row.
    """

    def __init__(self, size: int) -> None:
        self._count = 0
        self._squares = np.zeros((size, size))

    def add(self, rows: np.ndarray) -> None:
        """Adds rows `(batch, D)`."""
        rows = np.asarray(rows, np.float64)
        self._count += len(rows)
        self._squares += rows.T @ rows

    def merge(self, other: "SecondMoment") -> None:
        """Adds the rows that another has seen."""
        self._count += other._count
        self._squares += other._squares

    def second_moment(self) -> np.ndarray:
        """`(D, D)`, float64."""
        return self._squares / self._count


class CorrectMeans:
    """Class means over the correctly classified rows, or over all if none is.

    Args:
        num_classes: N.
        size: Length of a row.
    """

    def __init__(self, num_classes: int, size: int) -> None:
        self._num_classes = num_classes
        # First of all rows of a class, then of the correctly classified ones.
        self._counts = np.zeros((2, num_classes, 1))
        self._sums = np.zeros((2, num_classes, size))

    def add(self, rows: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> None:
        """Adds rows `(batch, size)` with integer labels and predictions `(batch,)`."""
        for index, kept in enumerate((labels >= 0, predicted == labels)):
            one_hot = np.eye(self._num_classes)[labels[kept]]
            self._counts[index] += one_hot.sum(axis=0)[:, None]
            self._sums[index] += one_hot.T @ rows[kept]

    def merge(self, other: "CorrectMeans") -> None:
        """Adds the rows that another has seen."""
        self._counts += other._counts
        self._sums += other._sums

    def has_correct(self) -> np.ndarray:
        """Whether any row of the class is classified correctly, `(N,)`."""
        return self._counts[1, :, 0] > 0

    def means(self) -> np.ndarray:
        """`(N, size)`, float64.

        Raises:
            ValueError: a class has no rows.
        """
        check_no_empty_class(self._counts[0])
        means = self._sums / np.maximum(self._counts, 1)
        return np.where(self.has_correct()[:, None], means[1], means[0])


class Sums:
    """Float64 sums of rows, by name.

    Attributes:
        count: How many rows there were.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sums: Arrays = {}

    def add(self, **rows: np.ndarray) -> None:
        """Adds up arrays `(batch, ...)` over their first axis."""
        self.add_sums(
            len(next(iter(rows.values()))),
            **{
                name: values.sum(axis=0, dtype=np.float64)
                for name, values in rows.items()
            },
        )

    def add_sums(self, count: int, **sums: np.ndarray) -> None:
        """Adds sums over so many rows."""
        self.count += count
        for name, values in sums.items():
            self._sums[name] = self._sums.get(name, np.zeros(())) + values

    def merge(self, other: "Sums") -> None:
        """Adds the rows that another has seen."""
        self.add_sums(other.count, **other._sums)

    def sum(self, name: str) -> np.ndarray:
        """The sum of all rows of that name."""
        return self._sums[name]

    def mean(self, name: str) -> np.ndarray:
        """The mean of all rows of that name."""
        return self._sums[name] / self.count


class Sample:
    """A uniform random sample of a stream, the same for any partition into batches.

    A part of a stream has a number, `shard`, and samples of parts merge into one of the
    whole: not the one that a single walk draws, but as uniform, and the same for any
    order of merging but for the order of its rows. A sample that keeps everything is
    everything.

    Args:
        capacity: Rows kept at most.
        seed: An integer; the same seed keeps the same rows.
        shard: Of a stream in parts, which; no two may have the same.
    """

    def __init__(self, capacity: int, seed: int = 0, shard: int = 0) -> None:
        self._capacity = capacity
        key = seed if shard == 0 else [seed, shard]
        self._generator = np.random.default_rng(key)
        self._keys: list[np.ndarray] = []
        self._parts: list[Arrays] = []
        self._limit = np.inf

    def add(self, **rows: np.ndarray) -> None:
        """Offers rows: arrays with the same first axis, by name."""
        keys = self._generator.random(len(next(iter(rows.values()))))
        kept = keys < self._limit
        if kept.any():
            self._keys.append(keys[kept])
            self._parts.append({name: values[kept] for name, values in rows.items()})
        if sum(map(len, self._keys)) > self._capacity + self._capacity // 4:
            self._compact()

    def merge(self, other: "Sample") -> None:
        """Adds the rows that the sample of another part has kept, after its own."""
        self._limit = min(self._limit, other._limit)
        self._keys = [*self._keys, *other._keys]
        self._parts = [*self._parts, *map(dict, other._parts)]
        self._compact()

    def rows(self) -> Arrays:
        """The rows kept, in the order of the stream."""
        self._compact()
        return dict(self._parts[0]) if self._parts else {}

    def _compact(self):
        if not self._keys:
            return
        keys = np.concatenate(self._keys)
        if len(keys) > self._capacity:
            largest = np.partition(keys, self._capacity)[self._capacity]
            self._limit = min(self._limit, largest)
        kept = keys < self._limit
        if len(self._keys) == 1 and kept.all():
            return
        # One name after the other, so that not all rows are there twice.
        rows = {}
        for name in list(self._parts[0]):
            values = np.concatenate([part.pop(name) for part in self._parts])
            rows[name] = values if kept.all() else values[kept]
        self._keys, self._parts = [keys[kept]], [rows]


class Smallest:
    """Keeps the rows with the `capacity` smallest keys of a stream, in their order.

    Args:
        capacity: Rows kept at most.

    Attributes:
        keys: Of the rows kept, ascending; of equal ones, those that came first.
        rows: `{name: rows kept}`, copies.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.keys = np.empty(0)
        # A row keeps its place until a smaller key takes it: nothing else is moved.
        self._places = np.empty(0, np.int64)
        self._values: Arrays = {}

    @property
    def rows(self) -> Arrays:
        return {name: values[self._places] for name, values in self._values.items()}

    def add(self, keys: np.ndarray, **rows: np.ndarray) -> None:
        """Offers rows: arrays with the first axis of `keys`, by name, always the same.

        Raises:
            ValueError: there are rows of other names than before.
        """
        count = len(self.keys)
        if count == self._capacity:
            offered = np.flatnonzero(keys < self.keys[-1])
        else:
            offered = np.arange(len(keys))
        if not len(offered):
            return
        all_keys = np.concatenate([self.keys, keys[offered]])
        order = np.argsort(all_keys, kind="stable")[: self._capacity]
        # A place that no kept row has is free; so is what is not used yet.
        is_free = np.ones(self._capacity, bool)
        is_new = order >= count
        is_free[self._places[order[~is_new]]] = False
        places = np.empty(len(order), np.int64)
        places[~is_new] = self._places[order[~is_new]]
        places[is_new] = np.flatnonzero(is_free)[: np.count_nonzero(is_new)]
        self._allocate(rows)
        for name, values in rows.items():
            self._values[name][places[is_new]] = values[offered[order[is_new] - count]]
        self.keys, self._places = all_keys[order], places

    def _allocate(self, rows):
        if not self._values:
            self._values = {
                name: np.empty((self._capacity, *values.shape[1:]), values.dtype)
                for name, values in rows.items()
            }
        elif self._values.keys() != rows.keys():
            raise ValueError(
                f"expected rows named {', '.join(self._values)}, as before. Received: "
                f"{', '.join(rows)}"
            )


def check_no_empty_class(counts: np.ndarray) -> None:
    """Raises a ValueError that names the classes whose count is 0."""
    empty = np.flatnonzero(np.asarray(counts) == 0)
    if len(empty):
        raise ValueError(
            "every known class needs at least one image in the data given to `fit`. "
            f"Without any: class {', '.join(map(str, empty))}"
        )


def spread_or_one(deviation: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Standard deviations, and 1 for what only rounding spreads.

    Args:
        deviation: Array of standard deviations.
        size: Root mean square of the numbers themselves, of the same shape.
    """
    return np.where(deviation > ROUNDING * size, deviation, 1.0)


def whitening(
    covariance: np.ndarray,
    shrinkage: float = 0.0,
    cutoff: float = 0.0,
    rounding: float = 0.0,
) -> np.ndarray:
    """A matrix W, `(D, rank)`, with `W W^T` the (pseudo-)inverse of the covariance.

    So `||(x - m) W||^2` is the squared Mahalanobis distance. Directions that have no
    variance, up to the rounding of float32 features, are always left out; if no
    direction has any, nothing is left, whatever the shrinkage.

    Args:
        covariance: `(D, D)`, float64.
        shrinkage: s in [0, 1): the covariance is taken as `(1 - s) C + s v I`, v the
            mean variance, which gives directions without variance a finite weight.
        cutoff: In [0, 1): directions whose variance, after shrinkage, is at most this
            fraction of the largest are left out too.
        rounding: The variance that counts as zero; `ClassSums.rounding_variance`.
    """
    values, vectors = np.linalg.eigh(covariance)
    if values.max() <= max(rounding, np.finfo(np.float32).tiny):
        return vectors[:, :0]
    # The same vectors as those of (1 - s) C + s v I.
    values = (1.0 - shrinkage) * values + shrinkage * np.trace(covariance) / len(values)
    kept = values > max(max(cutoff, _NO_VARIANCE) * values.max(), rounding)
    return vectors[:, kept] / np.sqrt(values[kept])


_NO_VARIANCE = 1e-10
