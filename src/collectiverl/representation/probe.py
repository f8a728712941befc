"""How well the encoder tells tasks apart on episodes that it was not trained on.

Only here is it known which task an episode is of: to judge, never to train.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from collectiverl.data.episodes import EpisodeTable
from collectiverl.representation import losses, samples
from collectiverl.representation.agreement import k_means, mixture
from collectiverl.representation.batches import Pack
from collectiverl.representation.encoder import Encoder
from collectiverl.representation.linear import confusion, most_confused, predict_tasks
from collectiverl.representation.reconstruction import reconstruction
from collectiverl.representation.samples import Sample, Side

CONTEXTS = (1, 2, 3, 5, 10, 20)  # steps seen
ANYWHERE = "anywhere"
CLUSTERED = 1_000  # windows; a silhouette's cost is their square
VIEWS = {"z": samples.embeddings, "raw": samples.last_states, "raw_window": samples.whole_windows}


class Points(NamedTuple):
    """Held-out windows as pictures show them."""

    z: Float[np.ndarray, "B Z"]
    task: np.ndarray
    reward: Float[np.ndarray, "B"]  # that came with the last state
    step: Int[np.ndarray, "B"]  # of the last state, in its episode
    cluster: Int[np.ndarray, "B"]  # of the mixture


def probe(
    encoder: Encoder,
    train_tables: Sequence[EpisodeTable],
    validation_tables: Sequence[EpisodeTable],
    state_index: Sequence[int],
    seed: int,
) -> tuple[dict, Points]:
    """Probes, clusterings and reconstruction errors, as plain JSON; and the windows that were clustered.

    `linear_probe` is the accuracy on held-out episodes by steps seen, all at an episode's start as in use;
    `anywhere` is that of full windows at random places; `confusion` are its matrices, in the order of
    `task_names`. `raw` are the same numbers on the standardised observation's state alone, `raw_window` on
    all that the encoder reads; errors are in squared standard deviations.
    """
    rng = np.random.default_rng(seed)
    train, held_out = sides = [samples.side_of(t, state_index) for t in (train_tables, validation_tables)]
    contexts = [context for context in CONTEXTS if context <= encoder.window]
    drawn = {str(context): [samples.at_start(side, context, rng) for side in sides] for context in contexts}
    drawn[ANYWHERE] = [samples.anywhere(side, encoder.window, rng) for side in sides]
    told = {name: _told(partial(view, encoder), sides, drawn) for name, view in VIEWS.items()}
    accuracy = {name: _accuracy(predicted, drawn) for name, predicted in told.items()}
    chosen = Sample(*(column[:CLUSTERED] for column in drawn[ANYWHERE][1]))
    z, raw = (VIEWS[name](encoder, held_out.data, chosen) for name in ("z", "raw"))
    clustering, cluster = _clustering(z, chosen.task, seed)
    numbers = {
        "tasks": len(set(held_out.task)),
        "chance": 1 / len(set(train.task)),
        "episodes": _episodes(train, held_out),
        "linear_probe": accuracy["z"],
        **_confusions(told["z"], drawn, list(dict.fromkeys(held_out.task.tolist()))),
        "clustering": clustering,
        "reconstruction": reconstruction(encoder, held_out.data.rows, *chosen[:3], seed=seed),
        "z": {name: float(value) for name, value in losses.spread(jnp.asarray(z)).items()},
        "raw": {"linear_probe": accuracy["raw"], "clustering": _clustering(raw, chosen.task, seed)[0]},
        "raw_window": {"linear_probe": accuracy["raw_window"]},
    }
    reward = np.asarray(held_out.data.rows.reward)[chosen.end]
    return numbers, Points(z, chosen.task, reward, chosen.end - chosen.first, cluster)


def _episodes(train: Side, held_out: Side) -> dict[str, int]:
    """How many there are, and how many goals lie on both sides: goals drawn afresh never do."""
    fixed = [
        {(row["task"], row["goal"]) for row in side.about if row["goal"] >= 0} for side in (train, held_out)
    ]
    return {
        "train": len(train.about),
        "held_out": len(held_out.about),
        "goals_on_both_sides": len(fixed[0] & fixed[1]),
    }


def _told(
    view: Callable[[Pack, Sample], np.ndarray], sides: Sequence[Side], drawn: Mapping[str, Sequence[Sample]]
) -> dict[str, np.ndarray]:
    """What a linear probe on this view takes each held-out window for, by steps seen."""
    found = {}
    for length, pair in drawn.items():
        x, held_out_x = (view(side.data, sample) for side, sample in zip(sides, pair, strict=True))
        found[length] = predict_tasks(x, pair[0].task, held_out_x)
    return found


def _accuracy(told: Mapping[str, np.ndarray], drawn: Mapping[str, Sequence[Sample]]) -> dict[str, float]:
    return {length: float(np.mean(told[length] == held_out.task)) for length, (_, held_out) in drawn.items()}


def _confusions(
    told: Mapping[str, np.ndarray], drawn: Mapping[str, Sequence[Sample]], names: list[str]
) -> dict:
    """Of all lengths; the pairs most confused at first, and what is left of it in the end."""
    matrices = {
        length: confusion(held_out.task, told[length], names) for length, (_, held_out) in drawn.items()
    }
    lengths = [length for length in drawn if length != ANYWHERE]
    ends = {length: matrices[length] for length in (lengths[0], lengths[-1])}
    return {"task_names": names, "confusion": matrices, "most_confused": most_confused(names, ends)}


def _clustering(
    x: Float[np.ndarray, "B X"], task: np.ndarray, seed: int
) -> tuple[dict, Int[np.ndarray, "B"]]:
    """With as many clusters as tasks and with as many as a mixture finds, and that mixture's clusters."""
    numbers, cluster = mixture(x, task, seed)
    return k_means(x, task, seed) | {"mixture": numbers}, cluster
