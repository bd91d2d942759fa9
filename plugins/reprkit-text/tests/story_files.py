"""Small files of texts that several tests read."""

import json

WORDS = "byte-pair(vocab=400)"


def lines(path, records):
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), "utf-8")
    return path


def stories(count=12):
    """Documents of a number, whose summary is that number."""
    return [
        {"document": f"story {n} " + "tells of much " * (n % 4), "summary": f"short {n}"}
        for n in range(count)
    ]
