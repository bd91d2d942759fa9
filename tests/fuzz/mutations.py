"""Seeded changes of files: of their bytes, of a JSON tree, of a safetensors header, of arrays, of a saved training state."""

import copy
import io
import json
import math
import zipfile

import numpy as np

SURROGATE = "\ud800"
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>"
ESCAPE = "\x1b]0;title\x07\x1b[2J"
DEEP = "a deep list"  # a mark, replaced in the text by brackets


def hostile_values(canary):
    """Return JSON values that stand where others are expected; ``canary`` is a path that must not be opened."""
    return [
        None, True, False, -1, 0, 1, 2, 7, 1000, 2**31, 2**40, 2**62, 2**63, -(2**63), 10**19, 10**400, 0.5,
        -0.0, 1e308, 1e-320, math.nan, math.inf, -math.inf, "", "x", " ", "0", "code", "digits", "NaN", "a" * 20_000, ESCAPE,
        MARKUP, SURROGATE, "\x00", "é漢字", canary, "../../../etc/passwd", "/dev/zero", "/", ".", "vq(codes=4)", "[" * 2000,
        "9" * 5000,
        f"__import__('os').system('touch {canary}')",
        [], {}, [None], [[]], [0], [1, 2, 3], ["x"], [[1, 2]] * 3, list(range(500)), {"x": {}}, {"": None},
        {"a.b": 1, "a": {"b": 2}},
        {"$part": "command", "id": "reprkit-audio/voice", "arguments": {"args": ["convert"]}},
        {"$part": "dataset", "id": "reprkit-vision/images", "arguments": {"folder": canary}},
        {"$part": "corruption", "id": "reprkit/gaussian-noise", "arguments": {}},
        {"id": "reprkit/vq", "arguments": {"codes": 10**9}},
        DEEP,
    ]  # fmt: skip


def mutate_tree(tree, rng, canary):
    """Return a changed copy of a JSON tree: one to three values replaced, removed, added, exchanged or scaled."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return rng.choice(hostile_values(canary))
        holder, key = rng.choice(places)
        action = rng.choice(("replace",) * 6 + ("remove", "add", "exchange", "scale", "scale"))
        if action == "replace":
            holder[key] = rng.choice(hostile_values(canary))
        elif action == "remove":
            del holder[key]
        elif action == "add":
            value = rng.choice(hostile_values(canary))
            if isinstance(holder, dict):
                holder[
                    rng.choice(
                        ("x", "", "$part", "shared", MARKUP, ESCAPE, SURROGATE, "a.b", "__class__", "data")
                    )
                ] = value
            else:
                holder.insert(key, value)
        elif action == "exchange":
            other, place = rng.choice(places)
            if _has(other, place) and _has(holder, key):
                holder[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(holder[key])
        elif isinstance(holder[key], int | float):
            holder[key] = rng.choice(
                (holder[key] * 1000, holder[key] * 10**6, -holder[key], holder[key] + 1, holder[key] / 3)
            )
    return tree


def dump(tree):
    """Return a tree as JSON, with NaN, infinity and lone surrogates as Python writes them."""
    return json.dumps(tree).replace(json.dumps(DEEP), "[" * 100_000).encode()


def mutate_bytes(content, rng):
    """Return changed bytes: flipped, cut, doubled, inserted, overwritten or emptied."""
    data = bytearray(content)
    action = rng.choice(
        ("flip", "flip", "cut", "cut start", "double", "insert", "overwrite", "empty", "zeros")
    )
    at = rng.randrange(len(data) or 1)
    if action == "flip":
        for _ in range(rng.choice((1, 1, 3, 20))):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif action == "cut":
        del data[at:]
    elif action == "cut start":
        del data[:at]
    elif action == "double":
        data[at:at] = data[: rng.randrange(1, 200)]
    elif action == "insert":
        data[at:at] = rng.choice(
            (b"[" * 100_000, b"\xff\xfe", b"\x00" * 50, b"1" * 5000, b"NaN", b"1e999", b'"', b"\n" * 3, b"{}")
        )
    elif action == "overwrite":
        data[at : at + 16] = rng.randbytes(16)
    elif action == "empty":
        data.clear()
    else:
        data[at:] = bytes(len(data) - at)
    return bytes(data)


def mutate_json(content, rng, canary):
    """Return a changed JSON file."""
    if rng.random() < 0.15:
        return mutate_bytes(content, rng)
    return dump(mutate_tree(json.loads(content), rng, canary))


def mutate_lines(content, rng, canary):
    """Return a changed JSON Lines file."""
    if rng.random() < 0.3:
        return mutate_bytes(content, rng)
    lines = content.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = dump(mutate_tree(json.loads(lines[at]), rng, canary))
    return b"\n".join(lines) + b"\n"


def mutate_weights(content, rng, canary):
    """Return a changed safetensors file: its header, the header's length, or its bytes."""
    length = int.from_bytes(content[:8], "little")
    action = rng.choice(("header", "header", "header", "length", "bytes", "sizes"))
    if action == "bytes":
        return mutate_bytes(content, rng)
    if action == "length":
        wrong = rng.choice((0, 1, length - 1, length + 1, len(content), 2**32, 2**63, 2**64 - 1))
        return wrong.to_bytes(8, "little") + content[8:]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    if action == "sizes":  # consistent, yet another model
        name = rng.choice([name for name in header if name != "__metadata__"])
        entry = header[name]
        entry["shape"] = rng.choice(
            (
                [2**40, 0],
                [0, 2**62],
                [-1, -1],
                [math.prod(entry["shape"])],
                [1, *entry["shape"]],
                entry["shape"][::-1],
            )
        )
        text = json.dumps(header).encode()
    else:
        text = dump(mutate_tree(header, rng, canary))
    return len(text).to_bytes(8, "little") + text + data


