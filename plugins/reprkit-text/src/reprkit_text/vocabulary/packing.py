"""A tokenizer as one line of text, short enough for the signature of a data set."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from reprkit.registry.references import Reference, parse

NAME = "vocabulary"


def pack(tokenizer: str, source: str) -> str:
    """Compress a tokenizer: ``vocabulary(made='byte-pair(...)', packed='...')``, zlib and base 64.

    Args:
        tokenizer: the JSON of Hugging Face's ``tokenizer.json``.
        source: how it was made, as a reference.
    """
    content = json.loads(tokenizer)
    model = content["model"]
    if model.get("type") == "BPE" and model["vocab"] == _numbered(base := _base(model), model["merges"]):
        model["vocab"] = base  # the merges determine the rest
    raw = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    text = base64.b64encode(zlib.compress(raw, 9)).decode()
    return str(Reference(NAME, {"made": source, "packed": text}))


def unpack(form: str) -> tuple[str, str]:
    """Return the tokenizer's JSON and how it was made: the inverse of ``pack``.

    Raises:
        Exception: the text was not written by ``pack``, or is damaged; the type depends on where decoding fails.
    """
    reference = parse(form)
    content = json.loads(zlib.decompress(base64.b64decode(reference.arguments["packed"])))
    model = content["model"]
    if isinstance(model["vocab"], list) and model["type"] == "BPE":
        model["vocab"] = _numbered(model["vocab"], model["merges"])
    return json.dumps(content), str(reference.arguments["made"])


def _base(model: dict[str, Any]) -> list[str]:
    """The symbols that no merge makes, in their order."""
    ordered = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return ordered[: len(ordered) - len(model["merges"])]


def _numbered(base: list[str], merges: list[list[str]]) -> dict[str, int]:
    """Symbol -> number: the base symbols first, then what each merge makes."""
    return {symbol: number for number, symbol in enumerate([*base, *("".join(pair) for pair in merges)])}
