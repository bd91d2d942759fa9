"""Coding of symbols under tables, beside the package constriction alone, and without it.

    python tests/benchmarks/bench_bytes.py [--symbols 65536] [--entries 512] [--repeats 15]

One string of ``symbols`` symbols that are distributed as their table.  "alone" calls constriction's coder on ready arrays with a
ready model; "core" is ``encode_symbols`` and ``decode_symbols``, tables and bytes included; "plain" is the same without
constriction.  The three write the same words, which is checked first.  Ways alternate; figures are the least of all repeats, in
milliseconds, since the machine may be shared.

Needs: pip install constriction.  Imports no torch.
"""

import argparse
import importlib.metadata
import json
import platform
import time

import constriction
import numpy as np

from reprkit.utils.symbol_coder import PlainColumnCoder, decode_symbols, encode_symbols, to_frequencies


def clock(call):
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--symbols", type=int, default=65_536)
    parser.add_argument("--entries", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    table = to_frequencies(rng.integers(0, 100, options.entries) ** 3)
    symbols = rng.choice(options.entries, p=table / table.sum(), size=options.symbols)
    narrow = symbols.astype(np.int32)
    model = constriction.stream.model.Categorical(table.astype(np.float64), perfect=False)
    vocab, tables, column = (options.entries,), table[None], symbols[:, None]

    def encode_alone():
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(narrow, model)
        return coder.get_compressed()

    words = encode_alone()
    (string,) = encode_symbols([column], vocab, tables)
    assert words.tobytes().rstrip(b"\0") == string == PlainColumnCoder([table]).encode([symbols])
    ways = {
        ("encode", "alone"): encode_alone,
        ("encode", "core"): lambda: encode_symbols([column], vocab, tables),
        ("encode", "plain"): lambda: PlainColumnCoder([table]).encode([symbols]),
        ("decode", "alone"): lambda: constriction.stream.stack.AnsCoder(words).decode(model, options.symbols),
        ("decode", "core"): lambda: decode_symbols([string], [options.symbols], vocab, tables),
        ("decode", "plain"): lambda: PlainColumnCoder([table]).decode(string, options.symbols),
    }
    times = {way: [] for way in ways}
    for _ in range(options.repeats):
        for way, call in ways.items():
            times[way].append(clock(call))
    entropy = -np.log2(table[symbols] / table.sum()).sum()
    print(
        json.dumps(
            {
                "machine": platform.machine(),
                "constriction": importlib.metadata.version("constriction"),
                "symbols": options.symbols,
                "entries": options.entries,
                "bits over entropy": 8 * len(string) / entropy,
                **{" ".join(way): round(min(values), 3) for way, values in times.items()},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
