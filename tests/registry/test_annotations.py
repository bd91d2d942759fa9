"""Which annotations accept a part, and at which positions inside a value."""

import pytest

from reprkit.registry.annotations import accepts_part


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
def test_annotation_naming_the_interface_accepts_a_part(annotation, path):
    assert accepts_part(annotation, "corruption", path)
    assert not accepts_part(annotation, "encoder", path)
    assert not accepts_part(annotation, "command", path)
    assert not accepts_part(annotation, "corruption", (*path, "list"))


@pytest.mark.parametrize(
    "annotation",
    [None, "Any", "object", "Part", "str", "type[Corruption]", "Callable[[Corruption], None]", "Literal['Corruption']",
     "Corruptions", "Corruption.name", "list[Corruption]", "dict[Corruption, str]", "Corruption(", "''", "'\"Corruption\"'"],
)  # fmt: skip
def test_other_annotations_accept_no_part(annotation):
    assert not accepts_part(annotation, "corruption")


def test_mapping_keys_accept_no_part():
    assert not accepts_part("dict[Corruption, str]", "corruption", ("dict",))
