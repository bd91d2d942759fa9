"""The loss of CLIP beside open_clip 3.3.0's ClipLoss: forward and backward, and whole steps, on one machine.

    python tests/benchmarks/bench_across.py [--threads 1] [--repeats 15] [--only "loss 1024"] [--out FILE.json]

"loss" is forward and backward from unit vectors and a learned scale, by ``reprkit.kernels.infonce``.  "step" is a training
step by objective ``across`` and the same modules with open_clip's loss: two linear towers of 512 x 512, maps without bias,
normalization, loss with the learned temperature, backward, AdamW, the bound of the temperature; ours computes the accuracy, too.
Before any time is taken, losses and gradients (within 1e-6 and 1e-5), and the weights after three steps, are compared.  Runs
alternate; figures are medians of processor time.

Needs: pip install open_clip_torch==3.3.0
"""

import math

import torch
import torch.nn.functional as F
from alternating import alternated, main

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.kernels.infonce import infonce

try:
    from open_clip.loss import ClipLoss
except ImportError as error:
    raise SystemExit(f"{error}\nThe peer is missing: pip install open_clip_torch==3.3.0") from error

LR = 1e-3
CASES = {
    f"{what} {batch} x {dim}": (what, batch, dim)
    for what in ("loss", "step")
    for batch, dim in ((256, 512), (1024, 512), (2048, 512), (4096, 128))
}


def pairs(batch, dim, device):
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(batch, dim, generator=generator)
    other = one + torch.randn(batch, dim, generator=generator)
    return one.to(device), other.to(device)


class Loss:
    """Forward and backward of a loss of unit vectors."""

    def __init__(self, loss, batch, dim, device):
        self.loss = loss
        self.sides = [F.normalize(side, dim=1).requires_grad_() for side in pairs(batch, dim, device)]
        self.log_scale = torch.full((1,), math.log(1 / 0.07), device=device, requires_grad=True)

    def step(self):
        for leaf in (*self.sides, self.log_scale):
            leaf.grad = None
        value = self.loss(*self.sides, self.log_scale.exp())
        value.backward()
        return value

    def result(self):
        value = float(self.step().detach())
        return value, torch.cat([leaf.grad.flatten() for leaf in (*self.sides, self.log_scale)])


class Step:
    """A training step of two linear towers; ``peer``: with open_clip's loss."""

    def __init__(self, peer, batch, dim, device):
        fields = {name: Field(kind="vector", shape=(512,)) for name in ("x", "other")}
        factors = {
            "one": rk.factor("flat", "continuous(dim=512)"),
            "two": rk.factor("flat", "continuous(dim=512)", input="other"),
        }
        self.model = rk.build(data=Signature(fields), factors=factors, objective=f"across(dim={dim})", seed=0)
        self.model.to(device)
        self.batch = dict(zip(("x", "other"), pairs(batch, 512, device), strict=True))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), LR)
        self.peer = ClipLoss() if peer else None

    def loss(self):
        if self.peer is None:
            return self.model(self.batch).total
        objective = self.model.objective
        sides = []
        for name, field in (("one", "x"), ("two", "other")):
            code = self.model.factors[name].adapter(self.batch[field])
            sides.append(F.normalize(objective.maps[name](code), dim=1))
        return self.peer(*sides, objective.log_scale.exp())

    def step(self):
        value = self.loss()
        self.optimizer.zero_grad()
        value.backward()
        self.optimizer.step()
        self.model.objective.update()
        return value

    def result(self):
        values = [float(self.step().detach()) for _ in range(3)]
        return values[0], torch.cat([weight.detach().flatten() for weight in self.model.parameters()])


def run(name, case, device, repeats, steps):
    what, batch, dim = case

    def make():
        if what == "step":
            return {way: Step(way == "open_clip", batch, dim, device) for way in ("reprkit", "open_clip")}
        peer = ClipLoss()
        ways = {"reprkit": lambda a, b, scale: infonce(a, b, scale)[0], "open_clip": peer}
        return {way: Loss(loss, batch, dim, device) for way, loss in ways.items()}

    (ours, our_rest), (theirs, their_rest) = (each.result() for each in make().values())
    apart = float((our_rest - their_rest).abs().max() / their_rest.abs().max())
    assert abs(ours - theirs) < 1e-6 * max(1, abs(theirs)), f"losses differ: {ours}, {theirs}"
    assert apart < (1e-5 if what == "loss" else 1e-3), f"gradients or weights differ: {apart}"
    times = alternated(make(), lambda _, each: each.step(), device, repeats, steps)
    ratio = times["open_clip"]["ms"] / times["reprkit"]["ms"]
    print(
        f"{name:18} open_clip {times['open_clip']['ms']:8.2f} ms, reprkit {times['reprkit']['ms']:8.2f} ms, ratio {ratio:.2f}; "
        f"losses within {abs(ours - theirs):.1e}, gradients or weights within {apart:.1e}"
    )
    return {"case": name, "ratio": ratio, "times": times, "loss_gap": abs(ours - theirs), "gap": apart}


if __name__ == "__main__":
    main(__doc__, {"cpu": CASES, "cuda": CASES}, run, "runs/bench/across.json")
