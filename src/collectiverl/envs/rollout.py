"""The one episode loop: training, recording, distillation, evaluation and video all step through here."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from collectiverl.envs.core import StepResult, VectorEnv, leave
from collectiverl.envs.policy import CheckedPolicy
from collectiverl.types import Episode, Policy


class Step(NamedTuple):
    """One step of all environments. Where `result.began`, it is no transition."""

    obs: Float[np.ndarray, "N O"]  # what the policy saw
    action: Float[np.ndarray, "N A"]  # what it did
    result: StepResult


def steps(envs: VectorEnv, policy: Policy, seed: int) -> Iterator[Step]:
    """Plays for ever, from `reset(seed)` on; the caller stops iterating when it has enough."""
    obs = envs.reset(seed)
    policy.reset(np.ones(envs.num_envs, bool))
    while True:
        action = np.asarray(policy.eval_action(obs), np.float32)
        result = envs.step(action)
        policy.observe(result.reward)
        yield Step(obs, action, result)
        obs = result.obs
        if result.began.any():
            policy.reset(result.began)


class EpisodeCollector:
    """Cuts a stream of steps into episodes.

    Args:
        after_success: steps after its first success at which an episode of each environment is cut, as by a time
            limit; None: episodes end where the environment ends them.
    """

    def __init__(
        self,
        envs: VectorEnv,
        phase: str,
        seed: int,
        after_success: Int[np.ndarray, "N"] | None = None,
    ):
        self.envs, self.phase, self.seed, self.after_success = envs, phase, seed, after_success
        self.restart()

    def restart(self) -> None:
        """Forgets the running episodes; to be called when the environments are reset."""
        self.running: list[list[tuple]] = [[] for _ in range(self.envs.num_envs)]
        self.succeeded: list[int | None] = [None] * self.envs.num_envs  # steps until the first success
        self.goals: np.ndarray | None = None
        self.over = np.zeros(self.envs.num_envs, bool)  # environments that nobody needs any more

    def leave(self, over: Bool[np.ndarray, "N"]) -> None:
        """Environments of the mask are played and collected no more, until a restart."""
        self.over = over
        leave(self.envs, over)

    def add(self, step: Step) -> list[tuple[int, Episode]]:
        """The episodes that ended with this step, each with its environment's index."""
        result = step.result
        if self.goals is None or result.began.any():
            self.goals = self.envs.goals().copy()
        ended = []
        for i in np.flatnonzero(~result.began & ~self.over):
            self.running[i].append((step.obs[i], step.action[i], result.reward[i], result.success[i]))
            if result.success[i] and self.succeeded[i] is None:
                self.succeeded[i] = len(self.running[i])
            if result.done[i] or self._is_cut(int(i)):
                ended.append((int(i), self._finish(int(i), result)))
        return ended

    def _is_cut(self, i: int) -> bool:
        first = self.succeeded[i]
        if self.after_success is None or first is None:
            return False
        return len(self.running[i]) >= first + int(self.after_success[i])

    def _finish(self, i: int, result: StepResult) -> Episode:
        obs, action, reward, success = zip(*self.running[i], strict=True)
        self.running[i], self.succeeded[i] = [], None
        assert self.goals is not None
        return Episode(
            obs=np.stack([*obs, result.obs[i]]).astype(np.float32),
            action=np.stack(action),
            reward=np.asarray(reward, np.float32),
            success=np.asarray(success, bool),
            task=self.envs.tasks[i],
            phase=self.phase,
            seed=self.seed,
            goal=int(self.goals[i]),
            terminated=bool(result.terminated[i]),
        )


def episodes(
    envs: VectorEnv,
    policy: Policy,
    *,
    per_env: int,
    phase: str,
    seed: int,
    after_success: Int[np.ndarray, "N"] | None = None,
    watch: Callable[[Step], None] | None = None,
) -> Iterator[Episode]:
    """The first `per_env` episodes of every environment, as they end; see `EpisodeCollector` for `after_success`.

    `watch` is called with every step, before the next one is taken.
    """
    collector = EpisodeCollector(envs, phase, seed, after_success)
    left = np.full(envs.num_envs, per_env)
    for step in steps(envs, policy, seed):
        if watch:
            watch(step)
        for owner, episode in collector.add(step):
            left[owner] -= 1
            yield episode
        if not left.any():
            return
        collector.leave(left == 0)


def first_success(
    envs: VectorEnv, policy: Policy, seed: int
) -> tuple[Bool[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Whether each environment's first episode succeeds at any step, and its return until then.

    Stops when every episode has succeeded or ended. This is a quick check during training; `evaluate` plays whole
    episodes.
    """
    success, over = np.zeros(envs.num_envs, bool), np.zeros(envs.num_envs, bool)
    returns = np.zeros(envs.num_envs, np.float32)
    for step in steps(envs, policy, seed):
        returns += np.where(over, 0, step.result.reward)
        success |= step.result.success & ~over
        over |= step.result.done | success
        if over.all():
            break
        leave(envs, over)
    return success, returns


def last_success(
    envs: VectorEnv, policy: Policy, seed: int
) -> tuple[Bool[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Whether each environment's first episode succeeds at its last step, and its return until the first success."""
    success, reached, over = np.zeros((3, envs.num_envs), bool)
    returns = np.zeros(envs.num_envs, np.float32)
    for step in steps(envs, policy, seed):
        returns += np.where(over | reached, 0, step.result.reward)
        success = np.where(over, success, step.result.success)
        reached = reached | step.result.success
        over = over | step.result.done
        if over.all():
            break
        leave(envs, over)
    return success, returns


class NoisyPolicy:
    """A policy with some of its actions replaced by random ones, so that its skill can be set.

    Args:
        share: of random actions in each environment: 0 is the policy itself, 1 a random policy.
        hold: every `hold` steps it is drawn anew whether an environment's actions are random, and which one it
            takes for these steps.
    """

    def __init__(self, policy: Policy, share: Float[np.ndarray, "N"], seed: int, hold: int = 5):
        self.policy, self.share, self.hold = policy, share, hold
        self.rng, self.calls = np.random.default_rng(seed), 0

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        action = self.policy.eval_action(observations)
        if self.calls % self.hold == 0:
            self.random = self.rng.uniform(-1, 1, action.shape).astype(np.float32)
            self.is_random = self.rng.random(len(action)) < self.share
        self.calls += 1
        return np.where(self.is_random[:, None], self.random, action)

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        self.policy.reset(env_mask)

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        self.policy.observe(rewards)


class RandomPolicy(CheckedPolicy):
    """Uniformly random actions in [-1, 1], determined by the seed."""

    def __init__(self, action_dim: int, seed: int, obs_dim: int | None = None):
        super().__init__(obs_dim, action_dim)
        self.entries, self.rng = action_dim, np.random.default_rng(seed)

    def _act(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        return self.rng.uniform(-1, 1, (len(obs), self.entries)).astype(np.float32)
