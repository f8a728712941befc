"""Environments by name: which backend plays a task."""

from importlib.util import find_spec
from typing import Literal

from collectiverl.envs.core import VectorEnv
from collectiverl.envs.goals import Goals, Order
from collectiverl.envs.tasks import is_toy
from collectiverl.envs.toy import ToyVectorEnv, toy_spec
from collectiverl.envs.verified import VERIFIED
from collectiverl.types import EnvSpec, UserError

Backend = Literal["auto", "metaworld", "envpool"]


def spec(task: str) -> EnvSpec:
    """Shapes of the task's environment."""
    if is_toy(task):
        return toy_spec(task)
    from collectiverl.envs.sawyer import sawyer_spec  # here: the toy tasks do without Meta-World

    return sawyer_spec(task)


def make_envs(
    task: str,
    num_envs: int,
    *,
    backend: Backend = "auto",
    goals: Goals = "all",
    order: Order = "random",
    num_threads: int = 1,
    processes: bool = False,
    horizon: int | None = None,
) -> VectorEnv:
    """`num_envs` environments of `task`, under its one name (`reach-v3`; see `tasks.resolve`).

    `auto` takes EnvPool where it is installed, agrees with Meta-World on the task, and fresh goals are
    asked for, since it draws no others. `num_threads` are EnvPool's; `processes` gives each environment of
    Meta-World a process of its own. `horizon` ends episodes sooner than the environment would.

    Raises:
        UserError: EnvPool is asked for what it cannot do, or is not installed.
    """
    if is_toy(task):
        return ToyVectorEnv(task, num_envs, goals, order, horizon)
    if backend == "envpool" or (backend == "auto" and goals == "fresh" and _envpool_fits(task)):
        return _envpool(task, num_envs, goals, num_threads, horizon)
    from collectiverl.envs.metaworld import MetaworldVectorEnv

    return MetaworldVectorEnv(task, num_envs, goals, order, processes, horizon)


def _envpool_fits(task: str) -> bool:
    return task in VERIFIED and find_spec("envpool") is not None


def _envpool(task: str, num_envs: int, goals: Goals, num_threads: int, horizon: int | None) -> VectorEnv:
    if goals != "fresh":
        raise UserError(
            f"EnvPool draws a fresh goal every episode and cannot play goals {goals!r}: "
            "use --goals fresh, or --backend metaworld"
        )
    from collectiverl.envs.envpool import EnvpoolVectorEnv

    return EnvpoolVectorEnv(task, num_envs, num_threads, horizon)
