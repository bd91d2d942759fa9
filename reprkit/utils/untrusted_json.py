"""Parse JSON from a file that may be damaged or hostile: bounded in size, in depth and in the digits of its integers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

MAX_BYTES = 1 << 26  # of one file, or of one line
_MAX_DEPTH = 64
_MAX_INTEGER = 2**63


def parse_json(text: str | bytes) -> Any:
    """Parse JSON: at most 64 MiB, nested at most 64 deep, integers of 64 bits, texts without lone surrogates.

    Raises:
        ValueError: it is something else; the message is one short sentence.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"it has {len(text):,} bytes, and at most {MAX_BYTES:,} are read")
    try:
        content = json.loads(text)
    except RecursionError:
        _refuse_depth()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError):
            raise
        raise ValueError("an integer in it has too many digits") from error
    _check(content)
    return content


def read_json(path: Path) -> Any:
    """Read and parse a file.

    Raises:
        ValueError: see ``parse_json``.
        OSError: it cannot be read, or is no regular file.
    """
    if not path.is_file():
        raise OSError("it is no regular file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has {path.stat().st_size:,} bytes, and at most {MAX_BYTES:,} are read")
    return parse_json(path.read_bytes())


def _check(content: Any) -> None:
    """Check depth, integers and texts, without recursion."""
    level, depth = [content], 0
    while level:
        depth += 1
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.keys()
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str):
                if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
                    raise ValueError("a text in it has half of a surrogate pair")
            elif isinstance(value, int) and abs(value) >= _MAX_INTEGER:
                raise ValueError("an integer in it has more than 64 bits")
        if depth > _MAX_DEPTH and inner:
            _refuse_depth()
        level = inner


def _refuse_depth() -> NoReturn:
    raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
