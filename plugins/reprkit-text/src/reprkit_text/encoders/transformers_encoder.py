"""Base of the encoders of transformers: symbols to the last hidden states, saved as a folder that transformers reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Int
from torch import Tensor

from reprkit import Encoder, Features, Signature
from reprkit.errors import BuildError
from reprkit.registry.create import is_restoring
from reprkit.types import Batch
from reprkit_text.transformers_networks.symbols import (
    Numbering,
    check_length,
    field_vocabulary,
    make_numbering,
)
from reprkit_text.transformers_networks.weights import replace_dropout, silence_transformers, widen_embeddings


class TransformersEncoder(Encoder):
    """An encoder of transformers; subclasses call ``_create``.

    Attributes:
        body: the network of transformers.
        numbering: maps the data's symbols to rows of the embedding table.
        most: largest number of symbols of a text; None: no limit.
    """

    title: ClassVar[str]
    body: Any
    numbering: Numbering
    most: int | None = None

    def _create(
        self,
        config: Any,
        folder: str | None,
        data: Signature,
        *,
        load: Callable[[str], Any],
        create: Callable[[], Any],
    ) -> None:
        """Set ``numbering`` and ``body``: a checkpoint's network, or a new one; it has a row for every symbol.

        Args:
            config: the network's config; gets the number of rows.
            folder: a local checkpoint, or None.
            data: signature of the data to encode.
            load: reads the network in a folder.
            create: creates one with random weights, also where a saved model's weights will replace them.
        """
        self.numbering = make_numbering(data["x"], self.title, config.vocab_size if folder else None)
        if folder and not is_restoring():
            self.body = load(folder)
        else:
            config.vocab_size = config.vocab_size if folder else self.numbering.rows
            self.body = create()
        widen_embeddings(self.body, self.numbering.rows)
        replace_dropout(self.body)

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return the last hidden states (b t width); with ``keep`` only those (b k width), which attend only to each other.

        Raises:
            DataError: texts longer than ``most``.
            BuildError: ``keep``, and the network takes no positions.
        """
        x, mask = self.numbering(batch["x"]), batch.get("x_mask")
        steps = x.shape[1]
        check_length(steps, self.most, self.title)
        if keep is None:
            return Features(x=self.states(x, mask, None), mask=mask, grid=(steps,))
        if "keep" not in self.provides:
            raise BuildError(f"{self.title} cannot encode only some symbols; use encoder bert or transformer")
        mask = None if mask is None else mask.gather(1, keep)
        states = self.states(x.gather(1, keep), mask, keep)
        return Features(x=states, mask=mask, grid=(steps,), positions=keep, length=steps)

    def states(self, x: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
        """Return the last hidden states of rows (b t), given mask and positions (None: all valid, from 0 on)."""
        return self.body(input_ids=x, attention_mask=mask).last_hidden_state

    def count(self, batch: Batch) -> int:
        """Return the number of symbols of a text."""
        return int(batch["x"].shape[1])

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Return (number of symbols,)."""
        return (self.count(batch),)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write config, weights and, if the data has a vocabulary, the tokenizer for transformers; adapters are not included.

        ``AutoModel`` then gives ``last_hidden_state`` equal to these features, for rows of ``numbering``; the tokenizer's
        ``[MASK]`` is the mask symbol.
        """
        target = Path(folder)
        with silence_transformers():
            self.body.save_pretrained(target)
        data: Any = self.build_context["data"]
        vocabulary = field_vocabulary(data["x"])
        if vocabulary is not None:
            _save_tokenizer(vocabulary.to_json(), self.numbering, target, self.most)
        return target


def _save_tokenizer(content: str, numbering: Numbering, folder: Path, most: int | None) -> None:
    """Write ``tokenizer.json`` with the mask symbol, and the files that AutoTokenizer needs beside it."""
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    from reprkit_text.vocabulary.vocabulary import SPECIAL_NAMES

    tokenizer = Tokenizer.from_str(content)
    if numbering.mask == numbering.vocab:
        tokenizer.add_special_tokens([AddedToken("[MASK]", special=True)])
    ids = {
        f"{kind}_token": next((name for name in names if tokenizer.token_to_id(name) is not None), None)
        for kind, names in SPECIAL_NAMES.items()
    }
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=most, **{key: name for key, name in ids.items() if name}
    )
    fast.save_pretrained(folder)
