"""Drawing characters: ``model.generate`` beside loops over ``nn.LSTM`` and ``nn.LSTMCell``, and beside transformers' ``generate``.

    python tests/benchmarks/bench_char_rnn.py [--device cuda] [--threads 1] [--rounds 7] [--out runs/bench/char_rnn.json]

Equal first: with the same weights the peer's log-probabilities along a text are those of our steps (to 1e-3), and the pairs of
characters that both draw are of one distribution (chi-squared).  The loops are the usual ones: embed, one step with the state
carried, linear, softmax, multinomial, under ``no_grad``.  The transformer's peer is ``GPT2LMHeadModel`` with our weights (its
positions set to our sines), sampling with its cache.  Runs alternate; figures are characters a second, medians of rounds, and
ratios are of medians.  Everything is float32, batch as said, 97 symbols.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from scipy import stats
from torch import nn

import reprkit as rk

VOCAB = 97
SIGNATURE = rk.Signature({"x": rk.Field(kind="tokens", shape=(None,), vocab=VOCAB)})


def built(decoder, device):
    model = rk.build(data=SIGNATURE, decoder=decoder, objective="autoregressive", seed=0).eval().to(device)
    with torch.no_grad():
        model.decoder.head.linear.weight.mul_(8)  # far from even, so that distributions can differ
        model.decoder.head.linear.bias.zero_()
    return model


class Loop(nn.Module):
    """The usual char-RNN around torch's own LSTM, with our weights."""

    def __init__(self, decoder):
        super().__init__()
        self.embed, self.lstm, self.head = (
            decoder.values.embed,
            decoder.recurrent.net,
            decoder.head.linear,
        )
        self.first = decoder.values.blank + 1

    def begin(self, size):
        return None

    def step(self, token, state):
        out, state = self.lstm(self.embed(token), state)
        return self.head(out[:, -1]), state

    @torch.no_grad()
    def generate(self, size, length, seed):
        generator = torch.Generator(self.embed.weight.device).manual_seed(seed)
        token = torch.full((size, 1), self.first, device=self.embed.weight.device)
        state, drawn = self.begin(size), []
        for _ in range(length):
            logits, state = self.step(token, state)
            token = torch.multinomial(torch.softmax(logits, -1), 1, generator=generator)
            drawn.append(token)
        return torch.cat(drawn, 1)

    @torch.no_grad()
    def logits(self, x):
        start = torch.full((len(x), 1), self.first, device=x.device)
        return self.head(self.lstm(self.embed(torch.cat([start, x[:, :-1]], 1)))[0])


class Cells(Loop):
    """The same by ``nn.LSTMCell``, which does not repack its weights at every step."""

    def __init__(self, decoder):
        super().__init__(decoder)
        self.cells = nn.ModuleList()
        for weights in self.lstm.all_weights:
            cell = nn.LSTMCell(self.lstm.hidden_size, self.lstm.hidden_size)
            cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh = weights
            self.cells.append(cell)

    def begin(self, size):
        zero = self.embed.weight.new_zeros(size, self.lstm.hidden_size)
        return [(zero, zero)] * len(self.cells)

    def step(self, token, state):
        x, after = self.embed(token[:, 0]), []
        for cell, before in zip(self.cells, state, strict=True):
            after.append(cell(x, before))
            x = after[-1][0]
        return self.head(x), after


class Transformers:
    """GPT-2 from transformers with the weights of our causal transformer."""

    def __init__(self, decoder, longest):
        from transformers import GPT2Config, GPT2LMHeadModel

        from reprkit.layers.positions import sinusoidal_positions

        blocks, rows = decoder.blocks, decoder.values.embed.weight
        config = GPT2Config(
            vocab_size=len(rows),
            n_positions=longest + 1,
            n_embd=blocks.width,
            n_layer=len(blocks.blocks),
            n_head=blocks.heads,
            activation_function="gelu",
            tie_word_embeddings=False,
            bos_token_id=decoder.values.blank + 1,
            eos_token_id=None,
            pad_token_id=None,
        )
        self.model = GPT2LMHeadModel(config).eval().to(rows.device)
        self.first = decoder.values.blank + 1
        trunk = self.model.transformer
        self.model.lm_head = nn.Linear(blocks.width, VOCAB, bias=False, device=rows.device)
        with torch.no_grad():
            trunk.wte.weight.copy_(rows)
            trunk.wpe.weight.copy_(sinusoidal_positions(torch.arange(longest + 1), blocks.width))
            self.model.lm_head.weight.copy_(decoder.head.linear.weight)
            for mine, theirs in zip(blocks.blocks, trunk.h, strict=True):
                pairs = ((mine.attention.qkv, theirs.attn.c_attn), (mine.attention.out, theirs.attn.c_proj))
                pairs += ((mine.feed[1], theirs.mlp.c_fc), (mine.feed[3], theirs.mlp.c_proj))
                for ours, conv in pairs:
                    conv.weight.copy_(ours.weight.t())
                    conv.bias.copy_(ours.bias)
                theirs.ln_1.load_state_dict(mine.norm.state_dict())
                theirs.ln_2.load_state_dict(mine.feed[0].state_dict())
            trunk.ln_f.load_state_dict(blocks.norm.state_dict())

    @torch.no_grad()
    def generate(self, size, length, seed):
        torch.manual_seed(seed)
        begin = torch.full((size, 1), self.first, device=self.model.device)
        options = {"do_sample": True, "top_k": 0, "top_p": 1.0, "use_cache": True, "eos_token_id": None}
        mask = torch.ones_like(begin)
        drawn = self.model.generate(begin, attention_mask=mask, max_new_tokens=length, **options)
        return drawn[:, 1:]

    @torch.no_grad()
    def logits(self, x):
        start = torch.full((len(x), 1), self.first, device=x.device)
        return self.model(torch.cat([start, x[:, :-1]], 1)).logits


