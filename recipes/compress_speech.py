"""A neural codec of speech, trained from scratch: waveform in, bytes, waveform out, at several rates from one network.

The encoder reads log-mel frames of 16 ms, residual vector quantization codes each by up to twelve symbols of 8 bits, and the
decoder predicts a spectrum that one inverse transform turns into the waveform.  In training half of the examples are coded by
their first few codebooks only, so that the number of codebooks written sets the rate, 500 bit/s each.  Critics are trained in a
turn of their own.  The page compares held-out utterances with their decoded copies at each rate, by bytes really written, headers
counted, beside Opus at its lowest rate, 6 kbit/s without its container, where libsndfile writes it; with --words, by the words
that Whisper hears (reprkit-audio[judges]).

    reprkit compress runs/compress_speech/model talk.wav -o talk.rk --slots 6
    reprkit decompress runs/compress_speech/model talk.rk -o back.wav

Papers: Zeghidour et al. 2021, "SoundStream", arXiv 2107.03312; Kumar et al. 2023, arXiv 2306.06546; Siuzdak 2023, "Vocos",
arXiv 2306.00814.
Data: the sample of speech in reprkit-audio; your own folder, with one folder a speaker: ``--data "speech(root='my/speech')"``.
Expected: docs/results/compression/sequences.md.

    python recipes/compress_speech.py                                        # a small network, on the CPU
    python recipes/compress_speech.py --data asterisk --words --language en
    python recipes/compress_speech.py --data "speech(root='my/speech')" --preset gpu --precision bf16
"""

import io
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer
from reprkit_audio.evaluators.spectrograms import mel_spectrograms
from reprkit_audio.frontends import frontend
from reprkit_audio.similarity import mel_distance, pitch_difference

import reprkit as rk
from reprkit.data import sound
from reprkit.errors import DataError
from reprkit.models.file_streams import compress_file, decompress_file
from reprkit.reporting import Images, Section, compare
from reprkit.utils.collectives import rank

PRESETS = {
    "cpu": {"width": 256, "depth": 4, "critics": "stft=15, width=2, periods=(2, 5)", "frames": 32, "batch": 16, "steps": 3_000,
            "critic_from": 2_500, "lr": 2e-3},
    "gpu": {"width": 512, "depth": 8, "critics": "", "frames": 64, "batch": 32, "steps": 300_000, "critic_from": 5_000, "lr": 5e-4},
}  # fmt: skip


