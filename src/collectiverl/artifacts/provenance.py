"""Where a result comes from: the versions of the packages, the commit of this one, and how it was computed."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jax

PACKAGES = (
    *("collectiverl", "metaworld", "gymnasium-robotics", "mujoco", "envpool"),
    *("jax", "jaxlib", "equinox", "optax", "numpy"),
)
THREADS = "NPROC"  # the environment variable that says how many threads XLA has
DEFAULT = "default"  # precision of matrix products as JAX has it on the device
FLAG = "amx_bf16"  # of a processor that multiplies bfloat16 faster than float32
_OWN = jax.config.jax_default_matmul_precision or DEFAULT  # type: ignore[attr-defined]  # of this process
_operands: str | None = None  # of the stage that is at work


def versions() -> dict[str, str]:
    """The versions of the packages that results depend on, of those that are installed."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@cache
def commit() -> str | None:
    """The commit of the checkout in which this package lies; None if it lies in none.

    `-dirty` behind it: the package has changes that are in no commit.
    """
    package = Path(__file__).parents[1]
    try:
        git(
            package, "ls-files", "--error-unmatch", "__init__.py"
        )  # fails in the environment of another project
        changed = git(package, "status", "--porcelain", "--", ".")
        return git(package, "rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def git(folder: Path, *args: str) -> str:
    """What git prints about a checkout."""
    done = subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True, text=True)
    return done.stdout.strip()


# -- what it costs ----------------------------------------------------------------------------------------


def load() -> float:
    """Processes at work on this machine in the last minute, on average."""
    return round(os.getloadavg()[0], 2)


def forget_peak_memory() -> None:
    """From here on `peak_memory` counts anew, if this system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int | None:
    """Bytes that this process had in memory at most; None where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return None


# -- how it is computed ------------------------------------------------------------------------------------


def threads() -> int:
    """Threads of this process's linear algebra; as many as there are cores, if nothing was said."""
    return int(os.environ.get(THREADS) or len(os.sched_getaffinity(0)))


def runtime(begun: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What roundings depend on, resolved when a stage starts; a stage that was begun before keeps its precisions.

    The threads of a process cannot be changed: who starts it sees to it that they are those of the stage.
    """
    precision = (begun or {}).get("precision") or _OWN
    jax.config.update("jax_default_matmul_precision", None if precision == DEFAULT else precision)
    global _operands
    _operands = begun.get("operands", "float32") if begun else _fastest()
    return {
        "threads": threads(),
        "precision": precision,
        "operands": _operands,
        "device": jax.default_backend(),
        "processor": processor(),
    }


def operands() -> str:
    """Precision of the operands of a learner's products, where its settings leave it open: float32 or bfloat16."""
    return _operands or _fastest()


@cache
def _fastest() -> str:
    """From what the processor says of itself, not from a timing, which would differ from day to day."""
    return "bfloat16" if jax.default_backend() == "cpu" and FLAG in _cpuinfo("flags").split() else "float32"


def _cpuinfo(name: str) -> str:
    """What Linux says of the first processor; empty where it says nothing."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""


@cache
def processor() -> str:
    """The name of this machine's processor."""
    return _cpuinfo("model name") or platform.machine()
