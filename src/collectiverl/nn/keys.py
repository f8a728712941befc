"""JAX's keys of random numbers, made from seeds."""

import jax
from jaxtyping import PRNGKeyArray

from collectiverl.artifacts.validation import check_seed


def seeded_key(seed: int) -> PRNGKeyArray:
    """The key of a seed.

    Raises:
        ConfigError: JAX would cut the seed to 32 bits, so that it were one with a smaller seed.
    """
    check_seed(seed)
    return jax.random.key(seed)
