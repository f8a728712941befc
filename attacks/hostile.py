"""Files that somebody made to do harm, for `attacks.files`: each entry puts one into a copy of a run.

An entry returns the action that must be refused. Manifests fit the files: a forger writes them, too.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from attacks import lives
from collectiverl.artifacts import configs, files, manifests, sealed, tensors
from collectiverl.artifacts.contents import hashes
from collectiverl.artifacts.paths import CONFIG, MANIFEST, SUMMARY
from collectiverl.pipeline.config import RunConfig, claim
from collectiverl.policies import load_policy
from collectiverl.stages.base import summary

Harm = Callable[[Path], Callable[[], Any]]
DEEP = b'{"a":' * 100_000


def expert(run: Path) -> Path:
    """The folder of the run's first expert."""
    return sorted(path.parent for path in (run / "model").rglob(MANIFEST))[0]


def forged(out: Path, name: str, content: bytes) -> None:
    """Another content, and a manifest that fits it."""
    (out / name).write_bytes(content)
    record = sealed.manifest(out)
    manifests.write_manifest(out, record, record["files"] | hashes(out, [name]))


def _settings(text: str) -> Harm:
    def harm(run: Path) -> Callable[[], Any]:
        (run / CONFIG).write_text(text)
        return lambda: (configs.load(run / CONFIG, RunConfig()), claim(run, lives.settings()))

    return harm


def _described(text: bytes) -> Harm:
    def harm(run: Path) -> Callable[[], Any]:
        forged(expert(run), "agent.json", text)
        return lambda: load_policy(expert(run))

    return harm


def _changed(name: str, value: Any) -> Harm:
    """Another value in the description of an expert."""

    def harm(run: Path) -> Callable[[], Any]:
        about = files.read_json(expert(run) / "agent.json")
        place = about["sac"] if name in about["sac"] else about
        place[name] = value
        return _described(json.dumps(about).encode())(run)

    return harm


def _summary(text: bytes) -> Harm:
    def harm(run: Path) -> Callable[[], Any]:
        forged(expert(run), SUMMARY, text)
        return lambda: summary(expert(run))

    return harm


def _weights(make: Callable[[bytes], bytes]) -> Harm:
    def harm(run: Path) -> Callable[[], Any]:
        forged(expert(run), "agent.safetensors", make((expert(run) / "agent.safetensors").read_bytes()))
        return lambda: load_policy(expert(run))

    return harm


def _header(change: Callable[[dict[str, Any]], Any]) -> Harm:
    def make(content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        text = json.dumps(change(header) or header).encode()
        return len(text).to_bytes(8, "little") + text + content[8 + length :]

    return _weights(make)


def _first(header: dict[str, Any]) -> dict[str, Any]:
    return next(value for name, value in header.items() if name != tensors.METADATA)


def _not_finite(run: Path) -> Callable[[], Any]:
    out = expert(run)
    arrays = {name: np.array(array) for name, array in tensors.load_arrays(out / "agent.safetensors").items()}
    name = next(name for name, array in arrays.items() if array.dtype == np.float32 and array.size > 1)
    arrays[name].flat[0] = np.nan
    tensors.save_arrays(out / "agent.safetensors", arrays)
    forged(out, "agent.safetensors", (out / "agent.safetensors").read_bytes())
    return lambda: load_policy(out)


def _listed(change: Callable[[dict[str, Any]], Any]) -> Harm:
    """Another list of files in the manifest."""

    def harm(run: Path) -> Callable[[], Any]:
        record = sealed.manifest(expert(run))
        change(record["files"])
        files.write_json(expert(run) / MANIFEST, manifests.with_seal(record))
        return lambda: sealed.check(expert(run))

    return harm


def _link(name: str, to: str) -> Harm:
    def harm(run: Path) -> Callable[[], Any]:
        path = expert(run) / name
        path.rename(run / "elsewhere")
        path.symlink_to(to or run / "elsewhere")
        return lambda: sealed.check(expert(run))

    return harm


def _unlisted(run: Path) -> Callable[[], Any]:
    """Weights that are there, and not in the manifest."""
    record = sealed.manifest(expert(run))
    listed = {name: hashed for name, hashed in record["files"].items() if name != "agent.safetensors"}
    manifests.write_manifest(expert(run), record, listed)
    return lambda: load_policy(expert(run))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(b + 1)}: &{chr(b + 1)} [{', '.join(['*' + chr(b)] * 9)}]\n" for b in range(ord("a"), ord("i"))
)
HOSTILE: dict[str, Harm] = {
    "settings: an alias bomb": _settings(BOMB),
    "settings: a list in itself": _settings("tasks: &a [*a]"),
    "settings: depth": _settings("tasks: " + "[" * 50_000),
    "settings: a name twice": _settings("seed: 0\nseed: 1"),
    "settings: an object of Python": _settings("tasks: !!python/object/apply:os.system ['touch /tmp/owned']"),
    "settings: 10^7 layers": _settings("expert: {sac: {depth: 10000000}}"),
    "settings: a number of 10^300": _settings("seed: 1" + "0" * 300),
    "settings: a rate that is not finite": _settings("expert: {sac: {learning_rate: .nan}}"),
    "settings: many": _settings("a: b\n" * 200_000),
    "settings: nothing but zeros": _settings("\0" * 1000),
    "a description: depth": _described(DEEP),
    "a description: a name twice": _described(b'{"sac": {}, "sac": {}}'),
    "a description: a list": _described(b"[]"),
    "a description: nothing": _described(b"{}"),
    "a description: no text": _described(bytes(range(256))),
    "a description: 10^7 layers": _changed("depth", 10**7),
    "a description: a width of words": _changed("width", "256"),
    "a description: a width of lists": _changed("width", [[[[]]]]),
    "a description: a rate that is not finite": _changed("learning_rate", float("inf")),
    "a description: 10^18 observations": _changed("obs_dim", 10**18),
    "a description: less than no actions": _changed("action_dim", -4),
    "a description: other sizes": _changed("action_dim", 400),
    "a summary: depth": _summary(DEEP),
    "a summary: a list": _summary(b"[1]"),
    "weights: no bytes": _weights(lambda content: b""),
    "weights: a header of 2^63 bytes": _weights(lambda content: (2**63).to_bytes(8, "little") + content[8:]),
    "weights: a header of depth": _weights(lambda content: len(DEEP).to_bytes(8, "little") + DEEP),
    "weights: an unknown type": _header(lambda header: _first(header).update(dtype="O")),
    "weights: a place outside": _header(lambda header: _first(header).update(data_offsets=[2**40, 2**41])),
    "weights: a negative axis": _header(lambda header: _first(header).update(shape=[-1])),
    "weights: arrays in one place": _header(lambda header: header | {"other": _first(header)}),
    "weights: not finite": _not_finite,
    "a manifest: no files": _listed(dict.clear),
    "a manifest: a file above": _listed(lambda found: found.update({"../../../config.yaml": "0" * 64})),
    "a manifest: a file of the system": _listed(lambda found: found.update({"/etc/passwd": "0" * 64})),
    "a manifest: no checksum": _listed(lambda found: found.update({SUMMARY: ""})),
    "a manifest: weights that are not listed": _unlisted,
    "a link to the same content": _link("agent.safetensors", ""),
    "a link to a device": _link("agent.safetensors", "/dev/zero"),
    "a link to a folder": _link("episodes", ""),
}


