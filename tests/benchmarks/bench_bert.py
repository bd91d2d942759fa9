"""A masked-language training step beside transformers 5.23.0's own BertForMaskedLM, at equal shapes and equal loss.

    python tests/benchmarks/bench_bert.py [--threads 1] [--repeats 15] [--out FILE.json]
    python tests/benchmarks/bench_bert.py --device cuda        BERT-base, bf16 autocast

A step is forward, backward and a fused AdamW update on one batch of Debian's descriptions (the sample that comes with
reprkit-text), of similar lengths, padded under a mask.  Widths, depths, heads, positions, symbols and dropout are equal; neither
ties its last map to its embeddings.  Ours hides words afresh at every step, inside the step.  The peer gets one batch that
was damaged beforehand, so that its step has no such work.  It runs twice: "as it comes", where its head tells every symbol and
the loss leaves out most of them, and "hit only", its own modules with the head on the hidden symbols alone, as ours is.  Before
any time is taken its weights are copied from ours, and losses and all gradients of the three are compared under the same damage.
Ours has two more linear maps, around the latent.  Runs alternate in one process; figures are medians, ratios are of medians.

Needs: pip install transformers==5.23.0
"""

import copy

import torch
from alternating import alternated, cast_on, main
from torch.nn import functional as F

import reprkit as rk

# symbols, length at most, (width, depth, heads), batch
CASES = {
    "cpu": {
        "128 wide, 2 deep, 4,000 symbols": (4000, 128, (128, 2, 4), 32),
        "256 wide, 4 deep, 8,000 symbols": (8000, 128, (256, 4, 4), 16),
    },
    "cuda": {"BERT-base, 8,000 symbols": (8000, 256, (768, 12, 12), 64)},
}
RATIO, DROPOUT = 0.15, 0.1


def texts(case):
    """The data set, and one batch of it: texts of like lengths, a little longer than the median."""
    vocab, length, _, size = case
    data = rk.dataset(
        f"debian(part='whole', tokenizer='byte-pair(vocab={vocab}, lower=True)', length={length})"
    )
    order = data.lengths()["x"].argsort(stable=True)
    middle = len(order) * 6 // 10
    return data, data.batch(order[middle : middle + size])


def ours(case, data, dropout):
    _, length, (width, depth, heads), _ = case
    return rk.build(
        data=data,
        encoder=f"bert(width={width}, depth={depth}, heads={heads}, positions={length}, dropout={dropout})",
        latent=f"continuous(dim={width})",
        decoder=f"bert(width={width})",
        objective=f"denoising(corruption='whole-words(ratio={RATIO})', on='hit')",
    )


class Peer(torch.nn.Module):
    """BertForMaskedLM with the weights of ours; ``hit`` (b t) True where the loss looks."""

    def __init__(self, mine, hit_only):
        from transformers import BertForMaskedLM

        super().__init__()
        config = copy.deepcopy(mine.factors["code"].encoder.body.config)
        config.tie_word_embeddings = False
        self.hit_only, self.net = hit_only, BertForMaskedLM(config)
        config = self.net.config
        for module in self.net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = config.hidden_dropout_prob if module.p else 0.0
        with torch.no_grad():
            for one, two, rows in pairs(mine, self):
                two[:rows] = one[:rows]
            self.net.cls.predictions.decoder.bias[
                mine.decoder.head.sizes["linear"] :
            ] = -1e4  # no text holds the mask

    def forward(self, batch):
        x, mask, target, hit = batch["x"], batch["x_mask"], batch["target"], batch["hit"]
        if not self.hit_only:
            return self.net(input_ids=x, attention_mask=mask, labels=target.masked_fill(~hit, -100)).loss
        states = self.net.bert(input_ids=x, attention_mask=mask).last_hidden_state
        return F.cross_entropy(self.net.cls(states[hit]), target[hit])


