"""One table of what the benchmarks found, with the aims, and how times grow with the size: docs/results/performance.md.

    make bench                                              # runs every bench_*.py, which write runs/bench/*.json, then this
    python tests/benchmarks/performance.py [--folder runs/bench] [--figure docs/results/performance.svg]

Each ratio is of medians of processor time in one run of one process, the peer's over reprkit's: above 1, reprkit is faster.  The
exponent is the slope of log time over log size, by least squares over the sizes that are drawn: 1 is linear, 2 quadratic.
"""

import argparse
import json
from pathlib import Path

import numpy as np


def read(folder, name):
    """Return the record of a benchmark; None where it was not run."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def in_digits(value):
    """Three digits, and all of those before the point: 0.123, 12.3, 1,230."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def vq_rows(record):
    for case in record["cases"]:
        times, size = case["times"], f"N {case['n']:,}, D {case['d']}, K {case['k']:,}"
        peer = times.get("ste train", {}).get("cpu_ms")
        memory = case["peak_mb"]
        peaks = f"{memory['ours']:,.0f} MB" + (f" against {memory['ste']:,.0f}" if "ste" in memory else "")
        aim = 7.0 if (case["n"], case["k"]) in ((8192, 512), (4096, 8192), (65536, 65536)) else None
        ours = times["ours train"]["cpu_ms"]
        yield f"VQ training step, {size}; peak {peaks}", "vector-quantize-pytorch", peer, ours, aim


def ntxent_rows(record):
    for case in record["cases"]:
        times = {name: each["cpu_ms"] for name, each in case["times"].items()}
        yield (
            f"NT-Xent, batch {case['batch']:,}, D {case['dim']}",
            "lightly",
            times.get("lightly"),
            times["ours"],
            2.5,
        )


def step_rows(record, title, peer, aim):
    for case in record["cases"]:
        times = {name: each["ms"] for name, each in case["times"].items()}
        yield f"{title}, {case['case']}", peer, times["as it comes"], times["reprkit"], aim


def pythae_rows(record):
    for name, found in record["results"].items():
        data, width = name.split(":")
        seconds = found["seconds"]
        title = f"epoch of a small VAE, {data}, width {width}, batch {record['batch']}"
        yield title, "pythae", seconds["pythae"] * 1e3, seconds["reprkit"] * 1e3, 1.5


def sampling_rows(record):
    for case in record["cases"]:
        rates = {name: float(np.median(each)) for name, each in case["rates"].items()}
        for name, rate in rates.items():
            if name != "reprkit":
                title = f"1,000 characters, {case['case']}, batch {case['batch']}"
                yield title, name, 1e6 / rate, 1e6 / rates["reprkit"], None


def loop_rows(record):
    for name, found in record["results"].items():
        yield f"step of rk.loop, VAE on {name}", "bare PyTorch loop", found["bare_ms"], found["loop_ms"], None


def folder_rows(record):
    rates = record["rates"]
    pairs = (
        ("pictures", "reprkit images, decoded at each access", "a picture of 500 x 375 to 64 x 64"),
        ("recordings", "reprkit audio", "a second of sound"),
    )
    for kind, ours, title in pairs:
        for name, rate in rates.get(kind, {}).items():
            if not name.startswith("reprkit"):
                yield f"reading {title}", name, 1e3 / rate, 1e3 / rates[kind][ours], None


def embedding_rows(record):
    seconds = record["seconds"]
    yield (
        f"rk.embed of {record['rows']:,} rows",
        "DataLoader loop",
        seconds["DataLoader"] * 1e3,
        seconds["reprkit"] * 1e3,
        1.5,
    )
    yield (
        f"rk.embed of {record['rows']:,} rows",
        "loop over slices",
        seconds["slices"] * 1e3,
        seconds["reprkit"] * 1e3,
        None,
    )


def plugin_rows(records):
    for record in records:
        torch = record["figures"]["import torch"]["processor"]
        for name, each in record["figures"].items():
            if name.startswith(("import reprkit", "reprkit plugins", "reprkit list")):
                yield f"{name}", "import torch", torch * 1e3, each["processor"] * 1e3, None


