"""How raw windows become what a network reads: in standard deviations of the data, with changes and differences.

Nothing here knows a task: what is fitted are means and deviations, and what a suite says of its observations is which
entries are positions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from collectiverl.nn.normalizer import STD_FLOOR, Normalizer
from collectiverl.types import ABSENT, AnyArray, Window

CHANGE_FLOOR = 0.002  # metres: a step moves the hand by at most 1 cm
REWARD_FLOOR = 1e-3
NO_CHANGE = 1e-6  # of reward
FINE = 0.1  # of a scale, the finer one beside it
LOGIT_CHANGE = 0.3  # a typical change of the reward's logit
MARGIN = 0.005  # of the range of rewards, beyond its ends
LARGEST_CHANGE = 3.0  # on each scale
NEAR = 0.05  # metres: within which the distance of two points is read finely
FARTHEST = 4.0  # of these; beyond it, a difference says only its direction
REWARD_INPUTS = 9  # the reward and its logit, their changes on several scales, and whether it is known
Point = tuple[int, ...]  # entries of the state that are one position


class Standard(NamedTuple):
    """Windows as the networks take them, steps first."""

    state: Float[Array, "L *batch S"]
    change: Float[Array, "L *batch S"]  # of the state since the step before; zero where that is unknown
    difference: Float[Array, "L *batch D"]  # between points, in `NEAR`; none where a suite names no points
    action: Float[Array, "L *batch A"]  # as it is: actions lie in [-1, 1]
    reward: Float[Array, "L *batch 1"]
    reward_change: Float[
        Array, "L *batch 4"
    ]  # since the reward before, on several scales; zero where unknown
    known: Float[Array, "L *batch 1"]  # 1 where the reward is known
    mask: Bool[Array, "L *batch"]  # False: padding

    @property
    def features(self) -> Float[Array, "L *batch F"]:
        """What an actor reads of each step."""
        return jnp.concatenate([self.state, self.change, self.difference], axis=-1)


class Scales(eqx.Module):
    """Statistics of the training data, which no gradient changes."""

    state: Normalizer
    change: Normalizer
    reward: Normalizer
    reward_change: Normalizer
    typical_change: Float[Array, ""]  # median size of the changes of reward that are not zero
    reward_range: Float[Array, "2"]  # the least and the greatest reward
    points: tuple[Point, ...] = eqx.field(static=True, default=())

    @classmethod
    def identity(cls, state_dim: int, points: Sequence[Point] = ()) -> "Scales":
        """Standardises nothing yet."""
        return cls(
            state=Normalizer.identity(state_dim),
            change=Normalizer.identity(state_dim, CHANGE_FLOOR),
            reward=Normalizer.identity(1, REWARD_FLOOR),
            reward_change=Normalizer.identity(1, REWARD_FLOOR),
            typical_change=jnp.ones(()),
            reward_range=jnp.array([0.0, 1.0]),
            points=tuple(map(tuple, points)),
        )

    @classmethod
    def fit(
        cls,
        states: Float[np.ndarray, "rows S"],
        rewards: Float[np.ndarray, "known"],
        changes: Float[np.ndarray, "steps S"],
        reward_changes: Float[np.ndarray, "known_changes"],
        points: Sequence[Point] = (),
    ) -> "Scales":
        """Entries that are nan are left out. Changes are not centred: a state that rests must read as zero."""
        sizes = np.abs(reward_changes)
        some = sizes[sizes > NO_CHANGE]
        return cls(
            state=_scale(states, STD_FLOOR),
            change=_scale(changes, CHANGE_FLOOR, centred=False),
            reward=_scale(rewards[:, None], REWARD_FLOOR),
            reward_change=_scale(reward_changes[:, None], REWARD_FLOOR, centred=False),
            typical_change=jnp.float32(max(np.median(some), REWARD_FLOOR) if len(some) else 1.0),
            reward_range=jnp.asarray([rewards.min(), max(rewards.max(), rewards.min() + REWARD_FLOOR)]),
            points=tuple(map(tuple, points)),
        )

    @property
    def state_dim(self) -> int:
        return self.state.mean.shape[-1]

    @property
    def difference_dim(self) -> int:
        count = len(self.points)
        return sum(len(point) for point in self.points) // max(count, 1) * (count * (count - 1) // 2)

    @property
    def feature_dim(self) -> int:
        """Of `Standard.features`."""
        return 2 * self.state_dim + self.difference_dim

    def __call__(self, window: Window) -> Standard:
        """Standardised windows; padding is zero."""
        scale = jax.lax.stop_gradient(self)
        raw, action = jnp.moveaxis(window.state, -2, 0), jnp.moveaxis(window.action, -2, 0)
        reward, mask = jnp.moveaxis(window.reward, -1, 0)[..., None], jnp.moveaxis(window.mask, -1, 0)
        shown = mask[..., None]
        known = shown & ~jnp.isnan(reward)
        has = shown & (raw != ABSENT)
        followed, compared = has & _before(has), known & _before(known)
        state = jnp.where(has, raw, 0)
        reward = jnp.where(known, reward, 0)
        return Standard(
            state=jnp.where(has, scale.state(state), 0),
            change=jnp.where(followed, scale.change(state - _before(state)), 0),
            difference=jnp.where(shown, self._differences(state), 0),
            action=jnp.where(shown, action, 0),
            reward=jnp.where(known, scale.reward(reward), 0),
            reward_change=scale._fine_rewards(reward, known, compared),
            known=known.astype(jnp.float32),
            mask=mask,
        )

    def states(self, raw: Float[AnyArray, "*batch S"]) -> Float[Array, "*batch S"]:
        """Standardised states; entries that a task does not have are zero."""
        has = raw != ABSENT
        return jnp.where(has, self.state(jnp.where(has, raw, 0)), 0)

    def _fine_rewards(self, reward: Array, known: Array, compared: Array) -> Float[Array, "L *batch C"]:
        """What a reward and its change tell on several scales.

        A reward's change in its standard deviations says nothing in the last centimetres before a goal, where it
        says the way. So the change is given beside it in units of the typical one and of a tenth of that; and the
        logit of the reward within its range, which spreads out what lies near the best, with its change.
        """
        change = reward - _before(reward)
        low, high = self.reward_range
        place = (reward - low + MARGIN * (high - low)) / ((1 + 2 * MARGIN) * (high - low))
        logit = jax.scipy.special.logit(jnp.clip(place, MARGIN / 2, 1 - MARGIN / 2))
        logit_change = logit - _before(logit)
        typical = change / self.typical_change
        scaled = (
            *(self.reward_change(change), typical, typical / FINE),
            *(logit_change / LOGIT_CHANGE, logit_change / (FINE * LOGIT_CHANGE)),
        )
        changes = [jnp.clip(part, -LARGEST_CHANGE, LARGEST_CHANGE) for part in scaled]
        changes.append(jnp.arcsinh(typical / FINE) / 3)
        parts = [jnp.where(known, logit / 2, 0), *(jnp.where(compared, part, 0) for part in changes)]
        return jnp.concatenate(parts, axis=-1)

    def _differences(self, state: Float[Array, "*batch S"]) -> Float[Array, "*batch D"]:
        """Between every two points."""
        at = [state[..., list(point)] for point in self.points]
        apart = [b - a for i, a in enumerate(at) for b in at[i + 1 :]]
        empty = jnp.zeros((*state.shape[:-1], 0))
        return jnp.clip(jnp.concatenate([empty, *apart], axis=-1) / NEAR, -FARTHEST, FARTHEST)


def _before(x: Array) -> Array:
    """Each step's predecessor; nothing (False, 0) before the first."""
    return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


def _scale(rows: Float[np.ndarray, "rows size"], floor: float, *, centred: bool = True) -> Normalizer:
    """In float64: millions of rows would cost float32 digits."""
    known = ~np.isnan(rows)
    count = np.maximum(known.sum(0), 1)
    centre = np.where(known, rows, 0).sum(0, np.float64) / count if centred else np.zeros(rows.shape[1])
    variance = np.sum(np.where(known, rows - centre, 0) ** 2, axis=0) / count
    return Normalizer(
        jnp.ones(()), jnp.asarray(centre, jnp.float32), jnp.asarray(variance, jnp.float32), floor
    )
