"""Pipes, devices and headers that claim hours: refused by one sentence, and at once."""

import os
import struct
import threading

import pytest

import reprkit as rk
from reprkit.data import sound
from reprkit.data.formats.media_readers import _open
from reprkit.errors import DataError


def wav(path, rate, frames=32_000):
    """Write a WAV file of 16 bits whose header states this rate."""
    body = b"\0\1" * frames
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + len(body),
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        rate,
        2 * rate,
        2,
        16,
        b"data",
        len(body),
    )
    path.write_bytes(header + body)
    return path


READERS = {
    "dataset of a text": ("x.txt", rk.dataset),
    "dataset of JSON lines": ("x.jsonl", rk.dataset),
    "dataset of an array": ("x.npy", rk.dataset),
    "arrays": ("x.npz", lambda path: rk.create("dataset", "arrays", path=path)),
    "lines": ("x.txt", lambda path: rk.create("dataset", "lines", path=path)),
    "hub": ("x.csv", lambda path: rk.create("dataset", "hub", path=path)),
    "sound": ("x.wav", sound.read),
    "record of a table": ("x.png", lambda path: _open({"path": path, "bytes": None})),
}


def call_in_time(call, *args):
    """Call in a thread, so that a blocked call is a failure and not a hang."""
    found = []

    def run():
        try:
            call(*args)
            found.append(None)
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert found, "the call is blocked"
    return found[0]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
def test_pipes_and_devices_are_refused(reader, kind, tmp_path):
    name, call = READERS[reader]
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    error = call_in_time(call, str(path))
    assert isinstance(error, DataError), error
    assert "neither a file nor a folder" in str(error)


def test_pipes_and_devices_in_a_folder_are_no_data(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    os.mkfifo(tmp_path / "b.txt")
    (tmp_path / "c.txt").symlink_to("/dev/zero")
    assert call_in_time(rk.dataset, tmp_path) is None
    assert len(rk.dataset(tmp_path)) == 2
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    os.mkfifo(arrays / "x.npy")
    assert isinstance(call_in_time(lambda: rk.create("dataset", "arrays", path=str(arrays))), DataError)


@pytest.mark.parametrize("rate", [1, 100, 2_000_000])
def test_an_impossible_rate_is_refused(rate, tmp_path):
    path = wav(tmp_path / "x.wav", rate)
    for call in (sound.read, sound.duration, sound.check_file):
        with pytest.raises(DataError, match=f"claims {rate:,} samples a second"):
            call(path)
    with pytest.raises(DataError, match="samples a second"):
        rk.create("dataset", "audio", root=str(tmp_path))
    assert len(sound.read(wav(path, 16_000))) == 32_000
