"""`load_policy`: any policy, by path or name, as a `Policy`."""

from pathlib import Path
from typing import Any

from collectiverl.adapters import networks
from collectiverl.adapters.networks import NetworkPolicy
from collectiverl.adapters.objects import ObjectPolicy, made, object_policy
from collectiverl.adapters.sb3 import UNPICKLE, read_zip, unpickled
from collectiverl.artifacts import hub, manifests, sealed
from collectiverl.artifacts.files import read_object, sha256
from collectiverl.artifacts.paths import COLLECTIVE, EXPERTS, MANIFEST, STUDENTS, SUMMARY
from collectiverl.artifacts.sealed import is_sealed, partial
from collectiverl.collective import policy as collective
from collectiverl.collective.policy import Collective, CollectivePolicy
from collectiverl.envs.make import spec
from collectiverl.envs.policy import CheckedPolicy
from collectiverl.envs.rollout import RandomPolicy
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.envs.tasks import canonical, label
from collectiverl.imports import is_object_path
from collectiverl.nn import forks
from collectiverl.sac import policy as expert
from collectiverl.types import EnvSpec, Policy, UserError

SHIPPED_COLLECTIVE = "collective"
TASK = "{task}"  # in a name: that of the task played, as reach-v3 or reach
SHIPPED = Path(__file__).parent / "pretrained"  # what comes with the package
BETTER_SHIPPED = ("peg-insert-side",)  # tasks in which the expert succeeds more often than the script
GROWING = ("mt10", "mt50")  # collections of experts; each includes the experts of those before it


def load_policy(path_or_name: str | Path, *, task: str | None = None) -> Policy:
    """The policy in a stage's folder, the collective of a run's folder, or a policy by name.

    Args:
        path_or_name: one of these:

            - a folder: `runs/demo` (its collective), or `runs/demo/model/reach-v3/seed_0` (any sealed model);
            - a policy without a folder: `scripted:push`, `random:push`;
            - a policy that comes with the package: `mt10/push`, `mt50/door-close` (experts), `mt10` and `mt50`
              (collectives that see the goals), `mt10-hidden` (a collective that does not);
            - a policy on the Hugging Face Hub: `hf:owner/name`, `hf:owner/name@revision`, `hf:owner/name/push`;
            - a file that Stable-Baselines3 or SBX saved: `experts/push.zip`;
            - an object of your own: `my_package.experts:load` (see `adapters.objects`);
            - one of these for each task: `scripted:{task}`, `mt10/{task}`, `experts/{task}.zip`.
        task: the task that will be played. The shapes of the policy are checked against it. The policy is told the
            task only if it is a collective with the conditioning `task_id`.

    Returns:
        A `Policy`: `eval_action(observations [N, O]) -> actions [N, A]`, `reset(env_mask [N])`,
        `observe(rewards [N])`. It has the methods of `metaworld.evaluation.Agent`.

    Raises:
        UserError: there is no such policy, or its files are not whole; or it is one for each task, and no task is
            given.
    """
    task = canonical(task) if task else None
    policy = _load(of_task(str(path_or_name), task) if is_for_each_task(path_or_name) else path_or_name, task)
    if task:
        policy.check(spec(task))
    return policy


def is_for_each_task(path_or_name: str | Path) -> bool:
    """Whether the name stands for one policy a task."""
    return TASK in str(path_or_name)


def of_task(name: str, task: str | None) -> str:
    """The name of one task's policy: with the task's version or without, whichever is there.

    Raises:
        UserError: no task is given.
    """
    if task is None:
        raise UserError(f"{name} stands for one policy a task: name the task")
    names = [name.replace(TASK, written) for written in (task, label(task))]
    return next((n for n in names if Path(n.removeprefix(UNPICKLE)).exists()), names[-1])


def _load(path_or_name: str | Path, task: str | None) -> CheckedPolicy:
    if named := _named(path_or_name):
        kind, name = named
        shapes = spec(name)
        return (
            ScriptedPolicy((name,))
            if kind == "scripted"
            else RandomPolicy(shapes.action_dim, seed=0, obs_dim=shapes.obs_dim)
        )
    if is_foreign(path_or_name):
        return _foreign(str(path_or_name), spec(task) if task else None)
    forks.use()
    folder = _folder(path_or_name)
    if sealed.holds(folder, collective.ABOUT):
        return CollectivePolicy(collective.load_collective(folder)[0], (task,) if task else ())
    if sealed.holds(folder, expert.ABOUT):
        return expert.load_expert(folder)
    if sealed.holds(folder, networks.ABOUT):
        return NetworkPolicy(networks.load_network(folder))
    raise UserError(
        f"{folder} holds no policy: name a folder below {EXPERTS}/, {COLLECTIVE}/ or {STUDENTS}/ of a run"
    )


def meta_player(path_or_name: str | Path, benchmark: str) -> Collective | Any:
    """A collective, or the user's own `metaworld.evaluation.MetaLearningAgent`, which may be made for a benchmark.

    Raises:
        UserError: there is no such policy.
    """
    name = str(path_or_name)
    return made(name, benchmark) if is_object(name) else load_collective(path_or_name)


def is_object(name: str) -> bool:
    """Whether this names an object of the user's, as package.module:name."""
    return is_object_path(name) and _named(name) is None


def is_foreign(path_or_name: str | Path) -> bool:
    """Whether this names a policy that was not made here: a file of another library, or an object of the user's."""
    name = str(path_or_name)
    return not (Path(name).is_dir() or name.startswith(hub.PREFIX)) and (
        name.startswith(UNPICKLE) or is_object(name) or Path(name).suffix == ".zip"
    )


