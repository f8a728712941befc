"""Where a collective errs: nowhere on its own actions, and where its labels were changed."""

from dataclasses import replace

import numpy as np
import pytest

from collectiverl.collective.errors import PHASES, errors
from collectiverl.collective.playing import play_together
from collectiverl.collective.policy import CollectivePolicy
from collectiverl.data.episodes import EpisodeTable
from collectiverl.data.shards import Shard
from collectiverl.envs.make import make_envs
from collectiverl.types import Labels
from toy_buffers import any_collective

COLLECTIVE = any_collective()
WRONG = 0.25


@pytest.fixture(scope="module")
def own():
    """Episodes that the collective played, labelled with its own actions."""

    def make(task, count):
        return make_envs(task, count, goals="fresh")

    def policy(tasks, seed):
        return CollectivePolicy(COLLECTIVE, tasks)

    wanted = dict.fromkeys(COLLECTIVE.tasks, 3)
    [played] = play_together(make, wanted, 100, policy, phase="learner", seed=0)
    return [replace(e, labels=Labels(e.action, np.zeros_like(e.action), None)) for e in played]


def test_it_does_not_err_where_labels_are_what_it_did(own):
    found = errors(COLLECTIVE, EpisodeTable([Shard.of(own)]))
    longest = max(map(len, own))
    assert list(found["by_task"]) == list(COLLECTIVE.tasks)
    for row in found["by_task"].values():
        assert [error is None for error in row] == [begin >= longest for begin in PHASES]
        assert max(error for error in row if error is not None) < 1e-3


def test_it_errs_in_the_task_and_phase_whose_labels_are_others(own):
    task = COLLECTIVE.tasks[1]

    def changed(e):
        if e.task != task:
            return e
        mean = e.labels.mean.copy()
        mean[PHASES[1] :] += WRONG
        return replace(e, labels=e.labels._replace(mean=mean))

    found = errors(COLLECTIVE, EpisodeTable([Shard.of([changed(e) for e in own])]))["by_task"]
    for name, row in found.items():
        wanted = [0.0 if name != task or i == 0 else WRONG for i in range(len(PHASES))]
        for error, right in zip(row, wanted, strict=True):
            assert error is None or error == pytest.approx(right, abs=1e-3)