def growth(records):
    """Return the curves that grow: title -> (sizes, peer or reprkit -> milliseconds)."""
    curves = {}
    if records["vq"]:
        cases = [case for case in records["vq"]["cases"] if (case["n"], case["d"]) == (4096, 64)]
        for field, title in (
            ("cpu_ms", "VQ step, N 4,096, D 64: ms over codes"),
            ("mb", "VQ step: peak MB over codes"),
        ):
            lines = {}
            for name, key in (("vector-quantize-pytorch", "ste"), ("reprkit", "ours")):
                known = [case for case in cases if f"{key} train" in case["times"]]
                values = [
                    case["peak_mb"][key] if field == "mb" else case["times"][f"{key} train"]["cpu_ms"]
                    for case in known
                ]
                lines[name] = ([case["k"] for case in known], values)
            curves[title] = lines
    if records["ntxent"]:
        lines = {}
        for name, key in (("lightly", "lightly"), ("reprkit", "ours")):
            known = [case for case in records["ntxent"]["cases"] if key in case["times"]]
            lines[name] = (
                [case["batch"] for case in known],
                [case["times"][key]["cpu_ms"] for case in known],
            )
        curves["NT-Xent, D 128: ms over examples"] = lines
    return curves


def exponent(sizes, values):
    """Return the slope of log(value) over log(size)."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-9)), 1)[0])


def draw(curves, path):
    """Write the curves with their exponents as an SVG file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "reprkit"  # equal figures are equal files
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(curves), figsize=(4.2 * len(curves), 3.4), layout="constrained")
    for panel, (title, lines) in zip(np.atleast_1d(panels), curves.items(), strict=True):
        for name, (sizes, values) in lines.items():
            label = f"{name}: exponent {exponent(sizes, values):.2f}" if len(sizes) > 2 else name
            panel.loglog(sizes, values, marker="o", label=label)
        panel.set_title(title, fontsize=9)
        panel.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"))
    parser.add_argument("--figure", type=Path, default=Path("runs/bench/growth.svg"))
    given = parser.parse_args()
    names = (
        "vq",
        "ntxent",
        "mae",
        "bert",
        "pythae",
        "char_rnn",
        "loop",
        "folders",
        "embedding",
        "plugins",
        "plugins_500",
    )
    records = {name: read(given.folder, name) for name in names}
    missing = [name for name, record in records.items() if record is None]
    makers = {
        "vq": vq_rows,
        "ntxent": ntxent_rows,
        "mae": lambda record: step_rows(record, "MAE step", "transformers", 1.2),
        "bert": lambda record: step_rows(record, "BERT step", "transformers", None),
        "pythae": pythae_rows,
        "char_rnn": sampling_rows,
        "loop": loop_rows,
        "folders": folder_rows,
        "embedding": embedding_rows,
    }
    print("| what | beside | peer, ms | reprkit, ms | ratio | aim |\n|---|---|---|---|---|---|")
    rows = [row for name, make in makers.items() if records[name] for row in make(records[name])]
    rows += plugin_rows([records[name] for name in ("plugins", "plugins_500") if records[name]])
    for what, peer, theirs, ours, aim in rows:
        known = "too large for the memory" if theirs is None else in_digits(theirs)
        ratio = "" if theirs is None else f"**{theirs / ours:.2f} ×**"
        print(
            f"| {what} | {peer} | {known} | {in_digits(ours)} | {ratio} | {'' if aim is None else f'{aim} ×'} |"
        )
    if missing:
        print(f"\nnot run: {', '.join(missing)}")
    curves = growth(records)
    if curves:
        print("\n| growth | exponent, peer | exponent, reprkit |\n|---|---|---|")
        for title, lines in curves.items():
            found = [f"{exponent(*line):.2f}" if len(line[0]) > 2 else "" for line in lines.values()]
            print(f"| {title} | {' | '.join(found)} |")
        given.figure.parent.mkdir(parents=True, exist_ok=True)
        draw(curves, given.figure)


if __name__ == "__main__":
    main()
