"""The names of what lies in a checkpoint and in a run's folder, and the checkpoint's format.  Torch-free."""

MANIFEST, WEIGHTS = "reprkit.json", "model.safetensors"
FORMAT = 1  # of the manifest; raised when an older reprkit could not read it
RECORD, METRICS, RESULTS, PAGE = "run.json", "metrics.jsonl", "results.json", "report.html"
MODEL, STATE, BEST = "model", "state", "best"
FIGURES = "figures.npz"  # what the page shows besides numbers, so that it can be made again
CARD = "README.md"  # of a checkpoint, as model hubs show it
