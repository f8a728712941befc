"""Actors and critics of other libraries: multilayer perceptrons in NumPy, which play and label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from collectiverl.artifacts import configs
from collectiverl.artifacts.files import write_json
from collectiverl.artifacts.modules import NOT_DESCRIBED, described_in
from collectiverl.artifacts.tensors import check_finite, load_arrays, save_arrays
from collectiverl.envs.policy import CheckedPolicy
from collectiverl.envs.scripted import SIGMA
from collectiverl.types import EnvSpec, Labels, UserError, ValueUnit

ABOUT, WEIGHTS = "network.json", "network.safetensors"
EPSILON = 1e-6  # of layer normalisation in Flax
STEEPEST = 0.1  # least slope of tanh by which a deviation in action space is divided
Activation = Literal["relu", "tanh", "elu", "silu", "leaky_relu"]
ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
}
assert tuple(ACTIVATIONS) == get_args(Activation)


@dataclass(frozen=True)
class Layer:
    """A linear layer; in a critic of SBX it may be normalised before its activation."""

    weight: Float[np.ndarray, "inputs outputs"]
    bias: Float[np.ndarray, "outputs"]
    scale: Float[np.ndarray, "outputs"] | None = None  # of layer normalisation; None: there is none
    shift: Float[np.ndarray, "outputs"] | None = None

    def __call__(self, x: Float[np.ndarray, "N inputs"]) -> Float[np.ndarray, "N outputs"]:
        y = x @ self.weight + self.bias
        if self.scale is None or self.shift is None:
            return y
        centred = y - y.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * self.scale + self.shift


@dataclass(frozen=True, kw_only=True)
class Network:
    """An actor, and critics if there are any.

    Its parts are sequences of layers: all of `body` are followed by the activation, of the others all but the last.
    """

    made_by: str  # library and algorithm
    activation: str  # one of ACTIVATIONS
    squashed: bool  # the action is tanh(mean); otherwise the mean, clipped
    body: tuple[Layer, ...]
    mean: Layer
    log_std: Layer | Float[np.ndarray, "A"] | None  # of the state, or the same everywhere; None: it has none
    log_std_bounds: tuple[float, float] = (-20.0, 2.0)
    critics: tuple[tuple[Layer, ...], ...] = ()
    unit: ValueUnit  # of the critics' values
    env_steps: int = 0  # that it was trained for

    def __post_init__(self) -> None:
        """Raises ValueError if the layers do not fit each other."""
        head = (*self.body, self.mean)
        read = (*self.body, self.log_std) if isinstance(self.log_std, Layer) else head
        pair = self.obs_dim + self.action_dim
        chains = [(self.obs_dim, head), (self.obs_dim, read), *((pair, critic) for critic in self.critics)]
        for size, layers in chains:
            for layer in layers:
                if layer.weight.shape[0] != size:
                    raise ValueError("its layers do not fit each other")
                size = layer.weight.shape[1]
        spread = self.log_std.bias if isinstance(self.log_std, Layer) else self.log_std
        if spread is not None and spread.shape != (self.action_dim,):
            raise ValueError("its deviation is not that of its actions")

    @property
    def obs_dim(self) -> int:
        return (*self.body, self.mean)[0].weight.shape[0]

    @property
    def action_dim(self) -> int:
        return self.mean.weight.shape[1]

    def features(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N F"]:
        activate = ACTIVATIONS[self.activation]
        x = np.asarray(obs, np.float32)
        for layer in self.body:
            x = activate(layer(x))
        return x

    def action(self, features: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N A"]:
        mean = self.mean(features)
        return np.tanh(mean) if self.squashed else np.clip(mean, -1, 1)

    def q(self, obs: Float[np.ndarray, "N O"], action: Float[np.ndarray, "N A"]) -> Float[np.ndarray, "N"]:
        """The smallest value that a critic gives."""
        activate = ACTIVATIONS[self.activation]
        found = []
        for critic in self.critics:
            x = np.concatenate([obs, action], axis=1, dtype=np.float32)
            for layer in critic[:-1]:
                x = activate(layer(x))
            found.append(critic[-1](x)[:, 0])
        return np.min(found, axis=0)


class NetworkPolicy(CheckedPolicy):
    """Plays, and labels what anybody played."""

    def __init__(self, network: Network):
        super().__init__(network.obs_dim, network.action_dim)
        self.network = network

    def _act(self, obs: Float[np.ndarray, "N O"]) -> Float[np.ndarray, "N A"]:
        return self.network.action(self.network.features(obs))

    def check(self, spec: EnvSpec) -> None:
        check_shapes(self.network, spec)

    def label(self, obs: Float[np.ndarray, "T O"], action: Float[np.ndarray, "T A"]) -> Labels:
        obs, action = self.check_steps(obs, action)
        n = self.network
        features = n.features(obs)
        mean = n.action(features).astype(np.float32)
        log_std = self._log_std(features, mean).astype(np.float32)
        if not n.critics:
            return Labels(mean, log_std, None)
        return Labels(mean, log_std, n.q(obs, action).astype(np.float32), n.unit)

    def _log_std(self, features: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Of the Gaussian before tanh. One that is not squashed gets the deviation that tanh makes into its own."""
        n = self.network
        if n.log_std is None:
            return np.full_like(mean, np.log(SIGMA))
        found = (
            n.log_std(features) if isinstance(n.log_std, Layer) else np.broadcast_to(n.log_std, mean.shape)
        )
        if not n.squashed:
            found = found - np.log(np.maximum(1 - mean**2, STEEPEST))
        return np.clip(found, *n.log_std_bounds)


