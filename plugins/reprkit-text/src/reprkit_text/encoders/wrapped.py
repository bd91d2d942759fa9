"""What the encoders of transformers share: symbols in, the last hidden states out, a folder that transformers reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Int
from torch import Tensor

from reprkit import Encoder, Features
from reprkit.errors import BuildError
from reprkit.types import Batch
from reprkit_text.wrapped.symbols import Numbering, fits, written_with
from reprkit_text.wrapped.weights import quietly


class Wrapped(Encoder):
    """An encoder of transformers; subclasses make ``body`` and ``numbering``.

    Attributes:
        body: the network of transformers.
        numbering: how it numbers the data's symbols.
        most: symbols of a text that it can read; None: any number.
    """

    title: ClassVar[str]
    body: Any
    numbering: Numbering
    most: int | None = None

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """The last hidden states (b t width); of ``keep`` those (b k width), which see each other alone.

        Raises:
            DataError: texts longer than it can read.
            BuildError: ``keep``, and it cannot be told where symbols stand.
        """
        x, mask = self.numbering(batch["x"]), batch.get("x_mask")
        steps = x.shape[1]
        fits(steps, self.most, self.title)
        if keep is None:
            return Features(x=self.states(x, mask, None), mask=mask, grid=(steps,))
        if "keep" not in self.provides:
            raise BuildError(f"{self.title} cannot read only some symbols; use encoder bert or transformer")
        mask = None if mask is None else mask.gather(1, keep)
        states = self.states(x.gather(1, keep), mask, keep)
        return Features(x=states, mask=mask, grid=(steps,), positions=keep, length=steps)

    def states(self, x: Tensor, mask: Tensor | None, places: Tensor | None) -> Tensor:
        """The last hidden states of rows (b t), which are real and where they stand; None: all, from 0 on."""
        return self.body(input_ids=x, attention_mask=mask).last_hidden_state

    def count(self, batch: Batch) -> int:
        """Symbols of a text."""
        return int(batch["x"].shape[1])

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """(symbols,)."""
        return (self.count(batch),)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write config, weights and, where the data says it, the tokenizer, as transformers reads them; adapters are not in it.

        ``AutoModel`` then gives ``last_hidden_state`` equal to these features, for rows of ``numbering``; the tokenizer's
        ``[MASK]`` is the mask symbol.
        """
        place = Path(folder)
        with quietly():
            self.body.save_pretrained(place)
        data: Any = self.build_context["data"]
        words = written_with(data["x"])
        if words is not None:
            _save_tokenizer(words.to_json(), self.numbering, place, self.most)
        return place


def _save_tokenizer(held: str, numbering: Numbering, place: Path, most: int | None) -> None:
    """``tokenizer.json`` with the mask symbol, and what AutoTokenizer asks for beside it."""
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    from reprkit_text.vocabulary.vocabulary import NAMES

    made = Tokenizer.from_str(held)
    if numbering.mask == numbering.vocab:
        made.add_special_tokens([AddedToken("[MASK]", special=True)])
    ids = {
        f"{kind}_token": next((name for name in known if made.token_to_id(name) is not None), None)
        for kind, known in NAMES.items()
    }
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=most, **{key: name for key, name in ids.items() if name}
    )
    fast.save_pretrained(place)
