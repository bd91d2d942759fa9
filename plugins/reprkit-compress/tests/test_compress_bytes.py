import pytest
import torch

import reprkit as rk
from reprkit.errors import DataError
from reprkit.models.file_streams import compress_file, decompress_file, read_streams, write_streams
from reprkit.testing import DatasetConformance
from reprkit.testing.kit import failed_checks


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "books").mkdir()
    for name, text in {"one.txt": "Für Elise — " * 40, "two.md": "x" * 20, "three.txt": "short"}.items():
        (tmp_path / "books" / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_windows_hold_every_byte(folder):
    data = rk.dataset(f"bytes(root={str(folder / 'books')!r}, window=16)")
    content = (folder / "books" / "one.txt").read_bytes()
    assert len(data) == -(-len(content) // 16) + 2
    x = data.batch(range(len(data)))["x"]
    assert bytes(x[0].tolist()) == content[:16]
    assert bytes(x[-(-len(content) // 16) - 1].tolist()) == content[-16:]
    assert torch.equal(data[-1]["x"], torch.full((16,), ord("x")))
    with pytest.raises(DataError, match="window=9999"):
        rk.dataset(f"bytes(root={str(folder / 'books')!r}, window=9999)")


@pytest.mark.slow
def test_a_file_of_any_length_comes_back_bit_by_bit(folder):
    data = rk.dataset(f"bytes(root={str(folder / 'books' / 'one.txt')!r}, window=16)")
    model = rk.build(data=data, decoder="gru(width=4)", objective="autoregressive")
    for name in ("one.txt", "three.txt"):
        source = folder / "books" / name
        write_streams(folder / "a.rk", [compress_file(model, source)])
        (stream,) = read_streams(folder / "a.rk")
        assert (stream.name, stream.units) == (name, source.stat().st_size)
        decompress_file(model, stream, folder / "back.bin")
        assert (folder / "back.bin").read_bytes() == source.read_bytes()
    (folder / "empty.txt").write_bytes(b"")
    decompress_file(model, compress_file(model, folder / "empty.txt"), folder / "nothing.txt")
    assert (folder / "nothing.txt").read_bytes() == b""


@pytest.mark.slow
def test_it_passes_the_conformance_checks(folder):
    (folder / "books" / "long.txt").write_bytes(bytes(range(256)) * 400)
    case = DatasetConformance()
    case.part = f"bytes(root={str(folder / 'books')!r}, window=100)"
    assert failed_checks(case) == {}
