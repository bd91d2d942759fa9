"""How often a decoder writes an example's text exactly, from the code alone: captions of pictures, for example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from reprkit import Evaluator
from reprkit.errors import BuildError
from reprkit.evaluation.encoding import by_length, draw_examples
from reprkit.registry.constraints import Count, Seed
from reprkit_text.decoded_text import field_symbols, to_text
from reprkit_text.transformers_networks.symbols import field_vocabulary

if TYPE_CHECKING:
    from reprkit import Dataset, Model
    from reprkit_text.vocabulary import Vocabulary


class ExactText(Evaluator):
    """Texts that a causal decoder writes from the code, the likeliest symbol at each step, beside those of the data.

    A text ends at the vocabulary's end symbol; one without it is as long as the longest of the data.  Texts are compared after
    decoding.
    ``exact``: share of texts that are equal; ``words``: share of words that are equal at the same place, of those in the longer
    text of the two.  ``constant.exact`` and ``constant.words``: the same for the most frequent text of ``fit_on`` (of the data
    without it), which needs no code.

    Args:
        output: the output that writes; the only one by default.
        limit: largest number of examples, drawn by ``seed``; None: all.
        seed: of the draw.
    """

    def __init__(self, output: str | None = None, *, limit: Count | None = None, seed: Seed = 0) -> None:
        super().__init__()
        self.output, self.limit, self.seed = output, limit, seed

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics.

        Raises:
            BuildError: the model has no causal decoder of symbols, or no code for it to read.
        """
        to = model.get_output(self.output)
        if not to.field.discrete or "causal" not in to.decoder.provides or not model.factors:
            raise BuildError(
                "exact-text needs a causal decoder of symbols that reads a code, such as pointer or transformer(causal=True)"
            )
        data = draw_examples(data, self.limit, self.seed)
        truth, written = zip(*written_texts(model, data, self.output), strict=True)
        vocabulary = field_vocabulary(to.field)
        known = truth if fit_on is None else to_text(field_symbols(fit_on, to.field_name), vocabulary)
        constant = [Counter(known).most_common(1)[0][0]] * len(truth)
        return {
            **_compare(written, truth),
            **{f"constant.{name}": value for name, value in _compare(constant, truth).items()},
            "n": len(truth),
        }


@torch.no_grad()
def written_texts(model: Model, data: Dataset, output: str | None = None) -> list[tuple[str, str]]:
    """Return the text of each example, and the one that a causal decoder writes from its code; the model in evaluation mode."""
    to = model.get_output(output)
    vocabulary = field_vocabulary(to.field)
    lengths = data.lengths() or {}
    longest = int(lengths[to.field_name].max()) if to.field_name in lengths else to.field.steps
    reads = {factor.input for factor in model.factors.values()}
    rows, order = list[list[int]](), list[torch.Tensor]()
    for index, batch in by_length(data, "writing"):
        # Without the text: the code is the picture's.
        read = {name: batch[name] for name in batch if name.removesuffix("_mask") in reads}
        written = model.generate(model.encode(read), length=longest, temperature=0.0, output=output)
        rows += [until_end(row, vocabulary) for row in written.x[..., 0].long().tolist()]
        order.append(index)
    texts = to_text([rows[place] for place in torch.cat(order).argsort().tolist()], vocabulary)
    return list(zip(to_text(field_symbols(data, to.field_name), vocabulary), texts, strict=True))


def until_end(symbols: list[int], vocabulary: Vocabulary | None) -> list[int]:
    """Return the symbols before the first end symbol; all without one."""
    end = None if vocabulary is None else vocabulary.end
    return symbols[: symbols.index(end)] if end in symbols else symbols


def _compare(written: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    equal = total = 0
    for one, other in zip(written, truth, strict=True):
        mine, theirs = one.split(), other.split()
        equal += sum(a == b for a, b in zip(mine, theirs, strict=False))
        total += max(len(mine), len(theirs))
    exact = sum(one == other for one, other in zip(written, truth, strict=True))
    return {"exact": exact / len(truth), "words": equal / max(1, total)}
