"""Tables on which the detection of anomalies is measured: breast cancer, credit-card fraud, intrusions into a network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reprkit.data.base import Dataset
from reprkit.data.formats.table import Table, read_frame
from reprkit.data.signature import Signature
from reprkit.errors import DataError, nearest

if TYPE_CHECKING:
    import pandas as pd


class BreastCancer(Table):
    """569 tumors by 30 measurements of their cells' nuclei, as scikit-learn ships them.

    Fields: ``x`` vector (30,), numbers in their own units; ``label``, "benign" (357) or "malignant" (212).

    Source: Street, Wolberg and Mangasarian 1993, "Nuclear feature extraction for breast tumor diagnosis", SPIE 1905; UCI's
    "Breast Cancer Wisconsin (Diagnostic)".
    """

    def __init__(self) -> None:
        from sklearn.datasets import load_breast_cancer

        super().__init__(load_breast_cancer(), columns={"target": "label"})
        self._name = "breast-cancer"


class CreditCard(Table):
    """Transactions by credit card in two days, 492 of 284,807 fraudulent: the file ``creditcard.csv`` of Kaggle.

    Fields: ``x`` vector (29,), the numbers V1 to V28, which are principal components, and Amount; ``label``, "genuine" or "fraud".

    Args:
        path: the file, or a DataFrame of it.
        time: whether ``x`` has Time too, the seconds since the first transaction.
        like: see ``table``.

    Raises:
        DataError: a column is missing, or a class is neither 0 nor 1.

    Source: Dal Pozzolo et al. 2015, "Calibrating probability with undersampling for unbalanced classification", CIDM.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | pd.DataFrame,
        *,
        time: bool = False,
        like: Dataset | Signature | None = None,
    ) -> None:
        frame = read_frame(path)[1]
        numbers = [*(["Time"] if time else []), *(f"V{index}" for index in range(1, 29)), "Amount"]
        for name in (*numbers, "Class"):
            if name not in frame:
                raise DataError(
                    f"credit-card reads the columns Time, V1 to V28, Amount and Class, and the table has no {name!r}."
                    f"{nearest(name, list(frame))}\n  other tables: rk.dataset('./file.csv')"
                )
        others = set(frame["Class"].dropna().unique().tolist()) - {0, 1}
        if others:
            raise DataError(
                f"credit-card has the classes 0 and 1, and the table has {sorted(others, key=str)[:5]}"
            )
        frame = frame[[*numbers, "Class"]].assign(Class=frame["Class"].map({0: "genuine", 1: "fraud"}))
        super().__init__(frame, columns={**dict.fromkeys(numbers, "number"), "Class": "label"}, like=like)
        self._name = "credit-card"


# In the order of kddcup.names; the others are numbers.
_CATEGORIES = ("protocol_type", "service", "flag", "land", "logged_in", "is_host_login", "is_guest_login")
_COLUMNS = [
    "duration",
    "protocol_type",
    "service",
    "flag",
    "src_bytes",
    "dst_bytes",
    "land",
    "wrong_fragment",
    "urgent",
    "hot",
    "num_failed_logins",
    "logged_in",
    "num_compromised",
    "root_shell",
    "su_attempted",
    "num_root",
    "num_file_creations",
    "num_shells",
    "num_access_files",
    "num_outbound_cmds",
    "is_host_login",
    "is_guest_login",
    "count",
    "srv_count",
    "serror_rate",
    "srv_serror_rate",
    "rerror_rate",
    "srv_rerror_rate",
    "same_srv_rate",
    "diff_srv_rate",
    "srv_diff_host_rate",
    "dst_host_count",
    "dst_host_srv_count",
    "dst_host_same_srv_rate",
    "dst_host_diff_srv_rate",
    "dst_host_same_src_port_rate",
    "dst_host_srv_diff_host_rate",
    "dst_host_serror_rate",
    "dst_host_srv_serror_rate",
    "dst_host_rerror_rate",
    "dst_host_srv_rerror_rate",
]


class KDDCup99(Table):
    """Connections in a network by 41 columns, normal or one of several attacks: a file of the KDD Cup 1999, or of NSL-KDD.

    Fields: ``x`` vector, 34 numbers and 7 categories (protocol, service, flag and four of two values); ``label``, "normal" or the
    name of an attack.  Unlabeled files (41 columns) have no ``label``; the difficulty in NSL-KDD's files is left out.  Categories
    of one value only are left out.

    Args:
        path: a file without names of columns, also compressed (``kddcup.data_10_percent.gz``).
        attacks: "by-name", a class each; or "one", the class "attack".
        like: see ``table``: the training file's data set, for the test file.

    Raises:
        DataError: no such file, or one with other columns.

    Source: Hettich and Bay 1999, the UCI KDD archive; NSL-KDD: Tavallaee et al. 2009, CISDA.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        attacks: Literal["by-name", "one"] = "by-name",
        like: Dataset | Signature | None = None,
    ) -> None:
        frame = _read_connections(Path(path).expanduser())
        kinds = {
            name: "number"
            if name not in _CATEGORIES
            else "category"
            if like is not None or frame[name].nunique() > 1
            else "drop"
            for name in _COLUMNS
        }
        if "label" in frame:
            labels = frame["label"].astype(str).str.strip().str.removesuffix(".")
            frame["label"] = labels.where(labels == "normal", "attack") if attacks == "one" else labels
            kinds["label"] = "label"
        super().__init__(frame, columns=kinds, like=like)
        self._name = "kdd99"


def _read_connections(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise DataError(f"no file {str(path)!r} (looked in {Path.cwd()})")
    try:
        frame = pd.read_csv(path, header=None, skipinitialspace=True, low_memory=False)
    except (ValueError, OSError) as error:  # pandas' ParserError is a ValueError
        raise DataError(
            f"{str(path)!r} cannot be read as a table: {str(error).strip().splitlines()[0][:300]}"
        ) from error
    count = len(_COLUMNS)
    if not count <= frame.shape[1] <= count + 2:
        raise DataError(
            f"a file of the KDD Cup 99 has {count} columns, and a label, and {str(path)!r} has {frame.shape[1]}"
        )
    frame = frame.iloc[:, : count + 1]
    return frame.set_axis([*_COLUMNS, "label"][: frame.shape[1]], axis=1)
