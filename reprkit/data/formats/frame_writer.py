"""Write a DataFrame to a CSV or Parquet file, atomically."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reprkit.errors import DataError
from reprkit.utils.atomic_files import replace_file

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".parquet")


def require_parquet_writer(path: Path) -> None:
    """Check that a ``.parquet`` file can be written, before its content is computed.

    Raises:
        DataError: pyarrow is not installed.
    """
    if path.suffix.lower() != ".parquet":
        return
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"cannot write {str(path)!r}: Parquet is written by pyarrow: pip install pyarrow, or write .csv"
        ) from error


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write the columns of a DataFrame, without its index, in the format of the suffix.

    Raises:
        OSError: the file cannot be written.
    """
    with replace_file(path) as file:
        if path.suffix.lower() == ".parquet":
            frame.to_parquet(file, index=False)
        else:
            file.write(frame.to_csv(index=False).encode())
