"""What was run, with what, and where; and what is missing."""

from collections.abc import Iterator, Sequence
from typing import Any

from collectiverl.artifacts import paths
from collectiverl.reporting.page.blocks import Block, Facts, Note, Section, Table
from collectiverl.reporting.page.reading import RunFolder, short

MOST_LISTED = 12  # names in one sentence


def overview(run: RunFolder) -> Section:
    blocks: list[Block] = [*_warnings(run), Facts(list(_facts(run)))]
    if run.origin.changed:
        rows = [[name, _shown(before), _shown(now)] for name, before, now in run.origin.changed]
        caption = f"Settings that differ from the preset {run.origin.preset}"
        blocks.append(Table(caption, ["setting", "preset", "this run"], rows, text_columns=3))
    if run.config:
        every = [[name, _shown(value)] for name, value in flat(run.config)]
        caption = "All settings of the run"
        blocks.append(Table(caption, ["setting", "value"], every, text_columns=2, folded=True))
    return Section("run", "What was run", _lead(run), blocks)


def _lead(run: RunFolder) -> str:
    tasks, done = run.tasks, len(run.stages)
    preset = f" by the preset {run.origin.preset}" if run.origin.preset else ""
    what = (
        f"{len(tasks)} task{'s' * (len(tasks) != 1)}{preset}: {listed(map(short, tasks))}." if tasks else ""
    )
    return f"{what} {done} stages are done.".strip()


def _warnings(run: RunFolder) -> Iterator[Note]:
    """What is damaged and what is missing."""
    if run.problems:
        yield Note(["Damaged: left out of this page.", *run.problems], "warning")
    missing = run.missing
    if missing:
        interrupted = set(run.interrupted)
        begun = [stage.label for stage in missing if stage.out in interrupted]
        waiting = [stage.label for stage in missing if stage.out not in interrupted]
        lines = [f"This run is not finished: {len(missing)} of {len(run.expected)} stages are missing."]
        lines += [f"begun: {listed(begun)}"] if begun else []
        lines += [f"not begun: {listed(waiting)}"] if waiting else []
        yield Note([*lines, "The same command goes on where it stopped."], "warning")


def _facts(run: RunFolder) -> Iterator[tuple[str, str]]:
    config, manifests = run.config, [stage.manifest for stage in run.stages]
    if config:
        yield "the same again", f"collectiverl run --run again --config {run.path}/config.yaml{_until(run)}"
        teacher = str(config.get("teacher", ""))
        yield "teachers", {"sac": "SAC experts, trained in this run"}.get(teacher, teacher)
        yield "goals", "hidden from the collective" if config.get("goals_hidden") else "visible"
        yield "seed", str(config.get("seed", 0))
    created = [manifest["created"] for manifest in manifests if "created" in manifest]
    if created:
        yield (
            "finished" if not run.missing else "last stage done",
            created[-1].replace("T", " ").replace("Z", " UTC"),
        )
    yield from _machine(manifests)


def _until(run: RunFolder) -> str:
    """The flag of a run that was to go less far than its settings allow."""
    before = paths.summary("")
    ends = [stage.out.removeprefix(before) for stage in run.expected if stage.out.startswith(before)]
    return f" --until {ends[-1]}" if ends and "end" not in ends else ""


def _machine(manifests: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Several of a kind are all named: a run may go on elsewhere."""
    commits = _distinct(manifest.get("commit") for manifest in manifests)
    if commits:
        yield "commit", ", ".join(map(_short_commit, commits))
    runtimes = [manifest.get("runtime", {}) for manifest in manifests]
    processors = _distinct(runtime.get("processor") for runtime in runtimes)
    devices = _distinct(runtime.get("device") for runtime in runtimes)
    if processors:
        yield "machine", f"{', '.join(processors)} ({', '.join(devices)})"
    peaks = [manifest["peak_memory"] for manifest in manifests if manifest.get("peak_memory")]
    if peaks:
        yield "most memory of a stage", f"{max(peaks) / 1e9:.1f} GB"
    versions: dict[str, list[str]] = {}
    for manifest in manifests:
        for name, version in manifest.get("versions", {}).items():
            versions.setdefault(name, [])
            versions[name] += [version] if version not in versions[name] else []
    if versions:
        yield "versions", ", ".join(f"{name} {' and '.join(found)}" for name, found in versions.items())


def _short_commit(commit: str) -> str:
    """With `-dirty` behind it if there were changes."""
    number, dash, state = commit.partition("-")
    return number[:12] + dash + state


def _distinct(values: Any) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def listed(names: Any) -> str:
    """Names with commas; of many, the first."""
    every = list(names)
    more = len(every) - MOST_LISTED
    return ", ".join(every[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"expert": {"steps": 1}}` as `("expert.steps", 1)`."""
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return listed(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return str(value or "none")
