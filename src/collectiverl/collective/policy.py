"""The collective: one agent over `[z, features]`, and the conditioning that computes `z`."""

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from collectiverl.artifacts import checkpoints, configs, sealed
from collectiverl.artifacts.files import write_json
from collectiverl.artifacts.modules import load_module
from collectiverl.collective.conditioning import CONDITIONINGS, Conditioning
from collectiverl.collective.probing import ProbingConfig, probe
from collectiverl.envs.layout import fits, lay_out
from collectiverl.envs.make import laid_out
from collectiverl.envs.policy import CheckedPolicy, Given, check_computed
from collectiverl.nn import padding
from collectiverl.representation.encoder import Encoder, EncoderConfig, init_encoder
from collectiverl.representation.scales import Scales
from collectiverl.sac.agent import Agent, AgentConfig, batch_of_one, init_agent
from collectiverl.sac.policy import act
from collectiverl.types import AnyArray, EnvSpec, UserError, Window

WEIGHTS = "collective.safetensors"
UNTOLD = "it sees no goals, and only rewards tell where to go: call policy.observe(rewards) after each step"
ABOUT = "collective.json"


class Running(NamedTuple):
    """What a collective remembers of N running trajectories; immutable."""

    condition: Any  # the conditioning's state, of N rows filled up as in `nn.padding`
    latest: Window  # the last step alone, filled up likewise
    begins: Bool[np.ndarray, "N"]  # a new episode begins with the next observation
    action: Float[np.ndarray, "N A"]  # taken since the last observation
    reward: Float[np.ndarray, "N"]  # for that action; nan: unknown

    def acted(self, action: Float[np.ndarray, "N A"]) -> "Running":
        return self._replace(action=np.array(action, np.float32))  # a copy: callers reuse their buffers

    def rewarded(self, reward: Float[np.ndarray, "N"]) -> "Running":
        return self._replace(reward=np.array(reward, np.float32))

    def reset(self, mask: Bool[np.ndarray, "N"]) -> "Running":
        """The environments in `mask` begin a new episode with their next observation."""
        return self._replace(begins=self.begins | mask)


class Collective(eqx.Module):
    """All that is needed to act: the conditioning with its encoder, actor and critic, and statistics of the inputs."""

    agent: Agent  # over [z, features]
    conditioning: Conditioning
    scales: Scales
    tasks: tuple[str, ...] = eqx.field(static=True)
    spec: EnvSpec = eqx.field(static=True)  # of the environments that it was trained in
    goals_hidden: bool = eqx.field(static=True, default=False)  # the goal's entries are zero for it
    probing: ProbingConfig = eqx.field(static=True, default=ProbingConfig())

    @property
    def encoder(self) -> Encoder | None:
        """The encoder that reads the trajectory; None: there is none."""
        return self.conditioning.reader

    @property
    def condition_dim(self) -> int:
        """Entries of `z`."""
        return self.agent.normalizer.feature_dim - self.scales.feature_dim

    def state_of(self, obs: Float[np.ndarray, "*batch O"]) -> Float[np.ndarray, "*batch S"]:
        """The state that it sees in observations, which may be a task's own or laid out already."""
        return visible_state(lay_out(np.asarray(obs, np.float32), self.spec), self.spec, self.goals_hidden)

    def begin(self, num_envs: int, tasks: Sequence[str] = ()) -> Running:
        """`num_envs` trajectories that have not begun; only `task_id` conditioning reads `tasks`."""
        rows = padding.filled(num_envs)
        latest = Window(
            np.zeros((rows, 1, self.spec.state_dim), np.float32),
            np.zeros((rows, 1, self.spec.action_dim), np.float32),
            np.zeros((rows, 1), np.float32),
            np.zeros((rows, 1), bool),
        )
        action = np.zeros((num_envs, self.spec.action_dim), np.float32)
        unknown = np.full(num_envs, np.nan, np.float32)
        condition = self.conditioning.begin(rows, (*tasks, *tuple(tasks[-1:]) * (rows - num_envs)))
        return Running(condition, latest, np.ones(num_envs, bool), action, unknown)

    def see(
        self, running: Running, obs: Float[np.ndarray, "N O"]
    ) -> tuple[Running, Float[np.ndarray, "N seen"]]:
        """Takes in the observations; what the networks see of them.

        Before the next call, tell the actions with `Running.acted` and the rewards with `Running.rewarded`. Rewards
        that are not told are unknown. Returns the new state, and what actor and critic read.
        """
        state, begins = self.state_of(obs), running.begins
        action = np.where(begins[:, None], 0, running.action)
        reward = np.where(begins, np.float32(np.nan), running.reward)
        step = Window(state[:, None], action[:, None], reward[:, None], np.ones((len(state), 1), bool))
        step = Window(*map(padding.fill, step))
        condition, seen = advance(self, running.condition, running.latest, step, padding.fill(begins))
        count, unknown = len(state), np.full(len(state), np.nan, np.float32)
        running = Running(condition, step, np.zeros(count, bool), running.action, unknown)
        return running, np.asarray(seen)[:count]


