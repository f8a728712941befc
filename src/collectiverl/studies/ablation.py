"""`ablate`: what each choice of the collective is worth, taught by the experts of a run.

Every row differs from the run's own settings in one thing, collects its own episodes, distils an actor, and plays all
tasks with fresh goals.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from collectiverl.artifacts import attempts, sealed
from collectiverl.artifacts.paths import TRANSFORMER
from collectiverl.artifacts.validation import MOST_EPISODES, MOST_TRAININGS, at_least, at_most
from collectiverl.collective.conditioning import ConditioningName
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.collective.train import CollectiveConfig
from collectiverl.envs.make import layout_of
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import RunConfig
from collectiverl.stages.ablation import Ablation, ablation_stage
from collectiverl.stages.base import Stage, seconds, summary
from collectiverl.studies.table import write_table
from collectiverl.types import ConfigError

RESULT = "ablation.json"
GROUPS = (
    *("default", "conditioning", "encoder", "window", "z", "rewards"),
    *("probing", "goals", "loss", "data", "episodes"),
)
FEW = (5, 10, 20, 40)  # episodes a task, on which encoders of either kind learn


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """Which rows the table has."""

    only: tuple[str, ...] = GROUPS  # groups of rows
    rows: tuple[str, ...] = ()  # single rows of these groups, such as zeros or window_5; none: all
    seeds: int = 1  # trainings of every row, each with a seed of its own
    episodes: int = 20  # played for each task and seed

    def __post_init__(self) -> None:
        unknown = set(self.only) - set(GROUPS)
        if unknown or not self.only:
            raise ConfigError(
                "only", f"{' '.join(sorted(unknown)) or 'nothing'}: choose some of {', '.join(GROUPS)}"
            )
        at_least(self, 1, "seeds", "episodes")
        at_most(self, MOST_TRAININGS, "seeds")
        at_most(self, MOST_EPISODES, "episodes")


def rows(config: RunConfig, ablation: AblationConfig, seed: int) -> Iterator[Ablation]:
    """The rows of the table, for one seed of training: the default, then those that differ from it."""
    default, *others = _rows(config, ablation, seed)
    yield default
    yield from (
        row for row in others if replace(row, group=default.group, variant=default.variant) != default
    )


def _rows(config: RunConfig, ablation: AblationConfig, seed: int) -> Iterator[Ablation]:
    base = config.collective

    def row(group: str, variant: str, collective: CollectiveConfig = base, **more: Any) -> Ablation:
        changes = {"training_seed": seed, "collective": collective, "episodes": ablation.episodes, **more}
        return plan.ablation(config, group, variant, **changes)

    def reader(**changes: Any) -> CollectiveConfig:
        return replace(base, encoder=replace(base.encoder, **changes))

    yield row("default", base.conditioning)
    for conditioning in get_args(ConditioningName):
        yield row("conditioning", conditioning, replace(base, conditioning=conditioning))
    if base.learns and len(config.tasks) > 1:
        yield row("conditioning", "shuffled", shuffled=True)
    if base.conditioning == "own":  # of others, the encoder is the trajectory transformer
        if base.encoder.kind != "gru":
            yield row("encoder", "gru", replace(reader(kind="gru"), segment=None))
        for window in (1, 5, 20, 50):
            yield row("window", f"window_{window}", reader(window=window))
        for z_dim in (6, 16, 32, 64):
            yield row("z", f"z_{z_dim}", reader(z_dim=z_dim))
        yield row("rewards", "none", reader(rewards=False))
    yield row("rewards", "not_told", told=False)
    if layout_of(config.tasks).moving_index:
        amplitude = 0.0 if base.probing.amplitude else 0.5
        probing = replace(base.probing, amplitude=amplitude)
        yield row("probing", f"amplitude_{amplitude:g}", replace(base, probing=probing))
    if not base.reads:  # the run's trajectory transformer sees what its collective sees
        other = "visible" if config.goals_hidden else "hidden"
        yield row("goals", other, goals_hidden=not config.goals_hidden)
    yield row("loss", "kl", replace(base, loss="kl"))
    played = config.online.expert_episodes + config.online.learner_rounds * config.online.learner_episodes
    if config.online.learner_rounds:
        yield row("data", "fresh", fresh=True)
    yield row("data", "cloning", online=_cloning(config, played))
    if base.learns:
        for episodes in FEW:
            for conditioning in ("own", "tuned"):
                few = replace(base, conditioning=conditioning)
                yield row("episodes", f"{conditioning}_{episodes}", few, online=_cloning(config, episodes))


def _cloning(config: RunConfig, episodes: int) -> OnlineConfig:
    """Behaviour cloning: as many updates, on so many episodes a task, all of the teachers."""
    o = config.online
    updates = o.first_updates + o.learner_rounds * o.round_updates
    return replace(o, expert_episodes=episodes, learner_rounds=0, first_updates=updates)


def result_path(run: Path, settings: AblationConfig) -> Path:
    return run / RESULT


def chosen(config: RunConfig, ablation: AblationConfig) -> list[Ablation]:
    """The rows that are asked for, those of one seed after those of another.

    Raises:
        ConfigError: one is asked for that the run does not have.
    """
    every = (row for seed in range(ablation.seeds) for row in rows(config, ablation, seed))
    wanted = [row for row in every if row.group in ablation.only]
    known = dict.fromkeys(row.variant for row in wanted)
    if unknown := [name for name in ablation.rows if name not in known]:
        raise ConfigError("rows", f"{' '.join(unknown)}: of these groups, the run has {', '.join(known)}")
    return [row for row in wanted if not ablation.rows or row.variant in ablation.rows]


def stages(run: Path, config: RunConfig, ablation: AblationConfig) -> list[Stage]:
    """One stage per chosen row and seed; before them the trajectory transformer, if a row reads it."""
    every = chosen(config, ablation)
    before = _transformer(run, config) if any(row.collective.reads for row in every) else []
    return [*before, *(ablation_stage(row, config.seed) for row in every)]


def _transformer(run: Path, config: RunConfig) -> list[Stage]:
    """The stages of the trajectory transformer, also if it is there: it must fit the experts and the settings.

    A run whose own collective does not read it has none, unless `train-transformer` made one by the run's settings. It
    is trained here with as large an encoder as the collective's own, so that rows differ in how their encoders were
    trained and not in their sizes.
    """
    own, of_equal_size = (plan.trajectory_transformer(c) for c in (config, _of_equal_size(config)))
    made = attempts.begun(run / TRANSFORMER).get("config")
    return own if made and not sealed.differences(own[-1].settings, made) else of_equal_size


def _of_equal_size(config: RunConfig) -> RunConfig:
    """The run's settings, with the collective's encoder in the trajectory transformer if the run itself needs none."""
    if config.reads:
        return config
    return replace(config, transformer=replace(config.transformer, encoder=config.collective.encoder))


def summarize(run: Path, config: RunConfig, ablation: AblationConfig) -> dict[str, Any]:
    """One row for every variant, with a list over its seeds; written as `ablation.json`."""
    table: dict[tuple[str, str], dict[str, Any]] = {}
    for one in chosen(config, ablation):
        out = run / ablation_stage(one, config.seed).out
        row = table.setdefault(
            (one.group, one.variant), {"group": one.group, "variant": one.variant, "seeds": [], "seconds": []}
        )
        row["seeds"].append(summary(out))
        row["seconds"].append(round(seconds(out), 1))
    return write_table(result_path(run, ablation), list(table.values()), ablation)
