"""Supervised training of a parser and a generator on the trees of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from reprkit import Codes, Objective
from reprkit.errors import BuildError
from reprkit.interfaces import Term
from reprkit.models.factor import resolve_factor
from reprkit.types import Batch
from reprkit_structure.layers.charts import chart_of_reduces

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from reprkit import Model, Signature
    from reprkit_structure.latents.tree import TreeLatent


class GivenTrees(Objective):
    """A supervised recurrent neural network grammar and its parser, on binary trees of the data (arXiv 1904.03746, section 3.1).

    Losses, nats an example: ``parser``, -log q(tree | sentence) of latent ``tree``; ``reconstruction``, -log p(sentence, tree) of
    a decoder that reads trees, ``stack``.  On the trees of another model (``reprkit_structure.data.induced.InducedTrees``) it is
    the start of Kim, Dyer and Rush 2019 (arXiv 1906.10225, section 4.3) for unsupervised training.

    Args:
        closes: the field with the number of brackets that close after each word: of binary trees, the reductions.
        factor: name of the factor with the tree; None for the only factor.

    Raises:
        BuildError: no such factor or field, or another latent than ``tree``.
        PartArgumentError: in training, brackets that are no binary tree.
    """

    needs = frozenset({"encoder", "decoder", "tree"})

    def __init__(self, *, closes: str = "closes", factor: str | None = None) -> None:
        super().__init__()
        self.closes, self.factor = closes, factor

    def bind(self, model: Model) -> None:
        """Find the latent and the field."""
        self._latent(model)
        if model.signature is not None:
            model.signature[self.closes]  # raises and names the known fields

    def _latent(self, model: Model) -> tuple[str, TreeLatent]:
        name = resolve_factor(model.factors, self.factor, "objective given-trees")
        latent = model.latent(name)
        if "given_trees" not in latent.provides:
            raise BuildError(
                f"objective given-trees needs a latent that takes given trees, and {latent.qualified or type(latent).__name__} "
                "does not: use tree"
            )
        return name, cast("TreeLatent", latent)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Compute the losses of one batch."""
        name, latent = self._latent(model)
        chart = chart_of_reduces(batch[self.closes], batch.get(f"{self.closes}_mask"))
        code = latent.code_of(model.factors[name].features(batch), chart)
        assert code.log_prob is not None
        others = [other for other in model.factors if other != name]
        codes = model.encode(batch, factors=others) if others else Codes({})
        nats = model.score(batch, codes | {name: code}).per_example
        return {"parser": (-code.log_prob.sum(), len(nats)), "reconstruction": (nats.sum(), len(nats))}

    def example(self, data: Signature) -> Mapping[str, Any]:
        """Return a small model of sentences with brackets."""
        from reprkit import Field, Signature

        words = Field(kind="tokens", shape=(None,), vocab=5)
        return {
            "data": Signature({"x": words, self.closes: Field(kind="tokens", shape=(None,), vocab=128)}),
            "encoder": "gru(width=8)",
            "latent": "reprkit-structure/tree(dim=4, width=8, hidden=8)",
            "decoder": "reprkit-structure/stack(width=8)",
        }
