"""File names in checkpoints and run folders, and the checkpoint's format number.  Does not import torch."""

MANIFEST, WEIGHTS = "reprkit.json", "model.safetensors"
FORMAT = 1  # of the manifest; increased when older versions of reprkit cannot read the new one
RECORD, METRICS, RESULTS, PAGE = "run.json", "metrics.jsonl", "results.json", "report.html"
MODEL, STATE, BEST = "model", "state", "best"
LOCK = ".lock"  # held by the process that writes the run
SOURCE, PACKAGES = "source", "packages.txt"  # what made the run: the recipe, and the packages
FIGURES = "figures.npz"  # the report's figures, so that it can be rendered again
PROBE_FIGURES = "probes.npz"  # figures of the last measurement of a loop's probes
CARD = "README.md"  # the model card, as shown by model hubs