def opus(wave: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return a waveform's copy by Opus at its lowest rate, and the bytes of its packets: Ogg's pages of headers are 0.9 kB."""
    import soundfile

    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 16000, 1, "OPUS", format="OGG", compression_level=1.0) as opened:
        opened.write(wave.numpy())
    content, pages, place = file.getvalue(), [], 0
    # A page: 26 bytes, the number of its segments, their sizes, and the segments.
    while place < len(content):
        sizes = content[place + 27 : place + 27 + content[place + 26]]
        pages.append(sum(sizes))
        place += 27 + len(sizes) + pages[-1]
    file.seek(0)
    return sound.read(file)[: len(wave)], sum(pages[2:])


def utterances(tests: list[rk.Dataset], seconds: float, language: str | None, words: bool) -> list:
    """Return held-out utterances, drawn by a fixed seed, up to this length in all; of one language, and with a text, if asked."""
    found, total = [], 0.0
    places = [(test, number) for test in tests for number in range(len(test.clips))]
    for place in torch.randperm(len(places), generator=torch.Generator().manual_seed(0)).tolist():
        test, number = places[place]
        clip = test.clips[number]
        if total >= seconds or (language or clip.language) != clip.language or (words and not clip.text):
            continue
        spoken = test.utterance(number)
        if len(spoken.wave) >= 1.5 * spoken.rate:
            found.append(spoken)
            total += len(spoken.wave) / spoken.rate
    if not found:
        raise DataError("no held-out utterance of 1.5 s fits --language and --words, which needs texts")
    return found


def word_errors(copies: list[torch.Tensor], clips: list) -> float:
    """Return the word error rate of Whisper, which hears up to 25 s at a time, half a second between utterances."""
    from reprkit_audio.recognition.speech_recognition import speech_recognizer
    from reprkit_audio.recognition.word_errors import word_error_rate

    heard, spoken, pause = [], [], torch.zeros(8000)
    for language in sorted({clip.language or "" for clip in clips}):
        waves, texts = [], []
        mine = [pair for pair in zip(copies, clips, strict=True) if (pair[1].language or "") == language]
        for number, (copy, clip) in enumerate(mine):
            waves, texts = [*waves, copy, pause], [*texts, clip.text]
            following = len(mine[number + 1][0]) if number + 1 < len(mine) else 25 * 16000
            if sum(map(len, waves)) + following > 25 * 16000:
                heard.append(speech_recognizer()(torch.cat(waves), language or None))
                spoken.append(" ".join(texts))
                waves, texts = [], []
    return word_error_rate(heard, spoken)


def measure(copies: list[torch.Tensor], clips: list, size: int, words: bool) -> dict[str, float]:
    """Return the rate and the distances of copies from their recordings, and the errors of a recognizer."""
    pairs = [(clip.wave, copy) for clip, copy in zip(clips, copies, strict=True)]
    row = {
        "kbit_s": 8 * size / sum(len(clip.wave) for clip in clips) * 16,
        "mel_db": sum(mel_distance(*pair) for pair in pairs) / len(pairs),
        "voicing": sum(pitch_difference(*pair)[1] for pair in pairs) / len(pairs),
    }
    if words:
        row["wer"] = word_errors(copies, clips)
    return row


def main(
    data: Annotated[str, typer.Option(help="a data set of speech")] = "sample-speech",
    preset: Annotated[str, typer.Option(help="cpu or gpu: defaults of the flags that follow")] = "cpu",
    codebooks: Annotated[int, typer.Option(help="of 256 symbols; each adds 500 bit/s")] = 12,
    rates: Annotated[list[int], typer.Option(help="numbers of codebooks to evaluate")] = [3, 6, 12],  # noqa: B006
    critic_from: Annotated[
        int | None, typer.Option(help="step from which on the critics are trained")
    ] = None,
    steps: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    seconds: Annotated[float, typer.Option(help="of held-out speech to evaluate")] = 60.0,
    words: Annotated[bool, typer.Option("--words", help="word errors by Whisper")] = False,
    language: Annotated[
        str | None, typer.Option(help="evaluate utterances of this language, such as en")
    ] = None,
    seed: int = 0,
    out: str = "runs/compress_speech",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(
        schedule="cosine(final=0.1)", warmup=30, optimizer="adamw(betas=(0.8, 0.99))", clip=10.0
    ),
) -> None:
    if preset not in PRESETS:
        raise typer.BadParameter(f"no preset {preset!r}; known: {', '.join(PRESETS)}")
    flags = {"critic_from": critic_from, "steps": steps, "batch": batch, "lr": lr}
    config = PRESETS[preset] | {name: value for name, value in flags.items() if value is not None}
    windows = rk.dataset(f"waves(data={data!r}, frames={config['frames']})")
    train, valid, _ = windows.split(seed=seed, valid=True)
    model = rk.build(
        data=train,
        encoder=f"convnext(width={config['width']}, depth=2)",
        latent=f"residual-vq(codes=256, layers={codebooks}, dim=64, dropout=0.5)",
        decoder=f"istft(width={config['width']}, depth={config['depth']})",
        objective=f"vocoder({config['critics']})",
        output="wave",
        seed=seed,
    )
    options = {
        "steps": config["steps"],
        "batch": config["batch"],
        "lr": config["lr"],
        "seed": seed,
        "out": out,
    }
    optimizers = {"critic": f"adamw(lr={config['lr']!r}, betas=(0.8, 0.99))"}
    for step in rk.loop(model, train, optimizers=optimizers, resume=resume, **options, **launch):
        if step.index >= config["critic_from"]:
            step.backward(step.model(step.batch, turn="critic").total)
            step.update("critic")
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(500):
            step.log(losses, rk.evaluate(model, valid, "copy-synthesis(windows=16, examples=0)", examples=0))
    model.fit_frequencies(train)
    model.save(f"{out}/model")
    if rank() == 0:
        tests = [source.split(seed=seed, valid=True)[-1] for source in windows.sources]
        evaluate(model.to("cpu").eval(), utterances(tests, seconds, language, words), rates, words, out)


def evaluate(model: rk.Model, clips: list, rates: list[int], words: bool, out: str) -> None:
    """Compress utterances at each rate, decompress them, and write the page."""
    waves = [clip.wave for clip in clips]
    table = {"natural": measure(waves, clips, 2 * sum(map(len, waves)), words)}
    front = frontend(model.signature["x"].form)
    rows = {"natural": mel_spectrograms(front, waves[:3])}
    for codebooks in rates:
        copies, size = [], 0
        with tempfile.TemporaryDirectory() as folder:
            for number, wave in enumerate(waves):
                source, back = (
                    Path(folder, f"{number}.wav"),
                    Path(out, "sound", f"{number:03d}-{codebooks}.wav"),
                )
                back.parent.mkdir(parents=True, exist_ok=True)
                sound.write(source, wave)
                stream = compress_file(model, source, slots=codebooks)
                decompress_file(model, stream, back)
                size += sum(map(len, stream.strings))
                copies.append(sound.read(back))
        table[f"{codebooks} codebooks"] = measure(copies, clips, size, words)
        rows[f"{codebooks} codebooks"] = mel_spectrograms(front, copies[:3])
    try:
        pairs = [opus(wave) for wave in waves]
    except (RuntimeError, TypeError, ValueError) as error:
        print(f"Opus is left out, since libsndfile does not write it: {error}")
    else:
        table["Opus"] = measure([copy for copy, _ in pairs], clips, sum(size for _, size in pairs), words)
    figure = Images(title="Held-out speech and its decoded copies", rows=rows, span=(-80.0, 0.0), cell=7.0,
                    caption="Mel bands over time, 80 dB range, low bands at the bottom.")  # fmt: skip
    page = rk.report(out, table, title="A codec of speech", sections=[Section("Copies", [figure])])
    print(compare(table))
    print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
