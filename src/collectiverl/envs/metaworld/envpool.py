"""EnvPool's Meta-World."""

from collectiverl.envs import pool
from collectiverl.envs.core import limited
from collectiverl.envs.metaworld.assets import lean_options
from collectiverl.envs.metaworld.sawyer import sawyer_spec


class EnvpoolVectorEnv(pool.EnvpoolVectorEnv):
    """`num_envs` copies of one task on `num_threads` threads.

    Raises:
        UserError: EnvPool is not installed.
    """

    def __init__(self, task: str, num_envs: int, num_threads: int = 1, horizon: int | None = None):
        *words, version = task.split("-")
        super().__init__(
            limited(sawyer_spec(task), horizon),
            f"MetaWorld/{''.join(map(str.capitalize, words))}-{version}",
            num_envs,
            num_threads,
            success="success",
            partially_observable=False,
            **lean_options(task),
        )
