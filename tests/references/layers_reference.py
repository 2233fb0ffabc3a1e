"""The layers, pixel by pixel, in float64 NumPy."""

import numpy as np


def squeeze_excitation(x, hidden_kernel, hidden_bias, gate_kernel, gate_bias):
    output = np.empty(x.shape)
    for n, image in enumerate(x):
        squeezed = image.reshape(-1, image.shape[-1]).mean(axis=0)
        hidden = np.maximum(squeezed @ hidden_kernel + hidden_bias, 0)
        gate = 1 / (1 + np.exp(-(hidden @ gate_kernel + gate_bias)))
        output[n] = image * gate
    return output


def branch(x, kernel, gamma, beta, mean, variance, epsilon):
    """Convolution, batch normalisation at inference, ReLU, pooling; all of one size."""
    size = kernel.shape[0]
    reach = size // 2
    padded = np.pad(x, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
    convolved = np.empty((*x.shape[:3], kernel.shape[-1]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            window = padded[:, i : i + size, j : j + size, :]
            convolved[:, i, j] = np.einsum("nhwc,hwcf->nf", window, kernel)
    normalized = gamma * (convolved - mean) / np.sqrt(variance + epsilon) + beta
    positive = np.maximum(normalized, 0)
    pooled = np.empty(positive.shape)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            rows = slice(max(i - reach, 0), i + reach + 1)
            columns = slice(max(j - reach, 0), j + reach + 1)
            pooled[:, i, j] = positive[:, rows, columns].max(axis=(1, 2))
    return pooled
