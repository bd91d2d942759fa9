"""Which annotations take a part, and where inside a value."""

import pytest

from reprkit.registry.annotations import takes


@pytest.mark.parametrize(
    ("annotation", "path"),
    [
        ("Corruption", ()),
        ("rk.Corruption", ()),
        ("str | Corruption | None", ()),
        ("Optional[Corruption]", ()),
        ("Union[str, rk.Corruption]", ()),
        ("'str | Corruption'", ()),
        ("Annotated[Corruption, 'a note']", ()),
        ("tuple[str | Corruption, ...]", ("list",)),
        ("str | Sequence[Corruption]", ("list",)),
        ("Mapping[str, Corruption]", ("dict",)),
        ("dict[str, list[Corruption]]", ("dict", "list")),
    ],
)
def test_the_interface_is_named_where_the_part_is(annotation, path):
    assert takes(annotation, "corruption", path)
    assert not takes(annotation, "encoder", path)
    assert not takes(annotation, "command", path)
    assert not takes(annotation, "corruption", (*path, "list"))


@pytest.mark.parametrize(
    "annotation",
    [None, "Any", "object", "Part", "str", "type[Corruption]", "Callable[[Corruption], None]", "Literal['Corruption']",
     "Corruptions", "Corruption.name", "list[Corruption]", "dict[Corruption, str]", "Corruption(", "''", "'\"Corruption\"'"],
)  # fmt: skip
def test_no_other_annotation_takes_one(annotation):
    assert not takes(annotation, "corruption")


def test_the_keys_of_a_mapping_are_no_parts():
    assert not takes("dict[Corruption, str]", "corruption", ("dict",))
