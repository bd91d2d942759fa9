"""Registration of reprkit-structure's parts: hooks and strings; a part's module is imported when it is first built."""

from collections.abc import Iterator

from reprkit import Spec, hookimpl

reprkit_api = 1  # version of the plugin interface


@hookimpl
def reprkit_latents() -> Iterator[Spec]:
    """Trees as codes."""
    yield Spec(
        "tree",
        "reprkit_structure.latents.tree:TreeLatent",
        "The binary tree of a sentence, drawn by a parser (arXiv 1904.03746)",
    )
    yield Spec(
        "tree-lstm",
        "reprkit_structure.latents.tree_lstm:TreeLSTMLatent",
        "A tree with vectors of its phrases, composed bottom-up (arXiv 1503.00075)",
    )
    yield Spec(
        "derivation",
        "reprkit_structure.latents.derivation:Derivation",
        "A syntax tree, written by the rules of a grammar (arXiv 1810.02720, 1806.07832)",
    )


@hookimpl
def reprkit_objectives() -> Iterator[Spec]:
    """Training on trees."""
    yield Spec(
        "parse",
        "reprkit_structure.objectives.parse:Parse",
        "Texts to syntax trees from pairs, by the rules of a grammar (arXiv 1810.02720)",
    )
    yield Spec(
        "structvae",
        "reprkit_structure.objectives.structvae:StructVAE",
        "Texts with trees and many without: trees are drawn and rewarded (arXiv 1806.07832)",
    )
    yield Spec(
        "urnng",
        "reprkit_structure.objectives.urnng:URNNG",
        "Words and tree of an unsupervised recurrent neural network grammar (arXiv 1904.03746)",
    )
    yield Spec(
        "given-trees",
        "reprkit_structure.objectives.given_trees:GivenTrees",
        "A parser and a generator from the trees of the data",
    )


@hookimpl
def reprkit_decoders() -> Iterator[Spec]:
    """Decoders that sum over trees or read them."""
    yield Spec(
        "pcfg",
        "reprkit_structure.decoders.pcfg:PCFG",
        "Grammar whose rules depend on the code, summed over all trees (arXiv 1906.10225)",
    )
    yield Spec(
        "stack",
        "reprkit_structure.decoders.stack:Stack",
        "Words and the tree of the code on a stack: a recurrent neural network grammar (arXiv 1602.07776)",
    )


@hookimpl
def reprkit_evaluators() -> Iterator[Spec]:
    """Trees beside gold brackets."""
    yield Spec(
        "bracket-f1",
        "reprkit_structure.evaluators.bracket_f1:BracketF1",
        "Brackets of a model's trees beside gold ones and branching baselines",
    )
    yield Spec(
        "exact-tree",
        "reprkit_structure.evaluators.exact_tree:ExactTree",
        "Syntax trees that a model writes for texts: exact, labeled bracket F1",
    )


@hookimpl
def reprkit_datasets() -> Iterator[Spec]:
    """Sentences with trees."""
    yield Spec(
        "expressions",
        "reprkit_structure.data.expressions:Expressions",
        "Python or arithmetic expressions with the brackets of their syntax trees",
    )
    yield Spec(
        "sentences",
        "reprkit_structure.data.sentences:Sentences",
        "Sentences of a small English grammar, with constructions that can be held out",
    )
    yield Spec(
        "templates",
        "reprkit_structure.data.templates:Templates",
        "Sentences made by templates with the Python expressions that they describe",
    )
    yield Spec(
        "docstrings",
        "reprkit_structure.data.docstrings:Docstrings",
        "One-line docstrings of Python sources with the function's signature or return value",
    )
