"""Whether a confidence of 90 % is right nine times of ten."""

import numpy as np

from ood_keras.conventions import check_count
from ood_keras.metrics.oscr import check_flags
from ood_keras.metrics.ranked_scores import check_scores
from ood_keras.types import Flags, Scores


def calibration_error(confidence: Scores, correct: Flags, num_bins: int = 15) -> float:
    """Expected calibration error of the known classes (Guo et al. 2017).

    The confidences are put into bins of equal width; the error is the mean over images
    of the distance between accuracy and mean confidence in their bin.

    Args:
        confidence: Largest probability over the known classes, of known images
            `(num_images,)`, in [0, 1]. Not an `ood_score`: higher is more certain.
        correct: Bool `(num_images,)`, which images are given their class.
        num_bins: Number of bins; a confidence on an edge counts to the lower bin.

    Returns:
        A fraction; 0 is perfect.

    Raises:
        ValueError: no images, confidences outside [0, 1] (logits, for example), not one
            bool per image, or `num_bins` is not an integer >= 1.

    Example:

    >>> calibration_error([1.0, 1.0, 0.5], [True, False, True])
    0.5
    """
    confidence = check_scores(confidence, "confidence")
    correct = check_flags(correct, "correct", confidence)
    if confidence.min() < 0 or confidence.max() > 1:
        raise ValueError(
            "`confidence` must be probabilities in [0, 1]; apply a softmax to logits "
            f"first. Received: {confidence.min():.4g} to {confidence.max():.4g}"
        )
    num_bins = check_count("num_bins", num_bins)
    # In float32, which 0.2 as float32 and 0.2 as float64 have in common with the edge.
    inner_edges = (np.arange(1, num_bins) / num_bins).astype(np.float32)
    bins = np.searchsorted(inner_edges, confidence.astype(np.float32), side="left")
    confidence = confidence.astype(np.float64)
    # In each bin, (number right) - (sum of confidences) is what counts.
    gaps = np.bincount(bins, weights=correct - confidence)
    return float(np.sum(np.abs(gaps)) / len(confidence))
