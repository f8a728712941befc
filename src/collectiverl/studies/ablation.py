"""`ablate`: what each choice of the encoder and the collective is worth, on the data of a finished run.

Every row differs from the default in one thing: it trains an encoder anew, if that is what it varies, distils an
actor from the run's own `online_buffer`, and plays all tasks with fresh goals.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from collectiverl.artifacts import checkpoints, sealed
from collectiverl.collective.train import CollectiveConfig
from collectiverl.pipeline.plan import RunConfig
from collectiverl.representation.train import TransformerConfig
from collectiverl.stages.ablation import (
    Ablation,
    TrainEncoder,
    ablation_stage,
    encoder_path,
    train_encoder_stage,
)
from collectiverl.stages.base import Stage, summary
from collectiverl.types import UserError

RESULT = "ablation.json"
GROUPS = (
    *("conditioning", "tokens", "rewards", "info_nce", "window"),
    *("encoder", "tuning", "loss", "data"),
)


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """Which rows, and how much each may cost."""

    only: tuple[str, ...] = GROUPS
    seeds: int = 1  # trainings of every row
    encoder_updates: int = 3_000
    actor_updates: int = 6_000
    tuning_updates: int = 1_000  # of the actor together with the encoder
    episodes: int = 20  # a task and seed

    def __post_init__(self) -> None:
        unknown = set(self.only) - set(GROUPS)
        if unknown or not self.only:
            raise ValueError(f"--only={' '.join(sorted(unknown))}: choose some of {', '.join(GROUPS)}")
        for name in ("seeds", "encoder_updates", "actor_updates", "tuning_updates", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')}={getattr(self, name)} must be at least 1")


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


def chosen(config: RunConfig, ablation: AblationConfig) -> list[Ablation]:
    every = (row for seed in range(ablation.seeds) for row in rows(config, ablation, seed))
    return [row for row in every if row.group in ablation.only]


def stages(run: Path, config: RunConfig, ablation: AblationConfig) -> list[Stage]:
    """Encoders first.

    Raises:
        UserError: the run has no collective, whose buffers all rows learn from.
    """
    if not sealed.is_sealed(run / "model_col"):
        raise UserError(f"{run} has no collective yet: 'collectiverl run' makes one")
    wanted = chosen(config, ablation)
    trainings = {encoder_path(row.encoder): row.encoder for row in wanted if row.encoder}
    return [
        *(train_encoder_stage(encoder, config.seed) for encoder in trainings.values()),
        *(ablation_stage(row, config.seed) for row in wanted),
    ]


def summarize(run: Path, config: RunConfig, ablation: AblationConfig) -> list[dict[str, Any]]:
    """One row for every variant, its seeds as lists; written as `ablation.json`."""
    table: dict[tuple[str, str], dict[str, Any]] = {}
    for one in chosen(config, ablation):
        stage = ablation_stage(one, config.seed)
        found, seconds = summary(run / stage.out), sealed.manifest(run / stage.out)["seconds"]
        entry = table.setdefault(
            (one.group, one.variant),
            {"group": one.group, "variant": one.variant, "seeds": [], "probe": [], "seconds": []},
        )
        entry["seeds"].append(found)
        entry["seconds"].append(round(seconds, 1))
        if one.encoder:
            entry["probe"].append(_probe(run, one.encoder, entry))
    result = list(table.values())
    checkpoints.write_json(run / RESULT, {"rows": result, "settings": sealed.to_jsonable(ablation)})
    return result


def _probe(run: Path, encoder: TrainEncoder, entry: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy by steps seen; and the time of training the encoder, in the row that it was trained for."""
    path = run / encoder_path(encoder)
    if encoder.name != "default" or entry["variant"] == "cls":
        entry["seconds"][-1] += round(sealed.manifest(path)["seconds"], 1)
    return summary(path)["probe"]["linear_probe"]
