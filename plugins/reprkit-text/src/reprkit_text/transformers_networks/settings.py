"""Resolve the config of a network of transformers from a part's arguments or a local checkpoint's ``config.json``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit.errors import DataError, PartArgumentError, nearest
from reprkit.interfaces import Part
from reprkit.layers.field_checks import check_heads
from reprkit.registry.create import is_restoring

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Settings of a checkpoint that do not describe the network.
_NOT_OF_THE_NETWORK = (
    "transformers_version", "architectures", "dtype", "_name_or_path", "torch_dtype", "model_type", "id2label", "label2id",
)  # fmt: skip
_ACTIVATIONS = {"hidden_act", "activation_function", "dense_act_fn"}


def resolve_config(
    part: Part,
    cls: type[PreTrainedConfig],
    folder: str | None,
    sizes: Mapping[str, tuple[int | None, int]],
    to_config: Callable[[Mapping[str, int]], Mapping[str, Any]],
    config: Mapping[str, Any] | None,
    dropouts: Mapping[str, float],
) -> Any:
    """Return the network's config; a checkpoint's settings are recorded in the part's argument ``config``.

    So a saved model loads without the folder: it holds the weights, and ``config`` the settings.

    Args:
        part: the part under construction.
        cls: class of the config, such as ``BertConfig``.
        folder: a local checkpoint of transformers, or None.
        sizes: argument -> (its value or None, the default without a folder).
        to_config: converts sizes to transformers' settings.
        config: further settings under transformers' names, which override all others.
        dropouts: transformers' names of dropout rates -> their values.

    Raises:
        PartArgumentError: a size out of its range or together with a folder, or a setting unknown to transformers.
        DataError: the folder holds no checkpoint of this type.
    """
    overrides = dict(config or {})
    own_sizes = [name for name, (value, _) in sizes.items() if value is not None]
    if folder is not None:
        if own_sizes:
            raise PartArgumentError(
                f"folder={folder!r}: the checkpoint sets the size of the network: remove {', '.join(own_sizes)}\n"
                "  override single settings of transformers with config={'num_hidden_layers': 3}"
            )
        saved = {} if is_restoring() else _read_config(Path(folder), cls)
        resolved = _build_config(cls, {**saved, **dropouts, **overrides})
        recorded = {
            key: value for key, value in resolved.to_diff_dict().items() if key not in _NOT_OF_THE_NETWORK
        }
        object.__setattr__(part, "arguments", {**part.arguments, "config": json.loads(json.dumps(recorded))})
        return resolved
    chosen = {name: default if value is None else value for name, (value, default) in sizes.items()}
    check_heads(chosen["heads"], chosen["width"])
    # No symbol is reserved for padding: the mask marks it, and 0 may be an ordinary symbol.
    no_specials: dict[str, Any] = {
        name: None for name in ("pad_token_id", "bos_token_id", "eos_token_id") if name in cls().to_dict()
    }
    return _build_config(cls, {**no_specials, **to_config(chosen), **dropouts, **overrides})


def _build_config(cls: type[PreTrainedConfig], settings: Mapping[str, Any]) -> Any:
    known = _known_settings(cls)
    for name in settings:
        if name not in known:
            raise PartArgumentError(
                f"{cls.__name__} has no setting {name!r}.{nearest(name, known)}\n  config= takes transformers' own names"
            )
    for name in _ACTIVATIONS & settings.keys():
        _check_activation(cls, name, settings[name])
    try:
        return cls(**settings)
    except Exception as error:  # transformers checks types with its own exception classes
        raise PartArgumentError(f"{cls.__name__} rejects these settings: {error}") from error


def _read_config(folder: Path, cls: type[PreTrainedConfig]) -> dict[str, Any]:
    """Read the settings in a checkpoint's folder."""
    file = folder.expanduser() / "config.json"
    try:
        content = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise DataError(
            f"no checkpoint of transformers in {str(folder)!r}: {error.strerror or error} (looked in {Path.cwd()})\n"
            "  nothing is downloaded: save a checkpoint with model.save_pretrained(FOLDER) and pass that folder"
        ) from error
    except ValueError as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("model_type") != cls.model_type:
        kind = content.get("model_type") if isinstance(content, dict) else None
        raise DataError(f"{str(folder)!r} holds a network of type {kind!r}, not {cls.model_type!r}")
    return {
        key: value for key, value in content.items() if key in _known_settings(cls) - set(_NOT_OF_THE_NETWORK)
    }


def _known_settings(cls: type[PreTrainedConfig]) -> set[str]:
    """Return the names of its settings; T5 lists ``decoder_start_token_id`` nowhere else."""
    return {*cls().to_dict(), *getattr(cls, "attribute_map", {}), "decoder_start_token_id"}


def _check_activation(cls: type[PreTrainedConfig], name: str, value: Any) -> None:
    """Check a setting that names an activation function, which transformers reads only when it builds the network."""
    from transformers.activations import ACT2FN

    if value not in ACT2FN:
        raise PartArgumentError(
            f"{cls.__name__} rejects these settings: {name}={value!r} is no activation of transformers."
            f"{nearest(str(value), ACT2FN)}\n  known: {', '.join(ACT2FN)}"
        )
