"""`load_policy`: anything that can play, by path or name, behind the one policy interface."""

from pathlib import Path

from collectiverl.artifacts.sealed import is_sealed, partial
from collectiverl.collective import policy as collective
from collectiverl.envs.make import spec
from collectiverl.envs.rollout import RandomPolicy
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.envs.tasks import canonical
from collectiverl.sac import policy as expert
from collectiverl.types import Policy, UserError

RUN_COLLECTIVE = "model_col"
SHIPPED_COLLECTIVE = "collective"
SHIPPED = Path(__file__).parent / "pretrained"  # what comes with the package


def load_policy(path_or_name: str | Path, *, task: str | None = None) -> Policy:
    """The policy in a stage's folder, the collective of a run's folder, or a policy by name.

    Args:
        path_or_name: `runs/demo` (its collective), `runs/demo/model/reach-v3/seed_0` (any sealed model),
            `scripted:push`, `random:push`, or one that comes with the package: `mt10/push`, an expert, or
            `mt10`, the collective.
        task: which task will be played: the shapes are checked against it. Told to the policy only if that is
            a collective conditioned on the task id.

    Returns:
        A `Policy`: `eval_action(observations [N, O]) -> actions [N, A]`, `reset(env_mask [N])`,
        `observe(rewards [N])`. It obeys `metaworld.evaluation.Agent`.

    Raises:
        UserError: there is no such policy, or its files are not whole.
    """
    kind, _, name = str(path_or_name).partition(":")
    if name and kind in ("scripted", "random"):
        return _named(kind, canonical(name))
    folder = shipped(str(path_or_name)) or Path(path_or_name)
    if is_sealed(folder / RUN_COLLECTIVE):
        folder = folder / RUN_COLLECTIVE
    if not is_sealed(folder):
        raise UserError(_missing(folder))
    task = canonical(task) if task else None
    if (folder / collective.ABOUT).is_file():
        known = collective.load_collective(folder)[0]
        if task:
            collective.check_shapes(known, spec(task))
        return collective.CollectivePolicy(known, (task,) if task else ())
    if (folder / expert.ABOUT).is_file():
        loaded = expert.load_expert(folder)
        if task:
            expert.check_shapes(loaded.agent, spec(task))
        return loaded
    raise UserError(f"{folder} holds no policy: name a folder below model/, model_col/ or student/ of a run")


def shipped(name: str) -> Path | None:
    """The folder of a policy that comes with the package; what lies under that path itself goes before it.

    Raises:
        UserError: the package has such a collection, but not this task's.
    """
    collection, _, task = name.partition("/")
    collections = {folder.name for folder in SHIPPED.iterdir()}
    if "/" in task or Path(name).exists() or collection not in collections:
        return None
    if not task:
        return SHIPPED / collection / SHIPPED_COLLECTIVE
    folder = SHIPPED / collection / canonical(task)
    if not folder.is_dir():
        names = {path.parent.name for path in folder.parent.glob("*/manifest.json")} - {SHIPPED_COLLECTIVE}
        there = ", ".join(sorted(names))
        raise UserError(f"{collection} comes with no {canonical(task)}: it has {there}")
    return folder


def _named(kind: str, task: str) -> Policy:
    if kind == "scripted":
        return ScriptedPolicy((task,))
    return RandomPolicy(spec(task).action_dim, seed=0)


def _missing(folder: Path) -> str:
    if partial(folder).exists():
        return f"{folder} is not finished (its stage was interrupted): run the stage again to go on"
    if folder.is_dir():
        return f"{folder} holds no finished policy: 'collectiverl run' makes one"
    return (
        f"there is no policy {str(folder)!r}: name a folder such as runs/quickstart or "
        "runs/quickstart/model/reach-v3/seed_0, or a policy such as mt10, mt10/push, scripted:push or random:push"
    )
