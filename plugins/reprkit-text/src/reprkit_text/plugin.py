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
def reprkit_commands() -> Iterator[Spec]:
    """One command with commands of its own."""
    yield Spec("text", "reprkit_text.commands:text", "Fetch texts")
