"""Meta-World itself as a vector of environments: the reference simulator, which evaluation uses."""

from functools import partial
from typing import TYPE_CHECKING

from collectiverl.envs.core import limited
from collectiverl.envs.goals import Goals, GoalSequence, Order
from collectiverl.envs.gym_vector import GymVectorEnv
from collectiverl.envs.metaworld.sawyer import SawyerEnv, sawyer_goals, sawyer_spec

if TYPE_CHECKING:
    from mujoco._structs import MjData, MjModel  # where type checkers find them


class MetaworldVectorEnv(GymVectorEnv):
    """`num_envs` copies of one Meta-World task, in this process or in a process each."""

    def __init__(
        self,
        task: str,
        num_envs: int,
        goals: Goals = "all",
        order: Order = "random",
        processes: bool = False,
        horizon: int | None = None,
        drawn: bool = False,
    ):
        spec, fixed = limited(sawyer_spec(task), horizon), partial(sawyer_goals, task)
        sequences = [GoalSequence(fixed, goals, order, i, num_envs) for i in range(num_envs)]
        super().__init__(
            spec, [partial(SawyerEnv, task, own, spec.horizon, drawn) for own in sequences], processes
        )

    def mujoco_state(self, i: int) -> "tuple[MjModel, MjData]":
        """The simulator of environment `i`. The environments must be in this process, and `drawn` to be rendered."""
        return self.member(i).mujoco_state
