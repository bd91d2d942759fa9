"""Neural vocoder: from log-mel frames to a waveform, with one inverse short-time Fourier transform.

The encoder reads mel frames, the decoder predicts magnitudes and phases, and the objective compares spectra and adds the scores of
adversarial critics, which are trained in a turn of their own.  The page compares held-out speech with its resynthesis by this
vocoder and by Griffin-Lim.  The model's folder is a vocoder for every other part:
``vocoder("neural(model='runs/vocoder/model')")``, ``reprkit voice convert --vocoder ...``.

Papers: Siuzdak 2023, "Vocos", arXiv 2306.00814; Kong et al. 2020, "HiFi-GAN", arXiv 2010.05646; Yamamoto et al. 2020,
"Parallel WaveGAN", arXiv 1910.11480.
Data: the sample of speech that comes with reprkit-audio; any other: ``--data "speech(root='DIR')"``, asterisk, fillets.
Expected: docs/results/voice/copy_synthesis.md.

    python recipes/vocoder.py                                                # a small network, on the CPU
    python recipes/vocoder.py --latent "residual-vq(codes=256, layers=4, dim=64)"    # a neural codec
    python recipes/vocoder.py --data "speech(root='LibriTTS')" --preset gpu --precision bf16
"""

from typing import Annotated

import typer

import reprkit as rk
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

# "gpu" is about the size that the papers train; "cpu" learns intelligible speech on two cores in a quarter of an hour.
PRESETS = {
    "cpu": {
        "encoder": "convnext(width=256, depth=0)",
        "latent": "continuous(dim=256)",
        "decoder": "istft(width=256, depth=4)",
        "objective": "vocoder(stft=15, width=2, periods=(2, 5))",
        "frames": 32,
        "batch": 16,
        "steps": 3_500,
        "critic_from": 3_000,
        "lr": 2e-3,
    },
    "gpu": {
        "encoder": "convnext(width=512, depth=0)",
        "latent": "continuous(dim=512)",
        "decoder": "istft(width=512, depth=8)",
        "objective": "vocoder",
        "frames": 64,
        "batch": 32,
        "steps": 300_000,
        "critic_from": 5_000,
        "lr": 5e-4,
    },
}


def main(
    data: str = "sample-speech",
    preset: Annotated[str, typer.Option(help="cpu or gpu: defaults of the flags that follow")] = "cpu",
    encoder: str | None = None,
    latent: str | None = None,
    decoder: str | None = None,
    objective: str | None = None,
    frames: Annotated[int | None, typer.Option(help="frames of a training window, 16 ms each")] = None,
    critic_from: Annotated[
        int | None, typer.Option(help="step from which on the critics are trained")
    ] = None,
    steps: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    out: str = "runs/vocoder",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine(final=0.1)", warmup=30, optimizer="adamw(betas=(0.8, 0.99))"),
) -> None:  # fmt: skip
    flags = {name: value for name, value in locals().items() if name in PRESETS["cpu"] and value is not None}
    if preset not in PRESETS:
        raise typer.BadParameter(f"no preset {preset!r}; known: {', '.join(PRESETS)}")
    config = {**PRESETS[preset], **flags}
    parts = {kind: config[kind] for kind in ("encoder", "latent", "decoder", "objective")}

    speech = rk.dataset(f"waves(data={data!r}, frames={config['frames']})")
    train, valid, test = speech.split(seed=seed, valid=True)
    model = rk.build(data=train, output="wave", seed=seed, **parts)
    options = {
        "steps": config["steps"],
        "batch": config["batch"],
        "lr": config["lr"],
        "seed": seed,
        "out": out,
    }
    optimizers = {"critic": f"adamw(lr={config['lr']!r}, betas=(0.8, 0.99))"}
    launch = rk.Launch(clip=10.0 * config["frames"]) | launch  # losses are sums over frames
    for step in rk.loop(model, train, optimizers=optimizers, resume=resume, **options, **launch):
        if step.index >= config["critic_from"]:
            step.backward(step.model(step.batch, turn="critic").total)
            step.update("critic")
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(500):
            step.log(losses, rk.evaluate(model, valid, "copy-synthesis(windows=16, examples=0)", examples=0))
    model.save(f"{out}/model")

    results = rk.evaluate(model, test, "copy-synthesis(windows=64)")
    page = rk.report(out, results)
    if rank() == 0:
        print(compare({"vocoder": results}))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
