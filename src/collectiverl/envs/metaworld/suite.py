"""The Meta-World suite: fifty tasks of a robot arm, in their third version."""

import warnings
from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from collectiverl.envs.core import VectorEnv
from collectiverl.envs.metaworld.verified import DIFFERS, VERIFIED
from collectiverl.envs.pool import uses_envpool
from collectiverl.envs.suite import EnvOptions, Scene, Script, Suite
from collectiverl.types import EnvSpec

VERSION = "-v3"
VERSIONS = ("-v1", "-v2", VERSION)
# Tasks that begin alike, and the one whose script solves all of them as well as each task's own does.
ALIKE = {
    "button-press-wall-v3": ("button-press-v3", "button-press-wall-v3"),
    "button-press-topdown-wall-v3": ("button-press-topdown-v3", "button-press-topdown-wall-v3"),
    "push-wall-v3": ("push-v3", "push-wall-v3"),
    "pick-place-wall-v3": ("reach-v3", "reach-wall-v3", "pick-place-v3", "pick-place-wall-v3"),
}
RENAMED = {"peg-insertion-side": "peg-insert-side"}  # older names of tasks


class MetaworldSuite(Suite):
    """Simulated by Meta-World itself, or by EnvPool's copy of it where that agrees.

    Modules that import Meta-World, which takes long, are imported inside of functions.
    """

    name = "Meta-World"
    tasks = tuple(sorted(VERIFIED | set(DIFFERS)))
    # those of the ML benchmarks are their training tasks; their test tasks have names of their own
    benchmarks = ("MT10", "MT25", "MT50", "ML10", "ML10-test", "ML45", "ML45-test")
    cameras = ("corner2", "corner", "corner3", "corner4", "topview", "behindGripper", "gripperPOV")
    steps_per_second = 80  # a step is five of MuJoCo's, of 2.5 ms each

    def canonical(self, name: str) -> str | None:
        bare = name.lower()
        for version in VERSIONS:
            bare = bare.removesuffix(version)
        return super().canonical(RENAMED.get(bare, bare) + VERSION)

    def label(self, task: str) -> str:
        return task.removesuffix(VERSION)

    def labeller(self, task: str, among: Collection[str]) -> str:
        for one, group in ALIKE.items():
            if task in group and len(set(group) & set(among)) > 1:
                return one
        return task

    def benchmark(self, name: str) -> tuple[str, ...]:
        import metaworld.env_dict

        benchmark, _, split = name.partition("-")
        found = getattr(metaworld.env_dict, f"{benchmark}_V3")
        return tuple(found[split or "train"] if benchmark.startswith("ML") else found)

    def spec(self, task: str) -> EnvSpec:
        from collectiverl.envs.metaworld.sawyer import sawyer_spec

        return sawyer_spec(task)

    def make(self, task: str, num_envs: int, options: EnvOptions) -> VectorEnv:
        if uses_envpool(options.backend, options.goals, fits=task in VERIFIED):
            from collectiverl.envs.metaworld.envpool import EnvpoolVectorEnv

            return EnvpoolVectorEnv(task, num_envs, options.num_threads, options.horizon)
        from collectiverl.envs.metaworld.vector import MetaworldVectorEnv

        return MetaworldVectorEnv(
            task, num_envs, options.goals, options.order, options.processes, options.horizon, options.drawn
        )

    def goals(self, task: str, seed: int) -> Float[np.ndarray, "G K"]:
        from collectiverl.envs.metaworld.sawyer import sawyer_goals

        return sawyer_goals(task, seed)

    def script(self, task: str) -> Script:
        from metaworld.policies import ENV_POLICY_MAP

        return partial(_act, ENV_POLICY_MAP[task]())

    def scene(self, envs: VectorEnv, camera: str, width: int, height: int) -> Scene:
        from collectiverl.envs.metaworld.scene import MetaworldScene
        from collectiverl.envs.metaworld.vector import MetaworldVectorEnv

        assert isinstance(envs, MetaworldVectorEnv)
        return MetaworldScene(envs, camera, width, height)


METAWORLD = MetaworldSuite()


def _act(policy: Any, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
    with (
        warnings.catch_warnings()
    ):  # the scripts ask for more than the action space allows, and are clipped to it
        warnings.filterwarnings("ignore", message="Constant", module="metaworld")
        return np.stack([policy.get_action(obs) for obs in observations])
