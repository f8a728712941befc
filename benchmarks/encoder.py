"""The trajectory encoder at work: self-supervised training, distillation of the collective, acting.

In seconds of one core's time, which stay right on a core that is shared.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Contender, Metrics, Results, available_cores, interleaved, plain, rate
from benchmarks.results import Outcome, Repeated, Table, command
from collectiverl.collective.policy import Collective, CollectivePolicy
from collectiverl.collective.train import UPDATES_PER_CALL, CollectiveConfig, Training, fresh_collective
from collectiverl.data.episodes import EpisodeTable, Shard
from collectiverl.envs.make import spec
from collectiverl.representation.batches import Pack, Rows
from collectiverl.representation.encoder import EncoderConfig, Kind
from collectiverl.representation.train import Trainer
from collectiverl.representation.updates import TransformerConfig
from collectiverl.types import Episode, Labels

TASK = "reach-v3"  # any of Meta-World's: only its shapes are used
SPEC = spec(TASK)
BUFFERS, HORIZON = 10, 500
KINDS: tuple[Kind, ...] = ("transformer", "gru")
WINDOWS, LABELS, STEP = "windows/core-s", "labels/core-s", "core-ms a step"
COLUMNS = ("what", "encoder", "speed")


@dataclass(frozen=True, kw_only=True)
class Encoding(Repeated):
    """The encoder at its default sizes on one core, as a transformer and as a GRU."""

    seconds: float = 5.0  # of every measurement
    episodes: int = 20  # in memory, of 500 steps
    num_envs: int = 50  # that are acted in


def benchmark(config: Encoding) -> Outcome:
    places = (available_cores()[:1],)
    contenders = [Contender(name, *what, places) for name, what in measurements(config).items()]
    results = interleaved(contenders, config.repetitions)
    return Outcome(plain(results), Table("Trajectory encoder, one core", COLUMNS, rows(results)))


Measurement = tuple[Callable[..., Metrics], tuple[Any, ...]]


def measurements(config: Encoding) -> dict[str, Measurement]:
    found: dict[str, Measurement] = {}
    for kind in KINDS:
        found[named("self-supervised training", kind)] = train, (kind, config.episodes, config.seconds)
        found[named("distillation", kind)] = distil, (kind, config.episodes, config.seconds)
        found[named("acting", kind)] = act, (kind, config.num_envs, config.seconds)
    return found


def named(what: str, kind: str) -> str:
    return f"{what} | {kind}"


def rows(results: Results) -> list[list[str]]:
    """By what is measured, then by the encoder."""
    table = []
    for name, found in sorted(results.items()):
        ((metric, speed),) = found.items()
        table.append([*name.split(" | "), f"{speed} {metric}"])
    return table


# -- in a child --------------------------------------------------------------------------------------------

core_rate = partial(rate, clock=time.process_time)


def packed_episodes(episodes: int) -> Pack:
    """Random walks, told apart by their buffer's mean."""
    rng, each = np.random.default_rng(0), max(1, episodes // BUFFERS)
    count = BUFFERS * each
    steps = rng.normal(0, 0.01, (count, HORIZON + 1, SPEC.state_dim)).cumsum(axis=1)
    state = steps + rng.normal(size=(BUFFERS, 1, SPEC.state_dim)).repeat(each, axis=0)
    action = rng.uniform(-1, 1, (count * (HORIZON + 1), SPEC.action_dim))
    columns = state.reshape(-1, SPEC.state_dim), action, rng.normal(size=len(action))
    first = np.arange(count) * (HORIZON + 1)
    return Pack(
        Rows(*(jnp.asarray(column, jnp.float32) for column in columns)),
        first,
        np.full(count, HORIZON),
        np.arange(BUFFERS) * each,
        np.full(BUFFERS, each),
    )


def labelled_episodes(episodes: int) -> EpisodeTable:
    """Random walks with random labels."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    played = [
        Episode(
            obs=normal(HORIZON + 1, SPEC.obs_dim),
            action=normal(HORIZON, SPEC.action_dim).clip(-1, 1),
            reward=normal(HORIZON),
            success=np.zeros(HORIZON, bool),
            task=TASK,
            phase="learner",
            labels=Labels(np.tanh(normal(HORIZON, SPEC.action_dim)), normal(HORIZON, SPEC.action_dim), None),
        )
        for _ in range(episodes)
    ]
    return EpisodeTable([Shard.of(played)])


def a_collective(kind: Kind, table: EpisodeTable) -> tuple[Collective, CollectiveConfig]:
    """Untrained, at the default sizes but for the kind of its encoder."""
    base = CollectiveConfig()
    config = replace(base, encoder=replace(base.encoder, kind=kind))
    return fresh_collective(table, config, SPEC), config


def train(kind: Kind, episodes: int, seconds: float) -> Metrics:
    """Whole updates as `train-transformer` makes them: drawn, gathered, masked, learned from."""
    config = TransformerConfig(encoder=EncoderConfig(kind=kind))
    data = packed_episodes(episodes)
    trainer = Trainer(data, data, config, seed=0)

    def call() -> None:
        jax.block_until_ready((trainer.advance(), trainer.state))

    return {WINDOWS: core_rate(call, config.updates_per_call * config.batch_size, seconds)}


def distil(kind: Kind, episodes: int, seconds: float) -> Metrics:
    """Whole updates as `distill-collective` makes them: drawn, gathered, learned from at every step."""
    table = labelled_episodes(episodes)
    training = Training(*a_collective(kind, table), seed=0)
    segments, rates = training.segments(table), training.constant(UPDATES_PER_CALL)

    def call() -> None:
        training.advance(segments, rates)
        jax.block_until_ready(training.state)

    return {LABELS: core_rate(call, UPDATES_PER_CALL * training.config.labels, seconds)}


def act(kind: Kind, num_envs: int, seconds: float) -> Metrics:
    """The collective's whole policy, from observations to actions."""
    collective, _ = a_collective(kind, labelled_episodes(1))
    policy, rng = CollectivePolicy(collective), np.random.default_rng(0)
    observations = rng.normal(size=(num_envs, SPEC.obs_dim)).astype(np.float32)
    rewards = rng.normal(size=num_envs).astype(np.float32)

    def step() -> None:
        policy.eval_action(observations)
        policy.observe(rewards)

    return {STEP: 1e3 / core_rate(step, 1, seconds)}


def main(argv: Sequence[str] | None = None) -> int:
    return command("encoder", Encoding, benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
