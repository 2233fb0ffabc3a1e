"""The scores of all detectors, written slowly in NumPy: one image at a time, float64.

Nothing here is shared with the package; each function follows its paper's formula.
"""

import math

import numpy as np
import scipy.special
import scipy.stats
import sklearn.preprocessing
import sklearn.svm


def softmax(logits):
    logits = np.asarray(logits, np.float64)
    exponentials = [math.exp(value - max(logits)) for value in logits]
    return np.array([value / sum(exponentials) for value in exponentials])


def unknown_probability(logits, num_classes):
    """Higher with the probability of the last class: its log-odds."""
    scores = []
    for row in logits:
        probabilities = softmax(row)
        known = sum(probabilities[:num_classes])
        scores.append(math.log(probabilities[num_classes]) - math.log(known))
    return np.array(scores)


def msp(logits, num_classes, temperature=1.0):
    scores = []
    for row in logits:
        probabilities = list(softmax(np.asarray(row, np.float64) / temperature))
        largest = max(probabilities[:num_classes])
        probabilities.remove(largest)
        mean = sum(probabilities) / len(probabilities)
        scores.append(math.log(mean) - math.log(largest))
    return np.array(scores)


def max_logit(logits, num_classes):
    return np.array([-max(row[:num_classes]) for row in logits])


def energy(logits, num_classes, temperature=1.0):
    return np.array(
        [
            -temperature
            * math.log(
                sum(math.exp(float(value) / temperature) for value in row[:num_classes])
            )
            for row in logits
        ]
    )


def objectosphere(logits, num_classes):
    scores = []
    for row in logits:
        square = sum(value**2 for value in softmax(row)[:num_classes])
        scores.append(math.log1p(-square) - math.log(square))
    return np.array(scores)


def entropy(logits, num_classes):
    """The logarithm of the entropy."""
    scores = []
    for row in logits:
        probabilities = softmax(row[:num_classes])
        scores.append(math.log(-sum(p * math.log(p) for p in probabilities)))
    return np.array(scores)


def gen(logits, num_classes, gamma=0.1, num_top=100):
    """The logarithm of the generalized entropy."""
    scores = []
    for row in logits:
        probabilities = sorted(softmax(row[:num_classes]), reverse=True)[:num_top]
        scores.append(math.log(sum((p * (1 - p)) ** gamma for p in probabilities)))
    return np.array(scores)


def kl_matching(train_logits, logits, num_classes):
    probabilities = [softmax(row[:num_classes]) for row in train_logits]
    templates = []
    for number in range(num_classes):
        group = [p for p in probabilities if np.argmax(p) == number]
        if group:
            templates.append(np.mean(group, axis=0))
    scores = []
    for row in logits:
        p = softmax(row[:num_classes])
        divergences = [
            sum(a * math.log(a / b) for a, b in zip(p, template, strict=True) if a > 0)
            for template in templates
        ]
        scores.append(min(divergences))
    return np.array(scores)


def class_means(features, labels):
    return [
        np.mean(features[labels == label], axis=0, dtype=np.float64)
        for label in sorted(set(labels.tolist()))
    ]


def pooled_covariance(features, labels):
    means = class_means(features, labels)
    total = np.zeros((features.shape[1],) * 2)
    for row, label in zip(features.astype(np.float64), labels, strict=True):
        total += np.outer(row - means[label], row - means[label])
    return total / len(features)


def shrink(covariance, shrinkage):
    size = len(covariance)
    target = np.trace(covariance) / size * np.eye(size)
    return (1 - shrinkage) * covariance + shrinkage * target


def mahalanobis(train_features, labels, features, shrinkage=0.0, cutoff=1e-4):
    """The squared distance to the nearest class mean."""
    means = class_means(train_features, labels)
    covariance = shrink(pooled_covariance(train_features, labels), shrinkage)
    inverse = np.linalg.pinv(covariance, rcond=max(cutoff, 1e-10), hermitian=True)
    return np.array(
        [
            min((row - mean) @ inverse @ (row - mean) for mean in means)
            for row in features.astype(np.float64)
        ]
    )


