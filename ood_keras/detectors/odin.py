"""ODIN."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ood_keras.conventions import check_number
from ood_keras.detectors import perturbation
from ood_keras.detectors.registry import Description, register
from ood_keras.detectors.wrapper import Wrapper
from ood_keras.types import Images, Json, Outputs, Tensor


@register
class ODIN(Wrapper):
    """Moves each image a small step towards a lower score, then scores it.

    Liang, Li and Srikant, "Enhancing The Reliability of Out-of-distribution Image
    Detection in Neural Networks", ICLR 2018: the maximum softmax probability at a high
    temperature, of the image moved by `epsilon` along the sign of the gradient that
    raises that probability, which raises that of known images more. Any other detector
    can be wrapped in the same way. Higher is more unknown.

    Args:
        epsilon: Length of the step in the units of the images, [0, 1]; 0 leaves it out.
        temperature: Of the softmax; `None` is 1000. Only without `detector`.
        detector: The detector to wrap; `None` is `msp` at `temperature`.
        **kwargs: `num_classes`, `logits`, `features`; see `Detector`.

    Raises:
        ValueError: `epsilon` is negative, `temperature` is not positive, both
            `temperature` and `detector` are given, or `detector` perturbs already.

    Example:

    >>> ood_score = ODIN(num_classes=10).fit(model).score(images)
    """

    name = "odin"

    def __init__(
        self,
        *,
        epsilon: float = 0.0014,
        temperature: float | None = None,
        detector: Description | None = None,
        **kwargs: Any,
    ) -> None:
        if detector is not None and temperature is not None:
            raise ValueError(
                "`temperature` is that of the usual detector; give it to `detector`: "
                'detector={"name": "msp", "temperature": ...}. Received both'
            )
        if detector is None:
            usual = 1000.0 if temperature is None else temperature
            detector = {"name": "msp", "temperature": usual}
        super().__init__(detector=detector, **kwargs)
        if self.detector.changes_input:
            raise ValueError(
                f"{self.detector.name!r} perturbs its input already; wrap another one"
            )
        self.epsilon = check_number("epsilon", epsilon, "[0, inf)")

    @property
    def changes_input(self) -> bool:  # type: ignore[override]
        return self.epsilon > 0

    @property
    def exports(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("saved_model",) if self.changes_input else super().exports

    def get_config(self) -> Json:
        return {**super().get_config(), "epsilon": self.epsilon}

    def call(self, images: Tensor) -> Outputs:
        if not self.changes_input:
            return super().call(images)
        self._check_fitted()
        outputs, (moved,) = perturbation.lower_scores(images, self._run, self.epsilon)
        return {
            "ood_score": self._run(moved)[1][0],
            "logits": outputs["logits"],
            "features": outputs["features"],
        }

    def score_steps(self, images: Images, steps: Sequence[float]) -> np.ndarray:
        """Scores of images with each of several lengths in place of `epsilon`.

        Args:
            images: As anything that `ood_keras.batches.iterate` takes.
            steps: Lengths of the step, in the units of the images.

        Returns:
            float32 `(images, steps)`.
        """
        self._check_fitted()
        return perturbation.score_steps(images, self._run, steps)[..., 0]

    def _run(self, images):
        outputs = self.network(images, self.layers)
        return outputs, [self.detector.score_outputs(outputs)]

    def score_outputs(self, outputs: Outputs) -> Tensor:
        return self.detector.score_outputs(outputs)
