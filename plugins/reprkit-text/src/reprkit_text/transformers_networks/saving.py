"""Save a trained model as a folder that transformers reads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from reprkit import Features
from reprkit.errors import BuildError
from reprkit.models.factor import resolve_factor
from reprkit_text.decoders.bert import BertDecoder
from reprkit_text.encoders.bert import BertEncoder
from reprkit_text.encoders.transformers_encoder import TransformersEncoder
from reprkit_text.transformers_networks.weights import silence_transformers

if TYPE_CHECKING:
    from reprkit import Latent, Model

_FORBIDDEN = -1e4  # logit of symbols that the data does not have, such as the mask


def save_pretrained(model: Model, folder: str | Path, factor: str | None = None) -> Path:
    """Save a model's encoder and tokenizer for transformers: config.json, model.safetensors, tokenizer.json.

    ``AutoModel.from_pretrained`` (for BERT: ``BertModel``) then gives the encoder's features, and ``AutoTokenizer`` its symbols.
    The model's own adapters and latent are not included.  Where a BERT has a masked-language head on a plain continuous
    latent, the maps between the two are folded into the head, and the folder is a ``BertForMaskedLM`` with equal logits;
    ``BertModel`` reads that as well.

    Args:
        model: a model whose encoder is of transformers (bert, bart, t5).
        folder: where to write; parents are created.
        factor: name of the factor whose encoder is saved, for models with several.

    Raises:
        BuildError: no such factor, or an encoder that is not of transformers.
    """
    name = resolve_factor(model.factors, factor, "save_pretrained")
    encoder = model.factors[name].encoder
    if not isinstance(encoder, TransformersEncoder):
        raise BuildError(
            f"encoder {encoder.qualified or type(encoder).__name__} is not one of transformers, which therefore cannot read it: "
            "save it for reprkit with model.save(FOLDER)"
        )
    target = encoder.save_pretrained(folder)
    network = _masked_language_model(model, name, encoder)
    if network is not None:
        with silence_transformers():
            network.save_pretrained(target)
    return target


@torch.no_grad()
def _masked_language_model(model: Model, name: str, encoder: TransformersEncoder) -> Any:
    """Return encoder and head as one network of transformers; None without such a head or a linear map to it."""
    from transformers import BertForMaskedLM

    factor, decoder = model.factors[name], model.decoder
    if not (isinstance(encoder, BertEncoder) and isinstance(decoder, BertDecoder)) or factor.pool:
        return None
    if decoder.body is not None or len(model.factors) > 1 or factor.input != model.output:
        return None
    config = copy.deepcopy(encoder.body.config)
    config.tie_word_embeddings = False
    if config.hidden_size != decoder.width or not _is_identity(factor.latent, factor.adapter.weight):
        return None
    network = BertForMaskedLM(config)
    network.bert = encoder.body
    to_latent: Any = factor.adapter
    to_decoder: Any = model.adapters[name]
    head = network.cls.predictions
    transform: Any = decoder.transform
    head.transform.load_state_dict(transform.state_dict())
    weight, bias = transform.dense.weight, transform.dense.bias
    head.transform.dense.weight.copy_(weight @ to_decoder.weight @ to_latent.weight)
    head.transform.dense.bias.copy_(bias + weight @ (to_decoder.bias + to_decoder.weight @ to_latent.bias))
    vocab = decoder.head.sizes["linear"]
    head.decoder.weight.zero_()
    head.decoder.bias.fill_(_FORBIDDEN)
    head.decoder.weight[:vocab] = decoder.head.linear.weight
    head.decoder.bias[:vocab] = decoder.head.linear.bias
    return network


def _is_identity(latent: Latent, like: torch.Tensor) -> bool:
    """Whether the latent is the identity in evaluation, so that the maps around it can be merged."""
    x = like.new_empty(2, 3, latent.in_dim).normal_(generator=torch.Generator(like.device).manual_seed(0))
    z = copy.deepcopy(latent).eval()(Features(x=x, grid=(3,))).z
    return z.shape == x.shape and torch.equal(z, x)