# -- episodes ------------------------------------------------------------------------------------------------


def _replaced(name: str, **dataset: Any) -> Callable[[h5py.File], Any]:
    def harm(file: h5py.File) -> None:
        data = file[name][...]
        del file[name]
        file.create_dataset(name, data=data, **dataset)

    return harm


def _external_link(file: h5py.File) -> None:
    del file["reward"]
    file["reward"] = h5py.ExternalLink("secret.h5", "/reward")


def _virtual(file: h5py.File) -> None:
    rows = len(file["reward"])
    del file["reward"]
    layout = h5py.VirtualLayout((rows,), np.float32)
    layout[:] = h5py.VirtualSource("secret.h5", "reward", (rows,))
    file.create_virtual_dataset("reward", layout)


def _external_storage(file: h5py.File) -> None:
    rows = len(file["reward"])
    del file["reward"]
    file.create_dataset("reward", (rows,), np.float32, external=[("secret.h5", 0, 4 * rows)])


EPISODES: dict[str, Callable[[h5py.File], Any]] = {
    "an external link": _external_link,
    "a soft link": lambda file: file.update({"other": h5py.SoftLink("/reward")}),
    "a virtual dataset": _virtual,
    "external storage": _external_storage,
    "objects": lambda file: file.create_dataset("objects", (9,), h5py.special_dtype(ref=h5py.Reference)),
    "texts": lambda file: file.create_dataset("texts", data=["a", "b"]),
    "compound numbers": lambda file: file.create_dataset(
        "pairs", data=np.zeros(3, [("a", "f4"), ("b", "O")][:1])
    ),
    "a group": lambda file: file.create_group("more"),
    "chunks": _replaced("reward", chunks=True),
    "a filter": _replaced("reward", compression="gzip"),
    "rewards of float16": _replaced("reward", dtype=np.float16),
    "lengths that add up over 2^64": lambda file: file["length"].write_direct(
        np.full(len(file["length"]), 2**62)
    ),
    "an attribute of numbers": lambda file: file.attrs.create("episodes", np.arange(9)),
    "a nested attribute": lambda file: file.attrs.create("episodes", "[" * 10_000),
}


def harmed_episodes(name: str, shard: Path, folder: Path) -> None:
    """Puts a hostile copy of a shard into a folder, beside a file that it might steal from."""
    with h5py.File(folder / "secret.h5", "w") as secret:
        secret["reward"] = np.full(100_000, 42.0, np.float32)
    with h5py.File(shutil.copy(shard, folder / "episodes-00000.h5"), "r+") as file:
        EPISODES[name](file)
