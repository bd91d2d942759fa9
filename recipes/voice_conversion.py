"""Voice conversion: content and speaker as two factors; to convert a voice, exchange the speaker's code.

Three papers are three presets that differ in parts only; two more combine their parts.  Each removes the speaker from the content
in its own way:

- perturbed: the content's encoder reads frames of a randomly perturbed voice, the decoder reconstructs the true one, and the
  speaker's code comes from another utterance of the same speaker (after Choi et al. 2021, NANSY, arXiv 2110.14513).
- adain: instance normalization removes every channel's mean and scale; the decoder gets them from the speaker's code (one-shot).
- autovc: the content's bottleneck is too narrow for the speaker; the speaker encoder is trained first (GE2E) and frozen.
- multi-target: an adversarial critic classifies the speaker from the content until it cannot; then a GAN refines the decoder.
- grouped: the parts of adain and the critic of multi-target; and the speaker's code comes from another utterance of the same
  speaker, so that it holds only what a speaker's utterances share.

The content may have any latent (``--content``).  ``--stride`` is the number of 10 ms frames a token, ``--neck`` the width of the
content's code: sweep these two for AutoVC.  ``--encoder``, ``--decoder`` and ``--objective`` replace the preset's parts: to ablate
its mechanism, give ``--encoder "instance-norm(width=64, stride=8, norm=False)"`` or ``--objective reconstruction``.

Papers: Chou et al. 2019, arXiv 1904.05742; Qian et al. 2019, arXiv 1905.05879; Chou et al. 2018, arXiv 1804.02812.
Data: utterances of several speakers, WORLD envelopes of 40 coefficients every 10 ms; pitch is shifted and scaled to the target's
mean and deviation.
Expected: docs/results/voice.md, on Asterisk, English clips by Whisper-base (natural speech: word error rate 0.05), nearest of four
speakers.  Measured on the test part:

- perturbed (width 96, 1,600 steps, seed 10, strength 1.75): word error rate 0.12 (copy synthesis 0.09), nearest 0.85, nearer to
  the target than to the source 0.90.
- the bundled sample-speech, nine minutes, with ``--steps 300`` (eleven minutes of a busy core): nearest 0.88, word error rate 0.80
  (copy synthesis 0.23): the voice, not the words, which need more speech.  The 3,000 steps of the default are not measured.
- grouped (width 128, 6,000 steps): word error rate 0.95, nearest 0.81: it loses the words.
- adain (width 96, 1,600 steps): word error rate 0.80, nearest 0.67.
- multi-target (the same): word error rate 0.61, nearest 0.69; autovc: 6.9 and 0.58.
- across languages (perturbed, all 15 directions): nearest 0.78, by a second speaker model 0.97; the words of English and French are
  kept, those of Italian and Russian are not (docs/results/voice/cross_lingual.md).
- perturbed on another corpus, WordNet's sentences in four synthetic voices (width 64, 1,000 steps of 16, strength 1): nearest 1.00,
  word error rate 0.23 (copy synthesis 0.02).
- voices that were not trained on, one utterance of the target: nearest of eight 0.13 to 0.25 by the decoder, 0.46 to 0.58 by the
  target's nearest frames (``voice convert --neighbors 4 --no-spread``), with many words lost.

    python recipes/voice_conversion.py
    python recipes/voice_conversion.py --data "asterisk(frames=128)" --width 96 --steps 1600 --batch 16 --lr 1.5e-3
    python recipes/voice_conversion.py --preset adain
    python recipes/voice_conversion.py --preset autovc --neck 4 --stride 32
    python recipes/voice_conversion.py --preset multi-target --data asterisk --steps 3000
    python recipes/voice_conversion.py --preset grouped --data "asterisk(frames=128)" --width 128 --steps 6000 --batch 16 \
--lr 1e-3 --critic-lr 1e-3
    python recipes/voice_conversion.py --preset grouped --data "voices(frames=128)" --hold-out-speakers 8
    python recipes/voice_conversion.py --data "asterisk(frames=128)" --judge "voice(targets='allison', strength=1.75, \
spread=False, languages=('it', 'fr', 'ru'), clips=8)"   # cross-lingual: into the voice of a speaker of English and Spanish
    python recipes/voice_conversion.py --content "vq(codes=128, dim=32)" --data "speech(root='VCTK')"

Use the model: ``reprkit voice convert OUT/model source.wav target.wav --strength 1.75 --no-spread -o out.wav``, or
``model.encode(source) | {"speaker": model.encode(target)["speaker"]}``.
"""

