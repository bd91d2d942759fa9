"""Reading a checkpoint without torch: locating, checking and describing it."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import reprkit as rk
from reprkit.checkpoints.reader import (
    holds_checkpoint,
    iterate_part_names,
    locate,
    read,
    read_header,
    reference_text,
)
from reprkit.errors import CheckpointError
from reprkit.runs.filenames import FORMAT

MANIFEST = {
    "format": FORMAT,
    "reprkit": "1.0",
    "factors": {},
    "decoder": None,
    "objective": {"id": "reprkit/reconstruction", "arguments": {}},
    "output": "x",
    "weights": {},
    "plugins": {"reprkit": "1.0"},
    "signature": None,
}
TENSORS = {
    "factors.code.encoder.weight": np.zeros((3, 2), np.float32),
    "factors.code.encoder.count": np.zeros(5, np.int64),
    "factors.code.encoder2.weight": np.zeros(7, np.float32),
    "adapters.code.weight": np.zeros((4, 6), np.float16),
}


def write_checkpoint(folder, manifest=MANIFEST, metadata=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reprkit.json").write_text(json.dumps(manifest))
    save_file(TENSORS, folder / "model.safetensors", metadata=metadata)
    return folder


def test_tensors_are_read_from_the_header(tmp_path):
    stored = read(
        write_checkpoint(tmp_path / "m", metadata={"format": "pt", "decoder.tied": "adapters.code.weight"})
    )
    assert stored.shapes == {name: each.shape for name, each in TENSORS.items()} | {"decoder.tied": (4, 6)}
    assert stored.tied == {"decoder.tied": "adapters.code.weight"}
    assert stored.elements("factors.code.encoder") == 6, (
        "without integers, and without other names of the same prefix"
    )
    assert stored.elements() == 6 + 7 + 24
    assert (stored.width("adapters.code", 0), stored.width("adapters.code", 1)) == (4, 6)
    assert stored.width("factors.code.encoder2", 0) is None
    assert stored.width("nothing", 0) is None
    assert stored.tensors["adapters.code.weight"].bytes == 48


def test_tensor_names_equal_those_of_the_state_dict(tmp_path):
    data = rk.dataset("digits").subset(range(20))
    model = rk.build(data=data, encoder="mlp(widths=(8,))", decoder="mlp(widths=(8,))")
    stored = read(model.save(tmp_path / "m"))
    assert stored.shapes == {name: tuple(value.shape) for name, value in model.state_dict().items()}


def test_checkpoint_is_found_in_a_run(tmp_path):
    inner = write_checkpoint(tmp_path / "run" / "model")
    assert read(tmp_path / "run").folder == read(inner).folder == locate(str(inner)) == inner
    assert holds_checkpoint(inner)
    assert not holds_checkpoint(tmp_path / "run")
    inner.rename(tmp_path / "run" / ".model.old")  # as left by an interrupted replacement
    assert read(tmp_path / "run").folder == inner
    with pytest.raises(CheckpointError, match=r"is not a checkpoint: it has no reprkit.json"):
        locate(tmp_path)
    (tmp_path / "other").mkdir()
    write_checkpoint(tmp_path / "near")
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path / "nera")
    assert f"there is no folder {tmp_path / 'nera'}\n  checkpoints beside it: {tmp_path / 'near'}\n" in str(
        caught.value
    )
    with pytest.raises(CheckpointError, match=r"there is no folder .*/a/b/c"):
        read(tmp_path / "a" / "b" / "c")


def test_newer_format_is_read_on_request(tmp_path):
    folder = write_checkpoint(tmp_path / "m", {**MANIFEST, "format": FORMAT + 1, "reprkit": "9.1"})
    with pytest.raises(
        CheckpointError, match=rf"of format {FORMAT + 1}, written by reprkit 9.1; .* up to {FORMAT}"
    ):
        read(folder)
    stored = read(folder, newer=True)
    assert (stored.format, stored.parts) == (FORMAT + 1, [])


def test_manifest_names_only_parts_of_a_model(tmp_path):
    stored = read(write_checkpoint(tmp_path / "m"))
    assert [(each.kind, each.id) for each in stored.parts] == [("objective", "reprkit/reconstruction")]
    folder = write_checkpoint(tmp_path / "other", {**MANIFEST, "objective": None})
    with pytest.raises(CheckpointError, match=r"other/reprkit.json: objective is damaged"):
        read(folder)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": "1"}', '{"format": true}'])
def test_manifest_without_format_is_rejected(tmp_path, text):
    folder = write_checkpoint(tmp_path / "m")
    (folder / "reprkit.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"reprkit.json is damaged: it states no format number"):
        read(folder)


def test_damaged_weights_are_rejected(tmp_path):
    folder = write_checkpoint(tmp_path / "m")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    entry = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": "no"}}).encode()
    for damaged, message in (
        (whole[:-4], "its header describes"),
        (whole + b"x", "its header describes"),
        (b"", "is damaged, or not a safetensors file"),
        (len(entry).to_bytes(8, "little") + entry, "cannot be read"),
        ((2).to_bytes(8, "little") + b"\xff\xff", "cannot be read"),
    ):
        weights.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=message):
            read(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"has no model.safetensors"):
        read(folder)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_header(weights)


def test_parts_of_a_manifest():
    inner = {"$part": "corruption", "id": "acme/blur", "arguments": {"sizes": [1, [2, 3]]}}
    record = {"id": "reprkit/denoising", "arguments": {"corruption": inner, "options": {"a": 1}}}
    assert reference_text(inner) == "acme/blur(sizes=(1, (2, 3)))"
    total = {
        "sum": [
            [1.0, {"id": "reprkit/reconstruction", "arguments": {}}],
            [0.5, {"id": "acme/tax", "arguments": {"at": 2}}],
        ]
    }
    assert reference_text(total) == "reconstruction + 0.5 * acme/tax(at=2)"
    assert list(iterate_part_names(record, "objective")) == [
        ("objective", "reprkit/denoising"),
        ("corruption", "acme/blur"),
    ]
    assert list(iterate_part_names(total, "objective")) == [
        ("objective", "reprkit/reconstruction"),
        ("objective", "acme/tax"),
    ]
