"""A neural vocoder: from log-mel frames to a waveform, by one inverse short-time transform.

The encoder reads frames, the decoder says magnitudes and phases, and the objective compares spectra and asks critics, which
are trained in a turn of their own.  The page shows copies of held-out speech beside Griffin-Lim's; the model's folder is a
vocoder for everything else: ``vocoder("neural(model='runs/vocoder/model')")``, ``reprkit voice convert --vocoder ...``.

Papers: Siuzdak 2023, "Vocos", arXiv 2306.00814; Kong et al. 2020, "HiFi-GAN", arXiv 2010.05646; Yamamoto et al. 2020,
"Parallel WaveGAN", arXiv 1910.11480.
Data: the embedded sample of reprkit-audio; any speech: ``--data "speech(root='DIR')"``, asterisk, fillets.
Expected: docs/results/voice.md, "Copy synthesis".

    python recipes/vocoder.py                                                # a small one, on the CPU
    python recipes/vocoder.py --latent "residual-vq(codes=256, layers=4, dim=64)"    # a neural codec
    python recipes/vocoder.py --data "speech(root='LibriTTS')" --preset gpu --precision bf16
"""

from typing import Annotated

import typer

import reprkit as rk
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

# What the papers train, on a GPU, and a small one that learns to speak on two cores in a quarter of an hour.
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
    preset: Annotated[str, typer.Option(help="cpu or gpu: the defaults of what follows")] = "cpu",
    encoder: str | None = None,
    latent: str | None = None,
    decoder: str | None = None,
    objective: str | None = None,
    frames: Annotated[int | None, typer.Option(help="length of a window, of 16 ms each")] = None,
    critic_from: Annotated[int | None, typer.Option(help="step from which on critics are heard")] = None,
    steps: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    out: str = "runs/vocoder",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(
        schedule="cosine(final=0.1)", warmup=30, optimizer="adamw(betas=(0.8, 0.99))", clip=10.0
    ),
) -> None:
    given = {name: value for name, value in locals().items() if name in PRESETS["cpu"] and value is not None}
    if preset not in PRESETS:
        raise typer.BadParameter(f"no preset {preset!r}: {', '.join(PRESETS)}")
    told = {**PRESETS[preset], **given}
    parts = {name: told[name] for name in ("encoder", "latent", "decoder", "objective")}

    speech = rk.dataset(f"waves(data={data!r}, frames={told['frames']})")
    train, valid, test = speech.split(seed=seed, valid=True)
    model = rk.build(data=train, output="wave", seed=seed, **parts)
    critic = {"critic": f"adamw(lr={told['lr']!r}, betas=(0.8, 0.99))"}
    for step in rk.loop(
        model, train, steps=told["steps"], batch=told["batch"], lr=told["lr"], optimizers=critic, seed=seed, out=out,
        resume=resume, **launch,
    ):  # fmt: skip
        if step.index >= told["critic_from"]:
            judged = step.model(step.batch, turn="critic")
            step.backward(judged.total)
            step.update("critic")
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(500):
            step.log(losses, rk.evaluate(model, valid, "copy-synthesis(windows=16, examples=0)"))
    model.save(f"{out}/model")

    found = rk.evaluate(model, test, "copy-synthesis(windows=64)")
    page = rk.report(out, found)
    if rank() == 0:
        print(compare({"vocoder": found}))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
