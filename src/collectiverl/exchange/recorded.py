"""`record --to minari`: episodes as a dataset of Minari, which `minari.load_dataset` reads."""

import re
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from collectiverl.artifacts.extras import extra
from collectiverl.envs.make import spec
from collectiverl.types import EnvSpec, Episode, UserError

SUCCESS = "success"  # in `infos`, one more than steps: nothing has succeeded before the first


def minari() -> Any:
    """The package.

    Raises:
        UserError: it is not installed.
    """
    return extra("minari", "minari")


def player(policy: str, teacher: str) -> str:
    """Who plays, in a dataset's name: the teacher, random actions, or both."""
    if policy == "random" or teacher == "scripted":
        return policy
    return _plain(teacher) if policy == "scripted" else f"{policy}-{_plain(teacher)}"


def dataset_id(task: str, played_by: str, seed: int) -> str:
    """The name of a dataset, such as `collectiverl/reach-v3/scripted-seed0-v0`; `minari list local` shows it."""
    return f"collectiverl/{_plain(task)}/{played_by}-seed{seed}-v0"


def _plain(name: str) -> str:
    """A task or a teacher as Minari allows it in a name: without dots, colons and slashes."""
    return re.sub(r"[^-\w]+", "_", name).strip("_")


def check_free(name: str, *, overwrite: bool) -> None:
    """Raises UserError if there is a dataset of this name, which shall not be replaced, or Minari is not installed."""
    if name in minari().list_local_datasets() and not overwrite:
        raise UserError(
            f"there is a Minari dataset {name} already: 'minari delete {name}' deletes it, --overwrite replaces it"
        )


def write_minari(name: str, episodes: Sequence[Episode], *, played_by: str, overwrite: bool) -> str:
    """Writes episodes of one task below `MINARI_DATASETS_PATH`, by default `~/.minari/datasets`; returns the folder.

    Observations are whole, rewards those of the environment, actions in [-1, 1]. Labels are not written: Minari has
    no place for them.

    Raises:
        UserError: Minari is not installed, or there is a dataset of this name.
    """
    package = minari()
    check_free(name, overwrite=overwrite)
    if name in package.list_local_datasets():
        package.delete_dataset(name)
    shapes = spec(episodes[0].task)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # that there is no author, no address and no environment's id
        created = package.create_dataset_from_buffers(
            name,
            [_buffer(package, number, episode) for number, episode in enumerate(episodes)],
            algorithm_name=played_by,
            **_spaces(shapes),
            description=f"Episodes of {shapes.task}, recorded by collectiverl.",
        )
    return str(created.storage.data_path)


def _spaces(shapes: EnvSpec) -> dict[str, gymnasium.Space]:
    low = np.full(shapes.action_dim, -1, np.float32)
    return {
        "observation_space": gymnasium.spaces.Box(-np.inf, np.inf, (shapes.obs_dim,), np.float32),
        "action_space": gymnasium.spaces.Box(low, -low, dtype=np.float32),
    }


def _buffer(package: Any, number: int, episode: Episode) -> Any:
    steps = len(episode)
    last = np.arange(steps) == steps - 1
    return package.data_collector.EpisodeBuffer(
        id=number,
        seed=episode.seed,
        observations=episode.obs.astype(np.float32),
        actions=episode.action.astype(np.float32),
        rewards=episode.reward.astype(np.float32),
        terminations=last & episode.terminated,
        truncations=last & (not episode.terminated),
        infos={SUCCESS: np.concatenate([[False], episode.success])},
    )
