"""Small text files shared by several tests."""

import json

WORDS = "byte-pair(vocab=400)"


def write_lines(path, records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    return path


def stories(count=12):
    """Documents about a number, whose summary is that number."""
    return [
        {"document": f"story {n} " + "tells of much " * (n % 4), "summary": f"short {n}"}
        for n in range(count)
    ]
