"""Milliseconds and peak memory of a training step of the large presets, in float32 and bf16, and how long their whole runs take.

    python tests/benchmarks/gpu_steps.py [--device cuda] [--seconds 10] [--only vocoder] [--out runs/bench/gpu_steps.json]

A step is what ``rk.loop`` does with the recipe's parts and batch: every turn's forward, backward and update, on random data of the
right shapes.  The first steps, up to a quarter of the time, are not counted; figures are medians over the others, of which
there are as many as fit into ``--seconds``.  Memory is the peak of what torch's allocator held.  A case that fails, or is out of
memory, is one line, and the others are measured.  ``--device cpu`` measures small models, to try the script.
"""

import argparse
import importlib.util
import itertools
import json
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import reprkit as rk
from reprkit.data import Field, Signature, Tensors

RECIPES = Path(__file__).parents[2] / "recipes"


@dataclass(frozen=True)
class Case:
    """A model that is trained.

    Attributes:
        make: (small) -> the model and its data.
        batch: examples a step.
        steps: of the whole run.
        options: of ``rk.loop``.
        precisions: to measure.
    """

    make: Callable[[bool], tuple[rk.Model, rk.Dataset]]
    batch: int
    steps: int
    options: dict[str, Any] = field(default_factory=dict)
    precisions: tuple[str, ...] = ("fp32", "bf16")


def recipe(name: str) -> Any:
    """Import a recipe, for its presets."""
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def masked(small: bool) -> tuple[rk.Model, rk.Dataset]:
    """MAE, ViT-B/16 with a decoder of 512 x 8, 224 x 224 (He et al. 2021)."""
    size, patch = (32, 8) if small else (224, 16)
    encoder, decoder = ((32, 2, 2), (16, 1, 2)) if small else ((768, 12, 12), (512, 8, 16))
    written = "vit(patch={}, width={}, depth={}, heads={})"
    image = Field(kind="image", shape=(size, size, 3), range=(0.0, 1.0))
    data = Tensors({"x": torch.rand(256, size, size, 3)}, Signature({"x": image}), name="noise")
    model = rk.build(
        data=data,
        encoder=written.format(patch, *encoder),
        latent=f"continuous(dim={encoder[0]})",
        decoder=written.format(patch, *decoder),
        objective="masked(ratio=0.75, normalize=True)",
    )
    return model, data


def sound(frames: int, *, waves: bool, speakers: int = 8) -> rk.Dataset:
    """Noise as log-mel frames, with its samples or its speakers."""
    fields = {"x": Field(kind="sequence", shape=(frames, 80), form="log-mel")}
    tensors = {"x": torch.randn(128, frames, 80)}
    if waves:
        fields["wave"] = Field(kind="sequence", shape=(frames * 256, 1), range=(-1.0, 1.0))
        tensors["wave"] = (0.2 * torch.randn(128, frames * 256, 1)).clamp(-1, 1)
    else:
        names = tuple(f"speaker {number}" for number in range(speakers))
        fields["speaker"] = Field(kind="label", shape=(), vocab=speakers, classes=names)
        tensors["speaker"] = torch.arange(128) % speakers
    return Tensors(tensors, Signature(fields), name="noise")


def vocoder(small: bool) -> tuple[rk.Model, rk.Dataset]:
    """The preset "gpu" of recipes/vocoder.py."""
    preset = recipe("vocoder").PRESETS["cpu" if small else "gpu"]
    data = sound(preset["frames"], waves=True)
    parts = {kind: preset[kind] for kind in ("encoder", "latent", "decoder", "objective")}
    return rk.build(data=data, output="wave", **parts), data


def conversion(small: bool) -> tuple[rk.Model, rk.Dataset]:
    """The preset "grouped" of recipes/voice_conversion.py, with networks of width 256."""
    preset = recipe("voice_conversion").PRESETS["grouped"]
    sizes = {"width": 16 if small else 256, "neck": preset["neck"], "stride": preset["stride"]}
    parts = {name: text.format(**sizes) for name, text in preset.items() if isinstance(text, str)}
    data = sound(32 if small else 128, waves=False)
    factors = {
        "content": rk.factor(parts["encoder"], parts["latent"]),
        "speaker": rk.factor(parts["speaker"], "continuous(dim=64)", pool=True),
    }
    return rk.build(data=data, factors=factors, decoder=parts["decoder"], objective=parts["objective"]), data


