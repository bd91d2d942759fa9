"""The training steps of every recipe on a CUDA device that need not exist: its tensors are all there, or the recipe fails on one.

A recipe is called with its own parts and settings, and few examples a batch.  Each of its loops takes one step on the CPU and one
on the device of torch's ``FakeTensorMode``, where tensors have no values; nothing is measured, saved or shown.
"""

import gzip
import importlib.util
import inspect
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest import SkipTest

import pytest
import torch
from PIL import Image
from torch import nn

import reprkit as rk
from reprkit.data import sound
from reprkit.runs.results import Results
from reprkit.testing.fake_device import FakeGPU, explained
from reprkit.training import entry
from reprkit.training.loop_iterator import Loop

FOLDER = Path(__file__).parents[2] / "recipes"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))

BATCH = 8
PHOTOS = "photos(size=64, crops=2, side=256)"
SPEECH = "parallel-speech(voices=('rms', 'slt'), frames=64)"
# Other arguments than the recipe's own: data that needs no download, and fewer examples.
ARGUMENTS = {
    "ambient_sound": {"data": "sounding(root='album', size=16)"},
    "codec_networks": {"data": PHOTOS},
    "colorization": {"data": PHOTOS, "more": [], "judge": "none"},
    "compress": {"data": PHOTOS},
    "compress_speech": {"preset": "waves", "critic_from": 0},
    "documents": {"data": "pages(count=40, fonts={fonts!r})", "test": "pages(count=10, fonts={fonts!r})"},
    "next_value": {"series": "series.txt"},
    "parallel_conversion": {"data": SPEECH},
    "speech_units": {"data": SPEECH},
    "split_brain": {"data": "photos(size=16, crops=20, side=80)", "more": ""},
    "transfer": {
        "data": "digits",
        "encoder": "vit(patch=2, width=16, depth=1)",
        "decoder": "vit(patch=2, width=16, depth=1)",
        "cell": 2,
        "labeled": 100,
        "tested": 50,
        "tune": "finetune(steps=1)",
    },
    "vocoder": {"critic_from": 0},
    "watermark": {"data": PHOTOS, "stamps": "drawn"},
}
# Presets with other parts.
PRESETS = {
    "compress_speech frames": {"preset": "frames", "critic_from": None},
    "summarizer self-critic": {"critic": "self-critic"},
    "voice_conversion adain": {"preset": "adain"},
    "voice_conversion autovc": {"preset": "autovc"},
    "voice_conversion grouped": {"preset": "grouped"},
    "voice_conversion multi-target": {"preset": "multi-target"},
    "word2vec skip-gram": {"kind": "skip-gram"},
}
# How many loops are run, where models differ in more than their sizes.  The second of multi-target computes gradients in its
# forward, and that of syntax_semantics packs sequences, which needs a device.
LOOPS = {
    "ambient_sound": 2,
    "conv_autoencoder": 3,
    "denoising": 2,
    "hinton_2006": 7,
    "latent_swap": 5,
    "summarizer": 2,
    "summarizer self-critic": 2,
    "voice_conversion autovc": 2,
    "vq_vae": 2,
}
# Why a step cannot be computed without values; the parts of these recipes are checked by the kit.
SKIPPED = {
    "bert": "the decoder is asked for the hidden tokens alone, and the largest number of them in a text is not known",
    "codec_networks": "a standard codec is called on the CPU with the values of the pictures",
    "grammar": "the inside algorithm reads the lengths of the sentences",
    "structvae": "given trees are checked, and trees are written until all are whole",
    "summarizer": "the lengths of the spans are not known",
    "summarizer self-critic": "the lengths of the spans are not known",
    "text_to_tree": "given trees are checked",
    "urnng": "the inside algorithm reads the lengths of the sentences",
}


class Unmeasured(Results):
    """The results of any evaluator: every metric is nan."""

    def __missing__(self, evaluator: str) -> dict[str, float]:
        return defaultdict(lambda: math.nan)


