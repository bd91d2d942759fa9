"""A generator of words that is the decoder of a local BART or T5, with the interface of ``reprkit_text.generator.Generator``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit import Features, Signature
from reprkit.errors import BuildError, DataError
from reprkit.interfaces import require
from reprkit_text.decoders.bart import BartDecoder
from reprkit_text.decoders.t5 import T5Decoder
from reprkit_text.decoders.transformers_cross_attention import TransformersCrossAttentionDecoder
from reprkit_text.generator import Memory
from reprkit_text.transformers_networks.symbols import field_vocabulary
from reprkit_text.vocabulary import vocabulary

DECODERS: dict[str, Any] = {"bart": BartDecoder, "t5": T5Decoder}


class TransformersGenerator(nn.Module):
    """Writes words with the decoder of a BART or T5, which reads the features by cross-attention.

    It has no pointer.  Words are the symbols of the data, which must be those of the checkpoint's tokenizer.

    Args:
        decoder: decoder ``bart`` or ``t5`` of a checkpoint.

    Attributes:
        vocab: number of words.
        width: width of features and of a word's embedding.
        end: the checkpoint's end symbol, or None.
    """

    spoken = None

    def __init__(self, decoder: TransformersCrossAttentionDecoder) -> None:
        super().__init__()
        self.decoder, self.vocab, self.width = decoder, decoder.vocab, decoder.in_dim
        self.end: int | None = decoder.body.config.eos_token_id
        scale = decoder.body.config.to_dict().get("scale_embedding", False)
        self.scale = self.width**0.5 if scale else 1.0

    @property
    def table(self) -> Float[Tensor, "v d"]:
        """The embedding of every word, as the decoder reads it before positions are added."""
        return self.decoder.body.embed_tokens.weight[: self.vocab] * self.scale

    def embed(self, words: Int[Tensor, "b m"]) -> Float[Tensor, "b m d"]:
        """Embed words."""
        return F.embedding(words, self.table)

    def memory(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Memory:
        """Prepare features; ``x`` is zero where masked."""
        x, mask = self.decoder._memory(Features(x=x, mask=mask), len(x))
        return Memory(x, mask, keys=x, copied=None, context=x.new_zeros(len(x), 1, self.width))

    def all_steps(self, words: Int[Tensor, "b m"], memory: Memory) -> Float[Tensor, "b m v"]:
        """Return log-probabilities of every word given those before it: teacher forcing."""
        return F.log_softmax(self.decoder.write(words[:, :-1], memory.x, memory.mask), -1)

    def begin(self, size: int, length: int) -> dict[str, Any]:
        """Return the state before the first word; keys and values are made in the first step.

        Raises:
            PartArgumentError: the checkpoint has fewer positions.
        """
        most = self.decoder.most
        require(most is None or length <= most, f"length={length} exceeds the checkpoint's {most} positions")
        return {"length": length}

    def one_step(
        self, previous: Int[Tensor, " b"] | None, state: dict[str, Any], position: int, memory: Memory
    ) -> tuple[Float[Tensor, "b v"], dict[str, Any]]:
        """Return log-probabilities of the word at ``position``, given the one before (None at the first), and the next state."""
        if previous is None:
            state = self.decoder.begin(memory.x, memory.mask, state["length"])
        logits, after = self.decoder.advance(previous, state)
        return F.log_softmax(logits[:, 0], -1), {**state, **after}


def checkpoint_kind(folder: str) -> str:
    """Return "bart" or "t5", the network that a local folder of transformers holds.

    Raises:
        DataError: no checkpoint, or one of another network.
    """
    file = Path(folder).expanduser() / "config.json"
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"no checkpoint of transformers in {folder!r}: {error} (looked in {Path.cwd()})\n"
            "  nothing is downloaded: save a BART or T5 with model.save_pretrained(FOLDER) and pass that folder"
        ) from error
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind not in DECODERS:
        raise DataError(
            f"{folder!r} holds a network of type {kind!r}, and words can be written by {' or '.join(DECODERS)}: "
            "an encoder with a decoder\n  encoder bert reads a BERT"
        )
    return str(kind)


def check_tokenizer(folder: str, data: Signature) -> None:
    """Raise unless the symbols of field ``x`` are those of the tokenizer in a checkpoint's folder.

    Data without a vocabulary is not checked: its symbols are taken to be the checkpoint's.

    Raises:
        DataError: the folder holds no tokenizer.
        BuildError: the data has another one.
    """
    own = field_vocabulary(data["x"])
    if own is None:
        return
    theirs = vocabulary(Path(folder))
    if own.symbols != theirs.symbols:
        raise BuildError(
            f"the data's symbols are those of {own.source}, and the checkpoint's tokenizer has other ones "
            f"({theirs.size} symbols): encode the data with it, argument tokenizer={folder!r} of the data set"
        )
