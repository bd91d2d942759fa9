"""T5's encoder, of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from reprkit import Signature
from reprkit.registry.constraints import BelowOne, Count, CountOrZero, Depth, Width
from reprkit_text.encoders.transformers_encoder import TransformersEncoder
from reprkit_text.transformers_networks.settings import resolve_config
from reprkit_text.transformers_networks.weights import freeze_layers, load_weights


class T5Encoder(TransformersEncoder):
    """transformers' ``T5EncoderModel`` (Raffel et al. 2020, arXiv 1910.10683): symbols (b t) to (b t width).

    Newly initialized, or loaded from a local T5; nothing is downloaded.  Positions are relative, so texts may have any length.

    Args:
        width: width of a token, a multiple of ``heads``; default 128.
        depth: number of blocks; default 4.
        heads: number of attention heads; default 4.
        dropout: dropout rate of embeddings and blocks, in [0, 1); attention has none.
        folder: a local checkpoint, which sets width, depth and heads; the data set should use its tokenizer.
        freeze: "none", "all", or the number of blocks that are frozen, together with the embeddings.
        config: further settings under transformers' names.
        data: signature of the data to encode, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: a folder without a T5.
        BuildError: the data is not tokens, or has more symbols than the checkpoint.
    """

    title = "encoder t5"

    def __init__(
        self,
        width: Width | None = None,
        *,
        depth: Depth | None = None,
        heads: Count | None = None,
        dropout: BelowOne = 0.0,
        folder: str | None = None,
        freeze: Literal["none", "all"] | CountOrZero = "none",
        config: dict[str, Any] | None = None,
        data: Signature,
    ) -> None:
        super().__init__()
        from transformers import T5Config, T5EncoderModel

        sizes = {"width": (width, 128), "depth": (depth, 4), "heads": (heads, 4)}
        resolved = resolve_config(
            self, T5Config, folder, sizes, t5_settings, config, {"dropout_rate": dropout}
        )
        self._create(
            resolved,
            folder,
            data,
            load=lambda folder: load_weights(T5EncoderModel, folder, resolved),
            create=lambda: T5EncoderModel(resolved),
        )
        disable_attention_dropout(self.body)
        freeze_layers(freeze, [self.body.get_input_embeddings()], self.body.encoder.block, self.body)
        self.out_dim = resolved.d_model


def t5_settings(sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return the settings, under transformers' names, of a T5 whose encoder and decoder have the same size."""
    return {
        "d_model": sizes["width"],
        "d_kv": sizes["width"] // sizes["heads"],
        "d_ff": 4 * sizes["width"],
        "num_layers": sizes["depth"],
        "num_decoder_layers": sizes["depth"],
        "num_heads": sizes["heads"],
    }


def disable_attention_dropout(body: Any) -> None:
    """Turn off dropout of attention weights, whose draws processes cannot share; T5 has one rate for all dropout."""
    from transformers.models.t5.modeling_t5 import T5Attention

    for module in body.modules():
        if isinstance(module, T5Attention):
            module.dropout = 0.0
