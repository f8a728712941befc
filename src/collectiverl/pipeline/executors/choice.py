"""The executors by name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

from collectiverl.artifacts.paths import LOGS
from collectiverl.pipeline.executors.ray import RayCluster
from collectiverl.pipeline.executors.remote import Cluster
from collectiverl.pipeline.executors.slurm import SlurmCluster

ExecutorName = Literal["processes", "ray", "slurm"]
# by name, from the run's folder and --address
CLUSTERS: Mapping[str, Callable[[Path, str], Cluster]] = {
    "ray": lambda run, address: RayCluster(address or "auto"),
    "slurm": lambda run, address: SlurmCluster(run / LOGS / "slurm", address),
}
assert {"processes", *CLUSTERS} == set(get_args(ExecutorName))
