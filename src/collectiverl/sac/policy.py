"""SAC agents as policies: deterministic as experts and teachers, stochastic in training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from collectiverl.artifacts import checkpoints, configs, sealed
from collectiverl.artifacts.files import write_json
from collectiverl.artifacts.modules import load_module
from collectiverl.envs.policy import CheckedPolicy, Given
from collectiverl.nn import padding
from collectiverl.sac.agent import Agent, SACConfig, batch_of_one, expert_count, init_agent
from collectiverl.types import AnyArray, Labels, ValueUnit

WEIGHTS = "agent.safetensors"
ABOUT = "agent.json"


@eqx.filter_jit
def act(agents: Agent, obs: Float[AnyArray, "E N O"]) -> Float[Array, "E N A"]:
    """The deterministic actions of E agents."""
    return eqx.filter_vmap(lambda agent, o: agent.policy(o).mode)(agents, obs)


@eqx.filter_jit
def explore(agents: Agent, obs: Float[AnyArray, "E N O"], key: PRNGKeyArray) -> Float[Array, "E N A"]:
    """Actions drawn from the policies of E agents."""
    keys = jax.random.split(key, obs.shape[0])
    return eqx.filter_vmap(lambda agent, o, k: agent.policy(o).sample(k)[0])(agents, obs, keys)


@eqx.filter_jit
def _label(
    agent: Agent, obs: Float[AnyArray, "T O"], action: Float[AnyArray, "T A"]
) -> tuple[Array, Array, Array]:
    gaussian = agent.policy(obs)
    return gaussian.mode, gaussian.log_std, agent.q(obs, action)


class AgentPolicy:
    """E agents in training, playing deterministically, each in its own share of the environments.

    Nothing is checked: observations may be windows with unknown rewards, see `student.trained_encoder`.
    """

    def __init__(self, agents: Agent):
        self.agents = agents
        self.experts = expert_count(agents)

    def eval_action(self, observations: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        obs = np.asarray(observations, np.float32).reshape(self.experts, -1, observations.shape[-1])
        return padding.call(act, self.agents, obs, axis=1).reshape(len(observations), -1)

    def reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        pass

    def observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        pass


class Expert(CheckedPolicy):
    """One trained agent: plays, and labels episodes that anybody played.

    Args:
        unit: of the agent's values, `SACConfig.value_unit` of its training; it travels with the labels.
    """

    uses_jax: ClassVar[bool] = True

    def __init__(self, agent: Agent, unit: ValueUnit):
        super().__init__(agent.normalizer.feature_dim, agent.actor.action_dim)
        self.agent, self.unit, self.playing = agent, unit, AgentPolicy(batch_of_one(agent))

    def _act(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        return self.playing.eval_action(obs)

    def label(self, obs: Given, action: Given) -> Labels:
        obs, action = self.check_steps(obs, action)
        mean, log_std, q = padding.call(_label, self.agent, obs, action)
        return Labels(mean, log_std, q, self.unit)


def save_agent(folder: Path, agent: Agent, config: SACConfig, **about: object) -> None:
    """Writes the weights, and the settings and sizes that `load_agent` rebuilds the networks from."""
    checkpoints.save_tree(folder / WEIGHTS, agent)
    sizes = {"obs_dim": agent.normalizer.feature_dim, "action_dim": agent.actor.action_dim}
    write_json(folder / ABOUT, {"sac": sealed.to_jsonable(config), **sizes, **about})


def load_agent(folder: Path) -> tuple[Agent, SACConfig]:
    """The agent sealed in `folder`, its files verified."""

    def make(about: Mapping[str, Any], key: PRNGKeyArray) -> Agent:
        said = configs.reader(about, ABOUT)
        return init_agent(said("obs_dim", int), said("action_dim", int), _config(about), key)

    agent, about = load_module(folder, about=ABOUT, weights=WEIGHTS, make=make)
    return agent, _config(about)


def _config(about: Mapping[str, Any]) -> SACConfig:
    return configs.build(SACConfig, about["sac"], f"{ABOUT}: sac")


def load_expert(folder: Path) -> Expert:
    agent, config = load_agent(folder)
    return Expert(agent, config.value_unit)
