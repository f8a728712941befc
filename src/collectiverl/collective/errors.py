"""Where a collective errs: how far its actions are from its teachers', by task and phase of the episode."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from collectiverl.collective.critic import seen_by
from collectiverl.collective.policy import Collective
from collectiverl.data.episodes import EpisodeTable
from collectiverl.sac.agent import batch_of_one
from collectiverl.sac.policy import AgentPolicy

PHASES = (0, 20, 50, 100, 200)  # the first step of each phase
AT_ONCE = 4_096  # steps


def errors(collective: Collective, table: EpisodeTable) -> Mapping[str, Any]:
    """The mean absolute difference between an entry of its action and of the label, at the stored steps.

    Returns:
        `from_step`: the first step of each phase; `by_task`: the errors of each phase, None where no episode is
        as long.
    """
    seen = seen_by(collective, table)
    wrong = np.abs(_actions(collective, seen) - table.column("teacher_mean")).mean(1)
    step = np.concatenate([np.arange(n) for n in table.length])
    task = np.repeat(np.asarray(table.tasks), table.length)
    phase = np.searchsorted(PHASES, step, side="right") - 1
    by_task = {
        one: [_mean(wrong[(task == one) & (phase == i)]) for i in range(len(PHASES))]
        for one in collective.tasks
    }
    return {"from_step": list(PHASES), "by_task": by_task}


def _mean(found: Float[np.ndarray, "steps"]) -> float | None:
    return round(float(found.mean()), 4) if len(found) else None


def _actions(collective: Collective, seen: Float[np.ndarray, "steps F"]) -> Float[np.ndarray, "steps A"]:
    """Some steps at a time: the hidden units of all steps would not fit into memory."""
    actor = AgentPolicy(batch_of_one(collective.agent))
    return np.concatenate([actor.eval_action(seen[i : i + AT_ONCE]) for i in range(0, len(seen), AT_ONCE)])
