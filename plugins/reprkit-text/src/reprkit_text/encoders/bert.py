"""BERT's encoder, of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from reprkit import Signature
from reprkit.registry.constraints import BelowOne, Count, CountOrZero, Depth, Width
from reprkit_text.encoders.transformers_encoder import TransformersEncoder
from reprkit_text.transformers_networks.settings import resolve_config
from reprkit_text.transformers_networks.weights import freeze_layers, init_sine_positions, load_weights


class BertEncoder(TransformersEncoder):
    """transformers' ``BertModel`` (Devlin et al. 2019, arXiv 1810.04805) without its pooler: symbols (b t) to (b t width).

    Newly initialized, or loaded from a local folder; nothing is downloaded.  Learned positions, so texts are at most ``positions``
    long; they are initialized as sines instead of noise, so that the network need not learn first which tokens are neighbors
    (docs/results/text.md).  The mask symbol of corruptions has an embedding of its own: the ``[MASK]`` of the data's vocabulary
    where that has one, else one additional row.  ``save_pretrained`` writes a folder that ``BertModel.from_pretrained`` reads.

    Args:
        width: width of a token, a multiple of ``heads``; default 128.
        depth: number of blocks; default 4.
        heads: number of attention heads; default 4.
        positions: largest number of symbols of a text; default 512.
        dropout: dropout rate of embeddings and blocks, in [0, 1); attention has none.
        folder: a local checkpoint, which sets width, depth, heads and positions; the data set should use its tokenizer.
        freeze: "none", "all", or the number of blocks that are frozen, together with the embeddings.
        config: further settings under transformers' names.
        data: signature of the data to encode, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: a folder without a BERT.
        BuildError: the data is not tokens, or has more symbols than the checkpoint.
    """

    provides = frozenset({"keep"})
    title = "encoder bert"

    def __init__(
        self,
        width: Width | None = None,
        *,
        depth: Depth | None = None,
        heads: Count | None = None,
        positions: Width | None = None,
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

        def to_config(sizes: Mapping[str, int]) -> dict[str, Any]:
            return {
                "hidden_size": sizes["width"],
                "intermediate_size": 4 * sizes["width"],
                "num_hidden_layers": sizes["depth"],
                "num_attention_heads": sizes["heads"],
                "max_position_embeddings": sizes["positions"],
            }

        dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0}
        resolved = resolve_config(self, BertConfig, folder, sizes, to_config, config, dropouts)
        self._create(
            resolved,
            folder,
            data,
            load=lambda folder: load_weights(BertModel, folder, resolved, add_pooling_layer=False),
            create=lambda: BertModel(resolved, add_pooling_layer=False),
        )
        if not folder:
            init_sine_positions(self.body)
        freeze_layers(freeze, [self.body.embeddings], self.body.encoder.layer, self.body)
        self.out_dim, self.most = resolved.hidden_size, resolved.max_position_embeddings

    def states(self, x: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
        """Return the last hidden states of rows (b t)."""
        return self.body(input_ids=x, attention_mask=mask, position_ids=positions).last_hidden_state
