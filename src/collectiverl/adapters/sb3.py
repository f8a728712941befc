"""Policies that Stable-Baselines3 saved (`.zip`), read as data: neither it nor PyTorch is needed, nothing is unpickled.

Such a file holds `data`, which is JSON with pickled parts in base64, and `policy.pth`, the networks' weights. Settings
that are plain JSON are read from `data`, and the text that stands beside its pickled parts; sizes are those of the
weights. Weights that do not belong to a multilayer perceptron are refused.
"""

import importlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from collectiverl.adapters import sbx
from collectiverl.adapters.networks import ACTIVATIONS, Layer, Network, arrays_of
from collectiverl.adapters.pickles import NotData, member, setting, state_dict
from collectiverl.artifacts.files import parse_json
from collectiverl.artifacts.tensors import check_finite
from collectiverl.imports import calling
from collectiverl.types import UserError, ValueUnit

ON_POLICY = ("ppo", "a2c", "trpo")
IGNORED = re.compile(r"(actor_target|critic_target)\.")
TORCH_NAMES = {"ReLU": "relu", "Tanh": "tanh", "ELU": "elu", "SiLU": "silu", "LeakyReLU": "leaky_relu"}
UNPICKLE = "unpickle:"
RISK = "that unpickles the file, and a pickle can run any program on this machine, so trust its origin first"


def read_zip(path: Path) -> Network:
    """The actor, and the critics if they are perceptrons as well.

    Raises:
        UserError: there is no such file, or it cannot be read as data; the message says what else can be done.
    """
    _check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            about = _settings(archive)
            library, algorithm = made_by(about)
            if library == "sbx":
                network = sbx.network(about, algorithm)
            else:
                network = _network(about, algorithm, state_dict(member(archive, "policy.pth")))
    except (ValueError, zipfile.BadZipFile, NotImplementedError, OverflowError, EOFError) as error:
        raise UserError(
            f"{path} cannot be read as data: {error}. Write a function that loads it, and name that function "
            f"(package.module:function); or name {UNPICKLE}{path}: {RISK}"
        ) from error
    check_finite(arrays_of(network), path)
    return network


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"there is no file {path}: name a .zip that Stable-Baselines3 or SBX saved")


def _settings(archive: zipfile.ZipFile) -> Mapping[str, Any]:
    try:
        about = parse_json(member(archive, "data"))
    except ValueError as error:
        raise NotData(f"its settings are not readable ({error})") from error
    if not isinstance(about, dict):
        raise NotData("its settings are no JSON object")
    return about


def made_by(about: Mapping[str, Any]) -> tuple[str, str]:
    """Library and algorithm, such as `stable_baselines3` and `sac`, by the module of the policy's class."""
    module = str(_inside(about, "policy_class").get("__module__", ""))
    if module == "stable_baselines3.common.policies":
        return "stable_baselines3", "ppo"  # A2C has the same
    found = re.fullmatch(r"(stable_baselines3|sb3_contrib|sbx)\.(\w+)\.policies", module)
    if found is None:
        raise NotData(f"its policy is of {module or 'an unknown class'}, not of Stable-Baselines3 or SBX")
    return found[1], found[2]


