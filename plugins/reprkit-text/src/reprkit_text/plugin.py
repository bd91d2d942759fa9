"""What reprkit-text offers to reprkit: hooks and strings; a part's own module is imported when it is first built."""

from collections.abc import Iterator

from reprkit import Spec, hookimpl

reprkit_api = 1  # the plugin interface that this is written for


@hookimpl
def reprkit_latents() -> Iterator[Spec]:
    """Text as a latent."""
    yield Spec(
        "text",
        "reprkit_text.latents.text:Text",
        "Words that a generator writes, all that the decoder reads (Wang and Lee 2018)",
    )
