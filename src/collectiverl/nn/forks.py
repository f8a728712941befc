"""JAX after a fork: its threads are not there in the child, and whatever waits for them hangs. Here it is refused."""

import os

from collectiverl.types import UserError

_used = False  # JAX has computed in this process
_lost = False  # it had before this process was forked


def use() -> None:
    """Says that this process computes with JAX.

    Raises:
        UserError: the process was forked from one that did.
    """
    global _used
    if _lost:
        raise UserError(
            "this process was forked from one in which a policy had been loaded, and JAX hangs after a fork: start "
            "workers with multiprocessing.get_context('spawn'), or load policies only in the workers"
        )
    _used = True


def _forked() -> None:
    global _lost
    _lost = _lost or _used


os.register_at_fork(after_in_child=_forked)
