"""The character figures of docs/results/text.md: bits per character on held-out books of the King James text.

    apt-get install bible-kjv && bible -f Gen1:1-Rev22:21 > kjv.txt
    python tests/benchmarks/figures_char_rnn.py kjv.txt [--decoder "lstm(width=1024, depth=2, dropout=0.3)"] [--steps 20000]
        [--dynamic 1e-4 2e-4 4e-4]

Train, valid and test are whole books: five to test (Ruth, Esther, Jonah, Acts, 1 John), four to validate (Ezra, Ecclesiastes,
Galatians, James), the other 57 to train; verses one a line without their numbers.  Beside the networks, whose best state by
valid counts, stand an interpolated Kneser-Ney character model (Chen and Goodman 1999, section 2.7; one discount an order,
n1 / (n1 + 2 n2)) of orders from 5, and PPMd (7-zip's, by pyppmd): what it needs for test after
train and valid, by order (and for valid after train); it goes on learning as it reads.  So does a network's dynamic
evaluation (reprkit/evaluation/sequential/dynamic_evaluation.py), at each of the rates ``--dynamic``; test is measured at the
one that valid chooses.
"""

import argparse
import json
import math
import re
from collections import Counter, defaultdict
from pathlib import Path

import torch

import reprkit as rk
from reprkit.evaluation.sequential.dynamic_evaluation import dynamic_evaluation
from reprkit.evaluation.sequential.next_step import one_step_ahead

BOOKS = {"test": ("Ruth", "Est", "Jonah", "Acts", "1Jn"), "valid": ("Ezra", "Eccl", "Gal", "Jas")}


def parts(path: str) -> dict[str, str]:
    """Train, valid and test, verses one a line."""
    found: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    seen = set()
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"(\d?[A-Z][A-Za-z]*)\d+:\d+ (.+)", line)
        if match is None:
            raise SystemExit(
                f"{path}: {line[:60]!r} is no verse; make the file with: bible -f Gen1:1-Rev22:21"
            )
        book = next((part for part, names in BOOKS.items() if match[1] in names), "train")
        seen.add(match[1])
        found[book].append(match[2])
    missing = {name for names in BOOKS.values() for name in names} - seen
    if missing:
        raise SystemExit(f"{path} lacks the books {', '.join(sorted(missing))}")
    return {part: "\n".join(verses) + "\n" for part, verses in found.items()}


class KneserNey:
    """Interpolated Kneser-Ney over characters: p(c | h) = (a(hc) - d) / a(h) + d n(h) / a(h) p(c | shorter h).

    ``a`` counts occurrences at the highest order and distinct characters before it at the others; n(h) is how many characters
    follow h.
    """

    def __init__(self, text: str, order: int, alphabet: str) -> None:
        self.order, self.size = order, len(alphabet)
        counts = Counter(text[place : place + order] for place in range(len(text) - order + 1))
        self.tables = []
        for length in range(order, 0, -1):
            ones, twos = (sum(1 for count in counts.values() if count == n) for n in (1, 2))
            total, kinds = defaultdict(int), defaultdict(int)
            for gram, count in counts.items():
                total[gram[:-1]] += count
                kinds[gram[:-1]] += 1
            discount = ones / (ones + 2 * twos) if ones else 0.0
            self.tables.append((length, counts, total, kinds, discount))
            counts = Counter(gram[1:] for gram in counts)

    def chance(self, gram: str) -> float:
        """The probability of the last character given those before it."""
        p = 1 / self.size
        for length, counts, total, kinds, discount in reversed(self.tables):
            if length > len(gram):
                break
            part = gram[len(gram) - length :]
            seen = total.get(part[:-1], 0)
            if seen:
                own = max(counts.get(part, 0) - discount, 0.0)
                p = (own + discount * kinds[part[:-1]] * p) / seen
        return p

    def bits(self, before: str, text: str) -> float:
        """Bits per character of ``text`` that follows ``before``."""
        whole = before[-self.order :] + text
        first = len(whole) - len(text)
        nats = -sum(
            math.log(self.chance(whole[max(0, at + 1 - self.order) : at + 1]))
            for at in range(first, len(whole))
        )
        return nats / len(text) / math.log(2)


def ppmd(before: str, text: str, order: int) -> float:
    """Bits per character that PPMd (variant H) needs for ``text`` once it has coded ``before``."""
    import pyppmd

    def size(value: str) -> int:
        coder = pyppmd.Ppmd7Encoder(max_order=order, mem_size=1 << 29)
        return len(coder.encode(value.encode())) + len(coder.flush())

    return (size(before + text) - size(before)) * 8 / len(text)


