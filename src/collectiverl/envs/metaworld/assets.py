"""EnvPool's models of Meta-World without what is only seen, which takes most of a simulator's memory.

Meta-World's own simulator leaves out the same where it is not drawn (`sawyer.py`). MuJoCo
leaves out meshes, textures and geoms that touch nothing (`discardvisual`). Physics, observations and rewards are the
same, bit for bit, in all tasks but those of `SEEN`, which read what would be left out and keep their models.
"""

import contextlib
import importlib.metadata
import os
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

SEEN = ("coffee-pull-v3", "coffee-push-v3", "door-close-v3", "door-open-v3", "lever-pull-v3")
PACKAGE, FOLDER = "envpool_assets", "mujoco/metaworld/assets"
MODELS = "sawyer_xyz"  # folder of the tasks' models
COMPILER = '<compiler discardvisual="true"/>'


def lean_options(task: str) -> dict[str, str]:
    """The option of EnvPool's environment that names the folder of the task's model; none where it stays as it is."""
    folder = None if task in SEEN else _lean_assets()
    return {"base_path": str(folder)} if folder else {}


@cache
def _lean_assets() -> Path | None:
    """Changed copies, made once for this user; None where they cannot be written, or EnvPool has other files."""
    with contextlib.suppress(OSError, RuntimeError, ImportError):  # RuntimeError: this user has no home
        from envpool.registration import asset_base_path

        original = Path(asset_base_path(PACKAGE, FOLDER)) / FOLDER
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "collectiverl"
        made = home / f"envpool-{importlib.metadata.version('envpool')}"
        if not (made / FOLDER / MODELS).is_dir():
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=home) as folder:
                shutil.copytree(original, Path(folder) / "new" / FOLDER)
                for model in (Path(folder) / "new" / FOLDER / MODELS).glob("*.xml"):
                    model.write_text(without_visuals(model.read_text()))
                with contextlib.suppress(OSError):  # another process was first
                    (Path(folder) / "new").rename(made)
        return made if (made / FOLDER / MODELS).is_dir() else None
    return None


def without_visuals(model: str) -> str:
    """The XML of a model that discards what is only seen."""
    return re.sub(r"<mujoco[^>]*>", lambda found: f"{found[0]}{COMPILER}", model, count=1)
