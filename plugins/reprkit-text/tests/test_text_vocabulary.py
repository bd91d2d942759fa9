"""Vocabularies: round trips in any script, special symbols, word boundaries, the cache, the packed form."""

import json

import pytest
import torch
from reprkit_text.vocabulary import vocabulary
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from reprkit.errors import DataError, PartArgumentError, UnknownPartError
from reprkit.utils.cache import cache_folder

TEXTS = [
    "The quick brown fox, foxes and a fox's den.",
    "A second text\nwith two lines; 0xFF und Wörter.",
    "Γεια σου κόσμε",
]
STRANGE = ["日本語のテキスト", "العربية", "emoji 🙂 and \u200b zero width", "tab\tand  two spaces"]


@pytest.mark.parametrize("lower", [False, True])
def test_byte_pair_encodes_and_decodes_any_script(lower):
    words = vocabulary(f"byte-pair(vocab=300, lower={lower})", TEXTS)
    assert words.size == 300
    for text in TEXTS + STRANGE:
        ids = words.encode(text)
        assert max(ids) < words.size
        assert min(ids) > 3, "no special symbol: nothing is unknown"
        assert words.decode(ids) == (text.lower() if lower else text)


def test_merges_are_those_of_the_most_frequent_pairs():
    words = vocabulary("byte-pair(vocab=262)", ["ab ab ab abc"])  # two merges: "ab", and a space before it
    assert words.encode("ab ab abc")[:3] == [261, 261, 261]
    assert words.encode("xab")[-1] == 260
    assert len(words.encode("ab ab abc")) == 4


def test_characters_are_one_symbol_each_and_others_are_unknown():
    words = vocabulary("characters", TEXTS)
    assert words.size == 4 + len(set("".join(TEXTS)))
    for text in TEXTS:
        assert len(words.encode(text)) == len(text)
        assert words.decode(words.encode(text)) == text
    ids = words.encode("日fox")
    assert ids[0] == words.unknown == 1
    assert words.decode(ids) == "[UNK]fox"
    assert vocabulary("characters(most=2)", ["aabbc"]).encode("abc") == [4, 5, 1]


@pytest.mark.parametrize("kind", ["byte-pair(vocab=300", "characters(most=99"])
def test_marks_surround_every_text_also_when_cut(kind):
    words = vocabulary(f"{kind}, marks=True)", TEXTS)
    for length in (None, 6):
        ids = words.encode(TEXTS[0], length)
        assert (ids[0], ids[-1]) == (words.start, words.end) == (2, 3)
        assert length is None or len(ids) == length
        assert words.decode(ids, specials=True).startswith("[CLS]")
        assert "[CLS]" not in words.decode(ids)
    with pytest.raises(DataError, match="leaves no room"):
        words.encode(TEXTS[0], 2)


def test_the_form_holds_the_whole_vocabulary():
    for kind in ("byte-pair(vocab=320, lower=True)", "characters(marks=True)"):
        words = vocabulary(kind, TEXTS)
        again = vocabulary(words.form)
        assert json.loads(again.to_json()) == json.loads(words.to_json())
        assert again.form == words.form
        assert list(again.encode_all(TEXTS + STRANGE)) == list(words.encode_all(TEXTS + STRANGE))
    with pytest.raises(DataError, match="cannot be read as a vocabulary"):
        vocabulary("vocabulary(made='byte-pair', packed='AAAA')")


def test_word_boundaries_follow_the_text():
    text = "The quick brown foxes' den, 0xFF: foo_bar!"
    runs = ["The", "quick", "brown", "foxes", "'", "den", ",", "0xFF", ":", "foo_bar", "!"]
    for kind in ("byte-pair(vocab=290)", "characters"):
        words = vocabulary(kind, [*TEXTS, text])
        ids = torch.tensor(words.encode(text))
        joins, open_ended = words.word_boundaries
        continues = torch.cat([torch.tensor([False]), joins[ids[1:]] & open_ended[ids[:-1]]])
        pieces = [words.decode(part) for part in ids.tensor_split(continues.logical_not().nonzero()[1:, 0])]
        assert [piece for piece in pieces if piece] == runs
        assert not joins[words.size]
        assert not joins[list(words.specials)].any()


def test_the_same_texts_are_trained_on_once(monkeypatch, tmp_path):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path))
    one = vocabulary("byte-pair(vocab=300)", TEXTS)
    (file,) = (cache_folder("text") / "vocabulary").iterdir()
    written = json.loads(file.read_text())
    written["model"]["vocab"]["zzz"] = 300
    file.write_text(json.dumps(written))
    assert vocabulary("byte-pair(vocab=300)", TEXTS).size == 301, "the cache was not read"
    file.write_text("{")
    assert vocabulary("byte-pair(vocab=300)", TEXTS).form == one.form, "a damaged file is replaced"
    vocabulary("byte-pair(vocab=300)", TEXTS[:2])
    vocabulary("byte-pair(vocab=301)", TEXTS)
    assert len(list((cache_folder("text") / "vocabulary").iterdir())) == 3


def test_a_hugging_face_folder_is_a_vocabulary(tmp_path):
    own = vocabulary("byte-pair(vocab=300, marks=True)", TEXTS)
    (tmp_path / "tokenizer.json").write_text(own.to_json())
    names = {"pad_token": "[PAD]", "mask_token": "[MASK]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), **names)
    fast.save_pretrained(tmp_path / "saved")
    found = vocabulary(str(tmp_path / "saved"))
    assert found.mask == 300
    assert found.size == 301
    for text in TEXTS + STRANGE:
        assert found.encode(text) == AutoTokenizer.from_pretrained(tmp_path / "saved")(text)["input_ids"]
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="nothing is downloaded"):
        vocabulary(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="holds no tokenizer"):
        vocabulary(str(tmp_path))


def test_invalid_input_is_rejected():
    with pytest.raises(UnknownPartError, match="Did you mean 'byte-pair'"):
        vocabulary("byte-pear", TEXTS)
    with pytest.raises(PartArgumentError, match="from 261"):
        vocabulary("byte-pair(vocab=260)", TEXTS)
    with pytest.raises(PartArgumentError, match="Did you mean 'vocab'"):
        vocabulary("byte-pair(vocb=300)", TEXTS)
    with pytest.raises(DataError, match="none were given"):
        vocabulary("characters")
    with pytest.raises(DataError, match="no characters"):
        vocabulary("characters", [])
    with pytest.raises(DataError, match="not valid Unicode"):
        vocabulary("characters", ["a\ud800"])
    words = vocabulary("characters", TEXTS)
    with pytest.raises(DataError, match="cannot be encoded"):
        words.encode("a\ud800")
    with pytest.raises(DataError, match="is the mask"):
        words.decode([words.size + 1])
    assert words.decode([words.encode("f")[0], words.size, words.encode("x")[0]]) == "f [MASK] x"
