"""Running mean and variance of observations (Welford 1962, in Chan's batched form)."""

from typing import ClassVar, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from collectiverl.nn.preprocessor import Preprocessor

# Meta-World's unit is the metre. An entry that has not varied yet, such as a window's handle, must neither be
# amplified without limit nor be clipped once it moves. With a floor of 1 cm it would be clipped after 10 cm.
STD_FLOOR = 0.05
CLIP = 10.0  # standard deviations


@final
class Normalizer(Preprocessor):
    """Standardises observations; with `count` 0 it is the identity."""

    trainable: ClassVar[bool] = False
    count: Float[Array, "*experts"]
    mean: Float[Array, "*experts O"]
    m2: Float[Array, "*experts O"]  # sum of squared deviations
    floor: float = eqx.field(static=True, default=STD_FLOOR)  # least standard deviation

    @classmethod
    def identity(cls, dim: int, floor: float = STD_FLOOR) -> "Normalizer":
        return cls(jnp.zeros(()), jnp.zeros(dim), jnp.zeros(dim), floor)

    @property
    def feature_dim(self) -> int:
        return self.mean.shape[-1]

    def __call__(self, obs: Float[Array, "*batch O"]) -> Float[Array, "*batch O"]:
        std = jnp.maximum(jnp.sqrt(self.m2 / jnp.maximum(self.count, 1.0)), self.floor)
        standard = jnp.clip((obs - self.mean) / std, -CLIP, CLIP)
        return jnp.where(self.count > 0, standard, obs)

    def update(self, obs: Float[np.ndarray, "batch O"] | Float[Array, "batch O"]) -> "Normalizer":
        """The statistics with a batch of observations added."""
        n = jnp.float32(obs.shape[0])
        total = self.count + n
        delta = jnp.mean(jnp.asarray(obs), axis=0) - self.mean
        batch_m2 = n * jnp.var(jnp.asarray(obs), axis=0)
        return Normalizer(
            count=total,
            mean=self.mean + delta * n / total,
            m2=self.m2 + batch_m2 + delta**2 * self.count * n / total,
            floor=self.floor,
        )
