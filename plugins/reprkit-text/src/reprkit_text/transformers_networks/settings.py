"""How large a network of transformers is: from a part's own arguments, or from a local checkpoint's ``config.json``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit.errors import DataError, PartArgumentError, nearest
from reprkit.interfaces import Part
from reprkit.layers.field_checks import divides
from reprkit.registry.create import restoring

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# A checkpoint's settings that say nothing of the network itself.
_NOT_OF_THE_NETWORK = (
    "transformers_version", "architectures", "dtype", "_name_or_path", "torch_dtype", "model_type", "id2label", "label2id",
)  # fmt: skip


def resolve_config(
    part: Part,
    cls: type[PreTrainedConfig],
    folder: str | None,
    sizes: Mapping[str, tuple[int | None, int]],
    spelled: Callable[[Mapping[str, int]], Mapping[str, Any]],
    config: Mapping[str, Any] | None,
    dropouts: Mapping[str, float],
) -> Any:
    """The network's settings; those of a checkpoint's folder are recorded among the part's arguments.

    A saved model is made again where the folder is not: it holds the weights, and ``config`` the settings.

    Args:
        part: that is being made.
        cls: of the settings, such as ``BertConfig``.
        folder: a local checkpoint of transformers, or None.
        sizes: argument -> (what was given, its value where nothing was and there is no folder).
        spelled: makes transformers' settings of the sizes.
        config: further settings by transformers' names, which win over all others.
        dropouts: transformers' names of dropouts -> their values.

    Raises:
        PartArgumentError: a size out of its range or beside a folder, or a setting that transformers does not have.
        DataError: the folder is none of this kind.
    """
    asked = dict(config or {})
    given = [name for name, (value, _) in sizes.items() if value is not None]
    if folder is not None:
        if given:
            raise PartArgumentError(
                f"the checkpoint in {folder!r} says how large it is: leave {', '.join(given)} away\n"
                "  other settings of transformers beside it: config={'num_hidden_layers': 3}"
            )
        held = {} if restoring() else _read_config(Path(folder), cls)
        made = _build_config(cls, {**held, **dropouts, **asked})
        kept = {key: value for key, value in made.to_diff_dict().items() if key not in _NOT_OF_THE_NETWORK}
        object.__setattr__(part, "arguments", {**part.arguments, "config": json.loads(json.dumps(kept))})
        return made
    chosen = {name: usual if value is None else value for name, (value, usual) in sizes.items()}
    divides(chosen["heads"], chosen["width"])
    # No symbol is padding by its number: the mask says what is, and 0 may be a symbol like any other.
    plain: dict[str, Any] = {
        name: None for name in ("pad_token_id", "bos_token_id", "eos_token_id") if name in cls().to_dict()
    }
    return _build_config(cls, {**plain, **spelled(chosen), **dropouts, **asked})


def _build_config(cls: type[PreTrainedConfig], settings: Mapping[str, Any]) -> Any:
    known = _known_settings(cls)
    for name in settings:
        if name not in known:
            raise PartArgumentError(
                f"{cls.__name__} has no setting {name!r}.{nearest(name, known)}\n  config= takes transformers' own names"
            )
    try:
        return cls(**settings)
    except Exception as error:  # transformers checks types with a family of errors of its own
        raise PartArgumentError(f"{cls.__name__} refuses these settings: {error}") from error


def _read_config(folder: Path, cls: type[PreTrainedConfig]) -> dict[str, Any]:
    """The settings of a checkpoint's folder."""
    file = folder.expanduser() / "config.json"
    try:
        found = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise DataError(
            f"no checkpoint of transformers in {str(folder)!r}: {error.strerror or error} (looked in {Path.cwd()})\n"
            "  nothing is downloaded: save one with model.save_pretrained(FOLDER) and name the folder"
        ) from error
    except ValueError as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict) or found.get("model_type") != cls.model_type:
        kind = found.get("model_type") if isinstance(found, dict) else None
        raise DataError(f"{str(folder)!r} holds a network of type {kind!r}, not {cls.model_type!r}")
    return {
        key: value for key, value in found.items() if key in _known_settings(cls) - set(_NOT_OF_THE_NETWORK)
    }


def _known_settings(cls: type[PreTrainedConfig]) -> set[str]:
    """What its settings are called; T5's says in no other place where texts start."""
    return {*cls().to_dict(), *getattr(cls, "attribute_map", {}), "decoder_start_token_id"}
