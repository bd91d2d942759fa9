"""Supervised training from texts with trees."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor

from reprkit import Codes, Objective
from reprkit.errors import BuildError
from reprkit.interfaces import Term
from reprkit.models.factor import resolve_factor
from reprkit.registry.constraints import NonNegative
from reprkit.types import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from reprkit import Model, Signature
    from reprkit_structure.latents.derivation import Derivation


class Parse(Objective):
    """Texts to trees from pairs: the latent writes the tree of the data, rule by rule.

    A parser that writes by a grammar (Yin and Neubig 2018, arXiv 1810.02720).  Losses, nats an example: ``tree``,
    -log q(tree | text); ``prior``, -log p(tree) under the latent's language model of trees.  Objective ``structvae`` has both,
    and a decoder.

    Args:
        tree: the field with derivations.
        prior: weight of that loss.
        factor: name of the factor whose latent writes; None for the only factor.

    Raises:
        BuildError: no such factor or field, or a latent that writes no derivations.
    """

    needs = frozenset({"encoder"})

    def __init__(self, *, tree: str = "tree", prior: NonNegative = 1.0, factor: str | None = None) -> None:
        super().__init__()
        self.tree, self.factor = tree, factor
        self.term_weights = {"prior": prior}

    def bind(self, model: Model) -> None:
        """Find the latent and the field."""
        writer_of(model, self.factor, "parse")
        if model.signature is not None:
            model.signature[self.tree]  # raises and names the known fields

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Compute the losses of one batch."""
        return supervised_terms(model, batch, self.tree, self.factor, "parse")

    def example(self, data: Signature) -> Mapping[str, Any]:
        """Return a small model of texts and trees."""
        return small_model()


def supervised_terms(model: Model, batch: Batch, tree: str, factor: str | None, part: str) -> dict[str, Term]:
    """Return the losses ``tree``, ``prior`` and, with a decoder, ``reconstruction``, each a sum over examples and their number."""
    name, latent = writer_of(model, factor, part)
    rules, mask = batch[tree], batch.get(f"{tree}_mask")
    features = model.factors[name].features(batch)
    nats: dict[str, Tensor] = {
        "tree": -latent.log_prob_of(features, rules, mask).sum(1),
        "prior": -latent.prior_log_prob_of(rules, mask).sum(1),
    }
    if model.outputs:
        others = [other for other in model.factors if other != name]
        codes = model.encode(batch, factors=others) if others else Codes({})
        nats["reconstruction"] = model.score(batch, codes | {name: latent.code_of(rules, mask)}).per_example
    else:  # plus 0: the vectors of the code get a gradient of zeros, since data-parallel training requires one
        nats["tree"] = nats["tree"] + 0.0 * latent.code_of(rules, mask).z.sum((1, 2))
    return {key: (value.sum(), len(value)) for key, value in nats.items()}


def writer_of(model: Model, factor: str | None, part: str) -> tuple[str, Derivation]:
    """Return the name of a factor and its latent, which must write derivations.

    Raises:
        BuildError: no such factor, or another latent.
    """
    name = resolve_factor(model.factors, factor, f"objective {part}")
    latent = model.latent(name)
    if "derivations" not in latent.provides:
        raise BuildError(
            f"objective {part} needs a latent that writes derivations, and {latent.qualified or type(latent).__name__} does not: "
            "use derivation, or objective policy, which takes any latent with log_prob"
        )
    return name, cast("Derivation", latent)


def small_model() -> dict[str, Any]:
    """Return arguments of ``rk.build`` for a small model of texts and trees."""
    from reprkit import Field, Signature
    from reprkit_structure.layers.python_rules import form_of, rules_of

    form = form_of(["a", "b"], ["1"])
    words = Field(kind="tokens", shape=(None,), vocab=5)
    trees = Field(kind="tokens", shape=(None,), vocab=len(rules_of(form).names), form=form)
    return {
        "data": Signature({"x": words, "tree": trees}),
        "encoder": "gru(width=8)",
        "latent": "reprkit-structure/derivation(width=8, length=6, prior=8)",
        "decoder": "transformer(width=8, depth=1, heads=1, causal=True)",
    }
