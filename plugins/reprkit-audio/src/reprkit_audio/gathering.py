"""Gather speech from unpacked packages: telephone prompts, spoken names of Tux Paint's stamps, voices of Hedgewars."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Language -> Debian package, the folder of its sounds, and the speaker.
PROMPTS = {
    "it": ("asterisk-prompt-it-menardi-wav", "it_IT_f_Menardi", "menardi"),
    "fr": ("asterisk-prompt-fr-armelle", "fr", "armelle"),
    "es": ("asterisk-prompt-es-co", "es", "avatar"),
}
PROMPT_RATE = 8000  # Hz
# Languages with more than 300 spoken names; each is read by one person.
STAMPS = ("fr", "ru", "ro", "ca", "bg", "es", "be", "el", "da")
# Language -> Hedgewars' voices; "Robot" is left out, since it is no human voice.
HEDGEHOGS = {
    "en": ("British", "Classic", "Default", "HillBilly", "Mobster", "Pirate", "Russian", "Singer", "Surfer"),
    "es": ("Default_es",),
    "pl": ("Default_pl", "Russian_pl"),
    "ru": ("Default_ru",),
    "uk": ("Default_uk",),
}


def gather_prompts(unpacked: Path, language: str, fresh: Path) -> Iterator[dict[str, Any]]:
    """Copy telephone prompts (8 kHz, WAV or GSM 06.10) as FLAC; keys are those of Asterisk's core sounds, texts are unknown."""
    import soundfile

    _, folder, speaker = PROMPTS[language]
    root = unpacked / "usr" / "share" / "asterisk" / "sounds" / folder
    files = [file for file in root.rglob("*") if file.suffix in (".wav", ".gsm")]
    for file in sorted(files):
        key = file.relative_to(root).with_suffix("").as_posix()
        if key.startswith("silence/") or key in ("beep", "beeperr") or not file.stat().st_size:
            continue
        coded = {} if file.suffix == ".wav" else {"channels": 1, "format": "RAW", "subtype": "GSM610"}
        rate = {"samplerate": PROMPT_RATE} if coded else {}
        wave, found = soundfile.read(file, dtype="int16", **coded, **rate)
        target = fresh / f"{key}.flac"
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, wave, found)
        yield {"file": f"{key}.flac", "speaker": speaker, "language": language, "key": key, "text": None}


def gather_stamps(unpacked: Path, language: str, fresh: Path) -> Iterator[dict[str, Any]]:
    """Copy the spoken names of Tux Paint's stamps (Ogg Vorbis); the text is the written name, the key the stamp."""
    root = unpacked / "usr" / "share" / "tuxpaint" / "stamps"
    for file in sorted(root.rglob(f"*_desc_{language}.ogg")):
        stem = file.name.removesuffix(f"_desc_{language}.ogg")
        key = (file.parent.relative_to(root) / stem).as_posix()
        target = fresh / f"{key}.ogg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        yield {
            "file": f"{key}.ogg",
            "speaker": f"tuxpaint-{language}",
            "language": language,
            "key": key,
            "text": _stamp_name(file.with_name(f"{stem}.txt"), language),
        }


def _stamp_name(path: Path, language: str) -> str | None:
    """The name of a stamp in a language: the line ``LANGUAGE.utf8=NAME`` of its text file."""
    if not path.is_file():
        return None
    for line in path.read_text("utf-8", errors="replace").splitlines():
        head, equals, name = line.partition("=")
        if equals and head == f"{language}.utf8":
            return name.strip() or None
    return None


def gather_hedgehogs(unpacked: Path, language: str, fresh: Path) -> Iterator[dict[str, Any]]:
    """Copy the exclamations of Hedgewars' voices in a language (Ogg Vorbis); texts are unknown."""
    root = unpacked / "usr" / "share" / "games" / "hedgewars" / "Data" / "Sounds" / "voices"
    for voice in HEDGEHOGS[language]:
        for file in sorted((root / voice).glob("*.ogg")):
            (fresh / voice).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, fresh / voice / file.name)
            yield {
                "file": f"{voice}/{file.name}",
                "speaker": f"hedgewars-{voice.lower()}",
                "language": language,
                "key": None,
                "text": None,
            }