def buzz(voice: str, text: str) -> tuple[torch.Tensor, list[tuple[str, float]]]:
    """What no synthesizer says: a buzz of a tenth of a second a word at the voice's pitch, and a phone for each word."""
    words = text.split()
    t = torch.arange(len(words) * 1600) / 16_000
    wave = 0.1 * torch.sign(torch.sin(2 * math.pi * (100 + 50 * (len(voice) % 3)) * t))
    wave += 0.01 * torch.randn(len(t), generator=torch.Generator().manual_seed(len(text)))
    return wave, [(word[0].lower(), 0.1 * (number + 1)) for number, word in enumerate(words)]


class Done(BaseException):
    """All loops that a test runs have been run; not an Exception, which the loop would record as a failed run."""


class FakeStep:
    """The step that the body of a loop gets on the device: it computes losses, and neither gradients nor updates."""

    lr, index, last, extra = 1e-3, 0, False, {}

    def __init__(self, model: rk.Model, gpu: FakeGPU, batch: dict) -> None:
        self.model, self.gpu, self.batch = model, gpu, gpu.move(batch)
        self.losses = 0

    def backward(self, total: torch.Tensor) -> None:
        self.gpu.check_loss(total)
        self.losses += 1

    def update(self, turn: str = "main", closure=None):
        return None if closure is None else closure()

    def every(self, n: int) -> bool:
        return False

    def log(self, *_, **__) -> None:
        raise AssertionError("the first step is logged only where step.every(...) says so")


def check_loops(monkeypatch, count: int) -> list[int]:
    """Let ``count`` loops take a step on the CPU and one on the device, then raise ``Done``; returns the losses of each."""
    losses: list[int] = []

    class TwoSteps(Loop):
        def _run_steps(self, start, signals) -> Iterator:
            real = super()._run_steps(start, signals)
            step = next(real)
            yield step
            batch = dict(step.batch)
            real.close()
            # Optimizers see no gradients of the device: none are computed there.
            self.model.zero_grad()
            with FakeGPU(self.model) as gpu:
                fake = FakeStep(self.model, gpu, batch)
                yield fake
            assert fake.losses, "the body of the loop computed no loss"
            losses.append(fake.losses)
            if len(losses) == count:
                raise Done

    monkeypatch.setattr(entry, "Loop", TwoSteps)
    monkeypatch.setattr(rk, "evaluate", lambda *_, **__: Unmeasured())
    return losses


def load(name: str) -> SimpleNamespace:
    spec = importlib.util.spec_from_file_location(f"recipe_on_gpu_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(main, folder: Path, monkeypatch, count: int = 1, **arguments) -> None:
    """Call a recipe's ``main`` until ``count`` loops have been checked."""
    found = inspect.signature(main).parameters
    batch = {"batch": BATCH} if "batch" in found else {}
    losses = check_loops(monkeypatch, count)
    monkeypatch.chdir(folder)
    with explained(), pytest.raises(Done):
        main(out=str(folder / "run"), **batch | arguments)
    assert len(losses) == count


def provide_verses(folder: Path, monkeypatch) -> None:
    """Verses in two translations, as they are in the cache."""
    monkeypatch.setenv("REPRKIT_CACHE", str(folder / "cache"))
    path = folder / "cache" / "text" / "verses" / "verses.jsonl.gz"
    path.parent.mkdir(parents=True)
    rows = [
        {"key": f"Gen.{n}.1", **{name: f"{name} {n % 7} and {n % 11}" for name in ("kjv", "web", "rv")}}
        for n in range(60)
    ]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))


