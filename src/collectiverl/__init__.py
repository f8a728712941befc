"""Collective learning for robot manipulation: many experts in, one policy that knows all their tasks out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["Task", "load_policy", "register_task"]

if TYPE_CHECKING:
    __version__: str
    from collectiverl.envs.own.task import Task
    from collectiverl.envs.registry import register_task
    from collectiverl.policies import load_policy


_HOMES = {
    "Task": "collectiverl.envs.own.task",
    "load_policy": "collectiverl.policies",
    "register_task": "collectiverl.envs.registry",
}


def __getattr__(name: str) -> Any:
    """Loads the learning libraries only when they are asked for."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version  # takes longer than all of the above

        try:
            return version("collectiverl")
        except PackageNotFoundError:  # a checkout that is not installed
            return "unknown"
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
