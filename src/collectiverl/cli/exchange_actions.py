"""What the commands do that give something to other programs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collectiverl.artifacts.paths import EPISODES
from collectiverl.cli.actions import run_stage
from collectiverl.cli.exchange_settings import Export, Publish, Record
from collectiverl.data.episodes import EpisodeTable
from collectiverl.exchange import portable, recorded
from collectiverl.exchange.export import export_collective, export_experts, policies_of
from collectiverl.exchange.publish import publish
from collectiverl.pipeline import executor

Found = Mapping[str, Any]


def export(settings: Export) -> Found:
    """Writes the folder that is given away."""
    out, run, root = Path(settings.out), settings.options.folder, Path(settings.options.root)
    if settings.format != "folder":
        executor.use_threads(1)
        named = {"": settings.policy} if settings.policy else policies_of(run, settings.what)
        return {"policies": portable.export(named, out, settings.format)}
    if settings.what == "experts":
        export_experts([run, *(root / name for name in settings.more)], out, half=settings.half)
    else:
        others = [root / name for name in settings.seeds]
        export_collective([run, *others], out, half=settings.half)
    return {}


def publish_folder(settings: Publish) -> Found:
    return {"url": publish(Path(settings.folder), settings.repo, private=settings.private)}


def record(settings: Record) -> Found:
    """The stage, and its episodes as a dataset of another library if that is wanted."""
    if not settings.to:
        return run_stage(settings)
    config, options = settings.config, settings.options  # type: ignore[attr-defined]
    player = recorded.player(config.policy, config.teacher)
    name = recorded.dataset_id(config.task, player, settings.seed)
    recorded.check_free(name, overwrite=options.overwrite)  # before the work
    found = run_stage(settings)
    episodes = list(EpisodeTable.open(options.folder / found["out"] / EPISODES))
    folder = recorded.write_minari(name, episodes, played_by=player, overwrite=options.overwrite)
    return {**found, "dataset": {"name": name, "folder": folder}}
