"""Breast cancer, and the files of credit-card fraud and of the KDD Cup 99, as small copies made by hand."""

import gzip

import numpy as np
import pytest

import reprkit as rk
from reprkit.errors import DataError

# Duration, protocol, service, flag, then 37 numbers, of which land, logged_in, is_host_login, is_guest_login are categories
NORMAL = (
    "0,tcp,http,SF,181,5450,0,0,0,0,0,1,"
    + "0," * 10
    + "8,8,"
    + "0.00," * 4
    + "1.00,0.00,0.00,9,9,1.00"
    + ",0.00" * 7
)
ATTACK = (
    "0,icmp,ecr_i,SF,1032,0,0,0,0,0,0,0,"
    + "0," * 10
    + "511,511,"
    + "0.00," * 4
    + "1.00,0.00,0.00,255,255,1.00"
    + ",0.00" * 7
)


@pytest.fixture
def credit(tmp_path):
    """creditcard.csv as Kaggle's file is written: quoted names and classes."""
    names = ["Time", *(f"V{index}" for index in range(1, 29)), "Amount", "Class"]
    random = np.random.default_rng(0)
    lines = [",".join(f'"{name}"' for name in names)]
    for row in range(12):
        values = [str(row), *(f"{value:.6f}" for value in random.normal(size=28)), f"{10 * row + 0.5}"]
        lines.append(",".join([*values, f'"{int(row == 7)}"']))
    path = tmp_path / "creditcard.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_breast_cancer_by_the_names_of_its_classes():
    data = rk.dataset("breast-cancer")
    assert data.signature["label"].classes == ("benign", "malignant")
    assert np.bincount(data.label_values("label")).tolist() == [357, 212]
    assert data.signature["x"].columns[0].name == "mean radius"
    assert data.name == "breast-cancer"
    train, test = data.split()
    assert "breast-cancer" in train.name
    assert train.signature["x"].columns[0].mean != data.signature["x"].columns[0].mean
    assert len(train) + len(test) == 569


def test_transactions_by_credit_card(credit):
    data = rk.dataset(f"credit-card(path={str(credit)!r})")
    columns = data.signature["x"].columns
    assert [column.name for column in columns] == [*(f"V{index}" for index in range(1, 29)), "Amount"]
    assert {column.kind for column in columns} == {"number"}
    assert data.signature["label"].classes == ("fraud", "genuine")
    assert data.label_values("label").tolist() == [1] * 7 + [0] + [1] * 4
    assert data[3]["x"][-1] == 30.5
    assert rk.dataset(f"credit-card(path={str(credit)!r}, time=True)")[5]["x"][0] == 5


def test_tables_with_other_columns_or_classes_are_refused(credit):
    text = credit.read_text()
    credit.write_text(text.replace('"V28"', '"V29"'))
    with pytest.raises(DataError, match=r"the table has no 'V28'\. Did you mean 'V"):
        rk.dataset(f"credit-card(path={str(credit)!r})")
    credit.write_text(text.replace('"1"', '"2"'))
    with pytest.raises(DataError, match=r"classes 0 and 1, and the table has \[2\]"):
        rk.dataset(f"credit-card(path={str(credit)!r})")


@pytest.mark.parametrize("name", ["kdd.txt", "kdd.gz"])
def test_connections_with_the_types_of_their_columns(tmp_path, name):
    text = "\n".join(
        [
            f"{NORMAL},normal.",
            f"{ATTACK},smurf.",
            f"{ATTACK.replace('icmp', 'udp')},neptune.",
            f"{NORMAL},normal.",
        ]
    )
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    data = rk.dataset(f"kdd99(path={str(path)!r})")
    columns = {column.name: column for column in data.signature["x"].columns}
    assert columns["protocol_type"].classes == ("icmp", "tcp", "udp")
    assert columns["service"].classes == ("ecr_i", "http")
    assert columns["logged_in"].classes == ("0", "1")
    assert columns["src_bytes"].kind == columns["su_attempted"].kind == "number"
    assert columns["dst_host_srv_rerror_rate"].kind == "number"
    assert len(columns) == 41 - 4  # flag, land and two logins have one value
    assert data.signature["label"].classes == ("neptune", "normal", "smurf")
    one = rk.dataset(f"kdd99(path={str(path)!r}, attacks='one')")
    assert one.signature["label"].classes == ("attack", "normal")
    assert one.label_values("label").tolist() == [1, 0, 0, 1]


def test_connections_without_labels_and_with_nsl_s_difficulty(tmp_path):
    (tmp_path / "train").write_text(f"{NORMAL},normal,21\n{ATTACK},smurf,18\n")
    train = rk.dataset(f"kdd99(path={str(tmp_path / 'train')!r})")
    assert train.signature["label"].classes == ("normal", "smurf")
    (tmp_path / "test").write_text(f"{ATTACK.replace('icmp', 'udp')}\n{NORMAL}\n")
    test = rk.data.formats.anomaly_tables.KDDCup99(tmp_path / "test", like=train)
    assert "label" not in test.signature
    assert test.signature["x"] == train.signature["x"]
    assert test.facts["classes not learned"] == {"protocol_type": 1}
    (tmp_path / "other").write_text("1,2,3\n")
    with pytest.raises(DataError, match="has 41 columns, and a label, and .* has 3"):
        rk.dataset(f"kdd99(path={str(tmp_path / 'other')!r})")
    with pytest.raises(DataError, match="no file"):
        rk.dataset("kdd99(path='nowhere')")


def test_a_category_of_one_class_in_the_training_part_keeps_the_table_s_classes(tmp_path):
    """A rare flag, such as ``land``: a row that has it is improbable, not a missing value."""
    lines = [f"{NORMAL},normal." if row else f"{ATTACK},smurf." for row in range(40)]
    (tmp_path / "kdd").write_text("\n".join(lines))
    data = rk.dataset(f"kdd99(path={str(tmp_path / 'kdd')!r})")
    seed = next(seed for seed in range(9) if 0 in data.split(seed)[1].indices)
    train, test = data.split(seed)
    protocol = next(column for column in train.signature["x"].columns if column.name == "protocol_type")
    assert protocol.classes == ("icmp", "tcp")
    assert "classes not learned" not in test.facts
