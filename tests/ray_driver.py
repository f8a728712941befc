"""A run on a Ray cluster, as a process that a test can kill: python ray_driver.py RUN ADDRESS URL."""

import sys
from pathlib import Path

from attacks.kills import settings

from collectiverl.artifacts.store import Store
from collectiverl.pipeline import plan
from collectiverl.pipeline.config import claim
from collectiverl.pipeline.executors.base import run_stages
from collectiverl.pipeline.executors.ray import RayCluster
from collectiverl.pipeline.executors.remote import Remote, bring

OFTEN = 0.2  # seconds from one checkpoint to the next, so that most kills find one


def main(run: Path, address: str, url: str) -> None:
    config, store = settings(), Store(url)
    claim(run, config)
    every = plan.stages(config)
    bring(run, store, every)
    todo = plan.unfinished(run, every)
    executor = Remote(run, store, RayCluster(address), checkpoint_every=OFTEN, upload_every=OFTEN)
    run_stages(executor, todo, lambda progress: print(*progress, flush=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
