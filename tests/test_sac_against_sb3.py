"""One update of ours is one of Stable-Baselines3's: same weights, same batch, same noise, same result.

`fixtures/sb3_losses.npz` holds a gradient step of its `SAC.train` (see `make_sb3_losses.py` beside it). Where
the conventions differ:

- Its log-std is clipped to [-20, 2], ours is a rescaled tanh. The actor here leaves it as it comes, which
  within the clip (the fixture keeps inside) is Stable-Baselines3's.
- Its tanh correction is log(1 - a^2 + 1e-6), ours exact. The fixture keeps actions away from the bounds,
  where the difference is of the order of 1e-6.
- It has `dones` and gamma, we have one discount: gamma^n, 0 at a termination.
- Its critic loss is half the sum over both critics of the mean square error, its temperature loss is in
  log-alpha, and the temperature used is that before the step: as ours.
- It draws the noise of the current state first, we that of the next one.
- Torch stores a layer's weight as (outputs, inputs), we as (inputs, outputs).
"""

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collectiverl.nn.gaussian import Actor, Gaussian
from collectiverl.nn.mlp import Critic
from collectiverl.nn.normalizer import Normalizer
from collectiverl.sac import agent as sac
from collectiverl.sac import updates
from collectiverl.types import Transition

FIXTURE = np.load(Path(__file__).parent / "fixtures" / "sb3_losses.npz")
ACTOR_LAYERS = ("latent_pi.0", "latent_pi.2")
CONFIG = sac.SACConfig(
    width=16,
    layer_norm=False,
    normalize_obs=False,
    gamma=0.99,
    n_step=1,
    tau=0.005,
    learning_rate=3e-4,
    temperature_learning_rate=3e-4,
    batch_size=32,
    reward_scale=1.0,
    initial_temperature=0.5,
)


class PlainActor(Actor):
    """Leaves the log-std as it comes."""

    def __call__(self, obs):
        return Gaussian(*jnp.split(self.mlp(obs), 2, axis=-1))


def sb3_actor(when):
    """Weights and biases of our actor's layers, in order; mean and log-std are one layer of ours."""
    layers = [
        [FIXTURE[f"{when}/actor/{name}.{kind}"] for kind in ("weight", "bias")] for name in ACTOR_LAYERS
    ]
    head = [
        np.concatenate([FIXTURE[f"{when}/actor/{name}.{kind}"] for name in ("mu", "log_std")])
        for kind in ("weight", "bias")
    ]
    return [array.T for layer in (*layers, head) for array in layer]


def sb3_critic(when, module="critic"):
    """The same of the critics, both on a leading axis."""
    return [
        np.stack([FIXTURE[f"{when}/{module}/qf{i}.{layer}.{kind}"].T for i in range(2)])
        for layer in (0, 2, 4)
        for kind in ("weight", "bias")
    ]


def arrays(mlp):
    return [array for layer in mlp.layers for array in (layer.weight, layer.bias)]


def with_weights(module, where, new):
    return eqx.tree_at(lambda m: arrays(where(m)), module, [jnp.asarray(array) for array in new])


def networks(key):
    actor = PlainActor(6, 2, 16, 2, log_std_bounds=(-20.0, 2.0), key=key)
    return actor, Critic(6, 2, 16, 2, layer_norm=False, key=key)


@pytest.fixture(scope="module")
def state():
    """Our learning state with the recorded weights."""
    actor, critic = eqx.filter_eval_shape(networks, jax.random.key(0))
    actor = with_weights(actor, lambda a: a.mlp, sb3_actor("before"))
    first, target = (
        with_weights(critic, lambda c: c.ensemble.members, sb3_critic("before", module))
        for module in ("critic", "critic_target")
    )
    agent = sac.Agent(actor, first, Normalizer.identity(6))
    return replace(sac.init_state(agent, CONFIG), target_critic=target)


@pytest.fixture(scope="module")
def updated(state):
    """Our state after one update, and its metrics."""
    batch = Transition(
        obs=FIXTURE["observations"],
        action=FIXTURE["actions"],
        reward=FIXTURE["rewards"][:, 0],
        discount=np.float32(CONFIG.gamma) * (1 - FIXTURE["dones"][:, 0]),
        next_obs=FIXTURE["next_observations"],
    )
    noise = iter(FIXTURE["noise"][::-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "normal", lambda key, shape: jnp.asarray(next(noise)))
        return eqx.filter_jit(updates.update_one)(state, batch, jax.random.key(0), CONFIG)


def loss(name):
    return pytest.approx(float(FIXTURE[f"loss/{name}"]), abs=1e-5)


def test_the_fixture_keeps_to_what_both_mean():
    assert np.all((FIXTURE["dones"] == 0) | (FIXTURE["dones"] == 1))
    assert 0 < FIXTURE["dones"].sum() < len(FIXTURE["dones"])


def test_critic_loss(updated):
    assert updated[1]["critic/loss"] == loss("critic_loss")


def test_actor_loss(updated):
    assert updated[1]["actor/loss"] == loss("actor_loss")


def test_temperature_and_its_loss(state, updated):
    metrics = updated[1]
    assert metrics["temperature"] == loss("ent_coef")
    target_entropy = CONFIG.entropy_per_action * 2
    assert -state.log_alpha * (-metrics["actor/entropy"] + target_entropy) == loss("ent_coef_loss")


def test_gradients(updated):
    """Adam's first moment after one step is a tenth of the gradient."""
    ours = updated[0].opt_actor[0].mu.mlp, updated[0].opt_critic[0].mu[0].ensemble.members
    for mlp, theirs in zip(ours, (sb3_actor("gradient"), sb3_critic("gradient")), strict=True):
        for mine, other in zip(arrays(mlp), theirs, strict=True):
            np.testing.assert_allclose(10 * mine, other, atol=1e-5)


def test_weights_after_the_step(updated):
    state = updated[0]
    pairs = [
        (state.agent.actor.mlp, sb3_actor("after")),
        (state.agent.critic.ensemble.members, sb3_critic("after")),
        (state.target_critic.ensemble.members, sb3_critic("after", "critic_target")),
    ]
    for mlp, theirs in pairs:
        for mine, other in zip(arrays(mlp), theirs, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-5)
    np.testing.assert_allclose(state.log_alpha, FIXTURE["after/log_ent_coef"][0], atol=1e-6)
