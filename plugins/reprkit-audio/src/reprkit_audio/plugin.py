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
    yield Spec(
        "asterisk",
        "reprkit_audio.data.asterisk:Asterisk",
        "The same sentences in five languages by four voices: Asterisk's sounds from Debian's packages",
        ("soundfile",),
    )
    yield Spec(
        "fillets",
        "reprkit_audio.data.fillets:Fillets",
        "Two fish in Czech and in Dutch: dialogues of Fish Fillets from Debian's packages",
        ("soundfile",),
    )
    yield Spec(
        "waves",
        "reprkit_audio.data.waves:Waves",
        "Windows of speech as log-mel frames and as samples, for vocoders",
        ("soundfile",),
    )


@hookimpl
def reprkit_evaluators() -> Iterator[Spec]:
    """Measures of speech and of its codes."""
    yield Spec(
        "speech-units",
        "reprkit_audio.evaluators.speech_units:SpeechUnits",
        "Codes against phones and speakers, beside k-means (arXiv 1901.08810)",
    )


@hookimpl
def reprkit_encoders() -> Iterator[Spec]:
    """Encoders of frames."""
    yield Spec(
        "convnext",
        "reprkit_audio.encoders.convnext:ConvNeXtEncoder",
        "ConvNeXt blocks along time (Liu et al. 2022)",
    )


@hookimpl
def reprkit_decoders() -> Iterator[Spec]:
    """Decoders to frames and to waveforms."""
    yield Spec(
        "istft",
        "reprkit_audio.decoders.istft:ISTFTDecoder",
        "Waveforms by the inverse short-time transform (Vocos, Siuzdak 2023)",
    )


@hookimpl
def reprkit_objectives() -> Iterator[Spec]:
    """What drives models of sound."""
    yield Spec(
        "vocoder",
        "reprkit_audio.objectives.vocoder:VocoderObjective",
        "Differences of spectra, and critics of waveforms (Vocos, HiFi-GAN)",
    )
