"""The worker that runs pytorch-ood, in an environment of its own; see README.md."""

import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
import types

import numpy as np
import protocol
import torch
from torch import nn


class _Stub(types.ModuleType):
    """A module in which every name is an empty class."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for torchvision, which pytorch-ood imports for its data sets only.

    The wheel of torchvision that fits PyTorch's CPU build is not on PyPI.
    """

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Stub(spec.name)

    def exec_module(self, module):
        pass


try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):
    sys.meta_path.insert(0, _StubFinder())

from pytorch_ood import detector as methods  # noqa: E402


class Twin(nn.Module):
    """The network of `network.py`, built from its weights."""

    def __init__(self, weights):
        super().__init__()
        conv_1, conv_2, features, logits = (
            (weights[f"{name}_kernel"], weights[f"{name}_bias"])
            for name in ("conv_1", "conv_2", "features", "logits")
        )
        # Keras flattens (height, width, channels), PyTorch (channels, height, width).
        channels = conv_2[0].shape[-1]
        side = round((features[0].shape[0] / channels) ** 0.5)
        kernel = features[0].reshape(side, side, channels, -1)
        kernel = kernel.transpose(2, 0, 1, 3).reshape(features[0].shape)
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(_convolution(*conv_1), nn.ReLU()),
                nn.Sequential(nn.MaxPool2d(2), _convolution(*conv_2), nn.ReLU()),
                nn.Sequential(
                    nn.MaxPool2d(2),
                    nn.Flatten(),
                    _linear(kernel, features[1]),
                    nn.ReLU(),
                ),
            ]
        )
        self.head = _linear(*logits)
        self.eval()

    def encode(self, images):
        for block in self.blocks:
            images = block(images)
        return images

    def feature_maps(self, images):
        return self.encode(images)[:, :, None, None]

    def classify_maps(self, maps):
        return self.head(maps.flatten(1))

    def forward(self, images):
        return self.head(self.encode(images))


def _convolution(kernel, bias):
    layer = nn.Conv2d(kernel.shape[2], kernel.shape[3], kernel.shape[:2])
    _set(layer, kernel.transpose(3, 2, 0, 1), bias)
    return layer


def _linear(kernel, bias):
    layer = nn.Linear(*kernel.shape)
    _set(layer, kernel.T, bias)
    return layer


def _set(layer, kernel, bias):
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(np.ascontiguousarray(kernel)))
        layer.bias.copy_(torch.tensor(bias))


DETECTORS = {
    "msp": lambda twin: methods.MaxSoftmax(twin),
    "max_logit": lambda twin: methods.MaxLogit(twin),
    "energy": lambda twin: methods.EnergyBased(twin),
    "entropy": lambda twin: methods.Entropy(twin),
    "gen": lambda twin: methods.GEN(twin, gamma=0.1),
    "odin": lambda twin: methods.ODIN(twin, eps=0.0014, temperature=1000.0),
    "kl_matching": lambda twin: methods.KLMatching(twin),
    "openmax": lambda twin: methods.OpenMax(twin, tailsize=20, alpha=10),
    "mahalanobis": lambda twin: methods.Mahalanobis(twin.encode),
    "mahalanobis_perturbed": lambda twin: methods.MahalanobisODIN(
        twin.encode, eps=0.002
    ),
    "relative_mahalanobis": lambda twin: methods.RMD(twin.encode),
    "knn": lambda twin: methods.KNN(twin.encode, k=50),
    "knn_whole_bank": lambda twin: methods.KNN(twin.encode, k=50),
    "vim": lambda twin: methods.ViM(
        twin.encode, d=64, w=twin.head.weight, b=twin.head.bias
    ),
    "she": lambda twin: methods.SHE(twin.encode, twin.head),
    # From the smallest to the largest value.
    "gram_min_max": lambda twin: methods.Gram(
        twin.head,
        list(twin.blocks),
        num_classes=twin.head.out_features,
        num_poles_list=range(1, 11),
    ),
    "nnguide": lambda twin: methods.NNGuide(twin.encode, twin.head, k=10),
    "fdbd": lambda twin: methods.fDBD(twin.encode, twin.head),
    "react": lambda twin: methods.ReAct(
        twin.feature_maps, twin.classify_maps, percentile=0.9
    ),
    "ash": lambda twin: methods.ASH(
        twin.feature_maps, twin.classify_maps, percentile=0.9
    ),
    "scale": lambda twin: methods.SCALE(
        twin.feature_maps, twin.classify_maps, percentile=0.85
    ),
    "dice": lambda twin: methods.DICE(
        twin.encode, w=twin.head.weight, b=twin.head.bias, p=0.9
    ),
    "nci": lambda twin: methods.NCI(twin.encode, twin.head, alpha=0.01),
    "lts": lambda twin: methods.LTS(twin.encode, twin.head, p=0.05),
    "vra": lambda twin: methods.VRA(
        twin.feature_maps,
        twin.classify_maps,
        lower_percentile=0.05,
        upper_percentile=0.95,
    ),
}
# These take gradients; the others run without, which is faster.
_WITH_GRADIENTS = {"odin", "mahalanobis_perturbed"}


class PytorchOOD:
    def versions(self):
        return {
            "pytorch_ood": importlib.metadata.version("pytorch-ood"),
            "torch": torch.__version__,
            "numpy": np.__version__,
        }

    def load(self, weights):
        torch.manual_seed(0)
        self.twin = Twin(weights)

    def names(self):
        return list(DETECTORS)

    def logits(self, images, batch_size):
        with torch.no_grad():
            return protocol.in_batches(
                lambda batch: self.twin(_channels_first(batch)), images, batch_size
            )

    def fit(self, name, images, labels, batch_size):
        self.gradients = name in _WITH_GRADIENTS
        self.detector = DETECTORS[name](self.twin).to("cpu")
        labels = torch.from_numpy(labels)
        self.detector.fit(
            [
                (
                    _channels_first(images[start : start + batch_size]),
                    labels[start : start + batch_size],
                )
                for start in range(0, len(images), batch_size)
            ]
        )

    def score(self, images, batch_size):
        with torch.set_grad_enabled(self.gradients):
            return protocol.in_batches(
                lambda batch: self.detector.predict(_channels_first(batch)),
                images,
                batch_size,
            )

    def score_features(self, features, batch_size):
        with torch.no_grad():
            return protocol.in_batches(
                lambda batch: self.detector.predict_features(torch.from_numpy(batch)),
                features,
                batch_size,
            )


def _channels_first(images):
    # One channel, so this moves no data.
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


if __name__ == "__main__":
    torch.set_num_threads(protocol.NUM_THREADS)
    protocol.serve(PytorchOOD())
