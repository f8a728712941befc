"""Set before NumPy and JAX are imported: one CPU thread. Then shapes and types are checked at every call."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# of NumPy and SciPy: threads that wait for each other on a busy machine cost more than they help
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

from pathlib import Path

import jax
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
# what one run of the tests compiled, the next one need not
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
