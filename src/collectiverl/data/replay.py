"""Replay memory of E experts with N environments each, from which n-step transitions are sampled.

A row is a vector step and holds the observation that was acted on. The next row holds the true next observation:
the last observation of an episode has a row of its own, which is no transition (next-step auto-reset).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from collectiverl.types import AnyArray, Episode, Transition

MIN_ROWS = 4  # at most two successive rows are no transitions, and the newest cannot be used yet


class Row(NamedTuple):
    """One step of E x N environments."""

    obs: Float[np.ndarray, "E N O"]
    action: Float[np.ndarray, "E N A"]
    reward: Float[np.ndarray, "E N"]  # the environment's, unscaled
    bonus: Float[np.ndarray, "E N"]  # a helper's reward for the action; it is weighted when sampled
    potential: Float[np.ndarray, "E N"]  # of the observation; it is weighted when sampled
    advice: Float[np.ndarray, "E N A"]  # the action that a mentor would have taken
    terminated: Bool[np.ndarray, "E N"]
    ended: Bool[np.ndarray, "E N"]  # by termination or time limit
    valid: Bool[np.ndarray, "E N"]  # False: no transition


class Replay:
    """A ring of rows in host memory."""

    def __init__(self, capacity: int, experts: int, envs: int, obs_dim: int, action_dim: int):
        rows = max(MIN_ROWS, capacity // envs)
        shape = (rows, experts, envs)
        self.data = Row(
            obs=np.zeros((*shape, obs_dim), np.float32),
            action=np.zeros((*shape, action_dim), np.float32),
            reward=np.zeros(shape, np.float32),
            bonus=np.zeros(shape, np.float32),
            potential=np.zeros(shape, np.float32),
            advice=np.zeros((*shape, action_dim), np.float32),
            terminated=np.zeros(shape, bool),
            ended=np.zeros(shape, bool),
            valid=np.zeros(shape, bool),
        )
        self.next, self.size = 0, 0

    @classmethod
    def of(cls, episodes: Sequence[Sequence[Episode]]) -> "Replay":
        """A memory of given episodes, one sequence for each expert; each episode is an environment of its own.

        Their actions are advice, too.
        """
        example = episodes[0][0]
        rows = 1 + max(len(e) for own in episodes for e in own)
        envs = max(map(len, episodes))
        memory = cls(rows * envs, len(episodes), envs, example.obs.shape[-1], example.action.shape[-1])
        for i, own in enumerate(episodes):
            for j, e in enumerate(own):
                length = len(e)
                memory.data.obs[: length + 1, i, j] = e.obs
                memory.data.action[:length, i, j] = memory.data.advice[:length, i, j] = e.action
                memory.data.reward[:length, i, j] = e.reward
                memory.data.valid[:length, i, j] = True
                memory.data.ended[length - 1, i, j] = True
                memory.data.terminated[length - 1, i, j] = e.terminated
        memory.size = len(memory.data.reward)
        return memory

    def add(self, row: Row) -> None:
        for column, values in zip(self.data, row, strict=True):
            column[self.next] = values
        self._advance()

    def _advance(self) -> None:
        self.next = (self.next + 1) % len(self.data.reward)
        self.size = min(self.size + 1, len(self.data.reward))

    @property
    def filled(self) -> int:
        """Stored steps of all experts."""
        return self.size * self.data.reward[0].size

    @property
    def ready(self) -> bool:
        """Whether there is a transition whose next observation is stored."""
        return self.size >= 2

    def sample(
        self,
        rng: np.random.Generator,
        shape: tuple[int, ...],
        *,
        n_step: int,
        gamma: float,
        bonus: float = 0.0,
        potential: float = 0.0,
        advised: bool = False,
    ) -> Transition:
        """Transitions of axes (updates, E, batch), where `shape` is (updates, batch).

        The reward is the discounted sum over up to `n_step` steps, which ends with the episode; the next
        observation is the true one after them. `bonus` and `potential` are weights. Each step's reward gains its
        weighted bonus. The sum gains the weighted potential of the last observation (discounted; 0 at a
        termination) minus that of the first: this changes no optimal policy (Ng, Harada & Russell 1999), and the
        potentials between the two cancel.
        """
        updates, batch = shape
        experts = self.data.reward.shape[1]
        row, env = self._valid_rows(rng, (updates, experts, batch))
        expert = np.arange(experts)[:, None]
        capacity = len(self.data.reward)
        reward = np.zeros(row.shape, np.float32)
        running = np.ones(row.shape, bool)
        steps = np.zeros(row.shape, np.int64)
        at = row
        terminated = np.zeros(row.shape, bool)
        newest = (self.next - 1) % capacity
        for k in range(n_step):
            gain = self.data.reward[at, expert, env] + np.float32(bonus) * self.data.bonus[at, expert, env]
            reward += np.where(running, np.float32(gamma**k) * gain, 0)
            steps += running
            terminated |= running & self.data.terminated[at, expert, env]
            following = (at + 1) % capacity
            # the newest row has no next row, so its transition cannot be used yet
            running &= ~self.data.ended[at, expert, env] & (following != newest)
            at = np.where(running, following, at)
        last = (row + steps) % capacity
        discount = np.where(terminated, 0, gamma**steps).astype(np.float32)
        if potential:
            end, start = self.data.potential[last, expert, env], self.data.potential[row, expert, env]
            reward += np.float32(potential) * (discount * end - start)
        return Transition(
            obs=self.data.obs[row, expert, env],
            action=self.data.action[row, expert, env],
            reward=reward,
            discount=discount,
            next_obs=self.data.obs[last, expert, env],
            advice=self.data.advice[row, expert, env] if advised else None,
        )

    def _valid_rows(
        self, rng: np.random.Generator, shape: tuple[int, int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Uniform over the transitions whose next observation is stored, by rejection."""
        capacity, experts, envs = self.data.reward.shape
        oldest = (self.next - self.size) % capacity
        usable = self.size - 1

        def draw() -> tuple[np.ndarray, np.ndarray]:
            return (oldest + rng.integers(0, usable, shape)) % capacity, rng.integers(0, envs, shape)

        row, env = draw()
        expert = np.arange(experts)[:, None]
        while not (good := self.data.valid[row, expert, env]).all():
            new_row, new_env = draw()
            row, env = np.where(good, row, new_row), np.where(good, env, new_env)
        return row, env

    def state(self) -> dict[str, AnyArray]:
        """The filled part, for a checkpoint."""
        stored = {name: column[: self.size] for name, column in self.data._asdict().items()}
        return stored | {"next": np.asarray(self.next), "size": np.asarray(self.size)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.next, self.size = int(state["next"]), int(state["size"])
        for name, column in self.data._asdict().items():
            column[: self.size] = state[name]
