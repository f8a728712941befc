"""`ablate`: what each choice of the encoder and the collective is worth, on the data of a finished run.

Every row differs from the default in one thing: it trains an encoder anew, if that is what it varies, distils an
actor from the run's own `online_buffer`, and plays all tasks with fresh goals.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from collectiverl.artifacts import sealed
from collectiverl.artifacts.paths import COLLECTIVE
from collectiverl.artifacts.validation import at_least
from collectiverl.collective.train import CollectiveConfig
from collectiverl.pipeline.config import RunConfig
from collectiverl.representation.train import TransformerConfig
from collectiverl.stages.ablation import (
    Ablation,
    TrainEncoder,
    ablation_stage,
    encoder_path,
    train_encoder_stage,
)
from collectiverl.stages.base import Stage, seconds, summary
from collectiverl.studies.table import write_table
from collectiverl.types import ConfigError, UserError

RESULT = "ablation.json"
GROUPS = (
    *("conditioning", "tokens", "rewards", "info_nce", "window"),
    *("encoder", "tuning", "loss", "data"),
)


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """Which rows the table has, and how long each is trained."""

    only: tuple[str, ...] = GROUPS  # groups of rows
    seeds: int = 1  # trainings of every row
    encoder_updates: int = 3_000  # gradient steps of every encoder
    actor_updates: int = 6_000  # gradient steps of every actor
    tuning_updates: int = 1_000  # gradient steps of an actor together with its encoder
    episodes: int = 20  # played for each task and seed

    def __post_init__(self) -> None:
        unknown = set(self.only) - set(GROUPS)
        if unknown or not self.only:
            raise ConfigError(
                "only", f"{' '.join(sorted(unknown)) or 'nothing'}: choose some of {', '.join(GROUPS)}"
            )
        at_least(self, 1, "seeds", "encoder_updates", "actor_updates", "tuning_updates", "episodes")


def encoders(base: TransformerConfig) -> dict[str, TransformerConfig]:
    """Every way in which an encoder is trained."""

    def read(**changes: Any) -> TransformerConfig:
        return replace(base, encoder=replace(base.encoder, **changes))

    def learn(**changes: Any) -> TransformerConfig:
        return replace(base, objective=replace(base.objective, **changes))

    shorter = {f"window_{n}": read(window=n) for n in (1, 5, 10) if n < base.encoder.window}
    return {
        "default": base,
        "interleaved": read(layout="interleaved"),
        "no_rewards": read(rewards=False),
        "no_info_nce": learn(info_nce=0.0),
        "all_negatives": learn(negatives="all", positives="episode"),
        "all_negatives_bottleneck": learn(negatives="all", positives="episode", bottleneck=1.0),
        "bottleneck": learn(bottleneck=1.0),
        "gru": read(kind="gru"),
        **shorter,
    }


def rows(config: RunConfig, ablation: AblationConfig, seed: int) -> Iterator[Ablation]:
    """The rows of the table, for one seed of training."""
    trainings = encoders(replace(config.transformer, updates=ablation.encoder_updates))
    base = replace(config.collective, actor_updates=ablation.actor_updates)

    def row(
        group: str, variant: str, encoder: str = "default", collective: CollectiveConfig = base, **more: Any
    ) -> Ablation:
        trained = TrainEncoder(name=encoder, tasks=config.tasks, seed=seed, transformer=trainings[encoder])
        return Ablation(
            group=group,
            variant=variant,
            tasks=config.tasks,
            seed=seed,
            encoder=trained if collective.reads else None,
            collective=collective,
            episodes=ablation.episodes,
            num_envs=config.online.num_envs,
            backend=config.backend,
            **more,
        )

    for conditioning in ("cls", "last_state", "cluster", "task_id", "zeros"):
        yield row("conditioning", conditioning, collective=replace(base, conditioning=conditioning))
    yield row("conditioning", "cls_shuffled", shuffled=True)
    yield row("tokens", "interleaved", "interleaved")
    yield row("rewards", "none", "no_rewards")
    for variant in ("no_info_nce", "all_negatives", "all_negatives_bottleneck", "bottleneck"):
        yield row("info_nce", variant, variant)
    for name in trainings:
        if name.startswith("window_"):
            yield row("window", name.removeprefix("window_"), name)
    yield row("encoder", "gru", "gru")
    tuned = replace(base, finetune_encoder=True, actor_updates=ablation.tuning_updates)
    yield row("tuning", "frozen", collective=replace(base, actor_updates=ablation.tuning_updates))
    yield row("tuning", "fine-tuned", collective=tuned)
    yield row("loss", "kl", collective=replace(base, loss="kl"))
    yield row("data", "cloning", phases=("expert",))


def result_path(run: Path, settings: AblationConfig) -> Path:
    return run / RESULT


def chosen(config: RunConfig, ablation: AblationConfig) -> list[Ablation]:
    every = (row for seed in range(ablation.seeds) for row in rows(config, ablation, seed))
    return [row for row in every if row.group in ablation.only]


def stages(run: Path, config: RunConfig, ablation: AblationConfig) -> list[Stage]:
    """All rows, the encoders first.

    Raises:
        UserError: the run has no collective, whose buffers all rows learn from.
    """
    if not sealed.is_sealed(run / COLLECTIVE):
        raise UserError(f"{run} has no collective yet: 'collectiverl run' makes one")
    wanted = chosen(config, ablation)
    trainings = {encoder_path(row.encoder): row.encoder for row in wanted if row.encoder}
    return [
        *(train_encoder_stage(encoder, config.seed) for encoder in trainings.values()),
        *(ablation_stage(row, config.seed) for row in wanted),
    ]


def summarize(run: Path, config: RunConfig, ablation: AblationConfig) -> dict[str, Any]:
    """One row for every variant, with a list over its seeds; written as `ablation.json`."""
    table: dict[tuple[str, str], dict[str, Any]] = {}
    for one in chosen(config, ablation):
        out = run / ablation_stage(one, config.seed).out
        row = table.setdefault(
            (one.group, one.variant),
            {"group": one.group, "variant": one.variant, "seeds": [], "probe": [], "seconds": []},
        )
        row["seeds"].append(summary(out))
        row["seconds"].append(round(seconds(out) + _encoder_seconds(run, one), 1))
        if one.encoder:
            row["probe"].append(summary(run / encoder_path(one.encoder))["probe"]["linear_probe"])
    return write_table(result_path(run, ablation), list(table.values()), ablation)


def _encoder_seconds(run: Path, row: Ablation) -> float:
    """The time of training the row's encoder; the default one counts in the row `cls` alone."""
    if row.encoder and (row.encoder.name != "default" or row.variant == "cls"):
        return seconds(run / encoder_path(row.encoder))
    return 0.0
