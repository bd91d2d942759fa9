"""Small tables like those of the hub, written for the tests."""

import io

import numpy as np
from PIL import Image


def png(values):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def wav(values, rate=16000):
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, values, rate, format="WAV", subtype="FLOAT")
    return {"bytes": file.getvalue(), "path": None}


def table(size, seed=0):
    """Return columns of images, audio, labels, texts and numbers."""
    import datasets

    generator = np.random.default_rng(seed)
    columns = {
        "image": [png(generator.integers(0, 256, (6, 5, 3), dtype=np.uint8)) for _ in range(size)],
        "audio": [wav(generator.uniform(-1, 1, 50 + i).astype(np.float32)) for i in range(size)],
        "label": [i % 3 for i in range(size)],
        "text": [f"text number {i}" + "é" * (i % 4) for i in range(size)],
        "vector": generator.standard_normal((size, 4)).astype(np.float32).tolist(),
        "steps": [generator.standard_normal((1 + i % 3, 2)).astype(np.float32).tolist() for i in range(size)],
        "a": generator.standard_normal(size).tolist(),
        "b": list(range(size)),
    }
    features = datasets.Features(
        {
            "image": datasets.Image(decode=False),
            "audio": datasets.Audio(decode=False),
            "label": datasets.ClassLabel(names=["cat", "dog", "owl"]),
            "text": datasets.Value("string"),
            "vector": datasets.List(datasets.Value("float32")),
            "steps": datasets.List(datasets.List(datasets.Value("float32"))),
            "a": datasets.Value("float64"),
            "b": datasets.Value("int64"),
        }
    )
    made = datasets.Dataset.from_dict(columns).cast(features)
    return columns, made
