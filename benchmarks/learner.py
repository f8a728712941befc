"""SAC updates a second, alone and as a share of what this core reaches in large matrix products."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import peers
from benchmarks.measure import Contender, Metrics, Results, available_cores, interleaved, plain, rate
from benchmarks.results import Outcome, Repeated, Table, command
from collectiverl.data.replay import Replay, Row
from collectiverl.nn.products import Precision
from collectiverl.sac import agent as sac
from collectiverl.sac.updates import update
from collectiverl.types import Transition

OBS_DIM, ACTION_DIM = 39, 4  # Meta-World's
REPLAY_ENVS = 32  # environments that filled our replay
CONFIG = sac.SACConfig()
COLUMNS = ("learner", "updates/s", "GFLOP/s", "of the core's matrix products", "ours is faster by")
PRODUCTS = ("matrix products, JAX", "matrix products, NumPy")
SIZE = 2048  # of the matrices


@dataclass(frozen=True, kw_only=True)
class Learner(Repeated):
    """SAC updates a second on one core, batch 256, networks of 2 x 256: ours, SBX's, Stable-Baselines3's.

    Ours in float32 stands beside, since by default it has operands in bfloat16 where the processor is made for them.
    """

    updates: int = 8  # in one call
    seconds: float = 5.0  # of every measurement
    transitions: int = 100_000  # in the replay


def benchmark(config: Learner) -> Outcome:
    peers.require()
    call = (config.updates, config.seconds)
    filled = (*call, config.transitions)
    measurements: dict[str, tuple[Callable[..., Metrics], tuple[Any, ...]]] = {
        PRODUCTS[0]: (jax_product, (config.seconds,)),
        "collectiverl": (update_rate, call),
        "collectiverl, in float32": (exact_update_rate, call),
        "SBX": (sbx_update_rate, filled),
        PRODUCTS[1]: (numpy_product, (config.seconds,)),
        "collectiverl, with sampling": (sampled_update_rate, filled),
        "SBX, with sampling": (peer_train_rate, ("sbx", *filled)),
        "Stable-Baselines3, with sampling": (peer_train_rate, ("sb3", *filled)),
    }
    places = (available_cores()[:1],)
    contenders = [Contender(name, *measurement, places) for name, measurement in measurements.items()]
    results = interleaved(contenders, config.repetitions)
    flops = update_flops(OBS_DIM, ACTION_DIM, CONFIG.width, CONFIG.depth, CONFIG.batch_size)
    table = Table("SAC updates, batch 256, 2 x 256, one core", COLUMNS, rows(results, flops))
    return Outcome({"update_flops": flops, **plain(results)}, table)


def rows(results: Results, flops: float) -> list[list[str]]:
    """Fastest products first, then the learners; each peer against ours of the same kind."""
    peak = max(results[name]["GFLOP/s"].median for name in PRODUCTS)
    table = [["matrix products, 2048 x 2048", "", f"{peak:.0f}", "100 %", ""]]
    for name, found in results.items():
        if name in PRODUCTS:
            continue
        speed = found["updates/s"]
        alike = "collectiverl, with sampling" if name.endswith("with sampling") else "collectiverl"
        gflops = speed.median * flops / 1e9
        faster = results[alike]["updates/s"].median / speed.median
        table.append([name, str(speed), f"{gflops:.0f}", f"{gflops / peak:.0%}", f"{faster:.2f}x"])
    return table


def update_flops(obs_dim: int, action_dim: int, width: int, depth: int, batch: int) -> float:
    """Floating-point operations in the matrix products of one SAC update.

    A product of an (m, n) matrix and a vector takes 2mn. Backward takes as much for the gradient of the
    weights and as much again for that of the input. Critic step: actor and target critics forward, critics
    forward and backward. Actor step: actor forward and backward, critics forward and back to the action.
    """
    hidden = (depth - 1) * width * width
    actor = 2 * (obs_dim * width + hidden + width * 2 * action_dim)
    critics = 2 * 2 * ((obs_dim + action_dim) * width + hidden + width)
    critic_step = actor + critics + 3 * critics
    actor_step = 3 * actor + 2 * critics
    return float(batch * (critic_step + actor_step))


# -- in a child --------------------------------------------------------------------------------------------


def jax_product(seconds: float) -> Metrics:
    a = jnp.ones((SIZE, SIZE), jnp.float32)
    multiply = jax.jit(jnp.matmul)
    return {"GFLOP/s": rate(lambda: multiply(a, a).block_until_ready(), 2 * SIZE**3 / 1e9, seconds)}


def numpy_product(seconds: float) -> Metrics:
    a = np.ones((SIZE, SIZE), np.float32)
    return {"GFLOP/s": rate(lambda: a @ a, 2 * SIZE**3 / 1e9, seconds)}


def update_rate(
    updates: int,
    seconds: float,
    experts: int = 1,
    platform: str = "cpu",
    batch_size: int = CONFIG.batch_size,
    width: int = CONFIG.width,
    precision: Precision | Literal["auto"] = CONFIG.precision,
) -> Metrics:
    """Ours, always on the same random batches, which lie on the device. Updates of all experts count."""
    config = replace(CONFIG, batch_size=batch_size, width=width, precision=precision)
    # on the device, but not committed to it: else the second call would compile, too
    with jax.default_device(jax.devices(platform)[0]):
        batches = jax.tree.map(jnp.asarray, random_batches((updates, experts, batch_size)))
    return {"updates/s": _updates(lambda: batches, experts, updates, seconds, platform, config)}


def exact_update_rate(updates: int, seconds: float) -> Metrics:
    return update_rate(updates, seconds, precision="float32")


def sampled_update_rate(updates: int, seconds: float, transitions: int) -> Metrics:
    """Ours, on batches drawn from a full replay."""
    replay, rng = filled_replay(transitions), np.random.default_rng(0)

    def sample() -> Transition:
        shape = updates, CONFIG.batch_size
        return replay.sample(rng, shape, n_step=CONFIG.n_step, gamma=CONFIG.gamma)

    return {"updates/s": _updates(sample, 1, updates, seconds, "cpu")}


def _updates(
    batches: Callable[[], Transition],
    experts: int,
    updates: int,
    seconds: float,
    platform: str,
    config: sac.SACConfig = CONFIG,
) -> float:
    with jax.default_device(jax.devices(platform)[0]):
        keys = jax.random.split(jax.random.key(0), experts)
        state = sac.init(OBS_DIM, ACTION_DIM, config, keys)

        def call() -> None:
            nonlocal state
            state, _ = jax.block_until_ready(update(state, batches(), keys[0], config))

        return rate(call, updates * experts, seconds)


def random_batches(axes: tuple[int, ...]) -> Transition:
    def draw(*shape: int) -> np.ndarray:
        return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)

    discount = np.full(axes, CONFIG.gamma, np.float32)
    return Transition(
        draw(*axes, OBS_DIM), draw(*axes, ACTION_DIM), draw(*axes), discount, draw(*axes, OBS_DIM)
    )


def filled_replay(transitions: int) -> Replay:
    replay = Replay(transitions, 1, REPLAY_ENVS, OBS_DIM, ACTION_DIM)
    batch = random_batches((1, REPLAY_ENVS))
    no = np.zeros((1, REPLAY_ENVS), bool)
    for _ in range(len(replay.data.reward)):
        replay.add(
            Row(
                batch.obs,
                batch.action,
                batch.reward,
                0 * batch.reward,
                0 * batch.reward,
                batch.action,
                no,
                no,
                ~no,
            )
        )
    return replay


def sbx_update_rate(updates: int, seconds: float, transitions: int) -> Metrics:
    """SBX's compiled updates alone, always on the same batches."""
    from sbx.common.type_aliases import ReplayBufferSamplesNp

    model = peers.filled_sac("sbx", OBS_DIM, ACTION_DIM, transitions)
    sample = model.replay_buffer.sample(model.batch_size * updates)
    obs, actions, next_obs = (
        x.numpy() for x in (sample.observations, sample.actions, sample.next_observations)
    )
    dones, rewards = sample.dones.numpy().flatten(), sample.rewards.numpy().flatten()
    columns = (obs, actions, next_obs, dones, rewards, np.full_like(rewards, model.gamma))
    data = ReplayBufferSamplesNp(*map(jnp.asarray, columns))
    carry = model.policy.qf_state, model.policy.actor_state, model.ent_coef_state, model.key

    def call() -> None:
        nonlocal carry
        done = model._train(model.tau, model.target_entropy, updates, data, model.policy_delay, 0, *carry)
        *carry, _ = jax.block_until_ready(done)

    return {"updates/s": rate(call, updates, seconds)}


def peer_train_rate(
    peer: str,
    updates: int,
    seconds: float,
    transitions: int,
    device: str = "cpu",
    batch_size: int = CONFIG.batch_size,
    width: int = CONFIG.width,
) -> Metrics:
    """A peer's own `train`, which samples; `device` is PyTorch's, `auto` a GPU where there is one."""
    model = peers.filled_sac(peer, OBS_DIM, ACTION_DIM, transitions, device=device, width=width)
    train = model.train
    return {"updates/s": rate(lambda: train(gradient_steps=updates, batch_size=batch_size), updates, seconds)}


def main(argv: Sequence[str] | None = None) -> int:
    return command("learner", Learner, benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
