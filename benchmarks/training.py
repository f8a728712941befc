"""How fast whole training loops run once they learn, ours and the peers'."""

import time
from collections.abc import Sequence

import jax

from benchmarks import peers
from benchmarks.measure import Metrics
from collectiverl.envs.concat import Concatenated
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.make import make_envs
from collectiverl.envs.rollout import Step
from collectiverl.sac import agent as sac
from collectiverl.sac.help import NoHelp
from collectiverl.sac.settings import TrainConfig
from collectiverl.sac.train import Trainer

WARMUP = 1_000  # environment steps before the first update
SETTLE = 4  # vector steps of learning before the clock starts: the first ones compile
PEER_SETTLE = 100  # a peer's environment steps of learning before the clock starts


class StepTimes(NoHelp):
    """Notes the time of every vector step of a training, which hands it each step."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.transitions: list[int] = []  # until then

    def observe(self, context: int, step: Step) -> int:
        self.times.append(time.perf_counter())
        played = int((~step.result.began).sum())
        self.transitions.append(played + (self.transitions[-1] if self.transitions else 0))
        return context


def ours(
    tasks: Sequence[str], num_envs: int, updates_per_step: int, steps: int, platform: str = "cpu"
) -> Metrics:
    """Environment steps and updates a second, all experts together, of one expert for each of `tasks`.

    `steps` are environment steps of each expert while the clock runs.
    """
    rows, first = max(2, steps // num_envs), -(-WARMUP // num_envs) + SETTLE
    config = TrainConfig(
        steps=(first + rows) * num_envs,
        num_envs=num_envs,
        updates_per_step=updates_per_step,
        warmup=WARMUP,
        eval_every=10**9,
        eval_episodes=1,
        stop_evaluations=0,
    )
    clock = StepTimes()
    with jax.default_device(jax.devices(platform)[0]):
        trainer(tasks, config, clock).run()
    seconds = clock.times[-1] - clock.times[first]
    updates = (len(clock.times) - 1 - first) * updates_per_step * len(tasks)
    return {
        "env_steps/s": (clock.transitions[-1] - clock.transitions[first]) / seconds,
        "updates/s": updates / seconds,
    }


def trainer(tasks: Sequence[str], config: TrainConfig, clock: StepTimes) -> Trainer:
    envs = _all_envs(tasks, config.num_envs, config.horizon)
    eval_envs = _all_envs(tasks, config.eval_episodes)
    keys = jax.random.split(jax.random.key(0), len(tasks))
    state = sac.init(envs.spec.obs_dim, envs.spec.action_dim, config.sac, keys)
    return Trainer(state, config, envs, eval_envs, seed=0, help=clock)


def _all_envs(tasks: Sequence[str], num_envs: int, horizon: int | None = None) -> VectorEnv:
    return Concatenated([make_envs(task, num_envs, goals="fresh", horizon=horizon) for task in tasks])


def peer(name: str, task: str, steps: int) -> Metrics:
    """The same of a peer's `learn`, one update an environment step."""
    env = peers.StepTimes(peers.metaworld_env(task))
    first = peers.LEARNING_STARTS + PEER_SETTLE
    peers.make_sac(name, env, seed=0).learn(first + steps)
    speed = (len(env.times) - 1 - first) / (env.times[-1] - env.times[first])
    return {"env_steps/s": speed, "updates/s": speed}
