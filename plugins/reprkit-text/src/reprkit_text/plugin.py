"""Register the parts of reprkit-text; a part's module is imported when the part is first built."""

from collections.abc import Iterator

from reprkit import Spec, hookimpl

reprkit_api = 1  # version of the plugin interface


@hookimpl
def reprkit_datasets() -> Iterator[Spec]:
    """Data sets: the user's own texts, and Debian's package descriptions."""
    yield Spec(
        "text",
        "reprkit_text.data.text:TextData",
        "Text files by lines, or one long text in windows, as symbols of a vocabulary trained on them",
        ("tokenizers",),
        forms=("vocabulary",),
    )
    yield Spec(
        "words",
        "reprkit_text.data.words:Words",
        "Lines of text files as words of a vocabulary by count, frequent ones subsampled (word2vec)",
        ("tokenizers",),
    )
    yield Spec(
        "documents",
        "reprkit_text.data.documents:Documents",
        "Documents in JSON lines, each shown with the human summary of another one",
        ("tokenizers",),
    )
    yield Spec(
        "debian",
        "reprkit_text.data.debian:Debian",
        "Descriptions of Debian's packages, synopses of other packages, sections; a sample is included",
        ("tokenizers",),
    )
    yield Spec(
        "verses",
        "reprkit_text.data.verses:Verses",
        "Verses of the Bible in two or three translations, each beside another's, after reprkit text fetch verses",
        ("tokenizers",),
    )
    yield Spec(
        "captions",
        "reprkit_text.data.captions:Captions",
        "Pictures with texts: a folder with a text beside each picture, or a table of files and texts",
        ("tokenizers", "PIL"),
    )
    yield Spec(
        "named-stamps",
        "reprkit_text.data.named_stamps:NamedStamps",
        "Cut-outs of tuxpaint with their names in 80 languages, after reprkit vision fetch stamps (GPL-2)",
        ("tokenizers", "PIL"),
    )
    yield Spec(
        "drawn-scenes",
        "reprkit_text.data.drawn_scenes:DrawnScenes",
        "Drawn shapes with sentences that describe them; pairs of color and shape are held out",
        ("tokenizers",),
    )


@hookimpl
def reprkit_encoders() -> Iterator[Spec]:
    """Encoders of transformers, new or from a local checkpoint, and word2vec's."""
    yield Spec(
        "words",
        "reprkit_text.encoders.words:WordsEncoder",
        "Word vectors, or the mean of the context's (arXiv 1301.3781)",
    )
    yield Spec(
        "hashed-ngrams",
        "reprkit_text.encoders.hashed_ngrams:HashedNgrams",
        "Vectors of n-grams of symbols, hashed (fastText, arXiv 1607.04606)",
    )
    yield Spec("bert", "reprkit_text.encoders.bert:BertEncoder", "BERT (arXiv 1810.04805)", ("transformers",))
    yield Spec("bart", "reprkit_text.encoders.bart:BartEncoder", "BART (arXiv 1910.13461)", ("transformers",))
    yield Spec("t5", "reprkit_text.encoders.t5:T5Encoder", "T5 (arXiv 1910.10683)", ("transformers",))


@hookimpl
def reprkit_decoders() -> Iterator[Spec]:
    """Decoders of transformers, new or from a local checkpoint, a pointer-generator, and word2vec's."""
    yield Spec(
        "words",
        "reprkit_text.decoders.words:WordsDecoder",
        "Words, or their neighbors, by negative sampling (arXiv 1310.4546)",
    )
    yield Spec(
        "bert",
        "reprkit_text.decoders.bert:BertDecoder",
        "BERT's masked-language head (arXiv 1810.04805)",
        ("transformers",),
    )
    yield Spec(
        "bart",
        "reprkit_text.decoders.bart:BartDecoder",
        "BART's causal decoder with cross-attention to a code of any length (arXiv 1910.13461)",
        ("transformers",),
    )
    yield Spec(
        "t5",
        "reprkit_text.decoders.t5:T5Decoder",
        "T5's causal decoder with cross-attention to a code of any length (arXiv 1910.10683)",
        ("transformers",),
    )
    yield Spec(
        "pointer",
        "reprkit_text.decoders.pointer:PointerDecoder",
        "Pointer-generator with attention to a code of any length (arXiv 1704.04368)",
    )