def relative_mahalanobis(train_features, labels, features, shrinkage=0.0, cutoff=1e-4):
    """Both distances within the directions that the covariance of classes keeps."""
    pooled = pooled_covariance(train_features, labels)
    within = shrink(pooled, shrinkage)
    between = np.cov(train_features.astype(np.float64).T, bias=True) - pooled
    values, vectors = np.linalg.eigh(within)
    basis = vectors[:, values > max(cutoff, 1e-10) * values.max()]
    mean = np.mean(train_features, axis=0, dtype=np.float64)
    inverse = np.linalg.inv(basis.T @ (within + between) @ basis)
    centred = [(row - mean) @ basis for row in features.astype(np.float64)]
    background = np.array([row @ inverse @ row for row in centred])
    return mahalanobis(train_features, labels, features, shrinkage, cutoff) - background


def unit(row):
    length = math.sqrt(sum(float(value) ** 2 for value in row))
    return row.astype(np.float64) / length if length else row * 0.0


def space(train_features, features, normalize, projection=None):
    """Both in the space that detectors of features measure in."""
    if normalize:
        train_features, features = (
            np.stack([unit(row) for row in rows]) for rows in (train_features, features)
        )
    if projection is None:
        return train_features, features
    # Right singular vectors, the largest first: the best `projection` directions.
    best = np.linalg.svd(train_features.astype(np.float64))[2][:projection]
    return train_features @ best.T, features @ best.T


def knn(train_features, features, k):
    """Of features in the space that is measured in: the paper scales them to 1."""
    scores = []
    for row in features.astype(np.float64):
        distances = sorted(
            float(np.linalg.norm(row - other)) for other in train_features
        )
        scores.append(distances[k - 1])
    return np.array(scores)


def vim(train_features, train_logits, features, logits, kernel, bias, dimension, mean):
    """`kernel` `(D, N)` and `bias` of the known logits; `mean`: is that the origin."""
    kernel = kernel.astype(np.float64)
    origin = -np.linalg.lstsq(kernel.T, bias.astype(np.float64), rcond=None)[0]
    if mean:
        origin = np.mean(train_features, axis=0, dtype=np.float64)
    centred = train_features - origin
    left, _, _ = np.linalg.svd(centred.T, full_matrices=True)
    residual = left[:, dimension:]
    num_classes = kernel.shape[1]
    mean_largest = np.mean([max(row[:num_classes]) for row in train_logits])
    mean_norm = np.mean([np.linalg.norm(row @ residual) for row in centred])
    alpha = mean_largest / mean_norm
    norms = [np.linalg.norm((row - origin) @ residual) for row in features]
    return alpha * np.array(norms) + energy(logits, num_classes)


def she(train_features, train_logits, labels, features, logits, num_classes):
    predicted = np.argmax(train_logits[:, :num_classes], axis=1)
    patterns = []
    for label in range(num_classes):
        of_class = labels == label
        correct = of_class & (predicted == label)
        patterns.append(
            np.mean(train_features[correct if any(correct) else of_class], 0)
        )
    return np.array(
        [
            -float(np.dot(row, patterns[int(np.argmax(output[:num_classes]))]))
            for row, output in zip(features, logits, strict=True)
        ]
    )


def gram_statistics(maps, num_powers):
    """Rows of `num_powers * channels` statistics of maps `(n, h, w, channels)`."""
    rows = []
    for image in maps.astype(np.float64):
        flat = image.reshape(-1, image.shape[-1]).T
        row = []
        for power in range(1, num_powers + 1):
            matrix = (flat**power) @ (flat**power).T
            for sum_of_row in matrix.sum(axis=1):
                row.append(math.copysign(abs(sum_of_row) ** (1 / power), sum_of_row))
        rows.append(row)
    return np.array(rows)