def pairs(mine, peer):
    """(our parameter, its parameter, how many of their rows are meant) for everything but our two further maps."""
    net, head = peer.net, peer.net.cls.predictions
    symbols = mine.decoder.head.sizes["linear"]
    theirs = dict(net.bert.named_parameters())
    found = [
        (each, theirs[name], len(each)) for name, each in mine.factors["code"].encoder.body.named_parameters()
    ]
    assert len(found) == len(theirs)
    other = dict(head.transform.named_parameters())
    found += [(each, other[name], len(each)) for name, each in mine.decoder.transform.named_parameters()]
    last = mine.decoder.head.linear
    return [*found, (last.weight, head.decoder.weight, symbols), (last.bias, head.decoder.bias, symbols)]


def damaged(model, batch):
    """What the peer reads, under the damage that ours does next with the same seed."""
    view, hits = model.objective.damage(batch)
    return {"x": view["x"], "x_mask": batch["x_mask"], "target": batch["x"], "hit": hits["x"]}


def same(case, data, batch):
    """Losses and gradients under the same damage, without dropout: ours are nats an example, theirs nats a hidden symbol."""
    mine = ours(case, data, 0.0).train()
    apart, gap = 0.0, 0.0
    torch.manual_seed(7)
    seen = damaged(mine, batch)
    torch.manual_seed(7)
    total = mine(batch).total
    total.backward()
    factor = len(batch["x"]) / int(seen["hit"].sum())
    for hit_only in (False, True):
        peer = Peer(mine, hit_only).train()
        loss = peer(seen)
        loss.backward()
        gap = max(gap, abs(float(total.detach() * factor / loss.detach()) - 1))
        compared = [(one.grad[:rows] * factor, two.grad[:rows]) for one, two, rows in pairs(mine, peer)]
        # Keys' biases have no gradient but rounding: softmax does not see them.
        floor = 1e-3 * max(float(other.abs().max()) for _, other in compared)
        apart = max(
            apart, *(float((a - b).abs().max()) / max(float(b.abs().max()), floor) for a, b in compared)
        )
    assert gap < 1e-4, f"losses differ by {gap:.1e}"
    assert apart < 2e-3, f"gradients differ by {apart:.1e} of their largest entry"
    return gap, apart


def step(model, optimiser, batch, device):
    with cast_on(device):
        out = model(batch)
    (out.total if isinstance(model, rk.Model) else out).backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    if isinstance(model, rk.Model):
        model.update()


def run(name, case, device, repeats, steps):
    data, batch = texts(case)
    checked = same(case, data, batch)
    mine = ours(case, data, DROPOUT)
    models = {"as it comes": Peer(mine, False), "hit only": Peer(mine, True), "reprkit": mine}
    seen = {key: value.to(device) for key, value in damaged(mine, batch).items()}
    given = {key: batch[key].to(device) for key in ("x", "x_mask")}
    optimisers = {}
    for way, model in models.items():
        model.to(device).train()
        optimisers[way] = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

    found = alternated(
        models,
        lambda way, model: step(model, optimisers[way], given if way == "reprkit" else seen, device),
        device,
        repeats,
        steps,
    )
    own = found["reprkit"]["ms"]
    size = f"{len(batch['x'])} texts of {int(batch['x_mask'].sum(1).min())} to {batch['x'].shape[1]} symbols"
    print(f"\n{name}, {size}, {int(seen['hit'].sum())} hidden")
    print(f"losses within {checked[0]:.1e}, gradients within {checked[1]:.1e} of their largest entry")
    for way, each in found.items():
        low, high = each["quarters"]
        print(f"  {way:12}{each['ms']:9.1f} ms ({low:.1f} to {high:.1f}) {each['ms'] / own:6.2f} ×")
    return {"case": name, "shape": case, "loss_gap": checked[0], "gradient_gap": checked[1], "times": found}


if __name__ == "__main__":
    main(__doc__, CASES, run, "runs/bench/bert.json")