def characters(small: bool) -> tuple[rk.Model, rk.Dataset]:
    """The network of figures_char_rnn.py: an LSTM of 1024 x 2 over windows of 256 characters."""
    window = 16 if small else 256
    width, depth = (16, 1) if small else (1024, 2)
    data = rk.data.Arrays({"x": torch.randint(0, 80, (512, window))}, vocabs={"x": 80})
    decoder = f"lstm(width={width}, depth={depth}, dropout=0.3)"
    return rk.build(data=data, decoder=decoder, objective="autoregressive"), data


CASES = {
    "MAE ViT-B/16, batch 128": Case(masked, 128, 100_000, precisions=("bf16",)),
    "MAE ViT-B/16, batch 128, recompute": Case(
        masked, 128, 100_000, {"recompute": True}, precisions=("bf16",)
    ),
    "vocoder, preset gpu": Case(vocoder, 32, 300_000),
    "voice conversion, width 256": Case(conversion, 32, 20_000, {"groups": "speaker"}),
    "character LSTM, 1024 x 2": Case(characters, 128, 20_000),
}


def measure(case: Case, device: str, precision: str, seconds: float) -> dict[str, float]:
    """Train for about ``seconds``; returns the figures of a step."""
    torch.manual_seed(0)
    cuda, small = device == "cuda", device == "cpu"
    model, data = case.make(small)
    wait = torch.cuda.synchronize if cuda else lambda: None
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    times: list[tuple[float, float]] = []  # end, duration
    began = before = time.perf_counter()
    options = {"batch": 8 if small else case.batch, "steps": 10**6, "progress": False, "log_every": 0}
    for step in rk.loop(model, data, lr=1e-4, device=device, precision=precision, **options, **case.options):
        for turn in model.objective.turns[::-1]:
            step.backward(step.model(step.batch, turn=turn).total)
            step.update(turn)
        wait()
        now = time.perf_counter()
        times.append((now - began, now - before))
        before = now
        if now - began > seconds and len(times) > 4:
            break
    warm = [taken for end, taken in times if end > seconds / 4] or [times[-1][1]]
    ms = 1e3 * statistics.median(warm)
    found = {"batch": options["batch"], "ms": ms, "steps": len(warm)}
    found |= {} if small else {"hours": ms * case.steps / 3.6e6}
    return found | ({"peak_mb": torch.cuda.max_memory_allocated() / 1e6} if cuda else {})


def main() -> int:
    """Print a line a case, write the file; the exit code is the number of cases that failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=10.0, help="of a measurement")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/gpu_steps.json"))
    given = parser.parse_args()
    where = torch.cuda.get_device_name() if given.device == "cuda" else "CPU, small models"
    record: dict[str, Any] = {"device": where, "torch": torch.__version__, "cases": []}
    print(
        f"{where}, torch {torch.__version__}\n{'':38}{'precision':>10}{'ms a step':>11}{'peak MB':>10}  whole run"
    )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    chosen = [(name, case) for name, case in CASES.items() if given.only in name]
    for (name, case), precision in itertools.chain(
        *([(pair, precision) for precision in pair[1].precisions] for pair in chosen)
    ):
        row: dict[str, Any] = {"case": name, "precision": precision}
        try:
            row |= measure(case, given.device, precision, given.seconds)
        except Exception as error:
            traceback.print_exc()
            row["error"] = str(error) or type(error).__name__
            print(f"{name:38}{precision:>10}  failed: {row['error'].splitlines()[0]}", flush=True)
        else:
            peak = f"{row['peak_mb']:10,.0f}" if "peak_mb" in row else f"{'':10}"
            whole = f"{case.steps:,} steps: {row['hours']:.1f} h" if "hours" in row else ""
            print(f"{name:38}{precision:>10}{row['ms']:11.1f}{peak}  {whole}", flush=True)
        record["cases"].append(row)
        given.out.write_text(
            json.dumps(record, indent=1) + "\n"
        )  # after each, so that a run cut short keeps its figures
        if given.device == "cuda":
            torch.cuda.empty_cache()
    print(f"written to {given.out}")
    return sum("error" in row for row in record["cases"])


if __name__ == "__main__":
    raise SystemExit(main())
