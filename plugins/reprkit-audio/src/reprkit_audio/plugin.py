"""What reprkit-audio offers to reprkit: hooks and strings; a part's own module is imported when it is first built."""

from collections.abc import Iterator

from reprkit import Spec, hookimpl

reprkit_api = 1  # the plugin interface that this is written for


@hookimpl
def reprkit_datasets() -> Iterator[Spec]:
    """Speech: a folder of one's own, what Debian's packages bring, and what synthesisers say."""
    yield Spec(
        "speech",
        "reprkit_audio.data.speech:Speech",
        "Speech in a folder a speaker; VCTK, LibriTTS",
        ("soundfile",),
    )
