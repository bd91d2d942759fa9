"""The cost and the range of ``model.jacobian`` beside ``torch.func.jacrev``.

    OMP_NUM_THREADS=1 python tests/benchmarks/figures_jacobian.py

Random data, 32 examples, continuous(dim=16), float32, evaluation mode; the median of 15 calls after 2, alternating.  The two are
compared first: the largest difference over the largest element.
"""

import statistics
import time
from functools import partial

import torch
import typer
from torch.func import functional_call, jacrev, vmap

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.models.jacobian import twice_differentiable
from reprkit.testing.sample_data import random_batch

DATA = {
    "image": Signature({"x": Field(kind="image", shape=(16, 16, 1), range=(0, 1))}),
    "vector": Signature({"x": Field(kind="vector", shape=(64,))}),
    "sequence": Signature({"x": Field(kind="sequence", shape=(8, 4))}),
}
ENCODERS = {
    "mlp(widths=(128, 128))": "vector",
    "conv(width=16, depth=2)": "image",
    "vit(patch=8, width=64, depth=2, heads=4)": "image",
    "gru(width=32)": "sequence",
    "transformer(width=32, depth=2, heads=4)": "sequence",
}
LATENTS = ("continuous(dim=16)", "gaussian(dim=16)")


def with_jacrev(model, x):
    """Return the Jacobian by vmap over examples of jacrev."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}

    class Encode(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, one):
            return self.model.factors["code"]({"x": one.unsqueeze(0)}).point.flatten()

    module, named = Encode(), {f"model.{name}": value for name, value in state.items()}
    with twice_differentiable():
        found = vmap(jacrev(lambda one: functional_call(module, named, (one,))))(x)
    return found.flatten(2).detach()


def timed(call):
    """Return the milliseconds of a call."""
    began = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - began)


def main():
    """Print the table."""
    print("| encoder | latent | o x i | model.jacobian, ms | 4 probes, ms | vmap(jacrev), ms | difference |")
    print("|---|---|---|---|---|---|---|")
    for encoder, kind in ENCODERS.items():
        for latent in LATENTS:
            torch.manual_seed(0)
            model = rk.build(
                data=DATA[kind], encoder=encoder, latent=latent, decoder=None, objective="contrastive"
            ).eval()
            batch = random_batch(DATA[kind], 32)
            mine = model.jacobian(batch)
            calls = {
                "mine": partial(model.jacobian, batch),
                "probes": partial(model.jacobian, batch, probes=4),
            }
            try:
                other = with_jacrev(model, batch["x"])
                calls["jacrev"] = partial(with_jacrev, model, batch["x"])
                difference = f"{float((mine - other).abs().max() / mine.abs().max()):.0e}"
            except Exception as error:  # the failure is the figure
                difference = f"jacrev fails: {type(error).__name__}: {str(error).splitlines()[0][:60]}"
            times = {name: [] for name in calls}
            for number in range(17):
                for name, call in calls.items():
                    if number > 1:
                        times[name].append(timed(call))
                    else:
                        call()
            shown = [
                f"{statistics.median(times[n]):.1f}" if n in times else "–"
                for n in ("mine", "probes", "jacrev")
            ]
            size = f"{mine.shape[1]} x {mine.shape[2]}"
            print(f"| {encoder} | {latent} | {size} | {' | '.join(shown)} | {difference} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