@hookimpl
def reprkit_corruptions() -> Iterator[Spec]:
    """Corruptions of texts."""
    yield Spec(
        "whole-words",
        "reprkit_text.corruptions.whole_words:WholeWords",
        "Mask, replace or keep whole words, as for training BERT (arXiv 1810.04805)",
    )


@hookimpl
def reprkit_latents() -> Iterator[Spec]:
    """Text as a latent."""
    yield Spec(
        "text",
        "reprkit_text.latents.text:Text",
        "Words written by a generator, the decoder's only input (Wang and Lee 2018)",
    )


@hookimpl
def reprkit_objectives() -> Iterator[Spec]:
    """Critics and rewards of codes, and pre-training of a generator of words."""
    yield Spec(
        "critic",
        "reprkit_text.objectives.critic:Critic",
        "Wasserstein GAN with gradient penalty on the code of any latent",
    )
    yield Spec(
        "self-critic",
        "reprkit_text.objectives.self_critic:SelfCritic",
        "Adversarial REINFORCE with a critic of prefixes (Wang and Lee 2018)",
    )
    yield Spec(
        "self-critical",
        "reprkit_text.objectives.self_critical:SelfCritical",
        "Objective policy(samples=1, baseline='greedy') of the core (Rennie et al. 2017)",
    )
    yield Spec(
        "summary",
        "reprkit_text.objectives.summary:Summary",
        "Pre-training of a generator of words and its decoder, from unpaired texts",
    )


@hookimpl
def reprkit_evaluators() -> Iterator[Spec]:
    """Evaluators of texts."""
    yield Spec(
        "word-similarity",
        "reprkit_text.evaluators.word_similarity:WordSimilarity",
        "Rank correlation of cosines with human judgments of word pairs (WordSim-353, SimLex-999)",
    )
    yield Spec(
        "analogies",
        "reprkit_text.evaluators.analogies:Analogies",
        "Word analogies by section, a is to b as c is to d (arXiv 1301.3781)",
    )
    yield Spec(
        "zero-shot",
        "reprkit_text.evaluators.zero_shot:ZeroShot",
        "Classification by prompts in the space that pictures and texts share (arXiv 2103.00020)",
    )
    yield Spec(
        "exact-text",
        "reprkit_text.evaluators.exact_text:ExactText",
        "Share of texts that a decoder writes from the code alone exactly as they are, beside the most frequent text",
    )
    yield Spec(
        "tf-idf",
        "reprkit_text.evaluators.tf_idf:TfIdf",
        "Word-count baseline: TF-IDF and logistic regression",
        ("sklearn",),
    )
    yield Spec(
        "rouge",
        "reprkit_text.evaluators.rouge:Rouge",
        "ROUGE of summaries against human ones, with lead and random baselines (Lin 2004)",
        ("rouge_score",),
    )
    yield Spec(
        "readability",
        "reprkit_text.evaluators.readability:Readability",
        "Perplexity of a model's texts under a language model of human texts",
        ("nltk",),
    )
    yield Spec(
        "style-exchange",
        "reprkit_text.evaluators.style_exchange:StyleExchange",
        "Texts written from one example's meaning and another's style: judged by a classifier, and words kept",
        ("rouge_score", "sklearn"),
    )
    yield Spec(
        "compression",
        "reprkit_text.evaluators.compression:Compression",
        "Length of the code relative to the document, and how much of the document it keeps",
    )


@hookimpl
def reprkit_commands() -> Iterator[Spec]:
    """The command group ``text``."""
    yield Spec("text", "reprkit_text.commands:text", "Fetch texts, and summarize documents")
