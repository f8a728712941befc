"""Collective learning for robot manipulation: many experts in, one policy that knows all their tasks out."""

from typing import TYPE_CHECKING, Any

__version__ = "0.3.0"
__all__ = ["load_policy"]

if TYPE_CHECKING:
    from collectiverl.policies import load_policy


def __getattr__(name: str) -> Any:
    """Loads the learning libraries only when they are asked for."""
    if name == "load_policy":
        from collectiverl.policies import load_policy

        return load_policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