def gram(train, validation, test, num_powers, quantile):
    """Each of the three is `(list of maps of a layer, predicted classes)`.

    Those of `train` are classes that images are both labelled and predicted as.
    """
    num_layers = len(train[0])
    per_layer = []
    for layer in range(num_layers):
        seen = gram_statistics(train[0][layer], num_powers)
        highs = [
            np.quantile(seen[train[1] == label], 1 - quantile, axis=0)
            for label in np.unique(train[1])
        ]
        num_channels = seen.shape[1] // num_powers
        smallest = []
        for power in range(num_powers):
            of_power = slice(power * num_channels, (power + 1) * num_channels)
            usual = np.mean([np.abs(high[of_power]) for high in highs])
            smallest += [1e-6 + 0.01 * usual] * num_channels

        def deviation(data, layer=layer, seen=seen, smallest=smallest):
            sums = []
            statistics = gram_statistics(data[0][layer], num_powers)
            for row, predicted in zip(statistics, data[1], strict=True):
                group = seen[train[1] == predicted]
                low = np.quantile(group, quantile, axis=0)
                high = np.quantile(group, 1 - quantile, axis=0)
                total = 0.0
                for value, a, b, least in zip(row, low, high, smallest, strict=True):
                    if value < a:
                        total += (a - value) / (abs(a) + least)
                    elif value > b:
                        total += (value - b) / (abs(b) + least)
                sums.append(total)
            return np.array(sums)

        usual = np.mean(deviation(validation))
        per_layer.append(deviation(test) / (usual if usual > 0 else 1.0))
    return np.sum(per_layer, axis=0)


def openmax(train_logits, labels, logits, num_classes, tail_size, num_top, shift=None):
    """Without `shift`, the limit of a large one: a Gumbel law, fitted as such."""
    from scipy import stats

    train_logits = train_logits[:, :num_classes].astype(np.float64)
    models = []
    for label in range(num_classes):
        of_class = labels == label
        correct = of_class & (train_logits.argmax(1) == label)
        rows = train_logits[correct if any(correct) else of_class]
        mean = rows.mean(axis=0)
        tail = sorted(np.linalg.norm(row - mean) for row in rows)[-tail_size:]
        if shift is None:
            law = stats.gumbel_l(*stats.gumbel_l.fit(tail))
        else:
            shape, _, scale = stats.weibull_min.fit(tail - tail[0] + shift, floc=0)
            law = stats.weibull_min(shape, loc=tail[0] - shift, scale=scale)
        models.append((mean, law))
    scores = []
    for row in logits[:, :num_classes].astype(np.float64):
        corrected, unknown = row.copy(), 0.0
        for rank, label in enumerate(np.argsort(-row)[:num_top]):
            mean, law = models[label]
            probability = law.cdf(np.linalg.norm(row - mean))
            weight = 1 - (num_top - rank) / num_top * probability
            corrected[label] = row[label] * weight
            unknown += row[label] * (1 - weight)
        scores.append(unknown - math.log(sum(math.exp(value) for value in corrected)))
    return np.array(scores)


def nnguide(train_features, train_logits, features, logits, num_classes, k):
    """Of features in the space that is measured in: the paper scales them to 1."""
    confidence = -energy(train_logits, num_classes)
    bank = [row * s for row, s in zip(train_features, confidence, strict=True)]
    scores = []
    for row, s in zip(features, -energy(logits, num_classes), strict=True):
        products = sorted(float(np.dot(row, other)) for other in bank)[-k:]
        scores.append(-s * sum(products) / k)
    return np.array(scores)


def fdbd(train_features, features, logits, kernel, num_classes):
    mean = np.mean(train_features, axis=0, dtype=np.float64)
    scores = []
    for row, output in zip(features, logits, strict=True):
        best = int(np.argmax(output[:num_classes]))
        distances = [
            (output[best] - output[other])
            / np.linalg.norm(kernel[:, best] - kernel[:, other])
            for other in range(num_classes)
            if other != best
        ]
        scores.append(-np.mean(distances) / np.linalg.norm(row - mean))
    return np.array(scores)


def react(train_features, features, quantile):
    """The clipped features."""
    return np.minimum(features, np.quantile(train_features, quantile))


def ash(features, percentile, treatment):
    """The shaped features."""
    rows = []
    for row in features.astype(np.float64):
        kept = len(row) - round(percentile * len(row))
        order = np.argsort(-row)
        shaped = np.zeros_like(row)
        shaped[order[:kept]] = row[order[:kept]]
        if treatment == "scale":
            shaped *= math.exp(row.sum() / shaped.sum())
        if treatment == "binarize":
            positive = [index for index in order[:kept] if row[index] > 0]
            shaped[positive] = row.sum() / len(positive)
        rows.append(shaped)
    return np.array(rows)


