"""Forecast the next value of a real-valued series, with the objective that predicts the next character of a text.

A recurrent network reads a window of values and predicts a Gaussian for the next one.  The checkpoint with the best validation loss
is evaluated, and networks of several seeds are averaged as one mixture.  The squared error one step ahead on the last fifth is
compared with that of an AR(p) model, p chosen by AIC, and of repeating the last value, both fitted to everything before.  Finally
the series is continued by sampling.

Sources: Graves 2013, "Generating sequences with recurrent neural networks", arXiv 1308.0850 (with one Gaussian, not a mixture);
mixtures of seeds: Lakshminarayanan et al. 2017, arXiv 1612.01474; AIC: Akaike 1974; the AR model, on sunspots: Yule 1927.
Data: a file of numbers, one a line, or "sunspots", 309 yearly counts from statsmodels, which the AR model needs, too.
Expected (seed 0, one core, a minute): mean squared error on test 376.4, AR(9) 377.9, last value 1,107.3; docs/results/text.md.

    python recipes/next_value.py
    python recipes/next_value.py --series FILE --decoder "lstm(width=64, depth=2)" --window 128
"""

import math
from typing import Annotated

import torch
import typer

import reprkit as rk
from reprkit.data.formats.text_encoding import read_text
from reprkit.errors import DataError
from reprkit.evaluation.sequential.next_step import one_step_ahead
from reprkit.utils.collectives import rank


def read_series(path: str) -> torch.Tensor:
    """Read a file of numbers, or load the sunspots."""
    if path == "sunspots":
        from statsmodels.datasets import sunspots

        return torch.tensor(sunspots.load_pandas().data["SUNACTIVITY"].to_numpy())
    try:
        return torch.tensor([float(number) for number in read_text(path).split()], dtype=torch.float64)
    except ValueError as error:
        raise DataError(f"--series {path!r} is not a file of numbers, one a line: {error}") from error


def predict_ar(x: torch.Tensor, first: int, max_lags: int) -> tuple[str, torch.Tensor]:
    """Fit an AR(p), p by AIC, to ``x[:first]``; return its name and its one-step predictions of ``x[first:]``."""
    from statsmodels.tsa.ar_model import AutoReg, ar_select_order

    past = x[:first].numpy()
    lags = ar_select_order(past, max_lags, ic="aic").ar_lags or []
    params = AutoReg(past, len(lags)).fit().params
    predictions = AutoReg(x.numpy(), len(lags)).predict(params, start=first, end=len(x) - 1)
    return f"AR({len(lags)}) by AIC", torch.tensor(predictions)


def main(
    series: Annotated[str, typer.Option(help="a file of numbers, one a line, or sunspots")] = "sunspots",
    decoder: str = "gru(width=32)",
    window: Annotated[int, typer.Option(help="values of a training example, an even number")] = 48,
    longest: Annotated[int, typer.Option(help="largest number of lags of the AR model")] = 20,
    networks: Annotated[int, typer.Option(help="networks to average, one a seed", min=1, max=200)] = 5,
    future: Annotated[int, typer.Option(help="values to sample after the end of the series")] = 22,
    steps: int = 600,
    batch: int = 32,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/next_value",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", clip=1.0),
) -> None:
    values = read_series(series)
    valid_start, test_start = len(values) * 65 // 100, len(values) * 80 // 100
    if not values.isfinite().all() or valid_start < 2 * window:
        raise DataError(
            f"{series!r} has {len(values)} values: all must be finite, and 65 % of them at least two of --window {window}"
        )
    mean, std = values[:valid_start].mean(), values[:valid_start].std()
    x = ((values - mean) / std).float().unsqueeze(-1)

    def windows(split: torch.Tensor) -> rk.Dataset:
        """All windows of a part of the series."""
        examples = split.unfold(0, window, 1).movedim(-1, 1).contiguous()
        return rk.data.Arrays({"x": examples}, ranges={"x": None})

    train, valid = windows(x[:valid_start]), windows(x[valid_start - window // 2 : test_start])
    models = []
    for member in range(networks):
        run = f"{out}/{member}"
        model = rk.build(data=train, decoder=decoder, objective="autoregressive", seed=seed + member)
        options = {"lr": lr, "seed": seed + member, "resume": resume, "best": "min reconstruction.nll"}
        for step in rk.loop(model, train, steps=steps, batch=batch, out=run, **options, **launch):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            if step.every(min(20, steps)):
                step.log(losses, rk.evaluate(model, valid, "reconstruction", examples=0))
        models.append(rk.load(f"{run}/best", map_location=model.device).eval())
        models[-1].save(f"{run}/model")

    if rank() == 0:
        forecasts = [one_step_ahead(model, x, valid_start, window) for model in models]
        # Of the mixture: the mean of the networks' densities, and of their predictions.
        nats = math.log(networks) - torch.stack([-nats.double() for nats, _ in forecasts]).logsumexp(0)
        predictions = torch.stack([points.double() for _, points in forecasts]).mean(0)
        _, ar_valid = predict_ar(values[:test_start], valid_start, longest)
        ar_name, ar_test = predict_ar(values, test_start, longest)
        rows = {
            f"{networks} x {decoder}": predictions[:, 0] * std + mean,
            "last value": values[valid_start - 1 : -1],
            ar_name: torch.cat([ar_valid, ar_test]),
        }
        sizes = [test_start - valid_start, len(values) - test_start]
        print(f"mean squared error one step ahead: {sizes[0]} values of valid, {sizes[1]} of test")
        for name, prediction in rows.items():
            squares = (values[valid_start:] - prediction).square().split(sizes)
            print(f"  {name:32} {float(squares[0].mean()):10.1f} {float(squares[1].mean()):10.1f}")
        print(f"  {float(nats[sizes[0] :].mean() + std.log()):.3f} nats a value of test")
        start = x[-window // 2 :]
        options = {"size": 200 // networks, "length": len(start) + future, "prime": start, "seed": seed}
        samples = torch.cat([model.generate(**options).x[:, len(start) :, 0] for model in models])
        low, high = (samples.double().quantile(q, 0) * std + mean for q in (0.1, 0.9))
        intervals = ", ".join(f"{a:.0f}-{b:.0f}" for a, b in zip(low, high, strict=True))
        print(f"forecast, 80 % intervals of {len(samples)} samples: {intervals}")


if __name__ == "__main__":
    rk.recipe(main)
