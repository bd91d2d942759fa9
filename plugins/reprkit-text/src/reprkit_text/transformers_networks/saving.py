"""A trained model as a folder that transformers reads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from reprkit import Features
from reprkit.errors import BuildError
from reprkit.models.factor import factor_of
from reprkit_text.decoders.bert import BertDecoder
from reprkit_text.encoders.bert import BertEncoder
from reprkit_text.encoders.transformers_encoder import TransformersEncoder
from reprkit_text.transformers_networks.weights import silence_transformers

if TYPE_CHECKING:
    from reprkit import Latent, Model

_FORBIDDEN = -1e4  # the logit of symbols that the data does not hold, such as the mask


def save_pretrained(model: Model, folder: str | Path, factor: str | None = None) -> Path:
    """Write the encoder of a model as transformers reads it, with its tokenizer: config.json, model.safetensors, tokenizer.json.

    ``AutoModel.from_pretrained`` (for BERT: ``BertModel``) then gives the encoder's features, and ``AutoTokenizer`` its symbols.
    The model's own adapters and latent are not among them.  Where a BERT has a masked-language head on a plain continuous
    latent, the maps between the two are folded into the head, and the folder is a ``BertForMaskedLM`` with equal logits:
    ``BertModel`` reads it all the same.

    Args:
        model: whose encoder is one of transformers (bert, bart, t5).
        folder: where; parents are made.
        factor: whose encoder, where the model has several.

    Raises:
        BuildError: no such factor, or an encoder that is not of transformers.
    """
    name = factor_of(model.factors, factor, "save_pretrained")
    encoder = model.factors[name].encoder
    if not isinstance(encoder, TransformersEncoder):
        raise BuildError(
            f"encoder {encoder.qualified or type(encoder).__name__} is none of transformers, so transformers cannot read it: "
            "model.save(FOLDER) writes it for reprkit"
        )
    place = encoder.save_pretrained(folder)
    whole = _masked_language_model(model, name, encoder)
    if whole is not None:
        with silence_transformers():
            whole.save_pretrained(place)
    return place


@torch.no_grad()
def _masked_language_model(model: Model, name: str, encoder: TransformersEncoder) -> Any:
    """The encoder and its head as one network of transformers; None where there is no such head, or no plain map to it."""
    from transformers import BertForMaskedLM

    path, decoder = model.factors[name], model.decoder
    if not (isinstance(encoder, BertEncoder) and isinstance(decoder, BertDecoder)) or path.pool:
        return None
    if decoder.body is not None or len(model.factors) > 1 or path.input != model.output:
        return None
    config = copy.deepcopy(encoder.body.config)
    config.tie_word_embeddings = False
    if config.hidden_size != decoder.width or not _is_identity(path.latent, path.adapter.weight):
        return None
    made = BertForMaskedLM(config)
    made.bert = encoder.body
    inner: Any = path.adapter
    outer: Any = model.adapters[name]
    head = made.cls.predictions
    transform: Any = decoder.transform
    head.transform.load_state_dict(transform.state_dict())
    weight, bias = transform.dense.weight, transform.dense.bias
    head.transform.dense.weight.copy_(weight @ outer.weight @ inner.weight)
    head.transform.dense.bias.copy_(bias + weight @ (outer.bias + outer.weight @ inner.bias))
    vocab = decoder.head.symbols
    head.decoder.weight.zero_()
    head.decoder.bias.fill_(_FORBIDDEN)
    head.decoder.weight[:vocab] = decoder.head.linear.weight
    head.decoder.bias[:vocab] = decoder.head.linear.bias
    return made


def _is_identity(latent: Latent, like: torch.Tensor) -> bool:
    """Whether the latent gives in evaluation what it is given, so that the maps around it are one map."""
    x = like.new_empty(2, 3, latent.in_dim).normal_(generator=torch.Generator(like.device).manual_seed(0))
    z = copy.deepcopy(latent).eval()(Features(x=x, grid=(3,))).z
    return z.shape == x.shape and torch.equal(z, x)
