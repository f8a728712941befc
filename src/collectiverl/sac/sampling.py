"""Episodes sampled while experts learn; the collective is trained on them later."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from collectiverl.artifacts.files import read_json, write_json
from collectiverl.data import episodes as episode_files
from collectiverl.envs.core import VectorEnv
from collectiverl.envs.rollout import EpisodeCollector, Step
from collectiverl.sac.settings import SamplingConfig
from collectiverl.types import Episode

STATE = "sampling.json"


@dataclass
class Samples:
    """The episodes of one expert."""

    recent: list[Episode] = field(default_factory=list)  # the last complete ones
    sampled: list[Episode] = field(default_factory=list)
    next_sampling: int = 0  # environment steps
    returns: list[float] = field(default_factory=list)  # of whole episodes, since they were last taken


class EpisodeSampler:
    """Cuts the steps of E experts into episodes and samples the last ones of each, at intervals.

    An expert's own task is that of the first of its environments; episodes of others are not sampled.
    """

    def __init__(self, envs: VectorEnv, experts: int, config: SamplingConfig, seed: int):
        self.config = config
        self.envs_of_one = envs.num_envs // experts
        self.tasks = envs.tasks[:: self.envs_of_one]
        parts = [envs.tasks[i : i + self.envs_of_one] for i in range(0, envs.num_envs, self.envs_of_one)]
        # of an expert of several tasks, what its own task's environments play in one round is enough
        self.wanted = [
            min(config.episodes, part.count(part[0])) if len(set(part)) > 1 else config.episodes
            for part in parts
        ]
        self.collector = EpisodeCollector(envs, "training", seed)
        self.experts = [Samples() for _ in range(experts)]

    def restart(self) -> None:
        """Forgets the running episodes: the environments were reset."""
        self.collector.restart()

    def add(self, step: Step, env_steps: int, *, finished: bool) -> None:
        """Takes a step; samples the last episodes of each expert if it is time, or if training is finished."""
        config = self.config
        for env, episode in self.collector.add(step):
            i = env // self.envs_of_one
            expert = self.experts[i]
            expert.returns.append(float(episode.reward.sum()))
            if episode.task == self.tasks[i]:
                expert.recent.append(episode)
                del expert.recent[: -max(config.episodes, 1)]
        for expert, wanted in zip(self.experts, self.wanted, strict=True):
            due = finished or env_steps >= max(expert.next_sampling, config.warmup)
            if due and len(expert.recent) >= wanted:
                expert.sampled += expert.recent[len(expert.recent) - wanted :]
                expert.recent.clear()
                expert.next_sampling = env_steps + config.period

    def take_returns(self) -> dict[str, Float[np.ndarray, "E"]]:
        """The mean return of each expert's training episodes since the last call; nothing where one has none."""
        taken = [expert.returns for expert in self.experts]
        if not all(taken):
            return {}
        for expert in self.experts:
            expert.returns = []
        return {"train/return": np.array([np.mean(returns) for returns in taken])}

    def follow(self, step: Step) -> None:
        """Takes a step that a resumed training plays again: the episodes that it ends are known."""
        self.collector.add(step)

    def save(self, folder: Path) -> None:
        """Everything but the running episodes."""
        for i, expert in enumerate(self.experts):
            episode_files.write(folder / f"recent_{i}", expert.recent)
            episode_files.write(folder / f"sampled_{i}", expert.sampled)
        state = {
            name: [getattr(expert, name) for expert in self.experts] for name in ("next_sampling", "returns")
        }
        write_json(folder / STATE, state)

    def restore(self, folder: Path) -> None:
        state = read_json(folder / STATE)
        self.experts = [
            Samples(_read(folder / f"recent_{i}"), _read(folder / f"sampled_{i}"), time, returns)
            for i, (time, returns) in enumerate(zip(state["next_sampling"], state["returns"], strict=True))
        ]


def _read(folder: Path) -> list[Episode]:
    return list(episode_files.EpisodeTable.open(folder)) if episode_files.paths(folder) else []