@torch.no_grad()
def same(model, peer, device):
    """Log-probabilities along a text, and what is drawn; returns the largest difference and the p-value."""
    x = torch.randint(VOCAB, (2, 40), generator=torch.Generator().manual_seed(1)).to(device)
    theirs = torch.log_softmax(peer.logits(x), -1)
    apart = 0.0
    for rows in (x, x[:1]):  # several sequences and one go different ways
        state, previous = model.decoder.start(None, size=len(rows), length=40), None
        for place in range(40):
            step, state = model.decoder.step(previous, state)
            ours = torch.log_softmax(step.params["logits"][:, 0, 0], -1)
            apart = max(apart, float((ours - theirs[: len(rows), place]).abs().max()))
            previous = rows[:, place : place + 1, None]
    assert apart < 1e-3, f"log-probabilities differ by {apart}"
    one = model.generate(size=2_000, length=2, seed=0).x[..., 0].cpu()
    two = peer.generate(2_000, 2, 1).cpu()
    cells = [torch.bincount((each % 10) @ torch.tensor([10, 1]), minlength=100) for each in (one, two)]
    table = torch.stack(cells)
    chance = float(stats.chi2_contingency(table[:, table.sum(0) > 0]).pvalue)
    assert chance > 1e-3, f"what is drawn differs: p = {chance}"
    return {"largest difference": apart, "p-value": chance}


def timed(call, length, size, device):
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    call(size, length)
    if device == "cuda":
        torch.cuda.synchronize()
    return size * length / (time.perf_counter() - begin)


def case(name, decoder, size, peers, args, longest):
    """Characters a second of everybody, rounds alternating."""
    model = built(decoder, args.device)
    made = {each: make(model.decoder) for each, make in peers.items()}
    equal = {each: same(model, peer, args.device) for each, peer in made.items()}
    calls = {
        "reprkit": (lambda size, length: model.generate(size=size, length=length, seed=0), longest),
        **{
            each: (
                lambda size, length, peer=peer: peer.generate(size, length, 0),
                longest // args.shorter.get(each, 1),
            )
            for each, peer in made.items()
        },
    }
    for call, length in calls.values():
        call(size, max(2, length // 10))
    rates = {each: [] for each in calls}
    for _ in range(args.rounds):
        for each, (call, length) in calls.items():
            rates[each].append(timed(call, length, size, args.device))
    median = {each: statistics.median(values) for each, values in rates.items()}
    print(
        f"\n{name}, batch {size}, {longest} characters: log-probabilities within "
        f"{max(each['largest difference'] for each in equal.values()):.1e}"
    )
    for each, rate in median.items():
        spread = f"{min(rates[each]):,.0f} to {max(rates[each]):,.0f}"
        print(
            f"  {each:28} {rate:12,.0f} characters a second ({spread})   ours is {median['reprkit'] / rate:6.1f} x"
        )
    return {
        "case": name,
        "decoder": decoder,
        "batch": size,
        "length": longest,
        "equal": equal,
        "rates": rates,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--length", type=int, default=1_000)
    parser.add_argument(
        "--cases", nargs="*", default=["128", "512", "transformer"], help="widths, transformer"
    )
    parser.add_argument("--out", default="runs/bench/char_rnn.json")
    args = parser.parse_args()
    args.shorter = {"nn.LSTM loop": 5} if args.device == "cpu" else {}
    torch.set_num_threads(args.threads)
    found, loops = [], {"nn.LSTM loop": Loop, "nn.LSTMCell loop": Cells}
    for width in (each for each in args.cases if each != "transformer"):
        for depth, size in ((1, 1), (2, 1), (2, 64)):
            decoder, length = (
                f"lstm(width={width}, depth={depth})",
                args.length if size == 1 else args.length // 5,
            )
            loops_here = {
                name: (lambda decoder, make=make: make(decoder).to(args.device))
                for name, make in loops.items()
            }
            found.append(case(f"LSTM {width}, {depth} layers", decoder, size, loops_here, args, length))
    if "transformer" in args.cases:
        for width, depth, heads in ((128, 4, 4), (512, 4, 8)):
            decoder = f"transformer(width={width}, depth={depth}, heads={heads}, causal=True)"
            peers = {"transformers generate": lambda decoder: Transformers(decoder, args.length)}
            for size in (1, 16):
                length = min(args.length, 500)
                found.append(case(f"transformer {width}, {depth} blocks", decoder, size, peers, args, length))
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} CPU thread(s)"
    path = Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"where": where, "torch": torch.__version__, "cases": found}, indent=1) + "\n")
    print(f"\n{where}, torch {torch.__version__}; written to {path}")


if __name__ == "__main__":
    main()