def mutate_figures(content, rng, canary):
    """Return a changed figures.npz: its JSON, one of its arrays, or its bytes."""
    if rng.random() < 0.2:
        return mutate_bytes(content, rng)
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if rng.random() < 0.6:
        page = mutate_tree(json.loads(str(arrays["page"])), rng, canary)
        arrays["page"] = np.array(dump(page).decode())
    else:
        name = rng.choice(list(arrays))
        arrays[name] = rng.choice((
            np.zeros(0), np.zeros((0, 3, 0)), np.array(math.nan), np.full((4, 8, 8, 1), math.inf), np.zeros((2, 2), complex),
            np.array([b"x"]), np.array("text"), np.zeros((3, 5), bool), np.zeros((1, 1, 1, 1, 1)), np.full((3, 8, 8, 1), 1e308),
            np.zeros((2, 300, 300, 7), np.uint8), np.zeros((3, 2), "datetime64[s]"), np.full((2, 8, 8, 1), -(2**62)),
        ))  # fmt: skip
    if rng.random() < 0.1:
        arrays.pop(rng.choice(list(arrays)))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    if rng.random() < 0.15:
        return _claim_size(buffer.getvalue(), rng)
    return buffer.getvalue()


def _claim_size(content, rng):
    """Return the same archive with an array whose header claims more values than there are."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w") as new:
        changed = rng.choice(old.namelist())
        for name in old.namelist():
            data = old.read(name)
            if name == changed:
                shape = rng.choice(((2**40,), (2**31, 2**31), (-5,), (10**9, 8), (1, 2**33)))
                buffer = io.BytesIO()
                np.lib.format.write_array_header_1_0(
                    buffer, {"descr": "<f8", "fortran_order": False, "shape": shape}
                )
                data = buffer.getvalue() + data[-64:]
            new.writestr(name, data)
    return result.getvalue()


def mutate_state(content, rng, canary):
    """Return a changed file of a training state: its bytes, or values of its tree, by types that torch loads safely."""
    import torch

    if rng.random() < 0.3:
        return mutate_bytes(content, rng)
    tree = torch.load(io.BytesIO(content), weights_only=True)
    for _ in range(rng.choice((1, 1, 2))):
        places = list(_places(tree))
        holder, key = rng.choice(places)
        action = rng.choice(("replace", "replace", "replace", "remove", "tensor"))
        if action == "remove":
            del holder[key]
        elif action == "replace":
            holder[key] = rng.choice([value for value in hostile_values(canary) if value is not DEEP])
        else:
            holder[key] = rng.choice((
                torch.zeros(0), torch.full((3, 3), math.nan), torch.zeros(2, 2, dtype=torch.int64),
                torch.zeros(5, dtype=torch.uint8),
                torch.zeros(1).expand(2**20, 2**12), torch.zeros(2, dtype=torch.complex64), torch.zeros(3).to_sparse(),
                torch.zeros(2, device="meta"),
            ))  # fmt: skip
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    return buffer.getvalue()


def _places(tree):
    """Iterate over (holder, key) of every value in dicts and lists."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(entries):
        yield tree, key
        yield from _places(value)


def _has(holder, key):
    return key in holder if isinstance(holder, dict) else key < len(holder)
