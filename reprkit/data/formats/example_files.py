"""Write examples, such as a model's outputs, to a file or a folder in a common format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from reprkit.data.formats import frame_writer
from reprkit.data.signature import Field
from reprkit.errors import DataError, nearest
from reprkit.utils.atomic_files import explain_os_error, replace_file, require_absent


def check_target(out: Path, field: Field, *, overwrite: bool = False) -> None:
    """Check that ``write_examples`` can write there, before anything is computed.

    Raises:
        DataError: a suffix that does not fit the field, a file, or a folder with content, that exists, or Parquet without
            pyarrow.
    """
    known = _known_suffixes(field)
    suffix = out.suffix.lower()
    if suffix and suffix not in known:
        raise DataError(
            f"out={str(out)!r} has a suffix that {field.kind} data is not written to.{nearest(suffix, known)}\n"
            f"  known: {', '.join(known)}, or a folder, without a suffix: one file an example"
        )
    if suffix:
        frame_writer.require_parquet_writer(out)
        require_absent(out, overwrite, DataError)
        return
    if out.is_file():
        raise DataError(f"{str(out)!r} is a file, and a folder is to be written")
    if out.exists() and not overwrite and any(out.iterdir()):
        raise DataError(
            f"{str(out)!r} holds files already; nothing was written. To replace them: overwrite=True (--overwrite)"
        )


def write_examples(
    out: Path,
    examples: Sequence[np.ndarray],
    field: Field,
    *,
    names: Sequence[str] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write examples and return the files.

    ============  ==============================================================================================
    ``out``       content
    ============  ==============================================================================================
    ``.npy``      one array (n ...) in the field's layout and units; all examples have one length
    ``.csv``      of vectors: rows, of a table with its columns, classes and dates; also ``.parquet``
    ``.png``      of images: one example, or a column of several
    a folder      one file an example: ``.png`` for images, ``.npy`` for all else
    ============  ==============================================================================================

    Args:
        out: a file, or a folder without a suffix; missing folders are created.
        examples: one array for each, in the field's layout, channels last; images are cut to the field's range.
        field: of the values.
        names: of the files in a folder, without suffix; by default numbers.
        overwrite: whether an existing file may be replaced.

    Raises:
        DataError: as ``check_target``; examples of different lengths for one array; a name with a path; or a file cannot be
            written.
    """
    check_target(out, field, overwrite=overwrite)
    suffix = out.suffix.lower()
    try:
        if not suffix:
            return _write_folder(out, examples, field, names)
        out.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".png":
            if len({example.shape[1] for example in examples}) > 1:
                raise DataError(
                    "the pictures have different widths, so they are no single picture: give a folder"
                )
            _write_picture(out, np.concatenate([_pixels(example, field) for example in examples]))
        elif suffix in frame_writer.SUFFIXES:
            _write_table(out, _stack(examples), field)
        else:
            with replace_file(out) as file:
                np.save(file, _stack(examples))
    except OSError as error:
        raise DataError(f"cannot write {str(out)!r}: {explain_os_error(error)}") from error
    return [out]


def _known_suffixes(field: Field) -> tuple[str, ...]:
    own = {"image": (".png",), "vector": frame_writer.SUFFIXES}.get(field.kind, ())
    return (".npy", *own)


def check_names(folder: Path, names: Sequence[str]) -> None:
    """Check that names, which may come from a file of others, are those of files inside of a folder.

    Raises:
        DataError: one names another folder.
    """
    for name in names:
        if Path(name).name != name or "\\" in name or name in (".", ".."):
            raise DataError(f"{name!r} names no file inside of the folder {str(folder)!r}")


def _write_folder(
    out: Path, examples: Sequence[np.ndarray], field: Field, names: Sequence[str] | None
) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    digits = len(str(max(len(examples) - 1, 0)))
    check_names(out, names or ())
    files = []
    for index, example in enumerate(examples):
        name = f"{index:0{digits}d}" if names is None else names[index]
        file = out / f"{name}{'.png' if field.kind == 'image' else '.npy'}"
        if field.kind == "image":
            _write_picture(file, _pixels(example, field))
        else:
            with replace_file(file) as opened:
                np.save(opened, example)
        files.append(file)
    return files


def _stack(examples: Sequence[np.ndarray]) -> np.ndarray:
    if len({example.shape for example in examples}) > 1:
        raise DataError(
            "the examples have different lengths, so they are no single array: give a folder (a name without a suffix)"
        )
    return np.stack(examples)


def _pixels(example: np.ndarray, field: Field) -> np.ndarray:
    """Return an image (h w c) as uint8: the field's range, or else the example's own, becomes 0 to 255."""
    low, high = field.range or (float(example.min()), float(example.max()))
    return (np.clip((example - low) / max(high - low, 1e-12), 0, 1) * 255).round().astype(np.uint8)


def _write_picture(file: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    if pixels.shape[-1] not in (1, 3, 4):
        raise DataError(f"a picture has 1, 3 or 4 channels, and the data has {pixels.shape[-1]}: write .npy")
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    with replace_file(file) as opened:
        image.save(opened, format="PNG")


def _write_table(out: Path, rows: np.ndarray, field: Field) -> None:
    from reprkit.data.formats.frame_columns import decode_rows, numbered_frame

    frame = decode_rows(torch.from_numpy(rows), field.columns) if field.columns else numbered_frame(rows)
    frame_writer.write_frame(out, frame)
