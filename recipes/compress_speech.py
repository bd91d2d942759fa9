"""A codec of speech, trained from scratch: sound in, bytes, sound out, at several rates from one network.

Log-mel frames of 16 ms are coded by residual vector quantization, whose codebooks have 256 symbols: the number of codebooks that is
written sets the rate.  In training half of the examples are coded by their first few codebooks only, so that one network serves
every rate.  The encoder starts as the frames themselves, so that quantization starts from spectra and not from what random weights
make of them.  Presets:

``frames``: the decoder corrects the quantized frames, and Griffin-Lim makes the sound; minutes of one core.
``waves``:  the decoder predicts spectrum and phase of the waveform (istft), compared at several resolutions; critics join late.
``gpu``:    the same at the size that the papers train, critics from the start: a neural codec.

The page compares held-out utterances with their decoded copies at each rate, by bytes really written, headers counted, beside Opus
at its lowest rate, 6 kbit/s without its container, where libsndfile writes it; with --words, by the words that Whisper hears
(reprkit-audio[judges]).

    reprkit compress runs/compress_speech/model talk.wav -o talk.rk --slots 6
    reprkit decompress runs/compress_speech/model talk.rk -o back.wav

Papers: Zeghidour et al. 2021, "SoundStream", arXiv 2107.03312; Kumar et al. 2023, arXiv 2306.06546; Siuzdak 2023, "Vocos",
arXiv 2306.00814; Buzo et al. 1980, "Speech coding based upon vector quantization".
Data: the sample of speech in reprkit-audio; your own folder, with one folder a speaker: ``--data "speech(root='my/speech')"``.
Expected: docs/results/compression/sequences.md.

    python recipes/compress_speech.py
    python recipes/compress_speech.py --data asterisk --words --language en
    python recipes/compress_speech.py --data "speech(root='my/speech')" --preset gpu --precision bf16
"""

from typing import Annotated

import typer
from reprkit_audio.coded_speech import code_files, copy_figures, draw_utterances
from reprkit_audio.evaluators.spectrograms import mel_spectrograms
from reprkit_audio.frontends import frontend
from reprkit_audio.opus import opus_copy

import reprkit as rk
from reprkit.errors import ReprkitError
from reprkit.reporting import Images, Section, compare
from reprkit.utils.collectives import rank

WAVES = {"output": "wave", "frames": 32, "batch": 16, "lr": 2e-3}
PRESETS = {
    "frames": {"decoder": "frames(width=128, depth=2)", "objective": "reconstruction", "output": "x",
               "frames": 32, "batch": 64, "steps": 300, "critic_from": None, "lr": 2e-3, "clip": 10.0},
    "waves": WAVES | {"decoder": "istft(width=256, depth=4)", "objective": "vocoder(stft=15, width=2, periods=(2, 5))",
                      "steps": 3_000, "critic_from": 2_500, "clip": 320.0},
    "gpu": WAVES | {"decoder": "istft(width=512, depth=8)", "objective": "vocoder", "frames": 64, "batch": 32, "steps": 300_000,
                    "critic_from": 5_000, "lr": 5e-4, "clip": 640.0},
}  # fmt: skip


def main(
    data: Annotated[str, typer.Option(help="a data set of speech")] = "sample-speech",
    preset: Annotated[str, typer.Option(help="frames, waves or gpu")] = "frames",
    rates: Annotated[list[float], typer.Option(help="to evaluate, kbit/s; the highest is that of all codebooks")] = [1.5, 3, 6],  # noqa: B006
    critic_from: Annotated[int | None, typer.Option(help="step from which on the critics are trained")] = None,
    steps: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    seconds: Annotated[float, typer.Option(help="of held-out speech to evaluate")] = 60.0,
    words: Annotated[bool, typer.Option("--words", help="word errors by Whisper")] = False,
    language: Annotated[str | None, typer.Option(help="evaluate utterances of this language, such as en")] = None,
    seed: int = 0,
    out: str = "runs/compress_speech",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine(final=0.1)", warmup=30, optimizer="adamw(betas=(0.8, 0.99))"),
) -> None:  # fmt: skip
    if preset not in PRESETS:
        raise typer.BadParameter(f"no preset {preset!r}; known: {', '.join(PRESETS)}")
    if critic_from is not None and PRESETS[preset]["critic_from"] is None:
        raise typer.BadParameter(f"preset {preset} has no critics: leave out --critic-from")
    flags = {"critic_from": critic_from, "steps": steps, "batch": batch, "lr": lr}
    config = PRESETS[preset] | {name: value for name, value in flags.items() if value is not None}
    windows = rk.dataset(f"waves(data={data!r}, frames={config['frames']})")
    train, valid, _ = windows.split(seed=seed, valid=True)
    front = frontend(train.signature["x"].form)
    step_rate = 8e-3 * front.rate / front.hop  # kbit/s of one codebook
    books = {rate: round(rate / step_rate) for rate in sorted(rates)}
    if min(books.values()) < 1 or len(set(books.values())) < len(rates):
        raise typer.BadParameter(
            f"--rates {rates}: each needs a number of codebooks of its own, at least one; a codebook has {step_rate:g} kbit/s"
        )
    model = rk.build(
        data=train,
        encoder="frames",
        latent=f"residual-vq(codes=256, layers={max(books.values())}, dim={front.channels}, dropout=0.5)",
        decoder=config["decoder"],
        objective=config["objective"],
        output=config["output"],
        seed=seed,
    )
    options = {name: config[name] for name in ("steps", "batch", "lr")} | {"seed": seed, "out": out}
    critics = (
        {} if config["critic_from"] is None else {"critic": f"adamw(lr={config['lr']!r}, betas=(0.8, 0.99))"}
    )
    launch = rk.Launch(clip=config["clip"]) | launch
    for step in rk.loop(model, train, optimizers=critics, resume=resume, **options, **launch):
        if critics and step.index >= config["critic_from"]:
            step.backward(step.model(step.batch, turn="critic").total)
            step.update("critic")
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(200):
            step.log(losses, rk.evaluate(model, valid, "codebook", examples=0))
    model.fit_frequencies(train)
    model.save(f"{out}/model")
    if rank() == 0:
        tests = [source.split(seed=seed, valid=True)[-1] for source in windows.sources]
        clips = draw_utterances(tests, seconds, language=language, texts=words)
        evaluate(model.to("cpu").eval(), clips, books, words, out)


def evaluate(model: rk.Model, clips: list, books: dict[float, int], words: bool, out: str) -> None:
    """Compress utterances at each rate, decompress them, and write the page."""
    waves = [clip.wave for clip in clips]
    copies = {"natural": (waves, 2 * sum(map(len, waves)))}
    for rate, number in books.items():
        copies[f"{rate:g} kbit/s"] = code_files(model, clips, f"{out}/sound/{rate:g}", slots=number)
    try:
        pairs = [opus_copy(wave) for wave in waves]
        copies["Opus"] = [copy for copy, _ in pairs], sum(size for _, size in pairs)
    except ReprkitError as error:
        print(f"Opus is left out: {error}")
    table = {name: copy_figures(made, clips, size, words=words) for name, (made, size) in copies.items()}
    front = frontend(model.signature["x"].form)
    figure = Images(
        title="Held-out speech and its decoded copies",
        rows={name: mel_spectrograms(front, made[:3]) for name, (made, _) in copies.items()},
        span=(-80.0, 0.0),
        cell=7.0,
        caption="Mel bands over time, 80 dB range, low bands at the bottom.",
    )
    page = rk.report(out, table, title="A codec of speech", sections=[Section("Copies", [figure])])
    print(compare(table))
    print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