def scale(features, percentile):
    """The stretched features."""
    pruned = ash(features, percentile, "prune")
    ratio = features.sum(axis=1, dtype=np.float64) / pruned.sum(axis=1)
    return features * np.exp(ratio)[:, None]


def dice(train_features, features, kernel, bias, sparsity):
    """The logits that the kept weights make."""
    contribution = np.mean(train_features, axis=0, dtype=np.float64)[:, None] * kernel
    limit = np.quantile(contribution, sparsity)
    kept = np.where(contribution >= limit, kernel, 0.0)
    return features @ kept + bias


def differential_entropy(logits, num_classes):
    return np.array(
        [
            scipy.stats.dirichlet(
                np.exp(row[:num_classes].astype(np.float64))
            ).entropy()
            for row in logits
        ]
    )


def one_class_svm(train_features, features, nu, gamma=None):
    """What scikit-learn's support vectors make of an image, beside the border's."""
    train = train_features.astype(np.float64)
    deviation = np.where(train.std(axis=0) > 1e-6, train.std(axis=0), 1.0)
    scaled = (train - train.mean(axis=0)) / deviation
    if gamma is None:
        nearest = [
            min(squares[squares > 0])
            for squares in (((scaled - row) ** 2).sum(axis=1) for row in scaled)
        ]
        gamma = 1 / np.median(nearest)
    machine = sklearn.svm.OneClassSVM(nu=nu, gamma=gamma).fit(scaled)
    scores = []
    for row in (features - train.mean(axis=0)) / deviation:
        squares = ((machine.support_vectors_ - row) ** 2).sum(axis=1)
        # Not in scikit-learn's own way: it rounds to 0 where all are far.
        near = scipy.special.logsumexp(-gamma * squares, b=machine.dual_coef_[0])
        scores.append(math.log(machine.offset_[0]) - near)
        decision = machine.decision_function(row[None])[0]
        assert math.isclose(
            decision, math.exp(near) - machine.offset_[0], rel_tol=1e-6, abs_tol=1e-9
        )
    return np.array(scores)


def learned_confidence(arrays, features):
    """Minus what dense layers with ReLU make of the features, one unit at the end."""
    scores = []
    for row in features.astype(np.float64):
        for index in range(4):
            row = np.maximum(
                row @ arrays[f"kernel_{index}"] + arrays[f"bias_{index}"], 0
            )
        scores.append(-float(row @ arrays["kernel_4"][:, 0] + arrays["bias_4"][0]))
    return np.array(scores)


def nci(train_features, train_logits, features, logits, kernel, num_classes, alpha):
    """`kernel` `(D, N)` of the known logits; no `alpha` is that of equal spread."""
    mean = np.mean(train_features, axis=0, dtype=np.float64)

    def terms(rows, outputs):
        proximity, size = [], []
        for row, output in zip(rows.astype(np.float64), outputs, strict=True):
            weights = kernel[:, int(np.argmax(output[:num_classes]))]
            angle = np.dot(weights, row - mean) / np.linalg.norm(row - mean)
            proximity.append(angle)
            size.append(sum(abs(value) for value in row))
        return np.array(proximity), np.array(size)

    if alpha is None:
        usual = terms(train_features, train_logits)
        alpha = np.std(usual[0]) / np.std(usual[1])
    proximity, size = terms(features, logits)
    return -(proximity + alpha * size)


def core(train, labels, test, kernel, num_classes, orthogonal_to):
    """`train`, `test`: dicts of features and logits; `kernel` `(D, N)`, known ones."""

    def residual_of(row, number):
        row = row.astype(np.float64)
        columns = kernel if orthogonal_to == "all" else kernel[:, [number]]
        # What no combination of the columns can fit.
        fit = np.linalg.lstsq(columns.astype(np.float64), row, rcond=None)[0]
        return row - columns @ fit

    predicted = [int(np.argmax(row[:num_classes])) for row in train["logits"]]
    directions = []
    for number in range(num_classes):
        rows = [
            residual_of(row, number)
            for row, label, guess in zip(
                train["features"], labels, predicted, strict=True
            )
            if label == guess == number
        ]
        directions.append(np.mean(rows, axis=0))

    def terms(outputs):
        confidences, cosines = [], []
        for row, logits in zip(outputs["features"], outputs["logits"], strict=True):
            number = int(np.argmax(logits[:num_classes]))
            rest, direction = residual_of(row, number), directions[number]
            norms = math.sqrt(np.dot(rest, rest) * np.dot(direction, direction))
            cosines.append(np.dot(rest, direction) / norms)
            confidences.append(
                math.log(sum(math.exp(value) for value in logits[:num_classes]))
            )
        return np.array(confidences), np.array(cosines)

    score = 0.0
    for usual, values in zip(terms(train), terms(test), strict=True):
        score = score - (values - np.mean(usual)) / np.std(usual)
    return score


