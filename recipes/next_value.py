"""The next value of a series of real numbers, by the objective that predicts the next character of a text.

A recurrent network reads a window of values and gives a Gaussian for the next one; the best state by the validation part
counts.  Its squared error one step ahead on the last fifth stands beside that of an AR(p) whose p is chosen by AIC and of
"as last time"; it goes on from the series' end by drawing, which tells how wide the future is.

Source: Graves 2013, "Generating sequences with recurrent neural networks", arXiv 1308.0850 (with one Gaussian, not a mixture);
Akaike 1974; the series of sunspots as an AR's own: Yule 1927.
Data: a file of numbers, one a line, or "sunspots", 309 yearly counts from statsmodels, which the AR needs, too.
Expected (one core, half a minute): docs/results/text.md; the AR stays ahead there.

    python recipes/next_value.py
    python recipes/next_value.py --series FILE --decoder "lstm(width=64, depth=2)" --window 128
"""

from pathlib import Path
from typing import Annotated

import torch
import typer

import reprkit as rk
from reprkit.ahead import one_step_ahead
from reprkit.distributed import rank
from reprkit.errors import DataError


def read(path: str) -> torch.Tensor:
    if path == "sunspots":
        from statsmodels.datasets import sunspots

        return torch.tensor(sunspots.load_pandas().data["SUNACTIVITY"].to_numpy())
    try:
        return torch.tensor([float(each) for each in Path(path).read_text().split()], dtype=torch.float64)
    except (OSError, ValueError) as error:
        raise DataError(f"--series {path!r} is no file of numbers, one a line: {error}") from error


def autoregression(x: torch.Tensor, first: int, longest: int) -> tuple[str, torch.Tensor]:
    """An AR(p), p by AIC, fitted to what is before ``first``; what it says one step ahead of what is not."""
    from statsmodels.tsa.ar_model import AutoReg, ar_select_order

    known = x[:first].numpy()
    lags = ar_select_order(known, longest, ic="aic").ar_lags or []
    fitted = AutoReg(known, len(lags)).fit()
    said = AutoReg(x.numpy(), len(lags)).predict(fitted.params, start=first, end=len(x) - 1)
    return f"AR({len(lags)}) by AIC", torch.tensor(said)


def main(
    series: Annotated[str, typer.Option(help="a file of numbers, one a line, or sunspots")] = "sunspots",
    decoder: str = "gru(width=32, dropout=0.1)",
    window: Annotated[int, typer.Option(help="values of a training example, even")] = 48,
    longest: Annotated[int, typer.Option(help="lags that the AR may have")] = 20,
    future: Annotated[int, typer.Option(help="values to draw after the end")] = 22,
    steps: int = 600,
    batch: int = 32,
    lr: float = 5e-3,
    seed: int = 0,
    out: str = "runs/next_value",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", clip=1.0),
) -> None:
    raw = read(series)
    held, last = len(raw) * 65 // 100, len(raw) * 80 // 100
    if not raw.isfinite().all() or held < 2 * window:
        raise DataError(
            f"{series!r} has {len(raw)} values: they must be finite, and 65 % fill --window {window} twice"
        )
    mean, spread = raw[:held].mean(), raw[:held].std()
    x = ((raw - mean) / spread).float().unsqueeze(-1)

    def pieces(part: torch.Tensor, by: int) -> rk.Dataset:
        cut = part.unfold(0, window, by).movedim(-1, 1).contiguous()
        return rk.data.Arrays({"x": cut}, ranges={"x": None})

    train = pieces(x[:held], 1)
    valid = pieces(x[held - window // 2 : last], 1)
    model = rk.build(data=train, decoder=decoder, objective="autoregressive", seed=seed)
    how = {"lr": lr, "seed": seed, "out": out, "resume": resume, "best": "min reconstruction.nll", **launch}
    for step in rk.loop(model, train, steps=steps, batch=batch, **how):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(min(20, steps)):
            step.log(losses, rk.evaluate(model, valid, "reconstruction", examples=0))
    model = rk.load(f"{out}/best", map_location=model.device).eval()

    model.save(f"{out}/model")
    if rank() == 0:
        nats, points = one_step_ahead(model, x, last, window)
        said = {decoder: points[:, 0].double() * spread + mean, "as last time": raw[last - 1 : -1]}
        name, by_ar = autoregression(raw, last, longest)
        print(f"one step ahead on the last {len(nats)} of {len(raw)} values: mean squared error")
        for which, guess in {**said, name: by_ar}.items():
            print(f"  {which:32} {float((raw[last:] - guess).square().mean()):10.1f}")
        print(f"  {float(nats.double().mean() + spread.log()):.3f} nats a value")
        begin = x[-window // 2 :]
        drawn = model.generate(size=200, length=len(begin) + future, prime=begin, seed=seed).x[
            :, len(begin) :, 0
        ]
        low, high = (drawn.double().quantile(q, 0) * spread + mean for q in (0.1, 0.9))
        print(
            "then, 80 % of 200 draws between:",
            ", ".join(f"{a:.0f}-{b:.0f}" for a, b in zip(low, high, strict=True)),
        )


if __name__ == "__main__":
    rk.recipe(main)
