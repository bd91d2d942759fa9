"""Variable-length integers and byte strings: written and read, cut short, too long."""

import pytest

from reprkit.errors import CompressionError
from reprkit.utils.varints import ByteReader, encode_bytes, encode_varint


def test_numbers_and_byte_strings_come_back():
    numbers = [0, 1, 127, 128, 300, 2**32, 2**63]
    assert encode_varint(300) == b"\xac\x02"  # the example of the Protocol Buffers documentation
    content = b"".join(map(encode_varint, numbers)) + encode_bytes(b"") + encode_bytes(bytes(200))
    reader = ByteReader(b"--" + content, "a.rk", 2)
    assert [reader.varint() for _ in numbers] == numbers
    assert (reader.byte_string(), reader.byte_string()) == (b"", bytes(200))
    reader.check_end()
    assert reader.size == len(content) + 2


def read_only_string(content):
    reader = ByteReader(content, "a.rk")
    reader.byte_string()
    reader.check_end()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80", "a.rk is damaged: it is cut short"),
        (b"\x05abc", "a.rk is damaged: it is cut short"),
        (b"\xff" * 20, "a.rk is damaged: a number in it is too long"),
        (b"\x01ab", "a.rk is damaged: 1 bytes follow its end"),
    ],
)
def test_damage_is_refused(content, reason):
    with pytest.raises(CompressionError, match=reason):
        read_only_string(content)