def lts(features, logits, percentile):
    """The scaled logits."""
    rows = []
    for row, output in zip(features.astype(np.float64), logits, strict=True):
        positive = sorted((max(value, 0.0) for value in row), reverse=True)
        num_largest = len(row) - round(percentile * len(row))
        rows.append(output * (sum(positive) / sum(positive[:num_largest])) ** 2)
    return np.array(rows)


def vra(train_features, features, low, high, amplification):
    """The rectified features."""
    columns = []
    for known, column in zip(train_features.T, features.T, strict=True):
        a, b = np.quantile(known.astype(np.float64), [low, high])
        columns.append(
            [
                0.0 if value < a else b if value > b else value + amplification
                for value in column
            ]
        )
    return np.array(columns).T


def linear_histogram(values, lowest, highest, num_bins):
    """Shares of bins around equidistant centres; a value belongs to its two nearest."""
    shares = np.zeros(num_bins)
    for value in values:
        place = (value - lowest) / (highest - lowest) * (num_bins - 1)
        below = math.floor(place)
        for index, share in ((below, 1 - place + below), (below + 1, place - below)):
            if 0 <= index < num_bins:
                shares[index] += share / len(values)
    return shares


def weiper(
    train_features, features, kernels, bias, num_bins, window, lambda_1, lambda_2
):
    """`kernels`: the perturbed ones, each `(D, N)`, `bias` `(N,)`."""
    train, test = train_features.astype(np.float64), features.astype(np.float64)

    def perturbed(row):
        return np.concatenate([row @ kernel + bias for kernel in kernels])

    def divergences(known, unknown, floor):
        lowest, highest = np.min(known), np.max(known)
        usual = np.mean(
            [linear_histogram(row, lowest, highest, num_bins) for row in known], axis=0
        )
        p = (usual + floor) / sum(usual + floor)
        found = []
        for row in unknown:
            histogram = linear_histogram(row, lowest, highest, num_bins)
            left, right = (window - 1) // 2, window - 1 - (window - 1) // 2
            padded = np.pad(histogram, (left, right), mode="edge")
            smooth = np.convolve(padded, np.ones(window) / window, mode="valid")
            q = (smooth + floor) / sum(smooth + floor)
            found.append(sum(p * np.log(p / q)) + sum(q * np.log(q / p)))
        return np.array(found)

    confidence = [
        np.mean([max(softmax(row @ kernel + bias)) for kernel in kernels])
        for row in test
    ]
    return (
        divergences(train, test, 0.01)
        + lambda_1
        * divergences(
            np.array([perturbed(row) for row in train]),
            np.array([perturbed(row) for row in test]),
            0.025,
        )
        - lambda_2 * np.array(confidence)
    )


def combood(train_features, features, k, regularization):
    """Of features in the space that is measured in: the authors scale them to 1."""
    train, test = train_features.astype(np.float64), features.astype(np.float64)
    varies = train.std(axis=0) > 1e-6
    scaler = sklearn.preprocessing.StandardScaler().fit(train[:, varies])
    power = sklearn.preprocessing.PowerTransformer()
    usual = power.fit_transform(scaler.transform(train[:, varies]))
    inverse = np.linalg.inv(
        np.cov(usual.T, bias=True) + regularization * np.eye(usual.shape[1])
    )
    scores = []
    transformed = power.transform(scaler.transform(test[:, varies]))
    radii = knn(train, test, k)
    for row, radius in zip(transformed, radii, strict=True):
        scores.append(train.shape[1] * math.log(radius**2) + row @ inverse @ row)
    return np.array(scores)
