"""Models on the Hugging Face hub: ``rk.load("hub:user/name")`` and ``rk.push``, via huggingface_hub (required by Accelerate)."""

from __future__ import annotations

import re
from pathlib import Path

from reprkit.checkpoints.reader import holds_checkpoint, read
from reprkit.errors import CheckpointError
from reprkit.runs.filenames import CARD, MANIFEST, WEIGHTS

FILES = (MANIFEST, WEIGHTS, CARD)  # the files of a checkpoint; nothing else is fetched or pushed
_PREFIX = "hub:"
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def parse_hub_name(text: str | Path, hub: bool = False) -> str | None:
    """Return the name ``user/name`` of a hub model written as ``hub:user/name``; None for a path.

    A path that does not exist is not looked up on the hub, so that a mistyped folder cannot load another user's model.

    Args:
        text: the argument of ``rk.load``; a Path is always a path.
        hub: treat the text as a hub name, with or without the prefix.

    Raises:
        CheckpointError: it should be a hub name but is malformed.
    """
    has_prefix = isinstance(text, str) and text.startswith(_PREFIX)
    if not has_prefix and not hub:
        return None
    name = str(text).removeprefix(_PREFIX)
    if _ID.fullmatch(name) is None:
        raise CheckpointError(f"a model on the hub is written 'hub:user/name', not {str(text)!r}")
    return name


def hub_hint(text: str | Path) -> str:
    """Return a line for the error about a missing folder whose path could be a hub name, else an empty string."""
    return (
        f"\n  for a model of the hub write {_PREFIX}{text}"
        if isinstance(text, str) and _ID.fullmatch(text)
        else ""
    )


def fetch(name: str, revision: str | None = None) -> Path:
    """Return the local folder of a hub checkpoint, from the cache or downloaded.

    Args:
        name: ``user/name``.
        revision: a branch, tag or commit; by default the main branch.

    Raises:
        CheckpointError: no such name or revision, no access, no network, or not a checkpoint of reprkit.
    """
    from huggingface_hub import errors, snapshot_download

    title = f"{name} at revision {revision}" if revision else name
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except errors.HFValidationError as error:
        raise CheckpointError(f"{name!r} is not a valid name on the hub: {error}") from error
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{name} on the hub is gated: accept its conditions on its page, then log in with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"the hub has {name}, but no revision {revision!r} of it") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"there is no model {name} on the hub (or it is private: `hf auth login`)"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"{title} is not in the hub's cache, and the hub cannot be reached\n"
            "  if there is a network, check that HF_HUB_OFFLINE is not set"
        ) from error
    except OSError as error:  # the network, the disk
        raise CheckpointError(f"{title} cannot be fetched from the hub: {error}") from error
    if not holds_checkpoint(folder):
        raise CheckpointError(
            f"{title} on the hub is not a model of reprkit: it has no {MANIFEST}; rk.push(FOLDER, {name!r}) would put one there"
        )
    return folder


def push(
    folder: str | Path,
    name: str,
    *,
    revision: str | None = None,
    private: bool = False,
    message: str | None = None,
) -> str:
    """Upload a checkpoint to the hub: manifest, weights and card, and no other file of the folder.

    Log in first (``hf auth login``).  If the model has a license, state it in the card's front matter.

    Args:
        folder: a folder written by ``model.save``, or a run with one in ``model/``.
        name: ``user/name``; created if it does not exist.
        revision: the branch; by default main.
        private: make a new repository private.
        message: the commit message.

    Returns:
        The URL of the commit.

    Raises:
        CheckpointError: the folder is not a checkpoint, or the upload fails.
    """
    from huggingface_hub import HfApi, errors

    checkpoint = read(folder, newer=True).folder
    if _ID.fullmatch(name) is None:
        raise CheckpointError(f"a name on the hub is 'user/name', not {name!r}")
    api = HfApi(library_name="reprkit")
    try:
        api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name,
            folder_path=checkpoint,
            revision=revision,
            commit_message=message or "Model saved by reprkit",
            allow_patterns=list(FILES),
        )
    except (OSError, errors.HFValidationError) as error:  # the hub's own errors are OSErrors too
        raise CheckpointError(
            f"{checkpoint} cannot be pushed to {name}: {error}\n  are you logged in? hf auth login"
        ) from error
    return str(commit.commit_url)
