"""Set before NumPy and JAX are imported: one CPU thread. Then shapes and types are checked at every call."""

import gc
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# of NumPy and SciPy: threads that wait for each other on a busy machine cost more than they help
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Most programs of the tests run for milliseconds and compile for seconds: XLA is told to compile them quickly.
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_enable_concurrency_optimized_scheduler=false",
    )
)
# What one process or one run of the tests compiled, another need not, be it of the tests or of the program.
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).parents[1] / ".pytest_cache" / "xdg")

import pytest
from jaxtyping import install_import_hook

CHECKED = (
    "nn",
    "envs",
    "data",
    "sac",
    "representation",
    "collective",
    "student",
    "evaluation",
    "artifacts",
)
# not the command line: its defaults are placeholders until the flags are read
install_import_hook([f"collectiverl.{room}" for room in CHECKED], "beartype.beartype")
# Tracing makes millions of objects; by default Python looks through all of them far too often.
gc.set_threshold(100_000, 20, 50)

from collectiverl.pipeline.executor import use_threads  # noqa: E402, for its modules are to be checked

use_threads(1)


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """A command that is tried in this process may ask for other threads."""
    for name in ("XLA_FLAGS", "NPROC", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ[name])
