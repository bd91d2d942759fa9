"""The parts that reprkit-audio registers, as strings: a part's module is imported when the part is first built."""

from collections.abc import Iterator

from reprkit import Spec, hookimpl

reprkit_api = 1  # version of the plugin interface


@hookimpl
def reprkit_datasets() -> Iterator[Spec]:
    """Data sets of speech and sound: your own folder, Debian's packages, and speech synthesizers."""
    yield Spec(
        "speech",
        "reprkit_audio.data.speech:Speech",
        "Speech in one folder per speaker; VCTK, LibriTTS",
        ("soundfile",),
    )
    yield Spec(
        "sound-folder",
        "reprkit_audio.data.sound_folder:SoundFolder",
        "A folder of sound files as log-mel frames",
        ("soundfile",),
        opens="audio",
        forms=("log-mel", "world"),
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
        "voices",
        "reprkit_audio.data.voices:Voices",
        "31 speakers of four fetched corpora, brought to one loudness and band",
        ("soundfile",),
    )
    yield Spec(
        "sample-speech",
        "reprkit_audio.data.sample_speech:SampleSpeech",
        "Nine minutes of real speech by four speakers in five languages, included in the plugin",
        ("soundfile",),
    )
    yield Spec(
        "parallel-speech",
        "reprkit_audio.data.parallel_speech:ParallelSpeech",
        "The same sentences in several synthetic voices, with their phones (flite, festival, espeak-ng)",
        ("soundfile",),
    )
    yield Spec(
        "aligned-speech",
        "reprkit_audio.data.aligned_speech:AlignedSpeech",
        "Parallel utterances, frame by frame: source and target speaker of the same words",
        ("soundfile",),
    )
    yield Spec(
        "waves",
        "reprkit_audio.data.waves:Waves",
        "Windows of speech as log-mel frames and as samples, for vocoders",
        ("soundfile",),
    )
    yield Spec(
        "sounding",
        "reprkit_audio.data.sounding:Sounding",
        "Pictures with sounds: files of equal names in a folder, or 354 things and their noises",
        ("soundfile",),
    )


@hookimpl
def reprkit_evaluators() -> Iterator[Spec]:
    """Evaluators of speech and of its codes."""
    yield Spec(
        "speech-units",
        "reprkit_audio.evaluators.speech_units:SpeechUnits",
        "Codes against phones and speakers, with k-means as baseline (arXiv 1901.08810)",
    )
    yield Spec(
        "abx",
        "reprkit_audio.evaluators.abx_task:ABX",
        "ABX discrimination of phones within and across speakers, with k-means as baseline (Schatz et al. 2013)",
    )
    yield Spec(
        "copy-synthesis",
        "reprkit_audio.evaluators.copy_synthesis:CopySynthesis",
        "Vocoder copies against recordings: spectrum, pitch, voicing; Griffin-Lim as baseline",
    )
    yield Spec(
        "voice",
        "reprkit_audio.evaluators.voice:Voice",
        "Voice conversion: speaker verification, word errors, distortion; formant shift as baseline",
        ("soundfile",),
    )
    yield Spec(
        "leakage",
        "reprkit_audio.evaluators.leakage:Leakage",
        "Probes of two factors: speaker information in the content, content information in the speaker",
    )


@hookimpl
def reprkit_encoders() -> Iterator[Spec]:
    """Encoders of frames: of the content, the speaker, or both."""
    yield Spec(
        "convnext",
        "reprkit_audio.encoders.convnext:ConvNeXtEncoder",
        "ConvNeXt blocks along time (Liu et al. 2022)",
    )
    yield Spec(
        "frames",
        "reprkit_audio.encoders.frames:FramesEncoder",
        "Frames as they are, one or several a token: for vector quantization of spectra",
    )
    yield Spec(
        "instance-norm",
        "reprkit_audio.encoders.instance_norm:InstanceNormEncoder",
        "Content: convolutions with instance norm (arXiv 1904.05742)",
    )
    yield Spec(
        "neck",
        "reprkit_audio.encoders.neck:NeckEncoder",
        "Content: AutoVC's bottleneck, conditioned on the speaker (arXiv 1905.05879)",
    )
    yield Spec(
        "voice",
        "reprkit_audio.encoders.voice:VoiceEncoder",
        "Speaker: convolutions, mean over time (arXiv 1904.05742)",
    )
    yield Spec(
        "d-vector",
        "reprkit_audio.encoders.d_vector:DVectorEncoder",
        "Speaker: the last state of an LSTM, of unit length (arXiv 1710.10467)",
    )


@hookimpl
def reprkit_decoders() -> Iterator[Spec]:
    """Decoders of frames and of waveforms."""
    yield Spec(
        "istft",
        "reprkit_audio.decoders.istft:ISTFTDecoder",
        "Waveforms by the inverse short-time Fourier transform (Vocos, Siuzdak 2023)",
    )
    yield Spec(
        "frames",
        "reprkit_audio.decoders.frames:FramesDecoder",
        "Frames from tokens that hold them, corrected by ConvNeXt blocks",
    )
    yield Spec(
        "adain",
        "reprkit_audio.decoders.adain:AdaINDecoder",
        "Convolutions with adaptive instance norm (arXiv 1904.05742)",
    )
    yield Spec(
        "conv-lstm",
        "reprkit_audio.decoders.conv_lstm:ConvLSTMDecoder",
        "AutoVC's decoder: convolutions, LSTM, postnet (arXiv 1905.05879)",
    )


@hookimpl
def reprkit_objectives() -> Iterator[Spec]:
    """Objectives for models of sound."""
    yield Spec(
        "vocoder",
        "reprkit_audio.objectives.vocoder:VocoderObjective",
        "Spectral losses and waveform discriminators (Vocos, HiFi-GAN)",
    )
    yield Spec(
        "autovc",
        "reprkit_audio.objectives.autovc:AutoVC",
        "Reconstruction and content consistency (arXiv 1905.05879)",
    )
    yield Spec(
        "ge2e",
        "reprkit_audio.objectives.ge2e:GE2E",
        "Speaker verification: utterances near their own speaker's centroid (arXiv 1710.10467)",
    )
    yield Spec(
        "speaker-adversary",
        "reprkit_audio.objectives.adversary:SpeakerAdversary",
        "Objective adversary(label='speaker', factor='content') of the core (arXiv 1804.02812)",
    )
    yield Spec(
        "jittered",
        "reprkit_audio.objectives.jittered:Jittered",
        "Reconstruction with random jitter in time of a code (arXiv 1901.08810)",
    )
    yield Spec(
        "parallel",
        "reprkit_audio.objectives.parallel:Parallel",
        "Regression to the aligned frames of another speaker (parallel data)",
    )
    yield Spec(
        "gan-refine",
        "reprkit_audio.objectives.gan_refine:GANRefine",
        "Adversarial refinement of conversions (arXiv 1804.02812)",
    )


@hookimpl
def reprkit_corruptions() -> Iterator[Spec]:
    """Corruptions of speech."""
    yield Spec(
        "vocal-tract",
        "reprkit_audio.corruptions.vocal_tract:VocalTract",
        "Random stretch of the frequency axis and random filter: another voice (VTLP; arXiv 2110.14513)",
    )


@hookimpl
def reprkit_commands() -> Iterator[Spec]:
    """The command ``reprkit voice``."""
    yield Spec("voice", "reprkit_audio.commands:voice", "Convert voices, fetch speech", ("soundfile",))
