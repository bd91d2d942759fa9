import pickle
import subprocess
import sys

import pytest
import torch
from conformance import check_conformance

import reprkit as rk
from reprkit.data import Lines, Order, loader
from reprkit.errors import DataError, PartArgumentError

SENTENCES = [f"línea {number}: " + "añb" * number for number in range(12)]


@pytest.fixture
def file(tmp_path):
    (tmp_path / "set.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    return tmp_path / "set.txt"


def read(data):
    return [bytes(each["x"].tolist()).decode() for each in data]


@pytest.mark.parametrize("units", ["bytes", "characters"])
def test_file_conforms(file, units):
    check_conformance(Lines(file, units))


def test_bytes_equal_the_files(file):
    data = Lines(file)
    assert read(data) == SENTENCES
    assert [data.text(place) for place in range(len(data))] == SENTENCES
    assert data[-1]["x"].tolist() == list(SENTENCES[-1].encode())
    assert (data.signature["x"].vocab, data.signature["x"].shape, data.name) == (256, (None,), "set")


def test_characters_are_indices_into_the_alphabet(file):
    data = Lines(file, "characters")
    assert data.alphabet == "".join(sorted(set("".join(SENTENCES)))) == data.describe()["alphabet"]
    assert ["".join(data.alphabet[place] for place in each["x"]) for each in data] == SENTENCES
    assert data.signature["x"].vocab == len(data.alphabet)


def test_line_ends_byte_order_marks_and_blank_lines_are_dropped(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\n \t\r\n two \nthree\r\n\n")
    data = Lines(tmp_path / "a.txt")
    assert read(data) == ["one", " two ", "three"]
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbf\nonly\n")
    assert read(Lines(tmp_path / "b.txt")) == ["only"]
    assert read(Lines(tmp_path)) == ["one", " two ", "three", "only"]


def test_folder_is_its_files_in_order(tmp_path):
    (tmp_path / "set" / "z").mkdir(parents=True)
    for name, text in (("z/1.txt", "e\nf\n"), ("b.TXT", "c\nd"), ("a.txt", "a\nb\n"), ("e.txt", "")):
        (tmp_path / "set" / name).write_text(text)
    (tmp_path / "set" / "notes.md").write_text("not this\n")
    (tmp_path / "set" / ".hidden.txt").write_text("nor this\n")
    data = Lines(tmp_path / "set")
    assert read(data) == list("abcdef")
    assert data.batch([5, 0, 2])["x"][:, 0].tolist() == [ord(each) for each in "fac"]
    assert data.name == "set"


def test_number_of_open_files_is_bounded(tmp_path):
    for number in range(90):
        (tmp_path / f"{number:03}.txt").write_text(f"{number}\n")
    data = Lines(tmp_path)
    for _ in range(2):
        assert read(data) == [str(number) for number in range(90)]
    assert len(data._files._open) == 64


def test_length_truncates_lines(tmp_path):
    (tmp_path / "a.txt").write_text("ñandú\nno\n", encoding="utf-8")
    whole = list("ñandú".encode())
    assert Lines(tmp_path / "a.txt", length=4)[0]["x"].tolist() == whole[:4]
    short = Lines(tmp_path / "a.txt", "characters", length=3)
    assert "".join(short.alphabet[place] for place in short[0]["x"]) == "ñan"
    assert short.text(0) == "ñandú"
    batch = short.batch([0, 1])
    assert batch["x_mask"].tolist() == [[True] * 3, [True, True, False]]


def test_lines_that_are_not_utf8_are_skipped_and_named(tmp_path):
    good = [f"line {number}".encode() for number in range(98)]
    (tmp_path / "a.txt").write_bytes(b"\n".join([*good[:3], b"caf\xe9", *good[3:], b"\xff\xfe"]))
    with pytest.raises(
        DataError, match=r"(?s)only 98 of the 100 lines.*a\.txt:4: not valid UTF-8.*max_corrupt"
    ):
        Lines(tmp_path / "a.txt")
    data = Lines(tmp_path / "a.txt", max_corrupt=0.02)
    assert read(data) == [each.decode() for each in good]
    told = data.split()[1].describe()
    assert (told["skipped_count"], [each["name"] for each in told["skipped"]]) == (
        2,
        ["a.txt:4", "a.txt:100"],
    )


def test_split_and_workers_give_the_same_lines(file):
    data = Lines(file)
    train, test = data.split(seed=2)
    assert sorted(read(train) + read(test)) == sorted(SENTENCES)
    order = Order(len(train), 3, seed=1)
    here, ahead = (list(loader(train, order, workers=workers, stop=5)) for workers in (0, 2))
    for one, two in zip(here, ahead, strict=True):
        assert torch.equal(one["x"], two["x"])
        assert torch.equal(one["x_mask"], two["x_mask"])
    assert read(pickle.loads(pickle.dumps(data))) == SENTENCES


@pytest.mark.slow
def test_large_file_is_not_held_in_memory(tmp_path):
    with (tmp_path / "large.txt").open("wb") as opened:
        for number in range(1000):
            opened.write(b"%06d" % number + b"x" * 199_993 + b"\n")  # 200 MB
    code = f"""
import resource
from reprkit.data import Lines
Lines
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = Lines({str(tmp_path / "large.txt")!r}, length=6)
assert len(data) == 1000
assert [bytes(data[place]['x'].tolist()) for place in (0, 500, 999)] == [b'000000', b'000500', b'000999']
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60, f"{done.stdout} MB more for 200 MB of text"


def test_changed_file_raises(file):
    data = Lines(file)
    file.write_text("shorter\n")
    with pytest.raises(DataError, match=r"set\.txt.*has changed"):
        data[3]
    file.unlink()
    with pytest.raises(DataError, match=r"set\.txt.*no longer is"):
        data[3]


def test_invalid_arguments_raise(tmp_path, file):
    with pytest.raises(DataError, match="no file"):
        Lines(tmp_path / "nowhere.txt")
    with pytest.raises(PartArgumentError, match="Did you mean 'bytes'"):
        Lines(file, "byte")
    with pytest.raises(PartArgumentError, match="length=0 must be an integer of at least 1"):
        Lines(file, length=0)
    with pytest.raises(PartArgumentError, match="max_corrupt=3 must be a number from 0 to 1"):
        Lines(file, max_corrupt=3)
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(DataError, match="holds only blank lines"):
        Lines(tmp_path / "blank.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfd\n\xff")
    with pytest.raises(DataError, match="none of the 2 lines"):
        Lines(tmp_path / "binary.txt", max_corrupt=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no text files \(\.txt\)"):
        Lines(tmp_path / "empty")


def test_model_trains_on_lines_by_reference(file):
    data = rk.dataset(f"lines(path={str(file)!r}, units='characters', length=16)")
    model = rk.build(data=data, encoder="gru", latent="gaussian(dim=4)", decoder="gru")
    losses = []
    for step in rk.loop(model, data, steps=30, batch=8, lr=1e-2, workers=0):
        loss = step.model(step.batch).total
        step.backward(loss)
        losses.append(float(loss.detach()))
        step.update()
    assert losses[-1] < losses[0]


def test_parts_follow_from_the_lines(tmp_path):
    file = tmp_path / "a.txt"
    lines = [f"line {number % 40}" for number in range(50)]
    file.write_text("\n".join(lines))

    def parts():
        data = Lines(file)
        return [
            {bytes(each["x"].tolist()).decode() for each in part} for part in data.split(seed=2, valid=True)
        ]

    before = parts()
    assert sum(map(len, before)) == 40  # equal lines are in one part
    file.write_text("\n".join(["another", *lines, "more", "and more"]))
    for old, new in zip(before, parts(), strict=True):
        assert new - {"another", "more", "and more"} == old


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_a_carriage_return_alone_ends_a_line(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("one\rtwö\r\rthree\r\nfour\r".encode(encoding))
    data = Lines(tmp_path / "a.txt", encoding=encoding)
    assert read(data) == ["one", "twö", "three", "four"]
