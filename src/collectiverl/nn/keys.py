"""JAX's keys of random numbers, made from seeds."""

import jax
from jaxtyping import PRNGKeyArray

from collectiverl.artifacts.validation import SEEDS
from collectiverl.types import ConfigError


def seeded_key(seed: int) -> PRNGKeyArray:
    """The key of a seed.

    Raises:
        ConfigError: JAX would cut the seed to 32 bits, so that it were one with a smaller seed.
    """
    if not 0 <= seed < SEEDS:
        raise ConfigError("seed", f"{seed} is not from 0 to {SEEDS - 1}")
    return jax.random.key(seed)
