"""A vocabulary as one line of text, short enough to stand in a data set's signature."""

from __future__ import annotations

import base64
import functools
import json
import zlib
from typing import TYPE_CHECKING, Any

from reprkit.errors import DataError
from reprkit.registry.references import Reference, parse

if TYPE_CHECKING:
    from reprkit_text.vocabulary.vocabulary import Vocabulary

NAME = "vocabulary"


def packed(vocabulary: Vocabulary) -> str:
    """``vocabulary(made='byte-pair(...)', packed='...')``: the tokenizer's JSON, compressed, as base 64."""
    held = json.loads(vocabulary.to_json())
    model = held["model"]
    if model.get("type") == "BPE" and model["vocab"] == _numbered(base := _base(model), model["merges"]):
        model["vocab"] = base  # the merges say the rest
    raw = json.dumps(held, ensure_ascii=False, separators=(",", ":")).encode()
    text = base64.b64encode(zlib.compress(raw, 9)).decode()
    return str(Reference(NAME, {"made": vocabulary.made, "packed": text}))


@functools.lru_cache(maxsize=16)
def unpacked(form: str) -> Vocabulary:
    """The inverse of ``packed``.

    Raises:
        DataError: the text is none, or is damaged.
    """
    from tokenizers import Tokenizer

    from reprkit_text.vocabulary.vocabulary import Vocabulary

    try:
        reference = parse(form)
        held = json.loads(zlib.decompress(base64.b64decode(reference.arguments["packed"])))
        model = held["model"]
        if isinstance(model["vocab"], list) and model["type"] == "BPE":
            model["vocab"] = _numbered(model["vocab"], model["merges"])
        return Vocabulary(Tokenizer.from_str(json.dumps(held)), str(reference.arguments["made"]))
    except Exception as error:  # tokenizers raises a plain Exception
        raise DataError(
            f"{form[:60]!r}... is no vocabulary that can be read: {type(error).__name__}: {error}\n"
            "  a field's form comes from the data sets text, documents and debian"
        ) from error


def _base(model: dict[str, Any]) -> list[str]:
    """The symbols that no merge makes, in their order."""
    ordered = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return ordered[: len(ordered) - len(model["merges"])]


def _numbered(base: list[str], merges: list[list[str]]) -> dict[str, int]:
    """Symbol -> number: the base's first, then what each merge makes."""
    return {symbol: place for place, symbol in enumerate([*base, *("".join(pair) for pair in merges)])}
