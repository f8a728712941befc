"""Collective learning for robot manipulation: many experts in, one policy that knows all their tasks out."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

__all__ = ["load_policy"]

if TYPE_CHECKING:
    __version__: str
    from collectiverl.policies import load_policy


def __getattr__(name: str) -> Any:
    """Loads the learning libraries only when they are asked for."""
    if name == "__version__":
        try:
            return version("collectiverl")
        except PackageNotFoundError:  # a checkout that is not installed
            return "unknown"
    if name == "load_policy":
        from collectiverl.policies import load_policy

        return load_policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
