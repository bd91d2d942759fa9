"""What a run of ``recipes/unclip.py`` draws, by guidance, sampler and number of steps: attributes that are right.

    python recipes/unclip.py
    python tests/benchmarks/figures_unclip.py runs/unclip [--limit 300] [--lessons 600]

Reads the models of a run by diffusion, and trains the judges once.  The prior draws its vectors once for each part of the data, so
that all rows compare decoders on the same vectors.  Paired: McNemar's test of "with prior" against "without prior".
"""

import argparse
from pathlib import Path

from reprkit_text.attribute_judges import AttributeJudges, mcnemar
from reprkit_text.picture_codes import Stage, draw_nearest
from reprkit_text.unclip import joint_codes

import reprkit as rk
from reprkit.evaluation.encoding import draw_examples

SCENES = "drawn-scenes(size=16, objects=1, copies=12)"
OTHERS = "drawn-scenes(size=16, objects=1, copies=6, held_out='scenes', seed=1)"
LABELS = ("size_1", "color_1", "shape_1", "place")
ROWS = [
    *({"eta": 0.0, "steps": 20, "guidance": guidance} for guidance in (1.0, 1.5, 2.0, 3.0)),
    *({"eta": 0.0, "steps": count, "guidance": 1.0} for count in (50, 10, 5)),
    *({"eta": 1.0, "steps": count, "guidance": 1.0} for count in (50, 20, 10, 5)),
]


def show(name, judges, right):
    shares = judges.shares(right)
    listed = "  ".join(f"{label} {share:.3f}" for label, share in shares.items())
    print(f"{name:44} {listed}", flush=True)
    return right.all(1)


def main(folder, limit, lessons):
    space = rk.load(folder / "space/model").eval()
    prior = Stage(rk.load(folder / "image-diffusion/model").eval(), "image", "text", {"steps": 50})
    decoder = Stage(rk.load(folder / "x-diffusion/model").eval(), "x", "image")
    train, *parts = rk.dataset(SCENES).split(valid=True)
    known = joint_codes(space, train)
    judges = AttributeJudges(rk.dataset(OTHERS), LABELS, steps=lessons)
    for part in parts:
        some = draw_examples(part, limit, 0)
        codes = joint_codes(space, some, known).batch(range(len(some)))
        show(f"{part.part}: real pictures", judges, judges.right(codes["x"], some))
        drawn = draw_nearest(prior, codes["text"])
        for options in ROWS:
            sampler = f"{'DDPM' if options['eta'] else 'DDIM'} {options['steps']}"
            name = f"{part.part}: {sampler}, guidance {options['guidance']:g}"
            ways = {"own vector": codes["image"], "without prior": codes["text"], "with prior": drawn}
            right = {
                way: show(f"{name}, {way}", judges, judges.right(decoder.draw(each, **options), some))
                for way, each in ways.items()
            }
            found = mcnemar(right["with prior"], right["without prior"])
            paired = f"{found['won']} won, {found['lost']} lost, p {found['p']:.2g}"
            print(f"{name}, paired: {paired}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--lessons", type=int, default=600)
    given = parser.parse_args()
    main(given.folder, given.limit, given.lessons)
