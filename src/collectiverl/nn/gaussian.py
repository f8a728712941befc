"""The tanh-squashed Gaussian policy head (Haarnoja et al. 2018b)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from collectiverl.nn.mlp import MLP


class Gaussian(eqx.Module):
    """A diagonal Gaussian before tanh."""

    mean: Float[Array, "*batch A"]
    log_std: Float[Array, "*batch A"]

    @property
    def mode(self) -> Float[Array, "*batch A"]:
        """The deterministic action, in (-1, 1)."""
        return jnp.tanh(self.mean)

    def sample(self, key: PRNGKeyArray) -> tuple[Float[Array, "*batch A"], Float[Array, "*batch"]]:
        """An action in (-1, 1) and its log-density, tanh corrected."""
        noise = jax.random.normal(key, self.mean.shape)
        return squash(self, noise)


def squash(
    gaussian: Gaussian, noise: Float[Array, "*batch A"]
) -> tuple[Float[Array, "*batch A"], Float[Array, "*batch"]]:
    """The action tanh(mean + std * noise) and its log-density.

    log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)) stays finite where tanh saturates.
    """
    u = gaussian.mean + jnp.exp(gaussian.log_std) * noise
    normal = -0.5 * noise**2 - gaussian.log_std - 0.5 * jnp.log(2 * jnp.pi)
    correction = 2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u))
    return jnp.tanh(u), (normal - correction).sum(-1)


def kl(p: Gaussian, q: Gaussian) -> Float[Array, "*batch"]:
    """KL(p || q) of the Gaussians before tanh; tanh is a bijection, so also that of the actions."""
    ratio = jnp.exp(2 * (p.log_std - q.log_std))
    distance = ((p.mean - q.mean) * jnp.exp(-q.log_std)) ** 2
    return 0.5 * (ratio + distance - 1 - 2 * (p.log_std - q.log_std)).sum(-1)


class Actor(eqx.Module):
    """Maps a state to a tanh-Gaussian with bounded log-std.

    The bound is smooth (a rescaled tanh): with clipping, gradients would be zero beyond it.
    """

    mlp: MLP
    action_dim: int = eqx.field(static=True)
    log_std_min: float = eqx.field(static=True)
    log_std_max: float = eqx.field(static=True)

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        width: int,
        depth: int,
        *,
        log_std_bounds: tuple[float, float],
        key: PRNGKeyArray,
    ):
        self.mlp = MLP(obs_dim, 2 * action_dim, width, depth, key=key)
        self.action_dim = action_dim
        self.log_std_min, self.log_std_max = log_std_bounds

    def __call__(self, obs: Float[Array, "*batch O"]) -> Gaussian:
        mean, raw = jnp.split(self.mlp(obs), 2, axis=-1)
        span = self.log_std_max - self.log_std_min
        return Gaussian(mean, self.log_std_min + 0.5 * span * (jnp.tanh(raw) + 1))
