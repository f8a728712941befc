"""What stands between an observation and an agent's networks."""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Float


class Preprocessor(eqx.Module):
    """Turns observations into the features that an agent's actor and critic read.

    Final classes: `nn.normalizer.Normalizer` and `student.trained_encoder.TrainedEncoder`.
    """

    trainable: ClassVar[bool]  # by the gradient of the critic's loss

    @property
    @abstractmethod
    def feature_dim(self) -> int:
        """Entries of a feature vector."""

    @abstractmethod
    def __call__(self, obs: Float[Array, "*batch O"]) -> Float[Array, "*batch F"]: ...
