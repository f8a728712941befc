"""Running mean and variance of observations (Welford 1962, in Chan's batched form)."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Meta-World's unit is the metre. An entry that has not moved yet, a window's handle, must neither blow up nor
# run into the clip once it does: with a floor of 1 cm, all of its way but the first 10 cm would look alike.
STD_FLOOR = 0.05
CLIP = 10.0  # standard deviations


class Normalizer(eqx.Module):
    """Standardises observations; with `count` 0 it is the identity."""

    learns: ClassVar[bool] = False  # by gradients
    count: Float[Array, "*experts"]
    mean: Float[Array, "*experts O"]
    m2: Float[Array, "*experts O"]  # sum of squared deviations
    floor: float = eqx.field(static=True, default=STD_FLOOR)  # least standard deviation

    @classmethod
    def identity(cls, dim: int, floor: float = STD_FLOOR) -> "Normalizer":
        return cls(jnp.zeros(()), jnp.zeros(dim), jnp.zeros(dim), floor)

    def __call__(self, obs: Float[Array, "*batch O"]) -> Float[Array, "*batch O"]:
        std = jnp.maximum(jnp.sqrt(self.m2 / jnp.maximum(self.count, 1.0)), self.floor)
        standard = jnp.clip((obs - self.mean) / std, -CLIP, CLIP)
        return jnp.where(self.count > 0, standard, obs)

    def update(self, obs: Float[np.ndarray, "batch O"] | Float[Array, "batch O"]) -> "Normalizer":
        """Takes in a batch of observations."""
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
