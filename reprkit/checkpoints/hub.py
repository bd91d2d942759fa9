"""Models on a hub: ``rk.load("hub:user/name")`` and ``rk.push``, through huggingface_hub, which Accelerate brings along."""

from __future__ import annotations

import re
from pathlib import Path

from reprkit.checkpoints.reader import holds_checkpoint, read
from reprkit.errors import CheckpointError
from reprkit.runs.filenames import CARD, MANIFEST, WEIGHTS

FILES = (MANIFEST, WEIGHTS, CARD)  # what a checkpoint is; nothing else is fetched or pushed
_PREFIX = "hub:"
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def parse_hub_name(text: str | Path, hub: bool = False) -> str | None:
    """The name ``user/name`` of a model on the hub that is written ``hub:user/name``; None for a path.

    A path that does not exist is not looked up on the hub: whoever mistypes a folder would load somebody else's model.

    Args:
        text: what the caller gave; a Path is a path.
        hub: the text is such a name, with or without the prefix.

    Raises:
        CheckpointError: it is written as a name on the hub, and is none.
    """
    written = isinstance(text, str) and text.startswith(_PREFIX)
    if not written and not hub:
        return None
    name = str(text).removeprefix(_PREFIX)
    if _ID.fullmatch(name) is None:
        raise CheckpointError(f"a model on the hub is written 'hub:user/name', not {str(text)!r}")
    return name


def hub_hint(text: str | Path) -> str:
    """A line for an error about a folder that does not exist, where its path could be a name on the hub."""
    return (
        f"\n  for a model of the hub write {_PREFIX}{text}"
        if isinstance(text, str) and _ID.fullmatch(text)
        else ""
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
        raise CheckpointError(f"{name!r} is no name that the hub could have: {error}") from error
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{name} on the hub wants its conditions accepted first: do so on its page, then log in with `hf auth login`"
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
