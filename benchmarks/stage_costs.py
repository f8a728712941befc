"""What stages cost: the seconds and memory of finished runs, for `run --dry-run` and the remaining time of its bar.

    .venv/bin/python -m benchmarks.stage_costs runs/smoke runs/quickstart

writes `src/collectiverl/pipeline/measured.json` from the manifests of these runs, from those of the experts and
collectives that come with the package, and from the runs in the ledger (`results/`). The last two hold no memory.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from collectiverl.artifacts import configs, sealed
from collectiverl.artifacts.files import read_json
from collectiverl.artifacts.paths import COLLECTIVE, CONFIG, EXPERTS, SUMMARY
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import RunConfig
from collectiverl.pipeline.estimates import MEASURED, Sample, fitted
from collectiverl.pipeline.presets import PRESETS
from collectiverl.policies import SHIPPED, SHIPPED_COLLECTIVE
from collectiverl.stages.base import Stage

RESULTS = Path(__file__).parents[1] / "results"
LEDGER = {  # entry -> the preset that it ran
    "scratch/seed_0.json": "scratch",
    "collective/mt10_seed_0.json": "mt10",
    "collective/mt10-hidden_seed_0.json": "mt10-hidden",
    "collective/mt50_seed_0.json": "mt50",
    "collective/fetch_seed_0.json": "fetch",
}
COPIED = 5.0  # seconds that the training of an expert takes at least


def samples_of(run: Path) -> Iterator[Sample]:
    """The stages of a run that are done."""
    config = configs.load(run / CONFIG, RunConfig()).resolved()
    for stage in plan.stages(config, "end"):
        if sealed.is_sealed(run / stage.out):
            yield sample(stage, run / stage.out)


def shipped() -> Iterator[Sample]:
    """The trainings whose results come with the package."""
    for folder in sorted(SHIPPED.iterdir()):
        for stage in plan.stages(PRESETS[folder.name]().resolved(), "end"):
            parts = Path(stage.out).parts
            if stage.out == COLLECTIVE:
                yield from _if_there(stage, folder / SHIPPED_COLLECTIVE)
            elif parts[0] == EXPERTS and stage.kind == "train-task":
                yield from _if_there(stage, folder / parts[1])


def _if_there(stage: Stage, folder: Path) -> Iterator[Sample]:
    if sealed.is_sealed(folder):
        yield sample(stage, folder)


def ledger() -> Iterator[Sample]:
    """The stages of the ledger's runs. Experts that were copied took no time and say nothing."""
    for name, preset in LEDGER.items():
        found = read_json(RESULTS / name)
        steps = {(row["policy"], row["task"]): row["env_steps"] for row in found["policies"]}
        for stage in plan.stages(PRESETS[preset]().resolved(), "end"):
            seconds = found["stage_seconds"].get(stage.out)
            if seconds is None or (stage.kind == "train-task" and seconds < COPIED):
                continue
            policy = {"train-task": "expert", "train-student": getattr(stage.config, "kind", "")}.get(
                stage.kind
            )
            played = steps.get((policy, stage.config.task)) if policy else None
            yield Sample(stage, seconds, None, played)


def sample(stage: Stage, folder: Path) -> Sample:
    record, about = sealed.manifest(folder), read_json(folder / SUMMARY)
    steps = about.get("env_steps") if stage.kind in ("train-task", "train-student") else None
    return Sample(stage, float(record["seconds"]), record.get("peak_memory"), steps)


def main(runs: list[str]) -> None:
    folders = [Path(run) for run in runs]
    samples = [*(s for run in folders for s in samples_of(run)), *shipped(), *ledger()]
    processors = {
        sealed.manifest(run / s.stage.out)["runtime"]["processor"] for run in folders for s in samples_of(run)
    }
    found = {
        "command": "python -m benchmarks.stage_costs " + " ".join(run.name for run in folders),
        "made": sealed.now(),
        "processors": sorted(processors),
        "stages": fitted(samples),
    }
    MEASURED.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{len(samples)} stages of {len(found['stages'])} kinds: {MEASURED}")


if __name__ == "__main__":
    main(sys.argv[1:])
