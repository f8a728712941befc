"""`export --format onnx` and `jax`: a policy as one file that plays without this package, and a card that says how."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax import export as jax_export
from jaxtyping import Float

from collectiverl.artifacts import locks, provenance, sealed
from collectiverl.artifacts.extras import extra
from collectiverl.artifacts.files import write_atomically
from collectiverl.artifacts.paths import CARD, PORTABLE
from collectiverl.collective.policy import CollectivePolicy
from collectiverl.exchange.onnx_graph import BATCH, to_onnx
from collectiverl.exchange.step import Step, step_of
from collectiverl.nn.normalizer import Normalizer
from collectiverl.policies import load_policy, origin_of, told_tasks
from collectiverl.reporting.cards import portable_card
from collectiverl.sac.policy import Expert
from collectiverl.types import Policy, StageFailed, UserError

Format = Literal["folder", "jax", "onnx"]
Portable = Literal["jax", "onnx"]
Array = np.ndarray
Play = Callable[
    [Array, Array, Array], tuple[Array, Array]
]  # (observation, reward, context) -> (action, context)
INPUTS, OUTPUTS = ("observation", "reward", "context"), ("action", "next_context")
TOLERANCE = 1e-5  # by which an action may differ from the original's
CHECKED, ENVS = 64, 3  # steps and environments of the comparison: longer than an encoder looks back
PLATFORMS = ("cpu", "cuda")  # that a file of the format jax runs on


def export(policies: Mapping[str, str | Path], out: Path, format: Portable) -> list[dict[str, Any]]:
    """Writes each policy to its folder below `out`, compared with the original; returns what was written.

    Args:
        policies: by the names of their folders; "" for `out` itself.

    Raises:
        UserError: a policy cannot be exported, `out` is not empty, or a package is missing.
        StageFailed: the exported policy acts differently.
    """
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another folder with --out")
    made = {name: _made(source, format) for name, source in policies.items()}  # all, before one is written
    return [_write(out / name, data, about) for name, (data, about) in made.items()]


def _made(source: str | Path, format: Portable) -> tuple[bytes, dict[str, Any]]:
    """The file of a policy, which was compared with the original, and what `policy.json` says of it."""
    policy = load_policy(source)
    step, (make, open_) = step_of(policy), FORMATS[format]
    tasks = told_tasks(source)
    data = make(step, {"tasks": json.dumps(tasks)})
    difference = largest_difference(policy, step, open_(data))
    if not difference <= TOLERANCE:  # nan is neither
        raise StageFailed(
            f"{source}: the exported policy differs from the original by {difference:.1e}, nothing is written"
        )
    return data, {
        "format": format,
        "file": f"policy.{format}",
        "inputs": {name: [BATCH, *shape] for name, shape in _shapes(step).items()},
        "outputs": dict(zip(OUTPUTS, ([BATCH, step.action_dim], [BATCH, step.context_dim]), strict=True)),
        "tasks": tasks,
        "task_entries": step.tasks,
        "goals_hidden": isinstance(policy, CollectivePolicy) and policy.collective.goals_hidden,
        "checked": {"steps": CHECKED, "environments": ENVS, "largest_difference": difference},
        "origin": {"policy": str(source), **origin_of(source)},
        "versions": provenance.versions(),
        "made": sealed.now(),
    }


def _write(out: Path, data: bytes, about: dict[str, Any]) -> dict[str, Any]:
    locks.make_writable(out)
    write_atomically(out / about["file"], data)
    write_atomically(out / PORTABLE, json.dumps(about, indent=1).encode())
    (out / CARD).write_text(portable_card(about))
    return {**about, "folder": str(out)}


def _shapes(step: Step) -> dict[str, tuple[int, ...]]:
    """Of the inputs, for one environment."""
    return dict(zip(INPUTS, ((step.obs_dim,), (), (step.context_dim,)), strict=True))


# -- formats -------------------------------------------------------------------------------------------------


class Maker(NamedTuple):
    """How a format is written, and how a file of it is played."""

    make: Callable[[Step, Mapping[str, str]], bytes]
    open: Callable[[bytes], Play]


def _make_onnx(step: Step, metadata: Mapping[str, str]) -> bytes:
    return to_onnx(step, _shapes(step), OUTPUTS, metadata).SerializeToString()


def _open_onnx(data: bytes) -> Play:
    session = extra("onnxruntime", "onnx").InferenceSession(data, providers=["CPUExecutionProvider"])

    def play(*inputs: Array) -> tuple[Array, Array]:
        action, context = session.run(list(OUTPUTS), dict(zip(INPUTS, inputs, strict=True)))
        return action, context

    return play


def _make_jax(step: Step, metadata: Mapping[str, str]) -> bytes:
    extra("flatbuffers", "onnx")
    (batch,) = jax_export.symbolic_shape(BATCH)
    shapes = [jax.ShapeDtypeStruct((batch, *shape), np.float32) for shape in _shapes(step).values()]
    return bytes(jax_export.export(jax.jit(step), platforms=PLATFORMS)(*shapes).serialize())


def _open_jax(data: bytes) -> Play:
    called = jax.jit(jax_export.deserialize(bytearray(data)).call)

    def play(*inputs: Array) -> tuple[Array, Array]:
        action, context = called(*inputs)
        return np.asarray(action), np.asarray(context)

    return play


FORMATS: dict[str, Maker] = {"onnx": Maker(_make_onnx, _open_onnx), "jax": Maker(_make_jax, _open_jax)}


# -- the comparison ------------------------------------------------------------------------------------------


def largest_difference(policy: Policy, step: Step, play: Play, *, seed: int = 0) -> float:
    """By how much an action of the exported policy differs from the original's, at most; nan if one is nan.

    Both play the same observations and rewards, drawn as the policy's own statistics have them. Some rewards are
    unknown, and one environment begins a new episode on the way.
    """
    rng, worst = np.random.default_rng(seed), 0.0
    begin = np.zeros((ENVS, step.context_dim), np.float32)
    if step.tasks and isinstance(policy, CollectivePolicy):  # it is told its task
        policy.tasks = tuple(list(step.tasks)[:1])
        begin[:, step.tasks[policy.tasks[0]]] = 1
    context = begin
    reward = np.full(ENVS, np.nan, np.float32)
    policy.reset(np.ones(ENVS, bool))
    for at, observation in enumerate(_walk(policy, step.obs_dim, rng)):
        if at == CHECKED * 3 // 4:
            policy.reset(np.arange(ENVS) == 1)
            context[1] = begin[1]
        policy.observe(reward)
        expected = policy.eval_action(observation)
        action, context = (np.array(x) for x in play(observation, reward, context))
        worst = float(np.maximum(worst, np.abs(action - expected).max()))  # max() would drop nan
        reward = np.where(rng.random(ENVS) < 0.2, np.nan, rng.uniform(0, 10, ENVS)).astype(np.float32)
    return worst


def _walk(policy: Policy, obs_dim: int, rng: np.random.Generator) -> Float[Array, "T N O"]:
    """Random walks through the observations that the policy was trained on."""
    mean, deviation = np.zeros(obs_dim), np.ones(obs_dim)
    if isinstance(policy, CollectivePolicy):
        seen, entries = policy.collective.scales.state, list(policy.collective.spec.state_index)
    else:
        assert isinstance(policy, Expert)
        assert isinstance(policy.agent.normalizer, Normalizer)
        seen, entries = policy.agent.normalizer, list(range(obs_dim))
    mean[entries] = np.asarray(seen.mean)
    deviation[entries] = np.sqrt(np.asarray(seen.m2) / max(float(seen.count), 1.0))
    places = rng.normal(size=(1, ENVS, obs_dim)) + 0.1 * rng.normal(size=(CHECKED, ENVS, obs_dim)).cumsum(0)
    return (mean + deviation * places).astype(np.float32)
