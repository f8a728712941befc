"""Policies that SBX saved, read as data.

SBX keeps its networks inside the pickled part of `data`. That pickle is not loaded: it is read into a description of
what it would make (`pickles.recorded`), in which the networks' parameters are looked up.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from collectiverl.adapters.networks import ACTIVATIONS, Layer, Network
from collectiverl.adapters.pickles import NotData, array_of, fields_of, recorded, setting
from collectiverl.types import ValueUnit

GAUSSIAN, DETERMINISTIC = ("sac", "tqc"), ("td3", "ddpg")
KNOWN = (*GAUSSIAN, *DETERMINISTIC)


def network(about: Mapping[str, Any], algorithm: str) -> Network:
    """The actor, and the critics if they give one value each.

    Raises:
        NotData: it is of another algorithm, or has networks that are no perceptrons.
    """
    if algorithm not in KNOWN:
        raise NotData(f"it is of SBX's algorithm {algorithm}, and what is read are {', '.join(KNOWN)}")
    policy = fields_of(recorded(_pickled(about)))
    actor = [_layer(one) for one in _dense(_parameters(policy, "actor_state"))]
    gaussian = algorithm in GAUSSIAN
    if len(actor) < 1 + gaussian:
        raise NotData("its actor has too few layers")
    *body, mean = actor[: len(actor) - gaussian]
    return Network(
        made_by=f"SBX {algorithm.upper()}",
        activation=_activation(about),
        squashed=True,
        body=tuple(body),
        mean=mean,
        log_std=actor[-1] if gaussian else None,
        critics=_critics(policy) if algorithm != "tqc" else (),
        unit=ValueUnit(1.0, setting(about, "gamma", 0.99, most=1)),
        env_steps=int(setting(about, "num_timesteps", 0, most=2**63)),
    )


def _pickled(about: Mapping[str, Any]) -> bytes:
    policy = about.get("policy")
    try:
        return base64.b64decode(policy[":serialized:"])  # type: ignore[index]
    except (TypeError, KeyError, ValueError):
        raise NotData("it has no policy") from None


def _parameters(policy: Mapping[str, Any], state: str) -> Mapping[str, Any]:
    """The parameters of a Flax module, by the names of its layers."""
    found = fields_of(policy.get(state)).get("params")
    inner = found.get("params") if isinstance(found, dict) else None
    if not isinstance(inner, dict):
        raise NotData(f"it has no parameters of {state}")
    return inner


def _dense(module: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """The linear layers of a module in their order, each with the normalisation behind it.

    Raises:
        NotData: the module has other layers.
    """
    parts = {name: re.fullmatch(r"(Dense|LayerNorm)_(\d+)", str(name)) for name in module}
    if other := [str(name) for name, found in parts.items() if found is None]:
        raise NotData(f"it has layers that are no perceptron's, such as {other[0]}")
    found = []
    for i in range(sum(str(name).startswith("Dense_") for name in module)):
        dense, norm = module.get(f"Dense_{i}"), module.get(f"LayerNorm_{i}", {})
        if not isinstance(dense, dict) or not isinstance(norm, dict):
            raise NotData(f"it has no layer Dense_{i}")
        named = {"weight": dense.get("kernel"), "bias": dense.get("bias")}
        named |= {"scale": norm.get("scale"), "shift": norm.get("bias")} if norm else {}
        found.append({name: array_of(array).astype(np.float32) for name, array in named.items()})
    return found


def _layer(arrays: Mapping[str, np.ndarray]) -> Layer:
    if arrays["weight"].ndim != 2:
        raise NotData("it has a layer that is not linear")
    return Layer(**arrays)


def _critics(policy: Mapping[str, Any]) -> tuple[tuple[Layer, ...], ...]:
    """All critics are one module, whose arrays have a leading axis of critics."""
    module = _parameters(policy, "qf_state")
    if len(module) == 1 and next(iter(module)).startswith("Vmap"):
        [module] = module.values()
    layers = _dense(module)
    if not layers or layers[0]["weight"].ndim != 3:
        raise NotData("its critics are not those of SBX")
    count = len(layers[0]["weight"])
    return tuple(
        tuple(_layer({name: array[i] for name, array in layer.items()}) for layer in layers)
        for i in range(count)
    )


def _activation(about: Mapping[str, Any]) -> str:
    """ReLU, unless another was asked for."""
    asked = about.get("policy_kwargs")
    given = asked.get("activation_fn") if isinstance(asked, dict) else None
    if given is None:
        return "relu"
    found = re.search(r"function (\w+)", str(given))
    if found is None or found[1] not in ACTIVATIONS:
        raise NotData(f"its activation is {given}, and what is read are {', '.join(ACTIVATIONS)}")
    return found[1]
