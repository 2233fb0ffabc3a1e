"""Labels that look wrong, and pictures unlike all others, by simple features.

Both are hints for a person who looks: the features know shape and colour, not things.
"""

import numpy as np

# Of more pictures so many are drawn; the work grows with their square.
MAX_PICTURES = 20_000
_COMPONENTS = 64
_FOLDS = 5
_NEIGHBOURS = 10
# Robust standard deviations beyond which a picture is odd; of a normal distribution one
# in 3.5 million is.
_ODD = 5.0


def suspect_labels(
    vectors: np.ndarray, labels: np.ndarray, seed: int = 0
) -> list[tuple[int, int]]:
    """Returns the rows whose label looks wrong, the most suspect first.

    A logistic regression that never saw a picture says how probable each class is for
    it. A label is suspect if another class is more probable; the order is that of the
    margin, by how much (the score "normalized margin" of confident learning: Northcutt,
    Jiang and Chuang, 2021).

    Args:
        vectors: `(count, features)`.
        labels: Integers `(count,)`. Classes of fewer than 5 pictures are left out.
        seed: Decides the folds.

    Returns:
        `(row, label that seems right)` each.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes, counts = np.unique(labels, return_counts=True)
    classes = classes[counts >= _FOLDS]
    if len(classes) < 2:
        return []
    rows = np.flatnonzero(np.isin(labels, classes))
    given = np.searchsorted(classes, labels[rows])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    probability = cross_val_predict(
        model, _reduce(vectors[rows], seed), given, cv=folds, method="predict_proba"
    )
    best = probability.argmax(axis=1)
    every = np.arange(len(rows))
    found = np.flatnonzero(best != given)
    margin = probability[every, given] - probability[every, best]
    found = found[np.argsort(margin[found], kind="stable")]
    return [(int(rows[row]), int(classes[best[row]])) for row in found]


def odd_ones(vectors: np.ndarray, labels: np.ndarray, seed: int = 0) -> list[int]:
    """Returns the rows that are far from all others of their label, furthest first.

    The measure is the mean distance to the 10 nearest; a row is odd if it is more than
    5 robust standard deviations (1.4826 times the median absolute deviation) above the
    median of its label.

    Args:
        vectors: `(count, features)`.
        labels: Integers `(count,)`; labels of fewer than 21 rows are left out.
        seed: Decides the reduction of the features.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(vectors) <= 2 * _NEIGHBOURS:
        return []
    reduced = _reduce(vectors, seed)
    strangeness = np.zeros(len(vectors))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) <= 2 * _NEIGHBOURS:
            continue
        search = NearestNeighbors(n_neighbors=_NEIGHBOURS).fit(reduced[rows])
        # Without arguments, no row is its own neighbour.
        distance = search.kneighbors()[0].mean(axis=1)
        middle = np.median(distance)
        spread = 1.4826 * np.median(np.abs(distance - middle)) + 1e-6
        strangeness[rows] = (distance - middle) / spread
    found = np.flatnonzero(strangeness > _ODD)
    return found[np.argsort(-strangeness[found], kind="stable")].tolist()


def draw(count: int, seed: int = 0) -> np.ndarray:
    """Returns sorted rows to look at: all, or `MAX_PICTURES` of them at random."""
    if count <= MAX_PICTURES:
        return np.arange(count)
    random = np.random.default_rng(seed)
    return np.sort(random.choice(count, MAX_PICTURES, replace=False))


def _reduce(vectors: np.ndarray, seed: int) -> np.ndarray:
    """The first principal components of the features, at most 64."""
    from sklearn.decomposition import PCA

    vectors = vectors.astype(np.float32)
    # Of few pictures, many components would be noise.
    count = min(_COMPONENTS, vectors.shape[1], max(2, len(vectors) // 10))
    return PCA(count, svd_solver="randomized", random_state=seed).fit_transform(vectors)