def network(
    decoder: str, text: dict[str, str], seed: int, given: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Bits per character of valid and test by the best state of one run: standing still, and learning as it reads."""
    alphabet = sorted(set("".join(text.values())))
    places = {character: place for place, character in enumerate(alphabet)}
    x = {part: torch.tensor([places[each] for each in value]) for part, value in text.items()}

    def pieces(part: torch.Tensor) -> rk.Dataset:
        cut = part.unfold(0, given.window, given.window // 2).contiguous()
        return rk.data.Arrays({"x": cut}, vocabs={"x": len(alphabet)})

    train, valid = pieces(x["train"]), pieces(x["valid"])
    model = rk.build(data=train, decoder=decoder, objective="autoregressive", seed=seed)
    out = f"{given.out}/{re.sub('[^a-z0-9]+', '-', decoder)}-{seed}"
    how = {"schedule": "cosine", "clip": 1.0, "best": "min reconstruction.nll", "device": given.device}
    for step in rk.loop(
        model,
        train,
        steps=given.steps,
        batch=given.batch,
        lr=given.lr,
        seed=seed,
        out=out,
        resume=given.resume,
        **how,
    ):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(max(1, given.steps // given.looks)):
            step.log(losses, rk.evaluate(model, valid, "reconstruction", examples=0))
    best = rk.load(f"{out}/best", map_location=model.device).eval()
    bits: dict[str, dict[str, float]] = {"": {}}

    def asked(part: str, rate: float | None = None) -> float:
        before = x["train"] if part == "valid" else torch.cat([x["train"], x["valid"]])
        whole, first = torch.cat([before, x[part]]), len(before)
        if rate is None:
            nats, _ = one_step_ahead(best, whole, first, given.window)
        else:
            half = given.window // 2
            nats = dynamic_evaluation(best, whole, first, segment=given.segment, context=half, lr=rate)
        return float(nats.double().mean()) / math.log(2)

    for part in ("valid", "test"):
        bits[""][part] = asked(part)
    for rate in given.dynamic:
        bits[f", dynamic at {rate:g}"] = {"valid": asked("valid", rate)}
    if given.dynamic:
        name, rate = min(
            ((f", dynamic at {rate:g}", rate) for rate in given.dynamic),
            key=lambda pair: bits[pair[0]]["valid"],
        )
        bits[name]["test"] = asked("test", rate)
    return bits


def show(name: str, row: dict[str, float]) -> None:
    """Print one row."""
    print(f"{name:70}", *(f"{part} {bits:.3f}  " for part, bits in row.items()), flush=True)


def main() -> None:
    """Print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", help="what `bible -f Gen1:1-Rev22:21` prints")
    parser.add_argument("--kneser-ney", type=int, nargs="*", default=(5, 6, 7, 8), help="orders")
    parser.add_argument("--ppmd", type=int, nargs="*", default=(5, 6, 8, 12, 16), help="orders")
    parser.add_argument("--decoder", nargs="*", default=["lstm(width=1024, depth=2, dropout=0.3)"])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--looks", type=int, default=40, help="how often the state is judged by valid")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--dynamic", type=float, nargs="*", default=(), help="rates of dynamic evaluation")
    parser.add_argument("--segment", type=int, default=32, help="characters between its steps")
    parser.add_argument("--device", default=None)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--out", default="runs/figures/char_rnn")
    given = parser.parse_args()
    text = parts(given.text)
    alphabet = "".join(sorted(set("".join(text.values()))))
    sizes = ", ".join(f"{part} {len(value):,}" for part, value in text.items())
    print(f"characters: {sizes}; {len(alphabet)} of them distinct", flush=True)
    rows: dict[str, dict[str, float]] = {}
    for order in given.kneser_ney:
        model = KneserNey(text["train"], order, alphabet)
        rows[f"Kneser-Ney, order {order}"] = {
            part: model.bits(text["train"], text[part]) for part in ("valid", "test")
        }
    for order in given.ppmd:
        before = text["train"] + text["valid"]
        rows[f"PPMd, order {order}"] = {
            "valid": ppmd(text["train"], text["valid"], order),
            "test": ppmd(before, text["test"], order),
        }
    for name, row in rows.items():
        show(name, row)
    for decoder in given.decoder:
        for seed in given.seeds:
            for how, row in network(decoder, text, seed, given).items():
                rows[f"{decoder}, seed {seed}{how}"] = row
                show(f"{decoder}, seed {seed}{how}", row)
    path = Path(given.out, "figures.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"arguments": vars(given), "bits": rows}, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
