"""Episodes that others logged, as Minari datasets, in the form of this package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from collectiverl.artifacts.extras import extra
from collectiverl.artifacts.files import sha256
from collectiverl.types import EnvSpec, Episode, UserError

MINARI = "minari:"
SUCCESS = ("success", "is_success")  # what environments call it
EXAMPLE = "minari:my/dataset-v0"


def check_source(source: str) -> None:
    """Raises UserError if this names no dataset."""
    if not source.startswith(MINARI) or source == MINARI:
        raise UserError(f"{source!r} names no logged episodes: name a Minari dataset, such as {EXAMPLE}")


def dataset_of(source: str) -> Any:
    """The Minari dataset of this name, which lies on this machine.

    Raises:
        UserError: Minari is not installed, or there is no such dataset here.
    """
    check_source(source)
    name = source.removeprefix(MINARI)
    minari = extra("minari", "minari")
    try:
        return minari.load_dataset(name)
    except (FileNotFoundError, ValueError, KeyError, OSError) as error:
        raise UserError(
            f"there is no readable Minari dataset {name!r} here ({error}): 'minari list local' lists those that are, "
            f"and 'minari download {name}' gets one"
        ) from error


def identity(dataset: Any) -> str:
    """A hash of the dataset's files."""
    folder = Path(dataset.storage.data_path)
    return "+".join(sha256(path) for path in sorted(folder.rglob("*")) if path.is_file())


def episodes_of(dataset: Any, spec: EnvSpec, source: str, *, seed: int) -> list[Episode]:
    """All episodes of a dataset of the task of `spec`; none is labelled.

    Observations that are dictionaries are flattened as `gymnasium.spaces.flatten` does. Actions are clipped to [-1, 1].
    Success is what the episode's infos say, or unknown and then False.

    Raises:
        UserError: the episodes are those of another environment, or there are none.
    """
    found = [_episode(one, spec, f"{source}, episode {one.id}", seed) for one in dataset.iterate_episodes()]
    if not found:
        raise UserError(f"{source} has no episodes")
    return found


def _episode(one: Any, spec: EnvSpec, where: str, seed: int) -> Episode:
    obs, action = _flat(one.observations, where), _flat(one.actions, where)
    steps = len(action)
    wanted = (steps + 1, spec.obs_dim), (steps, spec.action_dim)
    if (obs.shape, action.shape) != wanted or not steps:
        raise UserError(
            f"{where} has observations of shape {obs.shape} and actions of shape {action.shape}, and {spec.task} needs "
            f"{wanted[0]} and {wanted[1]}: it was logged in another environment"
        )
    reward = np.asarray(one.rewards, np.float32).reshape(-1)
    if not (np.isfinite(obs).all() and np.isfinite(action).all() and np.isfinite(reward).all()):
        raise UserError(f"{where} has entries that are not finite")
    return Episode(
        obs=obs,
        action=np.clip(action, -1, 1),
        reward=reward,
        success=_success(one.infos, steps),
        task=spec.task,
        phase="logged",
        seed=seed,
        terminated=bool(np.asarray(one.terminations)[-1]),
    )


def _flat(found: Any, where: str) -> Float[np.ndarray, "rows entries"]:
    if isinstance(found, Mapping):
        return np.concatenate([_flat(found[key], where) for key in sorted(found)], axis=1)
    try:
        array = np.asarray(found, np.float32)
    except (TypeError, ValueError):
        raise UserError(f"{where} has observations or actions that are no boxes of numbers") from None
    return array.reshape(len(array), -1)


def _success(infos: Any, steps: int) -> Bool[np.ndarray, "T"]:
    """Of each step; the infos may begin with that of the reset."""
    for name in SUCCESS:
        if isinstance(infos, Mapping) and name in infos:
            said = np.asarray(infos[name], float).reshape(-1)
            if len(said) in (steps, steps + 1):
                return said[-steps:] > 0
    return np.zeros(steps, bool)