from typing import Annotated

import typer

import reprkit as rk
from reprkit.errors import PartArgumentError, nearest
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

# Encoder of the content, encoder of the speaker, decoder.
NORM = "instance-norm(width={width}, depth=3, stride={stride})"
VOICE = "voice(width={width}, depth=3)"
ADAIN = "adain(width={width}, depth=3, stride={stride})"
CODES = "vq(codes=256, dim=16, codebooks=3)"
# The parts of each preset; "before" and "after" are the objectives of stages before and after the main one, "groups" the label
# of which the main stage's batches hold pairs.
PRESETS = {
    "perturbed": {
        "encoder": NORM, "latent": CODES, "condition": None, "speaker": VOICE, "decoder": ADAIN,
        "before": None, "neck": 8, "stride": 2, "after": None, "groups": "speaker",
        "objective": "grouped(factor='speaker', label='speaker', corruption='vocal-tract(ratio=1.3, knots=3)')",
    },
    "adain": {
        "encoder": NORM, "latent": "gaussian(dim={neck})", "condition": None, "speaker": VOICE, "decoder": ADAIN,
        "before": None, "objective": "reconstruction", "after": None, "neck": 8, "stride": 8, "groups": None,
    },
    "autovc": {
        "encoder": "neck(dim={neck}, stride={stride}, width={width})", "latent": "continuous(dim={neck})",
        "condition": "speaker", "speaker": "d-vector(width={width}, dim=64)",
        "decoder": "conv-lstm(width={width}, memory=128, stride={stride})",
        "before": "ge2e", "objective": "autovc", "after": None, "neck": 8, "stride": 16, "groups": None,
    },
    "multi-target": {
        "encoder": NORM, "latent": "continuous(dim={neck})", "condition": None, "speaker": VOICE, "decoder": ADAIN,
        "before": None, "objective": "reconstruction + 1000 * speaker-adversary(width={width})",
        "after": "gan-refine(width={width})", "neck": 8, "stride": 4, "groups": None,
    },
    "grouped": {
        "encoder": NORM, "latent": "gaussian(dim={neck})", "condition": None, "speaker": VOICE, "decoder": ADAIN,
        "before": None, "neck": 8, "stride": 8, "after": None, "groups": "speaker",
        "objective": "grouped(factor='speaker', label='speaker') + 300 * speaker-adversary(width={width})",
    },
}  # fmt: skip