def _foreign(name: str, shapes: EnvSpec | None) -> NetworkPolicy | ObjectPolicy:
    if name.startswith(UNPICKLE):
        return ObjectPolicy(unpickled(Path(name.removeprefix(UNPICKLE))), name, shapes)
    if is_object(name):
        return object_policy(name, shapes)
    return NetworkPolicy(read_zip(Path(name)))


def load_collective(path_or_name: str | Path) -> Collective:
    """The collective in a run's folder or in its own, or one that comes with the package.

    Raises:
        UserError: there is no such policy, or it is no collective.
    """
    policy = load_policy(path_or_name)
    if not isinstance(policy, CollectivePolicy):
        raise UserError(
            f"{path_or_name} is not a collective: name a run's folder, such as runs/ml10, or mt10-hidden"
        )
    return policy.collective


def tasks_of(path_or_name: str | Path) -> tuple[str, ...]:
    """The tasks that a policy was made for: all of a collective, the one of an expert, student or named policy.

    Raises:
        UserError: there is no such policy, or it does not say.
    """
    if not (tasks := told_tasks(path_or_name)):
        raise UserError(
            f"{path_or_name} does not say which tasks its policy was made for: name the tasks to play"
        )
    return tasks


def told_tasks(path_or_name: str | Path) -> tuple[str, ...]:
    """The tasks that a policy was made for; () for a policy that does not say."""
    if is_for_each_task(path_or_name):
        return ()
    if named := _named(path_or_name):
        return (named[1],)
    if is_foreign(path_or_name):
        return ()
    folder = _folder(path_or_name)
    about = summary_of(folder)
    return tuple(about["tasks"]) if "tasks" in about else tuple(filter(None, [about.get("task")]))


def origin_of(path_or_name: str | Path) -> dict[str, Any]:
    """The training seed of a policy and the hash of its files, as far as they are known."""
    if is_for_each_task(path_or_name) or _named(path_or_name) or is_object(str(path_or_name)):
        return {}
    if is_foreign(path_or_name):
        return {"files": sha256(Path(str(path_or_name).removeprefix(UNPICKLE)))}
    folder = _folder(path_or_name)
    return {"seed": sealed.manifest(folder)["seed"], "files": manifests.identity(folder)}


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary of a sealed policy; empty if it has none.

    Raises:
        UserError: a file is damaged.
    """
    return read_object(folder / SUMMARY) if SUMMARY in sealed.check(folder)["files"] else {}


def shipped(name: str) -> Path | None:
    """The folder of a policy that comes with the package; None if there is a file or folder of that name.

    Raises:
        UserError: the package has such a collection, but not this task's.
    """
    collection, _, task = name.partition("/")
    collections = {folder.name for folder in SHIPPED.iterdir()}
    if "/" in task or Path(name).exists() or collection not in collections:
        return None
    if not task:
        return SHIPPED / collection / SHIPPED_COLLECTIVE
    experts = _shipped_experts(collection)
    if canonical(task) not in experts:
        there = ", ".join(sorted(experts)) or f"a collective only: load {collection!r}"
        raise UserError(f"{collection} comes with no {canonical(task)}: it has {there}")
    return experts[canonical(task)]


def collection_of(task: str) -> str:
    """The smallest collection that has an expert of `task`; the largest, if none has."""
    return next((name for name in GROWING if task in _shipped_experts(name)), GROWING[-1])


def is_shipped(task: str) -> bool:
    """Whether an expert of `task` comes with the package."""
    return task in _shipped_experts(GROWING[-1])


def _shipped_experts(collection: str) -> dict[str, Path]:
    """The folders of a collection's experts, by task."""
    smaller = GROWING[: GROWING.index(collection)] if collection in GROWING else ()
    sealed_in = (
        path.parent for name in (*smaller, collection) for path in (SHIPPED / name).glob(f"*/{MANIFEST}")
    )
    return {folder.name: folder for folder in sealed_in if folder.name != SHIPPED_COLLECTIVE}


def published(name: str) -> Path | None:
    """The folder of a policy on the Hugging Face Hub, downloaded; None if the name is none of the Hub.

    Raises:
        UserError: there is no such repository, or it cannot be reached.
    """
    where = hub.address(name)
    if where is None:
        return None
    folder = hub.downloaded(where)
    return folder / canonical(where.inside) if where.inside else folder


def _named(path_or_name: str | Path) -> tuple[str, str] | None:
    """Kind and task of a policy that needs no folder."""
    kind, _, task = str(path_or_name).partition(":")
    return (kind, canonical(task)) if task and kind in ("scripted", "random") else None


def _folder(path_or_name: str | Path) -> Path:
    """The sealed folder that holds a policy."""
    name = str(path_or_name)
    folder = shipped(name) or published(name) or Path(path_or_name)
    if is_sealed(folder / COLLECTIVE):
        folder = folder / COLLECTIVE
    if not is_sealed(folder):
        raise UserError(_missing(folder))
    return folder


def _missing(folder: Path) -> str:
    if partial(folder).exists():
        return f"{folder} is not finished (its stage was interrupted): run the stage again to go on"
    if folder.is_dir():
        return f"{folder} holds no finished policy: 'collectiverl run' makes one"
    return (
        f"there is no policy {str(folder)!r}: name a folder such as runs/quickstart or "
        "runs/quickstart/model/reach-v3/seed_0, a policy such as mt10, mt10/push, scripted:push or random:push, or one "
        "of yours: my_package.policy:make, or a .zip of Stable-Baselines3 or SBX"
    )
