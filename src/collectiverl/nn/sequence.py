"""What reads a sequence of tokens: in one pass, or token by token at the same cost however long it runs."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray


class SequenceModel(eqx.Module):
    """Outputs at a place depend on the tokens up to it alone. The batch is every array's last axis."""

    @abstractmethod
    def __call__(
        self, x: Float[Array, "dim n B"], mask: Bool[Array, "n B"], key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "dim B"], Float[Array, "dim n B"]]:
        """The summary at the last place, and the outputs of all tokens; with dropout if there is a key."""

    @abstractmethod
    def last(self, x: Float[Array, "dim n B"], mask: Bool[Array, "n B"]) -> Float[Array, "dim B"]:
        """The summary at the last place alone."""

    @abstractmethod
    def every(self, x: Float[Array, "dim n B"], mask: Bool[Array, "n B"]) -> Float[Array, "dim n B"]:
        """The summary at every place, in one pass."""

    @abstractmethod
    def begin(self, num: int) -> Any:
        """The state of `num` sequences that have not begun."""

    @abstractmethod
    def step(
        self, state: Any, x: Float[Array, "dim B"], begins: Bool[Array, "B"]
    ) -> tuple[Any, Float[Array, "dim B"]]:
        """Takes in one more token of every sequence, the first of those that begin; the summary at it."""
