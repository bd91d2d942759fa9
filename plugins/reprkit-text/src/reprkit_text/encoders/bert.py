"""BERT's encoder, of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from reprkit import Signature
from reprkit.registry.constraints import BelowOne, Count, CountOrZero, Depth, Width
from reprkit.registry.create import is_restoring
from reprkit_text.encoders.wrapped import Wrapped
from reprkit_text.wrapped.settings import settled
from reprkit_text.wrapped.symbols import numbering
from reprkit_text.wrapped.weights import filled, frozen, joined_dropout, sine_positions, widened


class BertEncoder(Wrapped):
    """transformers' ``BertModel`` (Devlin et al. 2019, arXiv 1810.04805) without its pooler: symbols (b t) to (b t width).

    Fresh, or with the weights of a local folder; nothing is downloaded.  Learned positions, so texts are at most ``positions``
    long; a fresh network's start as sines instead of noise, so that it need not first find out which tokens are neighbours
    (docs/results/text.md).  The mask symbol of corruptions has an embedding of its own: the ``[MASK]`` of the data's vocabulary
    where that has one, else one row more.  ``save_pretrained`` writes a folder that ``BertModel.from_pretrained`` reads.

    Args:
        width: of a token, a multiple of ``heads``; 128 if not given.
        depth: how many blocks; 4 if not given.
        heads: attention heads; 4 if not given.
        positions: symbols of a text at most; 512 if not given.
        dropout: of embeddings and blocks, in [0, 1); attention has none.
        folder: a local checkpoint, which says width, depth, heads and positions; its tokenizer should be the data set's.
        freeze: "none", "all", or how many blocks stay as they are beside the embeddings.
        config: further settings by transformers' names.
        data: the signature of what it reads, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: a folder without a BERT.
        BuildError: data that is no tokens, or has more symbols than the checkpoint.
    """

    provides = frozenset({"keep"})
    title = "encoder bert"

    def __init__(
        self,
        width: Width | None = None,
        *,
        depth: Depth | None = None,
        heads: Count | None = None,
        positions: Count | None = None,
        dropout: BelowOne = 0.0,
        folder: str | None = None,
        freeze: Literal["none", "all"] | CountOrZero = "none",
        config: dict[str, Any] | None = None,
        data: Signature,
    ) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        sizes = {
            "width": (width, 128),
            "depth": (depth, 4),
            "heads": (heads, 4),
            "positions": (positions, 512),
        }

        def spelled(chosen: Mapping[str, int]) -> dict[str, Any]:
            return {
                "hidden_size": chosen["width"],
                "intermediate_size": 4 * chosen["width"],
                "num_hidden_layers": chosen["depth"],
                "num_attention_heads": chosen["heads"],
                "max_position_embeddings": chosen["positions"],
            }

        dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0}
        made = settled(self, BertConfig, folder, sizes, spelled, config, dropouts)
        self.numbering = numbering(data["x"], self.title, made.vocab_size if folder else None)
        if folder and not is_restoring():
            self.body = filled(BertModel, folder, made, add_pooling_layer=False)
        else:
            made.vocab_size = made.vocab_size if folder else self.numbering.rows
            self.body = BertModel(made, add_pooling_layer=False)
            if not folder:
                sine_positions(self.body)
        widened(self.body, self.numbering.rows)
        joined_dropout(self.body)
        frozen(freeze, [self.body.embeddings], self.body.encoder.layer, self.body)
        self.out_dim, self.most = made.hidden_size, made.max_position_embeddings

    def states(self, x: Tensor, mask: Tensor | None, places: Tensor | None) -> Tensor:
        """The last hidden states of rows (b t)."""
        return self.body(input_ids=x, attention_mask=mask, position_ids=places).last_hidden_state
