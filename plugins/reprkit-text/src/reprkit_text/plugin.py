"""What reprkit-text offers to reprkit: hooks and strings; a part's own module is imported when it is first built."""

from collections.abc import Iterator

from reprkit import Spec, hookimpl

reprkit_api = 1  # the plugin interface that this is written for


@hookimpl
def reprkit_datasets() -> Iterator[Spec]:
    """Texts of one's own, and what Debian says of its packages."""
    yield Spec(
        "text",
        "reprkit_text.data.text:TextData",
        "Text files by lines, or one long text in windows, in symbols of a vocabulary trained on them",
        ("tokenizers",),
    )
    yield Spec(
        "documents",
        "reprkit_text.data.documents:Documents",
        "Documents in JSON lines, each beside the human summary of another one",
        ("tokenizers",),
    )
    yield Spec(
        "debian",
        "reprkit_text.data.debian:Debian",
        "Descriptions of Debian's packages, the synopses of others, their sections; a sample comes with it",
        ("tokenizers",),
    )


@hookimpl
def reprkit_encoders() -> Iterator[Spec]:
    """Encoders of transformers, fresh or from a local checkpoint."""
    yield Spec("bert", "reprkit_text.encoders.bert:BertEncoder", "BERT (arXiv 1810.04805)", ("transformers",))
    yield Spec("bart", "reprkit_text.encoders.bart:BartEncoder", "BART (arXiv 1910.13461)", ("transformers",))
    yield Spec("t5", "reprkit_text.encoders.t5:T5Encoder", "T5 (arXiv 1910.10683)", ("transformers",))


@hookimpl
def reprkit_decoders() -> Iterator[Spec]:
    """Decoders of transformers, fresh or from a local checkpoint, and one that copies."""
    yield Spec(
        "bert",
        "reprkit_text.decoders.bert:BertDecoder",
        "BERT's masked-language head (arXiv 1810.04805)",
        ("transformers",),
    )
    yield Spec(
        "bart",
        "reprkit_text.decoders.bart:BartDecoder",
        "BART's causal decoder, which looks at a code of any length (arXiv 1910.13461)",
        ("transformers",),
    )
    yield Spec(
        "t5",
        "reprkit_text.decoders.t5:T5Decoder",
        "T5's causal decoder, which looks at a code of any length (arXiv 1910.10683)",
        ("transformers",),
    )
    yield Spec(
        "pointer",
        "reprkit_text.decoders.pointer:PointerDecoder",
        "Writes or copies, looking at a code of any length (pointer-generator, arXiv 1704.04368)",
    )


@hookimpl
def reprkit_corruptions() -> Iterator[Spec]:
    """Damage to texts."""
    yield Spec(
        "whole-words",
        "reprkit_text.corruptions.whole_words:WholeWords",
        "Whole words masked, replaced or kept, as BERT is trained (arXiv 1810.04805)",
    )


@hookimpl
def reprkit_latents() -> Iterator[Spec]:
    """Text as a latent."""
    yield Spec(
        "text",
        "reprkit_text.latents.text:Text",
        "Words that a generator writes, all that the decoder reads (Wang and Lee 2018)",
    )


@hookimpl
def reprkit_objectives() -> Iterator[Spec]:
    """Critics and rewards of codes, and what a generator of words learns first."""
    yield Spec(
        "critic",
        "reprkit_text.objectives.critic:Critic",
        "Codes like real ones: a Wasserstein GAN with gradient penalty on any latent",
    )
    yield Spec(
        "self-critic",
        "reprkit_text.objectives.self_critic:SelfCritic",
        "Adversarial REINFORCE with a critic of prefixes (Wang and Lee 2018)",
    )
    yield Spec(
        "self-critical",
        "reprkit_text.objectives.self_critical:SelfCritical",
        "Reconstruction as a reward of drawn codes, the greedy code as baseline (Rennie et al. 2017)",
    )
    yield Spec(
        "summary",
        "reprkit_text.objectives.summary:Summary",
        "Pre-training of a generator of words and its decoder, from unpaired texts",
    )


@hookimpl
def reprkit_evaluators() -> Iterator[Spec]:
    """Measures of texts."""
    yield Spec(
        "tf-idf",
        "reprkit_text.evaluators.tf_idf:TfIdf",
        "What counting words is worth: TF-IDF and logistic regression",
        ("sklearn",),
    )
    yield Spec(
        "rouge",
        "reprkit_text.evaluators.rouge:Rouge",
        "ROUGE of summaries against human ones, beside leads and random words (Lin 2004)",
        ("rouge_score",),
    )
    yield Spec(
        "readability",
        "reprkit_text.evaluators.readability:Readability",
        "Perplexity of what a model writes under a language model of what people wrote",
        ("nltk",),
    )
    yield Spec(
        "compression",
        "reprkit_text.evaluators.compression:Compression",
        "How short the code is, and how much of the document comes back",
    )


@hookimpl
def reprkit_commands() -> Iterator[Spec]:
    """One command with commands of its own."""
    yield Spec("text", "reprkit_text.commands:text", "Fetch texts, and summarise them")
