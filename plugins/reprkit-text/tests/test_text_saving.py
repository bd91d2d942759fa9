"""Saving encoders and vocabularies for transformers, read back by transformers and by reprkit."""

import torch
from reprkit_text.data.documents_in_memory import InMemoryDocuments
from reprkit_text.data.records import Record
from reprkit_text.encoders.bart import BartEncoder
from reprkit_text.encoders.bert import BertEncoder
from reprkit_text.encoders.t5 import T5Encoder
from transformers import (
    AutoTokenizer,
    BertModel,
    T5EncoderModel,
)

from reprkit.testing.sample_data import TOKENS


def test_a_saved_bert_and_its_tokenizer_load_in_transformers(tmp_path):
    records = [Record(document=f"A {n} story about word{n % 7}, told.") for n in range(30)]
    data = InMemoryDocuments(records, "byte-pair(vocab=300, marks=True)", name="stories", length=64)
    encoder = BertEncoder(16, depth=2, heads=2, data=data.signature).eval()
    encoder.save_pretrained(tmp_path)
    tokenizer, theirs = AutoTokenizer.from_pretrained(tmp_path), BertModel.from_pretrained(tmp_path).eval()
    assert (tokenizer.mask_token_id, tokenizer.pad_token_id) == (data.signature["x"].vocab, 0)
    batch = data.batch(range(5))
    encoded = tokenizer([each.document for each in records[:5]], padding=True, return_tensors="pt")
    assert torch.equal(encoded["input_ids"], batch["x"])
    assert torch.equal(encoded["attention_mask"].bool(), batch["x_mask"])
    with torch.no_grad():
        there = theirs(
            input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]
        ).last_hidden_state
        torch.testing.assert_close(encoder(batch).x[batch["x_mask"]], there[batch["x_mask"]])
        masked = tokenizer("A [MASK] story", return_tensors="pt")["input_ids"]
        assert tokenizer.mask_token_id in masked[0].tolist()
        torch.testing.assert_close(encoder({"x": masked}).x, theirs(input_ids=masked).last_hidden_state)
    again = InMemoryDocuments(records, str(tmp_path), name="again", length=64)
    back = BertEncoder(folder=str(tmp_path), data=again.signature).eval()
    assert back.numbering.mask == encoder.numbering.mask
    torch.testing.assert_close(back({"x": masked}).x, encoder({"x": masked}).x)


def test_saved_t5_and_bart_encoders_load_in_transformers(tmp_path):
    x = torch.randint(7, (2, 5))
    for cls, reader in ((T5Encoder, T5EncoderModel.from_pretrained), (BartEncoder, None)):
        encoder = cls(8, depth=1, heads=2, data=TOKENS).eval()
        encoder.save_pretrained(tmp_path / cls.__name__)
        if reader is None:
            from transformers.models.bart.modeling_bart import BartEncoder as Theirs

            reader = Theirs.from_pretrained
        theirs = reader(tmp_path / cls.__name__).eval()
        torch.testing.assert_close(theirs(input_ids=x).last_hidden_state, encoder({"x": x}).x)
