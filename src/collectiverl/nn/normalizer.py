"""Running mean and variance of observations (Welford 1962, in Chan's batched form)."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

STD_FLOOR = 0.01  # Meta-World's unit is the metre: entries that never moved would else blow up when they do
CLIP = 10.0  # standard deviations


class Normalizer(eqx.Module):
    """Standardises observations; with `count` 0 it is the identity."""

    count: Float[Array, "*experts"]
    mean: Float[Array, "*experts O"]
    m2: Float[Array, "*experts O"]  # sum of squared deviations

    @classmethod
    def identity(cls, dim: int) -> "Normalizer":
        return cls(jnp.zeros(()), jnp.zeros(dim), jnp.zeros(dim))

    def __call__(self, obs: Float[Array, "O"]) -> Float[Array, "O"]:
        std = jnp.maximum(jnp.sqrt(self.m2 / jnp.maximum(self.count, 1.0)), STD_FLOOR)
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
        )
