"""The trajectory encoder beside the same model in PyTorch: training, encoding a data set, acting on its context.

In seconds of one core's time, which stay right on a core that is shared.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import peers
from benchmarks.measure import Contender, Metrics, Results, available_cores, interleaved, plain, rate
from benchmarks.results import Outcome, Repeated, Table, command
from collectiverl.collective.policy import Collective, CollectivePolicy
from collectiverl.representation.batches import Pack, Rows, changes, draw
from collectiverl.representation.context import embed_all
from collectiverl.representation.encoder import Encoder, EncoderConfig, Layout, fit_scales, init_encoder
from collectiverl.representation.train import Trainer
from collectiverl.representation.updates import TransformerConfig
from collectiverl.sac.agent import SACConfig, init_agent

if TYPE_CHECKING:
    from benchmarks.torch_encoder import TorchEncoder

STATE_INDEX = (*range(18), *range(36, 39))  # Meta-World's: the current frame and the goal, of 39 entries
OBS_DIM, STATE_DIM, ACTION_DIM = 39, len(STATE_INDEX), 4
BUFFERS, HORIZON = 10, 500
OURS, TWIN, STOCK = "collectiverl", "PyTorch", "PyTorch, dropout within the layers too"
WINDOWS, STEP = "windows/core-s", "core-ms a step"
COLUMNS = ("what", "layout", "model", "speed", "ours is faster by")


@dataclass(frozen=True, kw_only=True)
class Encoding(Repeated):
    """The encoder at its default sizes on one core: ours, and `torch.nn.TransformerEncoder` in the same model."""

    seconds: float = 5.0  # of every measurement
    episodes: int = 20  # in memory, of 500 steps
    num_envs: int = 50  # that are acted in


def benchmark(config: Encoding) -> Outcome:
    peers.require("torch")
    places = (available_cores()[:1],)
    contenders = [Contender(named(*name), *what, places) for name, what in measurements(config).items()]
    results = interleaved(contenders, config.repetitions)
    return Outcome(plain(results), Table("Trajectory encoder, one core", COLUMNS, rows(results)))


Measurement = tuple[Callable[..., Metrics], tuple[Any, ...]]


def measurements(config: Encoding) -> dict[tuple[str, Layout, str], Measurement]:
    """By what is measured, the layout and the model."""
    data = config.episodes, config.seconds
    found: dict[tuple[str, Layout, str], Measurement] = {}
    for layout in ("joint", "interleaved"):
        found["training", layout, OURS] = train, (layout, *data)
        found["training", layout, TWIN] = torch_train, (layout, *data)
        found["encoding", layout, OURS] = encode, (layout, *data)
        found["encoding", layout, TWIN] = torch_encode, (layout, *data)
        found["acting", layout, OURS] = act, (layout, config.num_envs, config.seconds)
        found["acting", layout, TWIN] = torch_act, (layout, config.num_envs, config.seconds)
    found["training", "joint", STOCK] = torch_train, ("joint", *data, True)
    return found


def named(what: str, layout: str, model: str) -> str:
    return " | ".join((what, layout, model))


def rows(results: Results) -> list[list[str]]:
    """Ours before its twins, by what is measured; each against ours of the same kind and layout."""
    table = []
    for name, found in sorted(results.items(), key=lambda item: _place(item[0])):
        what, layout, model = name.split(" | ")
        ((metric, speed),) = found.items()
        ours = results[named(what, layout, OURS)][metric].median
        faster = speed.median / ours if metric == STEP else ours / speed.median
        table.append([what, layout, model, f"{speed} {metric}", f"{faster:.2f}x"])
    return table


def _place(name: str) -> tuple[int, ...]:
    what, layout, model = name.split(" | ")
    whats, layouts, models = ("training", "encoding", "acting"), ("joint", "interleaved"), (OURS, TWIN, STOCK)
    return whats.index(what), layouts.index(layout), models.index(model)


# -- in a child --------------------------------------------------------------------------------------------

core_rate = partial(rate, clock=time.process_time)


def episodes_in_memory(episodes: int) -> Pack:
    """Random walks, told apart by their buffer's mean."""
    rng, each = np.random.default_rng(0), max(1, episodes // BUFFERS)
    count = BUFFERS * each
    steps = rng.normal(0, 0.01, (count, HORIZON + 1, STATE_DIM)).cumsum(axis=1)
    state = steps + rng.normal(size=(BUFFERS, 1, STATE_DIM)).repeat(each, axis=0)
    action = rng.uniform(-1, 1, (count * (HORIZON + 1), ACTION_DIM))
    columns = state.reshape(-1, STATE_DIM), action, rng.normal(size=len(action))
    first = np.arange(count) * (HORIZON + 1)
    return Pack(
        Rows(*(jnp.asarray(column, jnp.float32) for column in columns)),
        first,
        np.full(count, HORIZON),
        np.arange(BUFFERS) * each,
        np.full(BUFFERS, each),
    )


def an_encoder(config: EncoderConfig, data: Pack) -> Encoder:
    """Untrained, with the statistics of the data."""
    encoder = eqx.filter_jit(init_encoder)(config, STATE_DIM, ACTION_DIM, jax.random.key(0))
    return fit_scales(encoder, np.asarray(data.rows.state), np.asarray(data.rows.reward), changes(data))


def train(layout: Layout, episodes: int, seconds: float) -> Metrics:
    """Whole updates as `train-transformer` makes them: drawn, gathered, masked, learned from."""
    config = TransformerConfig(encoder=EncoderConfig(layout=layout))
    data = episodes_in_memory(episodes)
    trainer = Trainer(data, data, config, seed=0)

    def call() -> None:
        jax.block_until_ready((trainer.advance(), trainer.state))

    return {WINDOWS: core_rate(call, config.updates_per_call * config.batch_size, seconds)}


def every_window(data: Pack, size: int) -> tuple[np.ndarray, ...]:
    """Row numbers of the window at each state that has an action, as `encode` takes them."""
    first = np.repeat(data.first, HORIZON)
    end = first + np.tile(np.arange(HORIZON), len(data.first))
    return first, end, np.full(len(end), size)


def encode(layout: Layout, episodes: int, seconds: float) -> Metrics:
    data = episodes_in_memory(episodes)
    encoder = an_encoder(EncoderConfig(layout=layout), data)
    places = every_window(data, encoder.window)
    call = lambda: embed_all(encoder, data.rows, *places)  # noqa: E731
    return {WINDOWS: core_rate(call, len(places[0]), seconds)}


def act(layout: Layout, num_envs: int, seconds: float) -> Metrics:
    """The collective's whole policy, from observations to actions."""
    encoder = an_encoder(EncoderConfig(layout=layout), episodes_in_memory(1))
    agent = init_agent(len(encoder.head.bias) + STATE_DIM, ACTION_DIM, SACConfig(), jax.random.key(1))
    collective = Collective(
        agent=agent,
        encoder=encoder,
        clusters=None,
        conditioning="cls",
        tasks=(),
        state_index=STATE_INDEX,
    )
    return _milliseconds_a_step(CollectivePolicy(collective), num_envs, seconds)


def _milliseconds_a_step(policy: Any, num_envs: int, seconds: float) -> Metrics:
    rng = np.random.default_rng(0)
    observations, rewards = rng.normal(size=(num_envs, OBS_DIM)), rng.normal(size=num_envs)

    def step() -> None:
        policy.eval_action(observations)
        policy.observe(rewards)

    return {STEP: 1e3 / core_rate(step, 1, seconds)}


def a_twin(config: EncoderConfig, data: Pack) -> "TorchEncoder":
    from benchmarks.torch_encoder import TorchEncoder, copy_weights
    from benchmarks.torch_training import one_thread_a_core

    one_thread_a_core()
    twin = TorchEncoder(config, STATE_DIM, ACTION_DIM)
    copy_weights(twin, an_encoder(config, data))
    return twin


def torch_train(layout: Layout, episodes: int, seconds: float, stock: bool = False) -> Metrics:
    """The twin's updates; with `stock` it drops out where PyTorch's layer does of its own, too."""
    from benchmarks.torch_training import TorchTrainer

    config = TransformerConfig(encoder=EncoderConfig(layout=layout))
    data, rng = episodes_in_memory(episodes), np.random.default_rng(0)
    twin = a_twin(config.encoder, data)
    if stock:
        twin.drop_within(config.encoder.dropout)
    trainer = TorchTrainer(twin, data, config)

    def call() -> None:
        chosen = (
            config.batch_size // 2,
            config.encoder.window,
            config.prefix_fraction,
            config.objective.positives,
        )
        trainer.update(draw(data, rng, *chosen))

    return {WINDOWS: core_rate(call, config.batch_size, seconds)}


def torch_encode(layout: Layout, episodes: int, seconds: float) -> Metrics:
    from benchmarks import torch_training

    config, data = EncoderConfig(layout=layout), episodes_in_memory(episodes)
    twin, stored = a_twin(config, data).eval(), torch_training.TorchRows.of(data)
    places = every_window(data, config.window)
    call = lambda: torch_training.embed_all(twin, stored, *places, batch=256)  # noqa: E731
    return {WINDOWS: core_rate(call, len(places[0]), seconds)}


def torch_act(layout: Layout, num_envs: int, seconds: float) -> Metrics:
    from benchmarks.torch_training import TorchPolicy, actor

    config, sac = EncoderConfig(layout=layout), SACConfig()
    twin = a_twin(config, episodes_in_memory(1))
    head = actor(config.z_dim + STATE_DIM, ACTION_DIM, sac.width, sac.depth)
    return _milliseconds_a_step(TorchPolicy(twin, head, STATE_INDEX, num_envs), num_envs, seconds)


def main(argv: Sequence[str] | None = None) -> int:
    return command("encoder", Encoding, benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