def provide_data(folder: Path, monkeypatch) -> None:
    """Data that is found nowhere: what a synthesizer would say, a series, and pictures with sounds."""
    (folder / "series.txt").write_text("\n".join(f"{math.sin(0.3 * t):.4f}" for t in range(400)))
    if find_spec("reprkit_audio"):
        from reprkit_audio.data import parallel_speech

        monkeypatch.setenv("REPRKIT_CACHE", str(folder / "cache"))  # what is synthesized is stored there
        monkeypatch.setattr(parallel_speech, "synthesize", buzz)
        (folder / "album").mkdir()
        for number in range(20):
            Image.new("RGB", (16, 16), (12 * number, 0, 0)).save(folder / "album" / f"{number}.png")
            sound.write(folder / "album" / f"{number}.wav", buzz("v" * number, "a b")[0])


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if case == "latent_swap" else pytest.mark.slow)
        for case in [*NAMES, *PRESETS]
    ],
)
def test_a_recipe_trains_on_a_gpu(case, tmp_path, monkeypatch):
    name = case.partition(" ")[0]
    arguments = ARGUMENTS.get(name, {}) | PRESETS.get(case, {})
    if arguments.get("data") == SPEECH or name in ("ambient_sound", "next_value"):
        provide_data(tmp_path, monkeypatch)
    if name == "syntax_semantics":
        provide_verses(tmp_path, monkeypatch)
    main = load(name).main
    if case not in SKIPPED:
        try:
            run(main, tmp_path, monkeypatch, LOOPS.get(case, 1), **arguments)
        except SkipTest as reason:
            pytest.fail(f"{reason}\n  compute it otherwise, or say why not in SKIPPED")
        return
    with pytest.raises(SkipTest):
        run(main, tmp_path, monkeypatch, **arguments)
    pytest.skip(SKIPPED[case])


@pytest.mark.parametrize("names", [ARGUMENTS, PRESETS, LOOPS, SKIPPED])
def test_what_is_listed_is_a_recipe(names):
    assert {name.partition(" ")[0] for name in names} <= set(NAMES)


def recipe(body=None, spoil=None):
    """A recipe of one loop, with a model that ``spoil`` changes and a body of one's own."""

    def main(batch: int = 8, out: str = "run") -> None:
        torch.manual_seed(0)
        data = rk.dataset({"x": torch.rand(32, 6)})
        model = rk.build(data=data, encoder="mlp(widths=(4,))", latent="continuous(dim=4)", decoder="mlp")
        if spoil:
            spoil(model)
        for step in rk.loop(model, data, steps=3, batch=batch, out=out):
            losses = body(step) if body else step.model(step.batch)
            step.backward(losses.total)
            step.update()
        raise AssertionError("the loop should have ended the recipe")

    return main


def keep_a_tensor(model: rk.Model) -> None:
    """Add a tensor to the code that is neither a parameter nor a buffer."""
    offset = torch.zeros(4)
    model.factors["code"].latent.register_forward_pre_hook(
        lambda module, given: (replace(given[0], x=given[0].x + offset),)
    )


def add_noise_of_the_cpu(step) -> rk.Losses:
    x = step.batch["x"]
    return step.model({**step.batch, "x": x + 0.1 * torch.rand(x.shape)})


def test_a_right_recipe_passes(tmp_path, monkeypatch):
    run(recipe(), tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "wrong", [{"spoil": keep_a_tensor}, {"body": add_noise_of_the_cpu}], ids=["part", "body"]
)
def test_a_recipe_with_a_tensor_on_the_cpu_fails(wrong, tmp_path, monkeypatch):
    with pytest.raises(AssertionError, match="on the CPU|on a GPU its forward fails"):
        run(recipe(**wrong), tmp_path, monkeypatch)


def test_a_recipe_that_moves_the_loss_to_the_cpu_fails(tmp_path, monkeypatch):
    def body(step):
        losses = step.model(step.batch)
        return SimpleNamespace(total=losses.total.cpu())

    with pytest.raises(AssertionError, match="the loss of a model on a GPU is on cpu"):
        run(recipe(body), tmp_path, monkeypatch)


def test_weights_are_restored_after_the_step_on_the_device(tmp_path):
    data = rk.dataset({"x": torch.rand(8, 6)})
    model = rk.build(data=data, encoder="mlp", latent="vq(codes=4)", decoder="mlp")
    before = {name: value for name, value in model.state_dict(keep_vars=True).items()}
    with FakeGPU(model):
        assert {value.device.type for value in model.parameters()} == {"cuda"}
    after = model.state_dict(keep_vars=True)
    assert list(before) == list(after)
    assert all(after[name] is value for name, value in before.items() if isinstance(value, nn.Parameter))
