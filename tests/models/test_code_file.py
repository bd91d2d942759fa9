"""Files of compressed examples: written and read, damaged, and with names that lead elsewhere."""

import numpy as np
import pytest

from reprkit.data.formats.example_files import write_examples
from reprkit.data.signature import Field
from reprkit.errors import CompressionError, DataError
from reprkit.models.code_file import MAGIC, read_code_file, write_code_file

STRINGS = [b"abc", b"", bytes(range(256)) * 3]


def test_strings_and_names_come_back(tmp_path):
    path = write_code_file(tmp_path / "new" / "a.rk", STRINGS, ["eins", "zwei", "drei–3"])
    assert read_code_file(path) == (STRINGS, ["eins", "zwei", "drei–3"])
    assert read_code_file(write_code_file(path, STRINGS)) == (STRINGS, ["", "", ""])


def test_every_cut_and_every_addition_is_refused(tmp_path):
    path = write_code_file(tmp_path / "a.rk", STRINGS[:2], ["eins", "zwei"])
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(CompressionError):
            read_code_file(path)
    path.write_bytes(content + b"x")
    with pytest.raises(CompressionError, match="1 bytes follow"):
        read_code_file(path)
    path.write_bytes(MAGIC + b"\xff" * 20)
    with pytest.raises(CompressionError, match="too long"):
        read_code_file(path)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(CompressionError, match="no file of compressed examples"):
        read_code_file(path)
    with pytest.raises(CompressionError, match="cannot read"):
        read_code_file(tmp_path / "none.rk")


@pytest.mark.parametrize("name", ["../out", "a/b", "/tmp/out", "..", "a\\b"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    field = Field(kind="vector", shape=(2,))
    with pytest.raises(DataError, match="names no file inside"):
        write_examples(tmp_path / "folder", [np.zeros(2)], field, names=[name])
    assert not list((tmp_path / "folder").iterdir())
