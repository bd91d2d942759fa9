"""The public surface: what part authors may import besides ``rk.*``.  ``docs/generate.py`` writes it as docs/api.md.

``reprkit_api`` in a plugin states the version of hooks and surface that the plugin was written for.  A name is added here before a
plugin of this repository may import it; removing or changing one raises ``reprkit.registry.hookspecs.API``.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Annotated, get_origin

# Title of a section -> module -> its names.
SURFACE: dict[str, dict[str, tuple[str, ...]]] = {
    "Interfaces, records and errors": {
        "reprkit.interfaces": ("Part", "Term", "require"),
        "reprkit.types": ("Batch",),
        "reprkit.errors": (
            "BuildError", "CheckpointError", "CompressionError", "DataError", "PartArgumentError", "ReprkitError", "TrainingError",
            "UnknownPartError", "nearest",
        ),
    },
    "The registry and references": {
        "reprkit.registry": ("default_registry", "Registry", "using_registry"),
        "reprkit.registry.create": ("construct", "is_restoring"),
        "reprkit.registry.references": ("Reference", "parse", "parse_sum"),
    },
    "Constraints of arguments": {
        "reprkit.registry.constraints": (
            "BelowOne", "Count", "CountOrZero", "Depth", "DepthOrZero", "Kernel", "NonNegative", "Positive", "Real", "Seed",
            "Share", "Width", "ascending", "check_arguments", "odd", "strictly_ascending",
        ),
    },
    "Layers": {
        "reprkit.layers.attention": ("Blocks",),
        "reprkit.layers.code_map": ("code_to_map",),
        "reprkit.layers.convolution": ("downsampled_size",),
        "reprkit.layers.dropout": ("Dropout",),
        "reprkit.layers.field_checks": ("check_heads", "image_shape", "require_token_count"),
        "reprkit.layers.gather_rows": ("gather_rows", "gather_tokens"),
        "reprkit.layers.positions": ("sinusoidal_positions", "sinusoidal_positions_2d"),
        "reprkit.layers.recurrent": ("Recurrent", "State", "run_recurrent"),
        "reprkit.layers.resample_tokens": ("ResampleTokens", "resampled_mask", "zero_invalid_tokens"),
        "reprkit.layers.sequence_classifier": ("SequenceClassifier",),
        "reprkit.layers.transposed": ("TransposedLinear",),
        "reprkit.layers.trees": (
            "check_tree", "children", "first_descendants", "is_inner", "parents_of_actions", "right_branching", "spans", "tree_of",
        ),
        "reprkit.layers.value_embedding": ("Rescale", "ValueEmbedding", "pixel_channels"),
    },
    "Latents, decoders, objectives, corruptions": {
        "reprkit.latents.entropy_model": ("LEAST", "FactorizedEntropy"),
        "reprkit.latents.rounded": ("SHARPNESS", "Rounded"),
        "reprkit.latents.functional": (
            "check_indices", "draw_noise", "fixed_rate_bits", "perplexity", "round_codes", "sample_exponential",
            "straight_through", "sum_per_example", "zero_padding",
        ),
        "reprkit.latents.variational": ("Variational",),
        "reprkit.likelihoods.location_scale": ("LocationScale",),
        "reprkit.decoders.head": ("Head", "Scale", "choose_likelihood"),
        "reprkit.decoders.sequence": ("SequenceDecoder",),
        "reprkit.objectives.adversary": ("Adversary",),
        "reprkit.objectives.labels": ("count_classes", "get_labels"),
        "reprkit.objectives.policy": ("Policy", "mean_of_others"),
        "reprkit.objectives.total_correlation": ("total_correlation",),
        "reprkit.objectives.unroll": ("unroll",),
        "reprkit.objectives.wasserstein": ("critic_loss",),
        "reprkit.corruptions.base": ("ElementCorruption", "draw_uniform"),
    },
    "Models": {
        "reprkit.models.erase_label": ("erase_label",),
        "reprkit.models.factor": ("Factor", "masked_mean", "resolve_factor"),
        "reprkit.models.grid": ("align", "from_tokens", "to_tokens"),
        "reprkit.models.file_streams": (
            "Stream",
            "compress_file",
            "decompress_file",
            "read_streams",
            "write_streams",
        ),
        "reprkit.models.scoring": ("Scored",),
        "reprkit.models.symbol_coding": ("compress_symbols",),
        "reprkit.models.pictures": ("PictureCoder", "compress_picture", "decompress_picture", "payload_size"),
    },
    "Data sets": {
        "reprkit.data.base": ("Piece", "Subset", "derive_seed", "held_out_share", "split_settings", "split_sizes"),
        "reprkit.data.collation": ("to_index",),
        "reprkit.data.corrupt_files": ("CorruptFiles",),
        "reprkit.data.folders": ("FolderFiles", "find_files"),
        "reprkit.data.identity": ("content_hash", "hash_names", "split_by_identity"),
        "reprkit.data.formats.image_files": ("Depths", "Fit", "read_image", "suffixes", "undecoded"),
        "reprkit.data.formats.images": ("Images",),
        "reprkit.data.formats.table_columns": ("number_column",),
        "reprkit.data.formats.text_encoding": (
            "codec_name", "decode_text", "detect_encoding", "read_text", "wrong_encoding",
        ),
        "reprkit.data.formats.text_files": ("TextFiles", "read_lines"),
        "reprkit.data.padding": ("length_mask", "pad", "pad_to_length"),
        "reprkit.data.resampling": ("resample",),
        "reprkit.data.signature": ("Column", "Field"),
        "reprkit.data.sound": ("RATE", "SUFFIXES", "UNDECODED", "blocks", "duration", "encode", "open_writer", "read", "write"),
    },
    "Evaluators": {
        "reprkit.evaluation.anomaly": ("Anomaly", "class_numbers"),
        "reprkit.evaluation.encoding": (
            "batches", "by_length", "check_label", "draw_examples", "progress_title", "session", "to_float64",
        ),
        "reprkit.evaluation.label_subset": ("label_subset", "labels_of"),
        "reprkit.evaluation.linear_probe": ("fit_probe",),
        "reprkit.evaluation.similarity": ("linear_cka",),
        "reprkit.evaluation.sequential.dynamic_evaluation": ("dynamic_evaluation",),
        "reprkit.evaluation.sequential.next_step": ("one_step_ahead",),
    },
    "Pages": {
        "reprkit.reporting.drawing": ("chart", "series_color"),
        "reprkit.reporting.figures": ("Curves", "Images", "Matrix", "Scatter", "legend_html"),
        "reprkit.reporting.sounds": ("Sounds",),
    },
    "Results": {
        "reprkit.runs.metrics": ("flatten_metrics",),
    },
    "Utilities": {
        "reprkit.utils.atomic_files": ("require_absent",),
        "reprkit.utils.cache": ("cache_folder", "write_cached"),
        "reprkit.utils.collectives": (
            "gather", "gather_with_gradient", "global_draw", "local_only", "max_over_ranks", "rank", "sum_over_ranks", "world_size",
        ),
        "reprkit.utils.debian_packages": ("unpack",),
        "reprkit.utils.modes": ("eval_mode",),
        "reprkit.utils.precision": ("at_least_float32", "without_autocast"),
        "reprkit.utils.progress": ("track_progress",),
        "reprkit.utils.spectrum": ("alpha_req", "effective_rank", "lidar", "rankme"),
        "reprkit.utils.symbol_coder": ("to_frequencies",),
        "reprkit.utils.symbol_stack": ("SymbolStack", "open_stack"),
    },
}  # fmt: skip


def modules() -> dict[str, tuple[str, ...]]:
    """Module -> the names of it that are public."""
    found: dict[str, tuple[str, ...]] = {}
    for section in SURFACE.values():
        for module, names in section.items():
            found[module] = (*found.get(module, ()), *names)
    return found


def page() -> str:
    """The text of docs/api.md."""
    from reprkit.registry.hookspecs import API

    lines = [
        "# The public surface",
        "",
        "Generated by `make docs` from `docs/public_surface.py`.",
        "",
        "`import reprkit as rk` and the public packages `rk.data`, `rk.training`, `rk.evaluation`, `rk.reporting`, `rk.testing`",
        "and `rk.sklearn` are for everybody: see [the reference](reference/index.md). Authors of parts may also import the names",
        f"below. `reprkit_api = {API}` in a plugin states the version of hooks and surface that it was written for. New names do",
        "not raise the number; a name that is removed or changes its meaning does. Everything else in `reprkit` may change without",
        "notice.",
    ]
    for title, section in SURFACE.items():
        lines += ["", f"## {title}", "", "| name | what it is |", "|---|---|"]
        for module, names in section.items():
            for name in names:
                value = getattr(importlib.import_module(module), name)
                lines.append(f"| `{module}.{name}` | {summary(value)} |")
    return "\n".join(lines) + "\n"


def summary(value: object) -> str:
    """The first sentence of a docstring; the value itself of a type alias or a constant, of a mapping the keys."""
    if isinstance(value, dict):
        return f"A mapping with the keys `{sorted(value)}`"
    own = (
        inspect.getdoc(value)
        if inspect.isclass(value) or callable(value) or inspect.ismodule(value)
        else None
    )
    if own is None or get_origin(value) is not None or isinstance(value, type(Annotated[int, 0])):
        shown = sorted(value) if isinstance(value, frozenset) else value
        return f"`{str(shown).replace('typing.', '').replace('|', chr(92) + '|')}`"
    first = " ".join(own.split("\n\n")[0].split())
    return first.replace("``", "`").replace("|", "\\|")
