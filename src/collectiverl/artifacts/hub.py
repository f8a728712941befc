"""Policies on the Hugging Face Hub: `hf:owner/name`, a revision behind `@`, and a folder in it behind another `/`."""

from pathlib import Path
from typing import NamedTuple

from collectiverl.artifacts.extras import extra
from collectiverl.types import UserError

PREFIX = "hf:"
EXAMPLE = "hf:owner/name, hf:owner/name@v1 or hf:owner/name/push"


class Address(NamedTuple):
    """Where on the Hub something lies."""

    repo: str  # owner/name
    revision: str | None  # a branch, a tag or a commit; None: the newest
    inside: str  # a folder in the repository; "": the repository itself


def address(name: str) -> Address | None:
    """The address that a user typed; None if it is none of the Hub.

    Raises:
        UserError: it begins as one and names no repository.
    """
    if not name.startswith(PREFIX):
        return None
    path, _, revision = name.removeprefix(PREFIX).partition("@")
    revision, _, behind = revision.partition("/")
    owner, _, rest = path.partition("/")
    repo, _, inside = rest.partition("/")
    if not owner or not repo:
        raise UserError(f"{name!r} names no repository of the Hugging Face Hub: write {EXAMPLE}")
    return Address(f"{owner}/{repo}", revision or None, inside or behind)


def is_blob(link: Path) -> bool:
    """Whether a link is one of the Hub's cache: a file of a snapshot, which leads to the blobs beside it.

    Such a cache is `models--owner--name/snapshots/<commit>/…` and `models--owner--name/blobs/`.
    """
    snapshots = next((folder for folder in link.absolute().parents if folder.name == "snapshots"), None)
    return snapshots is not None and link.resolve().parent == (snapshots.parent / "blobs").resolve()


def downloaded(where: Address) -> Path:
    """The repository's folder on this machine, downloaded unless it is there already.

    Files that are there are not downloaded again; `HF_HUB_OFFLINE=1` asks nobody and takes what is there.

    Raises:
        UserError: there is no such repository or revision, it cannot be reached, or huggingface_hub is not installed.
    """
    hub = extra("huggingface_hub", "hub")
    try:
        return Path(hub.snapshot_download(where.repo, revision=where.revision))
    except hub.errors.HFValidationError as error:
        raise UserError(f"{PREFIX}{where.repo}: {error}") from error
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError) as error:
        which = f" at {where.revision}" if where.revision else ""
        raise UserError(
            f"the Hugging Face Hub has no model {where.repo}{which} that you can read: look at its name; "
            "if it is private, log in with 'hf auth login'"
        ) from error
    except Exception as error:  # of the network library: which one depends on the version of huggingface_hub
        raise UserError(
            f"{PREFIX}{where.repo} cannot be downloaded ({type(error).__name__}: {error})"
        ) from error
