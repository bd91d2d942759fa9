"""Sampling of a diffusion beside diffusers 0.35.2 at equal network: DDIM and DDPM, with and without guidance, on one machine.

    python tests/benchmarks/bench_diffusion.py [--threads 1] [--repeats 7] [--only ddim] [--out FILE.json]

Ours is ``model.sample``; the peer is the loop of diffusers' pipelines (``scheduler.step``, guidance from one batch of twice the
size) with the same modules, called directly and without the core.  A vision transformer on pictures of 16 x 16, conditions of 32
numbers.  50 of 50 steps of the cosine schedule, at which both visit equal times.  Before any time is taken, drawn pictures are
compared from equal noise (within 5e-3 of a range of 2, since the first steps amplify rounding, and 1e-5 on average).  Runs
alternate; figures are medians of processor time.

Needs: pip install diffusers==0.35.2
"""

import torch
from alternating import alternated, main

import reprkit as rk
from reprkit import Features
from reprkit.data import Field, Signature

try:
    from diffusers import DDIMScheduler, DDPMScheduler
except ImportError as error:
    raise SystemExit(f"{error}\nThe peer is missing: pip install diffusers==0.35.2") from error

STEPS, SIZE = 50, 16
CASES = {
    f"{name}{', guidance' if guidance != 1 else ''}, batch {batch}": (name, guidance, batch)
    for name in ("ddim", "ddpm")
    for guidance in (1.0, 2.0)
    for batch in (16, 64)
}


def build():
    """A diffusion of pictures given a vector, of random weights."""
    fields = {
        "x": Field(kind="image", shape=(SIZE, SIZE, 3), range=(-1.0, 1.0)),
        "given": Field(kind="vector", shape=(32,), range=(-1.0, 1.0)),
    }
    factors = {
        "noised": rk.factor("vit(patch=4, width=96, depth=1)", "continuous(dim=96)"),
        "time": rk.factor("mlp(widths=(128,))", "continuous(dim=128)", input="time", pool=True),
        "given": rk.factor("mlp(widths=(128,))", "continuous(dim=128)", input="given", pool=True),
    }
    return rk.build(
        data=Signature(fields),
        factors=factors,
        decoder="vit(patch=4, width=96, depth=3, scale=1.0)",
        objective=f"diffusion(steps={STEPS}, schedule='cosine', drop=0.1)",
        seed=0,
    ).eval()


class Bare:
    """The same modules as one function of noised pictures (b h w c), a time and vectors; the lines of a plain network."""

    def __init__(self, model):
        self.model, self.objective = model, model.objective
        self.adapters = model.adapters

    def code(self, name, x):
        factor = self.model.factors[name]
        return self.adapters[name](factor.adapter(factor.encoder({"x": x}).x))

    def condition(self, given, guided):
        factor = self.model.factors["given"]
        z = factor.adapter(factor.encoder({"x": given}).x)
        if guided:
            z = torch.cat([z, self.objective.absent["given"].expand_as(z)])
        return self.adapters["given"](z)

    def __call__(self, x, time, condition):
        step = torch.full((1,), int(time), dtype=torch.int64)
        code = self.code("noised", x) + self.code("time", self.objective.embed(step).float()) + condition
        decoded = self.model.decoder(Features(x=code, grid=(4, 4)))
        blocks = decoded.x.unflatten(1, (4, 4)).unflatten(-1, (4, 4, 3))
        return blocks.permute(0, 1, 3, 2, 4, 5).reshape(len(x), SIZE, SIZE, 3)


class Peer:
    """diffusers' loop."""

    def __init__(self, model, name, guidance, given):
        self.net, self.name, self.guidance, self.given = Bare(model), name, guidance, given
        options = {"num_train_timesteps": STEPS, "beta_schedule": "squaredcos_cap_v2", "clip_sample": True}
        self.scheduler = (DDIMScheduler if name == "ddim" else DDPMScheduler)(**options)
        # The noise of a step is that which leads to the clipped picture, as in ours.
        self.options = {"use_clipped_model_output": True} if name == "ddim" else {}

    @torch.no_grad()
    def draw(self, seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(len(self.given), SIZE, SIZE, 3, generator=generator)
        self.scheduler.set_timesteps(STEPS)
        guided = self.guidance != 1
        condition = self.net.condition(self.given, guided)
        for time in self.scheduler.timesteps:
            noise = self.net(torch.cat([x, x]) if guided else x, time, condition)
            if guided:
                with_given, free = noise.chunk(2)
                noise = free + self.guidance * (with_given - free)
            x = self.scheduler.step(noise, time, x, generator=generator, **self.options).prev_sample
        return x


class Ours:
    def __init__(self, model, name, guidance, given):
        self.model, self.given = model, given
        self.options = {"eta": 0.0 if name == "ddim" else 1.0, "guidance": guidance}

    def draw(self, seed):
        generator = torch.Generator().manual_seed(seed)
        drawn = self.model.sample(len(self.given), generator, like={"given": self.given}, **self.options)
        return self.model.to_batch(drawn)["x"]


def run(name, case, device, repeats, steps):
    kind, guidance, batch = case
    model = build()
    given = torch.rand(batch, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    ways = {way: make(model, kind, guidance, given) for way, make in (("reprkit", Ours), ("diffusers", Peer))}
    apart = (ways["reprkit"].draw(3) - ways["diffusers"].draw(3)).abs()
    assert float(apart.max()) < 5e-3, f"pictures differ by {float(apart.max())}"
    assert float(apart.mean()) < 1e-5, f"pictures differ by {float(apart.mean())} on average"
    times = alternated(ways, lambda _, each: each.draw(4), device, repeats, steps)
    ratio = times["diffusers"]["ms"] / times["reprkit"]["ms"]
    print(
        f"{name:26} diffusers {times['diffusers']['ms']:8.1f} ms, reprkit {times['reprkit']['ms']:8.1f} ms, ratio {ratio:.2f}; "
        f"pictures within {float(apart.max()):.1e}"
    )
    return {"case": name, "ratio": ratio, "times": times, "gap": float(apart.max())}


if __name__ == "__main__":
    main(__doc__, {"cpu": CASES}, run, "runs/bench/diffusion.json")