def main(
    preset: Annotated[str, typer.Option(help=", ".join(PRESETS))] = "perturbed",
    data: str = "sample-speech",
    content: Annotated[str | None, typer.Option(help="the content's latent, any")] = None,
    encoder: Annotated[str | None, typer.Option(help="of the content, instead of the preset's")] = None,
    decoder: Annotated[str | None, typer.Option(help="instead of the preset's")] = None,
    objective: Annotated[str | None, typer.Option(help="of the main stage, instead of the preset's")] = None,
    neck: Annotated[
        int | None, typer.Option(help="width of the content's code, where the preset's parts have one")
    ] = None,
    stride: Annotated[int | None, typer.Option(help="frames of a token of the content")] = None,
    width: Annotated[int, typer.Option(help="channels of all networks")] = 64,
    steps: int = 3_000,
    before: Annotated[int, typer.Option(help="steps that pre-train the speaker encoder")] = 300,
    after: Annotated[int, typer.Option(help="steps of the GAN; 0 skips it")] = 1_000,
    batch: int = 32,
    lr: float = 2e-3,
    critic_lr: float = 2e-3,
    judge: Annotated[
        str,
        typer.Option(help="evaluator of the conversions, such as voice(clips=14, languages=('en', 'es'))"),
    ] = "voice(strength=1.75, spread=False)",
    hold_out_speakers: Annotated[
        int,
        typer.Option(
            help="speakers, drawn at random, that are not trained on; conversions among them are judged, too"
        ),
    ] = 0,
    seed: int = 0,
    out: str = "runs/voice_conversion",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    if preset not in PRESETS:
        known = ", ".join(PRESETS)
        raise PartArgumentError(f"no preset {preset!r}.{nearest(preset, PRESETS)}\n  known: {known}")
    flags = {"encoder": encoder, "decoder": decoder, "objective": objective, "latent": content}
    config = PRESETS[preset] | {name: value for name, value in flags.items() if value is not None}
    texts = " ".join(part for part in config.values() if isinstance(part, str))
    for name, size in {"neck": neck, "stride": stride}.items():
        if size is not None and f"{{{name}}}" not in texts:
            raise PartArgumentError(
                f"--{name} {size}: no part has this size; set it in --content or --encoder"
            )
    sizes = {"width": width, "neck": neck or config["neck"], "stride": stride or config["stride"]}
    parts = {name: text.format(**sizes) for name, text in config.items() if isinstance(text, str)}
    speech, unseen = rk.dataset(data), None
    if hold_out_speakers:
        speech, unseen = speech.hold_out_speakers(hold_out_speakers, seed=seed)
    train, test = speech.split(seed=seed)
    shared = {"data": train.whole(), "seed": seed}  # trained on windows, converts utterances of any length
    factors = {
        "content": rk.factor(parts["encoder"], parts["latent"], condition=config["condition"]),
        "speaker": rk.factor(parts["speaker"], "continuous(dim=64)", pool=True),
    }

    def train_stage(
        model: rk.Model, stage: str, steps: int, lr: float, groups: str | None = None
    ) -> rk.Model:
        critics = {turn: f"adam(lr={critic_lr})" for turn in model.objective.turns[1:]}
        options = {"batch": batch, "groups": groups, "seed": seed, "out": out, "resume": resume, **launch}
        for step in rk.loop(model, train, steps=steps, lr=lr, stage=stage, optimizers=critics, **options):
            for turn in model.objective.turns[::-1]:  # critics first
                losses = step.model(step.batch, turn=turn)
                step.backward(losses.total)
                step.update(turn)
            if step.every(250):
                step.log(losses)
        return model

    pretrained = None
    if "before" in parts:
        speaker = {"speaker": factors["speaker"]}
        pretrained = rk.build(factors=speaker, objective=parts["before"], **shared)
        pretrained = train_stage(pretrained, "before", before, lr)
    shared |= {"factors": factors, "decoder": parts["decoder"]}
    model = rk.build(objective=parts["objective"], start=pretrained, **shared)
    if pretrained is not None:
        model.factors["speaker"].requires_grad_(False)
    model = train_stage(model, "main", steps, lr, config["groups"])
    if "after" in parts and after:
        model = rk.build(objective=parts["after"], start=model, **shared)
        model.factors.requires_grad_(False)
        model = train_stage(model, "after", after, lr / 4)
    model.save(f"{out}/model")
    results = rk.evaluate(model, test, "reconstruction", judge, "leakage", fit_on=train)
    table = {preset: results}
    if unseen is not None:
        enrolled, spoken = unseen.split(seed=seed)
        table["unseen speakers"] = rk.evaluate(model, spoken, judge, fit_on=enrolled)
    columns = {
        "voice.wer": "words wrong",
        "voice.nearer": "nearer to the target",
        "voice.nearest": "nearest to the target",
        "leakage.content.pooled": "speaker read from the content",
        "reconstruction.error": "reconstruction error",
    }
    page = rk.report(out, table if unseen is not None else results, columns=columns)
    if rank() == 0:
        from reprkit_audio.converter import Converter
        from reprkit_audio.learned_voices import describe_voices

        others = table.get("unseen speakers", {}).get("voice")
        describe_voices(Converter(model), train, results.get("voice"), others).save(f"{out}/model")
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
