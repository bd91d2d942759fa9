"""Models on a hub: ``rk.load("user/name")`` and ``rk.push``, through huggingface_hub, which Accelerate brings along."""

from __future__ import annotations

import re
from pathlib import Path

from reprkit.checkpoints.reader import holds_checkpoint, read
from reprkit.errors import CheckpointError
from reprkit.filenames import CARD, MANIFEST, WEIGHTS

FILES = (MANIFEST, WEIGHTS, CARD)  # what a checkpoint is; nothing else is fetched or pushed
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def names_a_repository(text: str | Path) -> bool:
    """Whether a text is ``user/name`` and not a path here: a Path, a third piece or an existing first folder make it one."""
    return (
        isinstance(text, str)
        and _ID.fullmatch(text) is not None
        and not Path(text.partition("/")[0]).exists()
    )


def fetch(name: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint of the hub, from the cache or the network.

    Args:
        name: ``user/name``.
        revision: a branch, tag or commit; the main branch when not given.

    Raises:
        CheckpointError: nothing of that name, no such revision, no access, no network, or no checkpoint of reprkit.
    """
    from huggingface_hub import errors, snapshot_download

    title = f"{name} at revision {revision}" if revision else name
    try:
        place = Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except errors.HFValidationError as error:
        raise CheckpointError(
            f"{name!r} is no folder here, and no name that the hub could have: {error}"
        ) from error
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{name} on the hub wants its conditions accepted first: do so on its page, then log in with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"the hub has {name}, but no revision {revision!r} of it") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"there is no folder {name} here, and no model {name} on the hub (or it is private: `hf auth login`)"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"there is no folder {name} here; {title} is not in the hub's cache either, and the hub cannot be reached\n"
            "  a folder's path that does not exist yet can look like a name on the hub: write ./PATH to mean a folder\n"
            "  with a network, see that HF_HUB_OFFLINE is not set"
        ) from error
    except OSError as error:  # the network, the disk
        raise CheckpointError(f"{title} cannot be fetched from the hub: {error}") from error
    if not holds_checkpoint(place):
        raise CheckpointError(
            f"{title} on the hub is not a model of reprkit: it has no {MANIFEST}; rk.push(FOLDER, {name!r}) would put one there"
        )
    return place


def push(
    folder: str | Path,
    name: str,
    *,
    revision: str | None = None,
    private: bool = False,
    message: str | None = None,
) -> str:
    """Put a checkpoint on the hub: manifest, weights and card, and nothing else of the folder.

    Log in first (``hf auth login``), and state a license in the card's front matter if it has one.

    Args:
        folder: what ``model.save`` wrote, or a run with one in ``model/``.
        name: ``user/name``; made when it is new.
        revision: the branch; main when not given.
        private: make a new one private.
        message: of the commit.

    Returns:
        Where the commit can be seen.

    Raises:
        CheckpointError: the folder is no checkpoint, or the hub refuses it.
    """
    from huggingface_hub import HfApi, errors

    place = read(folder, newer=True).folder
    if _ID.fullmatch(name) is None:
        raise CheckpointError(f"a name on the hub is 'user/name', not {name!r}")
    api = HfApi(library_name="reprkit")
    try:
        api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name,
            folder_path=place,
            revision=revision,
            commit_message=message or "Model saved by reprkit",
            allow_patterns=list(FILES),
        )
    except (OSError, errors.HFValidationError) as error:  # the hub's own errors are OSErrors too
        raise CheckpointError(
            f"{place} cannot be pushed to {name}: {error}\n  are you logged in? hf auth login"
        ) from error
    return str(commit.commit_url)
