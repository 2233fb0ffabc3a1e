"""Why a peer's AUROC may differ from ours, where it does: read in the peer's code.

`NOTES[detector][peer]`; compare.py puts them into the result and lists every
difference that no note explains.
"""

_SATURATES = (
    "Its score is a float32 softmax, which rounds confident images to the same number; "
    "ours stays in log space, where they keep their order."
)
_PERTURBS = (
    "By default it moves every image by 0.0014 along the gradient of the softmax, "
    "which is neither asked for by the paper nor the gradient of this score."
)
_FLOAT32_PINV = (
    "It inverts a float32 covariance and drops directions whose variance is below "
    "1.5e-4 of the largest; ours is float64 and drops those below 1e-4."
)
_LIMITED = "The exponent of our factor is limited, so that it cannot overflow."

NOTES = {
    "msp": {
        "oodeel": _SATURATES,
        "pytorch_ood": _SATURATES,
    },
    "entropy": {
        "oodeel": (
            "0 log 0 is NaN in its formula, for any image whose softmax has a "
            "probability that float32 rounds to 0."
        ),
        "pytorch_ood": (
            "It raises all probabilities to 1e-7, so confident images tie; ours stays "
            "in log space."
        ),
    },
    "gen": {
        "oodeel": _SATURATES,
        "pytorch_ood": (
            "It raises all probabilities to 1e-7; this score listens to the smallest."
        ),
    },
    "odin": {
        "oodeel": _SATURATES,
        "oodeel_defaults": (
            "Its default step is 0.014, ten times that of the paper's code."
        ),
        "pytorch_ood": _SATURATES,
    },
    "kl_matching": {
        "pytorch_ood": (
            "It takes the log of mean float32 probabilities, some of which round to 0; "
            "our means are float64."
        ),
    },
    "openmax": {
        "pytorch_ood": (
            "It fits the class means and tails on all training images, ours on the "
            "correctly classified ones as the paper says. It takes the distance to a "
            "class for 0 if no image of the batch is predicted to be of that class, so "
            "its score depends on the batch. Both shift distances by 10,000."
        ),
    },
    "mahalanobis": {
        "oodeel": _FLOAT32_PINV,
        "oodeel_defaults": _PERTURBS,
        "pytorch_ood": (
            "It adds 1e-6 to the diagonal of the sum, not the mean, of squares and "
            "inverts that in float32; directions without variance, such as features "
            "that are always 0, then weigh more than all others."
        ),
    },
    "mahalanobis_perturbed": {
        "oodeel": (
            "It moves the image along the gradient of the softmax; the paper, "
            "pytorch-ood and we along that of the distance."
        ),
        "pytorch_ood": "As for mahalanobis without a perturbation.",
    },
    "relative_mahalanobis": {
        "oodeel": (
            f"{_FLOAT32_PINV} It drops more directions of the background than of the "
            "classes, so what is strange there does not cancel; ours leaves the same "
            "directions out of both distances. Better or worse as chance has it."
        ),
        "oodeel_defaults": f"{_PERTURBS} Also as oodeel without it.",
        "pytorch_ood": (
            "As for mahalanobis; the difference of two distances that both come from a "
            "float32 inverse loses more digits than either."
        ),
    },
    "knn": {
        "oodeel": (
            "It keeps all training images, ours a sample of 10,000. Its squared "
            "float32 distances lose digits where known images lie."
        ),
        "pytorch_ood": (
            "It keeps all training images, ours a sample of 10,000. Distances in "
            "float32 from products, without our last step."
        ),
    },
    "knn_whole_bank": {
        "oodeel": "Its squared float32 distances lose digits where known images lie.",
        "pytorch_ood": "Distances in float32 from products, without our last step.",
    },
    "vim": {
        "oodeel": (
            "It centres the features at their mean. The paper's origin, which "
            '`pca_origin="pseudo"` asks for, is never used: the code waits for a layer '
            "numbered -1, and layers are numbered from 0."
        ),
        "oodeel_defaults": (
            "Also, it keeps as many directions as explain 99 % of the variance."
        ),
        "pytorch_ood": "It decomposes a float32 matrix, ours is float64.",
    },
    "she": {
        "oodeel": (
            "It takes the largest inner product over all classes; the paper, "
            "pytorch-ood and we that of the predicted class."
        ),
        "oodeel_defaults": f"{_PERTURBS} Also as oodeel without it.",
    },
    "gram_1_percent": {
        "oodeel": (
            "Another method by its own account: ranges of images predicted so, right "
            "or wrong, rows of half the matrix, and layers divided by a standard "
            "deviation over the training images themselves."
        ),
    },
    "gram_min_max": {
        "pytorch_ood": (
            "It learns the ranges of a class from images labelled so, ours from those "
            "labelled and predicted so. It sets aside a random tenth."
        ),
    },
    "nnguide": {
        "pytorch_ood": "Its bank holds all training images, ours a sample of 10,000.",
    },
    "react": {
        "pytorch_ood": (
            "Its quantile is over all training images, ours over a sample of 10,000."
        ),
    },
    "ash": {"pytorch_ood": _LIMITED},
    "scale": {"pytorch_ood": _LIMITED},
    "vra": {
        "pytorch_ood": (
            "What is below the lower quantile becomes that quantile there, and 0 here, "
            "as in the paper. Its quantiles are over all training images, ours over a "
            "sample of 10,000."
        ),
    },
}
