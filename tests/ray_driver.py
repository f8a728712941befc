"""A run up to its experts, as a process that a test can kill: python ray_driver.py RUN [ADDRESS URL]; without, here."""

import sys
from pathlib import Path

from attacks.lives import settings

from collectiverl.artifacts.store import Store
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import claim
from collectiverl.pipeline.executor import Progress
from collectiverl.pipeline.executors.base import run_stages
from collectiverl.pipeline.executors.processes import run_in_processes
from collectiverl.pipeline.executors.ray import RayCluster
from collectiverl.pipeline.executors.remote import Remote, bring

OFTEN = 0.2  # seconds from one checkpoint to the next, so that most kills find one


def show(progress: Progress) -> None:
    print(*progress[:3], flush=True)


def main(run: Path, address: str = "", url: str = "") -> None:
    config = settings()
    claim(run, config)
    every = plan.stages(config, "experts")
    if not url:
        run_in_processes(run, every, cores=1, watch=show)
        return
    store = Store(url)
    bring(run, store, every)
    todo = plan.unfinished(run, every)
    executor = Remote(run, store, RayCluster(address), checkpoint_every=OFTEN, upload_every=OFTEN)
    run_stages(executor, todo, show)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
