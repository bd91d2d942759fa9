"""Ambient sound: a network learns what things look like from what they sound like, by pairs of picture and sound.

A sound is described by statistics of its texture (mean, deviation and modulations of its bands, and their correlations),
standardized and reduced to principal components.  ``clusters`` predicts the k-means cluster of a picture's sound, as in the paper;
``contrastive`` finds its sound among those of the batch.  In folds by name, so that no name of a thing is in two parts, each
picture then ranks all sounds of the test part; components and clusters are those of train.  Beside them: the contrastive network
trained on shuffled pairs, ridge regression from pixels, and chance.  The page shows the pictures that excite each unit most.

Paper: Owens et al. 2016, "Ambient sound provides supervision for visual learning", arXiv 1608.07017, section 3 and figure 5.
Data: 354 things and their noises: reprkit voice fetch sounding.  Your own: a folder with dog.png beside dog.wav.
Expected: docs/results/modalities.md.

    python recipes/ambient_sound.py
    python recipes/ambient_sound.py --data "sounding(size=32, package='qabcs')"
    python recipes/ambient_sound.py --data "sounding(root='album')" --encoder resnet --latent "vq(codes=64, dim=16)"
"""

from typing import Annotated

import numpy as np
import typer
from reprkit_audio import audio_visual
from sklearn.model_selection import GroupKFold

import reprkit as rk
from reprkit.data import Arrays
from reprkit.errors import DataError
from reprkit.reporting import Section, compare
from reprkit.utils.collectives import rank

VIEWS = ["crop(scale=(0.5, 1.0))", "flip"]


def main(
    data: str = "sounding(size=32)",
    encoder: Annotated[str, typer.Option(help="of pictures")] = "conv(width=16, depth=3)",
    latent: Annotated[str, typer.Option(help="of pictures, any")] = "continuous(dim=64)",
    sound_encoder: Annotated[str, typer.Option(help="of the components")] = "mlp(widths=(128,))",
    views: Annotated[list[str], typer.Option(help="augmentations of pictures; repeatable")] = VIEWS,
    components: Annotated[int, typer.Option(help="principal components of the statistics")] = 32,
    clusters: int = 8,
    temperature: float = 0.2,
    folds: int = 5,
    steps: int = 300,
    batch: int = 128,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/ambient_sound",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", weight_decay=0.1, clip=1.0),
) -> None:
    options = {"steps": steps, "batch": batch, "lr": lr, "seed": seed, "resume": resume, **launch}
    whole = rk.dataset(data)
    every, names = whole.batch(range(len(whole))), np.array(whole.identities())
    if len(set(names)) < folds:
        raise DataError(f"{len(set(names))} names of things are too few for --folds {folds}")
    factors = {"image": rk.factor(encoder, latent)}
    factors["sound"] = rk.factor(sound_encoder, "continuous(dim=64)", input="sound")
    both = {"factors": factors, "objective": f"across(dim=32, temperature={temperature})"}
    alone = {"encoder": encoder, "latent": latent, "objective": "classify(label='cluster')"}
    form = {"kinds": {"cluster": "label"}, "ranges": {"x": (0, 1)}, "vocabs": {"cluster": clusters}}
    ranks: dict[str, list[int]] = {}
    parts = list(GroupKFold(folds, shuffle=True, random_state=seed).split(names, groups=names))
    for fold, (train, test) in enumerate(parts):
        targets = audio_visual.describe_sounds(every["texture"].numpy(), train, components, clusters, seed)
        mixed = np.random.default_rng(seed).permutation(train)
        sets = {
            name: Arrays(
                {"x": every["x"][rows], "sound": targets.vectors[of], "cluster": targets.clusters[of]}, **form
            )
            for name, rows, of in (("true", train, train), ("mixed", train, mixed), ("test", test, test))
        }
        models = {}
        plans = {"clusters": ("true", alone), "shuffled": ("mixed", both), "contrastive": ("true", both)}
        for name, (known, kind) in plans.items():
            augment = [rk.create("corruption", view, data=sets[known].signature) for view in views]
            models[name] = rk.build(data=sets[known], seed=seed, **kind)
            for step in rk.loop(models[name], sets[known], out=f"{out}/{name}-{fold}", **options):
                seen = step.batch
                for view in augment:
                    seen, _ = view(seen)
                losses = step.model(seen)
                step.backward(losses.total)
                step.update()
            models[name].save(f"{out}/{name}-{fold}/model")

        found = {
            name: audio_visual.joint_similarities(models[name], sets["test"])
            for name in ("contrastive", "shuffled")
        }
        expected = audio_visual.expected_sounds(models["clusters"], sets["test"], targets.centers)
        regressed = audio_visual.regress(every["x"].flatten(1).numpy(), targets.vectors, train, test)
        found["clusters"] = audio_visual.similarities(expected, targets.vectors[test])
        found["ridge"] = audio_visual.similarities(regressed, targets.vectors[test])
        for name, similarity in found.items():
            ranks.setdefault(name, []).extend(audio_visual.ranks_of_own(similarity))
        if fold == 0:
            shown, files = [whole.names[row] for row in test], [whole.sounds[row] for row in test]
            units = audio_visual.exciting_pictures(models["contrastive"], sets["test"], shown, factor="image")
            retrieved = audio_visual.retrieved_sounds(sets["test"], found["contrastive"], shown, files)

    counted = {name: np.array(values) for name, values in ranks.items()}
    baselines = {name: counted[name] for name in ("shuffled", "ridge")}
    table = {name: {"sounds": audio_visual.recall(values, baselines)} for name, values in counted.items()}
    table["chance"] = {"sounds": audio_visual.chance([len(test) for _, test in parts])}
    columns = {f"sounds.recall_at_{k}": f"R@{k}" for k in (1, 5, 10)}
    columns |= {f"sounds.over_{name}": f"R@5 over {name}" for name in baselines}
    columns |= {f"sounds.over_{name}_error": f"± over {name}" for name in baselines}
    sections = [Section("Units", [units]), Section("Retrieved sounds", retrieved)]
    page = rk.report(out, table, title="What pictures sound like", columns=columns, sections=sections)
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