def _inside(about: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = about.get(name)
    return found if isinstance(found, dict) else {}


def _network(about: Mapping[str, Any], algorithm: str, arrays: Mapping[str, np.ndarray]) -> Network:
    _check_spaces(about, algorithm)
    left = {name: array for name, array in arrays.items() if not IGNORED.match(name)}
    known = (*sbx.KNOWN, *ON_POLICY)
    if algorithm not in known:
        raise NotData(f"it is of the algorithm {algorithm}, and what is read are {', '.join(known)}")
    on_policy = algorithm in ON_POLICY
    log_std: Layer | np.ndarray | None = None
    if on_policy:
        body, mean = _layers(left, "mlp_extractor.policy_net"), _layer(left, "action_net")
        log_std = left.pop("log_std", None)
        _layers(left, "mlp_extractor.value_net")  # taken out: V, not Q, is of no use here
        _layer(left, "value_net")
        if log_std is None or log_std.ndim != 1:
            raise NotData("its deviation depends on the state (use_sde), or its actions are not continuous")
    elif algorithm in sbx.GAUSSIAN:
        body, mean = _layers(left, "actor.latent_pi"), _layer(left, "actor.mu")
        log_std = _layer(left, "actor.log_std")
    else:
        *most, mean = _layers(left, "actor.mu")
        body = tuple(most)
    critics = tuple(_critics(left))
    if left:
        raise NotData(f"it has weights that are no perceptron's, such as {sorted(left)[0]}")
    return Network(
        made_by=f"Stable-Baselines3 {algorithm.upper()}",
        activation=_activation(about, "tanh" if on_policy else "relu"),
        squashed=not on_policy,
        body=body,
        mean=mean,
        log_std=log_std,
        critics=critics,
        unit=ValueUnit(1.0, setting(about, "gamma", 0.99, most=1)),
        env_steps=int(setting(about, "num_timesteps", 0, most=2**63)),
    )


def _check_spaces(about: Mapping[str, Any], algorithm: str) -> None:
    """What the weights do not show. Squashed actions are in [-1, 1], whatever the environment makes of them."""
    kind = str(_inside(about, "observation_space").get(":type:", ""))
    if "Dict" in kind:
        raise NotData(
            "its observations are dictionaries, of which it does not say in which order they are read"
        )
    if about.get("use_sde"):
        raise NotData("it explores by a state-dependent deviation (use_sde)")
    if algorithm not in ON_POLICY:
        return
    action = _inside(about, "action_space")
    bounds = [_numbers(action.get(name)) for name in ("low", "high")]
    if any(b is not None and not np.allclose(b, limit) for b, limit in zip(bounds, (-1, 1), strict=True)):
        raise NotData(
            "its actions are not in [-1, 1]: wrap its environment in gymnasium.wrappers.RescaleAction(env, -1, 1)"
        )


def _numbers(text: Any) -> np.ndarray | None:
    """The numbers of an array that was printed; None if it was shortened or is none."""
    found = re.fullmatch(r"\[([-+.\deE\s]+)\]", text) if isinstance(text, str) else None
    return np.array(found[1].split(), float) if found else None


def _activation(about: Mapping[str, Any], default: str) -> str:
    asked = _inside(about, "policy_kwargs")
    if asked.get("features_extractor_class"):
        raise NotData("it has a features extractor of its own")
    name = asked.get("activation_fn")
    if name is None:
        return default
    short = str(name).rpartition(".")[2].rstrip("'>")
    if TORCH_NAMES.get(short) not in ACTIVATIONS:
        raise NotData(f"its activation is {short}, and what is read are {', '.join(TORCH_NAMES)}")
    return TORCH_NAMES[short]


def _layers(left: dict[str, np.ndarray], name: str) -> tuple[Layer, ...]:
    """The linear layers of a sequence, in which every second place is an activation; they are taken out of `left`."""
    found = []
    while f"{name}.{2 * len(found)}.weight" in left:
        found.append(_layer(left, f"{name}.{2 * len(found)}"))
    if any(key.startswith(f"{name}.") for key in left):
        raise NotData(f"{name} is not made of linear layers and activations alone")
    return tuple(found)


def _layer(left: dict[str, np.ndarray], name: str) -> Layer:
    try:
        weight, bias = left.pop(f"{name}.weight"), left.pop(f"{name}.bias")
    except KeyError:
        raise NotData(f"it has no layer {name}") from None
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise NotData(f"{name} is no linear layer")
    return Layer(weight.T.astype(np.float32), bias.astype(np.float32))


def _critics(left: dict[str, np.ndarray]) -> list[tuple[Layer, ...]]:
    """The critics that give one value; those of quantiles are left out."""
    names = sorted({key.split(".")[1] for key in left if re.match(r"critic\.(qf|critic)\d+\.", key)})
    found = [_layers(left, f"critic.{name}") for name in names]
    return [critic for critic in found if critic and critic[-1].weight.shape[1] == 1]


# -- with the library itself -------------------------------------------------------------------------------


def unpickled(path: Path) -> Any:
    """The model, loaded by the library that made it: this runs what is pickled in the file.

    Raises:
        UserError: there is no such file, the library is not installed, or it cannot load the file.
    """
    _check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            library, algorithm = made_by(_settings(archive))
    except (ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} does not say which algorithm made it: {error}") from error
    try:
        kind = getattr(importlib.import_module(library), algorithm.upper())
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{path} is loaded by {library}, which cannot be used here ({error}): install it, for example with "
            "pip install 'collectiverl[bench]'"
        ) from error
    with calling(f"{library}.{algorithm.upper()}", f"load {path}"):
        return kind.load(path, device="cpu")
