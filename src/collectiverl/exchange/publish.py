"""`publish`: an exported folder, with its model card, on the Hugging Face Hub."""

from pathlib import Path

from collectiverl.artifacts.extras import extra
from collectiverl.artifacts.hub import PREFIX, Address, address
from collectiverl.artifacts.paths import CARD
from collectiverl.types import UserError


def check_repo(repo: str) -> Address:
    """The address of a whole repository.

    Raises:
        UserError: this names none.
    """
    found = address(repo if repo.startswith(PREFIX) else f"{PREFIX}{repo}")
    if found is None or found.inside:
        raise UserError(f"{repo!r} names no repository: write owner/name")
    return found


def publish(folder: Path, repo: str, *, private: bool) -> str:
    """Uploads a folder that `export` wrote as one commit; the repository is made if it is not there.

    Args:
        repo: `owner/name`; behind `@`, a branch that is there.
        private: of a repository that is made anew: only its owner reads it.

    Returns:
        The address of the commit on the Hub.

    Raises:
        UserError: the folder has no model card, or the Hub refuses it.
    """
    if not (folder / CARD).is_file():
        raise UserError(
            f"{folder / CARD} is not there: 'collectiverl export --out {folder}' writes a folder to publish"
        )
    where, hub = check_repo(repo), extra("huggingface_hub", "hub")
    api = hub.HfApi(library_name="collectiverl")
    try:
        api.create_repo(where.repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=where.repo,
            folder_path=folder,
            revision=where.revision,
            commit_message=f"{folder.name}, exported by collectiverl",
        )
    except hub.errors.LocalTokenNotFoundError as error:
        raise UserError("you are not logged in to the Hugging Face Hub: 'hf auth login' does it") from error
    except Exception as error:  # of the network library: which one depends on the version of huggingface_hub
        raise UserError(
            f"{where.repo} cannot be written ({type(error).__name__}: {error}): you may have to log in with "
            "'hf auth login', as someone who may write there"
        ) from error
    return str(done.commit_url)