def visible_state(
    obs: Float[np.ndarray, "*batch O"], spec: EnvSpec, goals_hidden: bool
) -> Float[np.ndarray, "*batch S"]:
    """The entries of the state; those of the goal are zero if goals are hidden."""
    seen = np.asarray(obs, np.float32)[..., list(spec.state_index)]
    if goals_hidden:
        seen[..., np.isin(spec.state_index, spec.goal_index)] = 0
    return seen


@eqx.filter_jit
def advance(
    collective: Collective, condition: Any, before: Window, latest: Window, begins: Bool[AnyArray, "N"]
) -> tuple[Any, Float[Array, "N seen"]]:
    """One more step of each trajectory (windows of length 1): the conditioning's state, and what the networks see."""
    condition, z = collective.conditioning.step(condition, latest, jnp.asarray(begins))
    before = before._replace(mask=before.mask & ~begins[:, None])
    pair = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), before, latest)
    return condition, jnp.concatenate([z, collective.scales(pair).features[-1]], axis=-1)


class CollectivePolicy(CheckedPolicy):
    """The collective as a policy: it infers the task from observations, actions, and the rewards given to `observe`.

    Args:
        tasks: the task of each environment, or one for all; only `task_id` conditioning reads them.
    """

    remembers: ClassVar[bool] = True
    uses_jax: ClassVar[bool] = True

    def __init__(self, collective: Collective, tasks: Sequence[str] = ()):
        shapes = collective.spec
        super().__init__(shapes.obs_dim, shapes.action_dim, len(tasks) if len(tasks) > 1 else None)
        self.collective, self.tasks = collective, tuple(tasks)
        self.agents = batch_of_one(collective.agent)
        self.forget()

    @property
    def needs_rewards(self) -> bool:
        """Whether it cannot know what to do without rewards."""
        return self.collective.goals_hidden

    def forget(self) -> None:
        """All environments: the next ones may be of any number."""
        self.num_envs, self.running, self.age = None, None, np.zeros(0, np.int64)
        self.told = self.warned = False  # the rewards of the last step; that they are missing

    def check(self, spec: EnvSpec) -> None:
        check_shapes(self.collective, spec)
        super().check(spec)

    def eval_action(self, observations: Given) -> Float[np.ndarray, "N A"]:
        """Also of observations that are a task's own, where the tasks have states of different length."""
        return super().eval_action(laid_out(observations, self.collective.spec, self.collective.tasks))

    def _act(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        before = self._running
        if self.needs_rewards and not (self.told or self.warned or before.begins.all()):
            warnings.warn(UNTOLD, stacklevel=4)
            self.warned = True
        running, seen = self.collective.see(before, obs)
        check_computed(seen)
        action = padding.call(act, self.agents, self._used(seen)[None], axis=1)[0]
        c = self.collective
        action = probe(action, self.age, c.probing, c.spec.moving_index)
        self.running, self.age, self.told = running.acted(action), self.age + 1, False
        return action

    @property
    def _running(self) -> Running:
        if self.running is None:
            raise UserError("this policy plays no environments yet: call reset(numpy.ones(N, bool)) first")
        return self.running

    def _used(self, seen: Float[np.ndarray, "N seen"]) -> Float[np.ndarray, "N seen"]:
        """What the actor reads of what is seen."""
        return seen

    def executed(self, actions: Float[np.ndarray, "N A"]) -> None:
        """Replaces the actions last returned by those really taken, as where a teacher takes over."""
        self.running = self._running.acted(actions)

    def _reset(self, env_mask: Bool[np.ndarray, "N"]) -> None:
        if self.running is None or len(env_mask) != len(self.age):
            tasks = self.tasks * len(env_mask) if len(self.tasks) == 1 else self.tasks
            self.running = self.collective.begin(len(env_mask), tasks)
            self.age = np.zeros(len(env_mask), np.int64)
        self.running = self.running.reset(env_mask)
        self.age = np.where(env_mask, 0, self.age)

    def _observe(self, rewards: Float[np.ndarray, "N"]) -> None:
        self.running = self._running.rewarded(rewards)
        self.told, self.warned = True, False


class Redirected(CollectivePolicy):
    """Acts on another `z` than the one that it infers."""

    @abstractmethod
    def redirect(self, z: Float[np.ndarray, "N Z"]) -> Float[np.ndarray, "N Z"]:
        """What the actor reads in place of the inferred `z`; called once a step."""

    def _used(self, seen: Float[np.ndarray, "N seen"]) -> Float[np.ndarray, "N seen"]:
        z, features = np.split(seen, [self.collective.condition_dim], axis=-1)
        return np.concatenate([self.redirect(z), features], axis=-1)


class Shuffled(Redirected):
    """Acts on the `z` of another environment, rolled by `shift` places, to test whether `z` is used at all."""

    def __init__(self, collective: Collective, tasks: Sequence[str], shift: int):
        super().__init__(collective, tasks)
        self.shift = shift

    def redirect(self, z: Float[np.ndarray, "N Z"]) -> Float[np.ndarray, "N Z"]:
        return np.roll(z, self.shift, axis=0)


# -- on disk -----------------------------------------------------------------------------------------------


def save_collective(
    folder: Path, collective: Collective, sac: AgentConfig, encoder: EncoderConfig | None
) -> None:
    checkpoints.save_tree(folder / WEIGHTS, collective)
    about = {
        "sac": sealed.to_jsonable(sac),
        "encoder": sealed.to_jsonable(encoder) if encoder else None,
        "conditioning": collective.conditioning.name,
        "condition_dim": collective.condition_dim,
        "points": list(collective.scales.points),
        "tasks": list(collective.tasks),
        "spec": sealed.to_jsonable(collective.spec),
        "goals_hidden": collective.goals_hidden,
        "probing": sealed.to_jsonable(collective.probing),
        **collective.conditioning.about(),
    }
    write_json(folder / ABOUT, about)


def load_collective(folder: Path) -> tuple[Collective, AgentConfig, EncoderConfig | None]:
    """The collective sealed in `folder`, its files verified, and the settings of its networks."""
    collective, about = load_module(folder, about=ABOUT, weights=WEIGHTS, make=_blank)
    return collective, _agent_config(about), _encoder_config(about)


def _agent_config(about: Mapping[str, Any]) -> AgentConfig:
    """Files of version 0.2 also name settings of SAC, which a collective does not use."""
    used = {field.name for field in fields(AgentConfig)}
    said = {name: value for name, value in about["sac"].items() if name in used}
    return configs.build(AgentConfig, said, f"{ABOUT}: sac")


def _encoder_config(about: Mapping[str, Any]) -> EncoderConfig | None:
    return configs.build(EncoderConfig, about["encoder"], f"{ABOUT}: encoder") if about["encoder"] else None


def _blank(about: Mapping[str, Any], key: PRNGKeyArray) -> Collective:
    k_agent, k_encoder = jax.random.split(key)
    spec, said = configs.build(EnvSpec, about["spec"], f"{ABOUT}: spec"), configs.reader(about, ABOUT)
    points, encoder = said("points", tuple[tuple[int, ...], ...]), _encoder_config(about)
    scales, sizes = Scales.identity(spec.state_dim, points), (spec.state_dim, spec.action_dim)
    reader = init_encoder(encoder, *sizes, k_encoder, points) if encoder else None
    seen = said("condition_dim", int) + scales.feature_dim
    return Collective(
        agent=init_agent(seen, spec.action_dim, _agent_config(about), k_agent),
        conditioning=CONDITIONINGS[about["conditioning"]].blank(reader, dict(about)),
        scales=scales,
        tasks=said("tasks", tuple[str, ...]),
        spec=spec,
        goals_hidden=said("goals_hidden", bool),
        probing=configs.build(ProbingConfig, about["probing"], f"{ABOUT}: probing"),
    )


def check_shapes(collective: Collective, spec: EnvSpec) -> None:
    """Raises if the collective cannot play in environments of these shapes."""
    own = collective.spec
    if (own.state_index, own.action_dim) != (spec.state_index, spec.action_dim) and not fits(spec, own):
        raise UserError(
            f"this collective was trained on states of {own.state_dim} entries and {own.action_dim} actions, "
            f"{spec.task} has {spec.state_dim} and {spec.action_dim}"
        )
