"""Voice conversion: what is said and who says it as two factors; converting is to exchange the second.

Three papers as three presets that differ in parts only, and a fourth that joins them.  Each keeps the speaker out of the content
in its own way:

- adain: instance norm takes every channel's mean and spread, which the decoder gets from the speaker's code (one-shot).
- autovc: the content's neck is too narrow for the speaker; the speaker encoder is trained first (GE2E) and frozen.
- multi-target: a critic hears who speaks in the content, until nothing is left to hear; then a GAN refines the decoder.
- grouped: the parts of adain and the critic of multi-target; and the speaker's code is that of another utterance, so that it
  holds what all utterances of a speaker share.

The content is any latent (``--content``); its rate is ``--stride`` frames of 10 ms a token, its width ``--neck``: sweep
these two for AutoVC.  ``--encoder``, ``--decoder`` and ``--objective`` take the place of the preset's: to leave its mechanism
out, say ``--encoder "instance-norm(width=64, stride=8, norm=False)"`` or ``--objective reconstruction``.

The model is used as ``reprkit voice convert OUT/model source.wav target.wav -o out.wav``, or
``model.encode(source) | {"speaker": model.encode(target)["speaker"]}``.

Papers: Chou et al. 2019, arXiv 1904.05742; Qian et al. 2019, arXiv 1905.05879; Chou et al. 2018, arXiv 1804.02812.
Data: utterances of several speakers, WORLD envelopes of 40 coefficients every 10 ms; pitch is moved by its mean and spread.
Expected: docs/results/voice.md.

    python recipes/voice_conversion.py --preset adain
    python recipes/voice_conversion.py --preset autovc --neck 4 --stride 32
    python recipes/voice_conversion.py --preset multi-target --data asterisk --steps 3000
    python recipes/voice_conversion.py --preset grouped --data "asterisk(frames=128)" --width 128 --steps 6000 --batch 16 \
--lr 1e-3 --critic-lr 1e-3
    python recipes/voice_conversion.py --content "vq(codes=128, dim=32)" --data "speech(root='VCTK')"
"""

from typing import Annotated

import typer

import reprkit as rk
from reprkit.errors import PartArgumentError, nearest
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

NORM = "instance-norm(width={width}, depth=3, stride={stride})"
VOICE = "voice(width={width}, depth=3)"
ADAIN = "adain(width={width}, depth=3, stride={stride})"
PRESETS = {
    "adain": {
        "encoder": NORM, "latent": "gaussian(dim={neck})", "told": None, "speaker": VOICE, "decoder": ADAIN,
        "before": None, "objective": "reconstruction", "after": None, "neck": 8, "stride": 8,
    },
    "autovc": {
        "encoder": "neck(dim={neck}, stride={stride}, width={width})", "latent": "continuous(dim={neck})",
        "told": "speaker", "speaker": "d-vector(width={width}, dim=64)",
        "decoder": "conv-lstm(width={width}, memory=128, stride={stride})",
        "before": "ge2e", "objective": "autovc", "after": None, "neck": 8, "stride": 16,
    },
    "multi-target": {
        "encoder": NORM, "latent": "continuous(dim={neck})", "told": None, "speaker": VOICE, "decoder": ADAIN,
        "before": None, "objective": "reconstruction + 1000 * speaker-adversary(width={width})",
        "after": "gan-refine(width={width})", "neck": 8, "stride": 4,
    },
    "grouped": {
        "encoder": NORM, "latent": "gaussian(dim={neck})", "told": None, "speaker": VOICE, "decoder": ADAIN,
        "before": None, "neck": 8, "stride": 8, "after": None,
        "objective": "grouped(factor='speaker', label='speaker') + 300 * speaker-adversary(width={width})",
    },
}  # fmt: skip


def main(
    preset: Annotated[str, typer.Option(help=", ".join(PRESETS))] = "adain",
    data: str = "sample-speech",
    content: Annotated[str | None, typer.Option(help="the content's latent, any")] = None,
    encoder: Annotated[str | None, typer.Option(help="of the content, not the preset's")] = None,
    decoder: Annotated[str | None, typer.Option(help="not the preset's")] = None,
    objective: Annotated[str | None, typer.Option(help="of the main stage, not the preset's")] = None,
    neck: Annotated[int | None, typer.Option(help="width of the content's code")] = None,
    stride: Annotated[int | None, typer.Option(help="frames that a token of it stands for")] = None,
    width: Annotated[int, typer.Option(help="channels of all networks")] = 64,
    steps: int = 3_000,
    before: Annotated[int, typer.Option(help="steps of the speaker encoder alone")] = 300,
    after: Annotated[int, typer.Option(help="steps of the GAN; 0 leaves it out")] = 1_000,
    batch: int = 32,
    lr: float = 2e-3,
    critic_lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/voice_conversion",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    if preset not in PRESETS:
        known = ", ".join(PRESETS)
        raise PartArgumentError(f"no preset {preset!r}.{nearest(preset, PRESETS)}\n  known: {known}")
    own = {"encoder": encoder, "decoder": decoder, "objective": objective, "latent": content}
    plan = PRESETS[preset] | {name: text for name, text in own.items() if text is not None}
    sizes = {"width": width, "neck": neck or plan["neck"], "stride": stride or plan["stride"]}
    parts = {name: text.format(**sizes) for name, text in plan.items() if isinstance(text, str)}
    train, test = rk.dataset(data).split(seed=seed)
    whole = {"data": train.whole(), "seed": seed}  # windows train, utterances of any length are converted
    factors = {
        "content": rk.factor(parts["encoder"], parts["latent"], condition=plan["told"]),
        "speaker": rk.factor(parts["speaker"], "continuous(dim=64)", pool=True),
    }

    def trained(model: rk.Model, stage: str, steps: int, rate: float) -> rk.Model:
        critic = {turn: f"adam(lr={critic_lr})" for turn in model.objective.turns[1:]}
        how = {"batch": batch, "lr": rate, "seed": seed, "out": out, "resume": resume, **launch}
        for step in rk.loop(model, train, steps=steps, stage=stage, optimizers=critic, **how):
            for turn in model.objective.turns[::-1]:  # critics first
                losses = step.model(step.batch, turn=turn)
                step.backward(losses.total)
                step.update(turn)
            if step.every(250):
                step.log(losses)
        return model

    first = None
    if "before" in parts:
        alone = {"speaker": factors["speaker"]}
        first = trained(rk.build(factors=alone, objective=parts["before"], **whole), "before", before, lr)
    whole |= {"factors": factors, "decoder": parts["decoder"]}
    model = rk.build(objective=parts["objective"], start=first, **whole)
    if first is not None:
        model.factors["speaker"].requires_grad_(False)
    model = trained(model, "main", steps, lr)
    if "after" in parts and after:
        last = rk.build(objective=parts["after"], start=model, **whole)
        last.factors.requires_grad_(False)
        model = trained(last, "after", after, lr / 4)
    model.save(f"{out}/model")
    found = rk.evaluate(model, test, "reconstruction", "voice", "leakage", fit_on=train)
    page = rk.report(out, found)
    if rank() == 0:
        print(compare({preset: found}))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