def check_shapes(network: Network, spec: EnvSpec) -> None:
    """Raises if the network cannot play in environments of these shapes."""
    found = network.obs_dim, network.action_dim
    if found != (spec.obs_dim, spec.action_dim):
        raise UserError(
            f"this policy ({network.made_by}) was trained on observations of {found[0]} entries and {found[1]} "
            f"actions, {spec.task} has {spec.obs_dim} and {spec.action_dim}"
        )


# -- on disk -----------------------------------------------------------------------------------------------


def _parts(network: Network) -> dict[str, Sequence[Layer]]:
    n = network
    parts: dict[str, Sequence[Layer]] = {"body": n.body, "mean": (n.mean,)}
    parts |= {f"critic{i}": critic for i, critic in enumerate(n.critics)}
    return parts | ({"log_std": (n.log_std,)} if isinstance(n.log_std, Layer) else {})


def arrays_of(network: Network) -> dict[str, np.ndarray]:
    """All weights, by name."""
    arrays: dict[str, np.ndarray] = {}
    if isinstance(network.log_std, np.ndarray):
        arrays["log_std"] = network.log_std
    for part, layers in _parts(network).items():
        for i, layer in enumerate(layers):
            arrays |= {f"{part}.{i}.{k}": v for k, v in vars(layer).items() if v is not None}
    return arrays


def save_network(folder: Path, network: Network) -> None:
    """Arrays as safetensors, and the rest as JSON."""
    n = network
    about = {
        "made_by": n.made_by,
        "activation": n.activation,
        "squashed": n.squashed,
        "log_std_bounds": n.log_std_bounds,
        "unit": n.unit,
        "env_steps": n.env_steps,
        "layers": {part: len(layers) for part, layers in _parts(n).items()},
    }
    save_arrays(folder / WEIGHTS, arrays_of(n))
    write_json(folder / ABOUT, about)


def load_network(folder: Path) -> Network:
    """The network sealed in `folder`, its files verified."""
    about, arrays = described_in(folder, ABOUT, WEIGHTS), load_arrays(folder / WEIGHTS)
    check_finite(arrays, folder / WEIGHTS)
    try:
        return _network(about, arrays)
    except NOT_DESCRIBED as error:
        raise UserError(f"{folder / ABOUT} does not describe what is in {WEIGHTS} ({error!r})") from error


def _network(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Network:
    said = configs.reader(about, ABOUT)
    count = configs.reader(about["layers"], f"{ABOUT}: layers")

    def part(name: str) -> tuple[Layer, ...]:
        keys = [f"{name}.{i}." for i in range(min(count(name, int), len(arrays)))]
        return tuple(
            Layer(**{k.removeprefix(key): v for k, v in arrays.items() if k.startswith(key)}) for key in keys
        )

    critics = sorted(name for name in about["layers"] if name.startswith("critic"))
    low, high = said("log_std_bounds", tuple[float, ...])
    return Network(
        made_by=said("made_by", str),
        activation=said("activation", Activation),
        squashed=said("squashed", bool),
        body=part("body"),
        mean=part("mean")[0],
        log_std=part("log_std")[0] if "log_std" in about["layers"] else arrays.get("log_std"),
        log_std_bounds=(low, high),
        critics=tuple(map(part, critics)),
        unit=ValueUnit(*said("unit", tuple[float, ...])),
        env_steps=configs.read_as(about["env_steps"], int, f"{ABOUT}: env_steps"),
    )
