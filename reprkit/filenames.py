"""The names of what lies in a checkpoint and in a run's folder, and the checkpoint's format.  Torch-free."""

MANIFEST, WEIGHTS = "reprkit.json", "model.safetensors"
FORMAT = 1  # of the manifest; raised when an older reprkit could not read it
RECORD, METRICS, RESULTS, PAGE = "run.json", "metrics.jsonl", "results.json", "report.html"
MODEL, STATE = "model", "state"
