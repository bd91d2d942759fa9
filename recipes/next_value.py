"""The next value of a series of real numbers, by the objective that predicts the next character of a text.

A recurrent network reads a window of values and gives a Gaussian for the next one; the best state by the validation part counts,
and networks of several seeds are one mixture.  Its squared error one step ahead on the last fifth stands beside that of an AR(p)
whose p is chosen by AIC and of "as last time", both fitted to all before it.  It goes on from the series' end by drawing.

Source: Graves 2013, "Generating sequences with recurrent neural networks", arXiv 1308.0850 (with one Gaussian, not a mixture);
mixtures of seeds: Lakshminarayanan et al. 2017, arXiv 1612.01474; Akaike 1974; the series of sunspots as an AR's own: Yule 1927.
Data: a file of numbers, one a line, or "sunspots", 309 yearly counts from statsmodels, which the AR needs, too.
Expected (one core, a minute): docs/results/text.md.

    python recipes/next_value.py
    python recipes/next_value.py --series FILE --decoder "lstm(width=64, depth=2)" --window 128
"""

import math
from pathlib import Path
from typing import Annotated

import torch
import typer

import reprkit as rk
from reprkit.errors import DataError
from reprkit.evaluation.sequential.next_step import one_step_ahead
from reprkit.utils.collectives import rank


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
    decoder: str = "gru(width=32)",
    window: Annotated[int, typer.Option(help="values of a training example, even")] = 48,
    longest: Annotated[int, typer.Option(help="lags that the AR may have")] = 20,
    networks: Annotated[int, typer.Option(help="that are averaged, one a seed", min=1, max=200)] = 5,
    future: Annotated[int, typer.Option(help="values to draw after the end")] = 22,
    steps: int = 600,
    batch: int = 32,
    lr: float = 2e-3,
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

    def pieces(part: torch.Tensor) -> rk.Dataset:
        return rk.data.Arrays(
            {"x": part.unfold(0, window, 1).movedim(-1, 1).contiguous()}, ranges={"x": None}
        )

    train, valid = pieces(x[:held]), pieces(x[held - window // 2 : last])
    models = []
    for member in range(networks):
        place = f"{out}/{member}"
        model = rk.build(data=train, decoder=decoder, objective="autoregressive", seed=seed + member)
        how = {"lr": lr, "seed": seed + member, "resume": resume, "best": "min reconstruction.nll", **launch}
        for step in rk.loop(model, train, steps=steps, batch=batch, out=place, **how):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            if step.every(min(20, steps)):
                step.log(losses, rk.evaluate(model, valid, "reconstruction", examples=0))
        models.append(rk.load(f"{place}/best", map_location=model.device).eval())
        models[-1].save(f"{place}/model")

    if rank() == 0:
        each = [one_step_ahead(model, x, held, window) for model in models]
        nats = math.log(networks) - torch.stack([-found.double() for found, _ in each]).logsumexp(0)
        points = torch.stack([found.double() for _, found in each]).mean(0)
        name, by_ar = autoregression(raw, last, longest)
        rows = {
            f"{networks} x {decoder}": points[:, 0] * spread + mean,
            "as last time": raw[held - 1 : -1],
            name: torch.cat([autoregression(raw[:last], held, longest)[1], by_ar]),
        }
        parts = [last - held, len(raw) - last]
        print(f"mean squared error one step ahead: {parts[0]} values that choose, {parts[1]} after them")
        for which, guess in rows.items():
            errors = [float(each.mean()) for each in (raw[held:] - guess).square().split(parts)]
            print(f"  {which:32} {errors[0]:10.1f} {errors[1]:10.1f}")
        print(f"  {float(nats[parts[0] :].mean() + spread.log()):.3f} nats a value")
        begin = x[-window // 2 :]
        how = {"size": 200 // networks, "length": len(begin) + future, "prime": begin, "seed": seed}
        drawn = torch.cat([model.generate(**how).x[:, len(begin) :, 0] for model in models])
        low, high = (drawn.double().quantile(q, 0) * spread + mean for q in (0.1, 0.9))
        spans = ", ".join(f"{a:.0f}-{b:.0f}" for a, b in zip(low, high, strict=True))
        print(f"then, 80 % of {len(drawn)} draws between: {spans}")


if __name__ == "__main__":
    rk.recipe(main)
