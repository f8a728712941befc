"""Our settings as arguments of a peer's SAC, as far as its interface takes them; nothing is written twice.

Rewards are scaled and observations standardised by the environments (`our_envs.training_env`). What a peer does not
take is in `NOT_TAKEN`, and besides: our bounds of log sigma are smooth; SBX initialises its layers otherwise (LeCun's
normal distribution, ours and Stable-Baselines3's are uniform); both peers reset once, ours every 50,000 steps.

SBX holds its noise from one rollout to the next (`use_sde`, which in SBX is no more than that), so its rollouts are as
long as our noise is held: it makes the same number of updates, eight vector steps' at a time.
"""

from functools import partial
from typing import Any

from collectiverl.sac.agent import SACConfig
from collectiverl.sac.settings import TrainConfig

NOT_TAKEN: dict[str, tuple[str, ...]] = {
    # all learn at the actor's rate; the last actor is evaluated; products are in float32
    "sbx": (
        *("sac.critic_learning_rate", "sac.temperature_learning_rate"),
        *("sac.actor_average", "sac.precision"),
    ),
    # its state-dependent noise is another distribution than ours; critics have no layer normalisation
    "sb3": (
        *("sac.critic_learning_rate", "sac.temperature_learning_rate"),
        *("sac.actor_average", "sac.precision", "noise_hold"),
        *("sac.layer_norm", "sac.log_std_min", "sac.log_std_max"),
    ),
}


def our_settings(peer: str, train: TrainConfig, action_dim: int) -> dict[str, Any]:
    """Arguments of the SAC of `sbx` or `sb3`."""
    sac = train.sac
    return {
        "learning_rate": sac.learning_rate,
        "buffer_size": train.capacity,
        "learning_starts": train.warmup,
        "batch_size": sac.batch_size,
        "tau": sac.tau,
        "gamma": sac.gamma,
        "n_steps": sac.n_step,
        "ent_coef": f"auto_{sac.initial_temperature}",
        "target_entropy": sac.entropy_per_action * action_dim,
        "policy_kwargs": _networks(peer, sac),
        **_updates(peer, train),
    }


def _updates(peer: str, train: TrainConfig) -> dict[str, Any]:
    """How often the peer learns, and how long it keeps its noise, in vector steps."""
    hold = train.noise_hold if peer == "sbx" else 1
    return {
        "train_freq": hold,
        "gradient_steps": hold * train.updates_per_step,
        **({"use_sde": True} if hold > 1 else {}),
    }


def _networks(peer: str, sac: SACConfig) -> dict[str, Any]:
    layers = {"net_arch": [sac.width] * sac.depth}
    if peer == "sb3":
        return layers
    from sbx.common.policies import SquashedGaussianActor

    actor = partial(SquashedGaussianActor, log_std_min=sac.log_std_min, log_std_max=sac.log_std_max)
    return layers | {"layer_norm": sac.layer_norm, "actor_class": actor}
