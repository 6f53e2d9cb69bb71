"""A filter that is registered from outside reaches Milvus, HTTP and the command line without any other change."""

from collections.abc import Iterator

import pytest

from indexing.commands.search import parse_filters
from indexing.search.filters import FILTERS, NUMBER, TEXT, Filter, FilterFields, register_filter
from indexing.serving.schemas import SearchRequest


@pytest.fixture
def fps() -> Iterator[Filter]:
    toy = Filter(name="fps", type=NUMBER, description="frames per second", column="frame_rate")
    register_filter(toy)
    yield toy
    del FILTERS["fps"]


def test_a_registered_filter_is_in_the_http_schema_and_in_the_command_line(fps: Filter) -> None:
    schema = SearchRequest.model_json_schema()["properties"]["filters"]["properties"]["fps"]
    assert schema == {"description": "frames per second", **fps.type.json_schema}
    assert parse_filters(["fps=24..30"]) == {"fps": (24.0, 30.0)}
    assert parse_filters(["fps=25"]) == {"fps": 25.0}
    with pytest.raises(ValueError, match=r"filter 'fps=fast': the value must be a number"):
        parse_filters(["fps=fast"])


def test_a_registered_filter_becomes_a_condition_on_its_column(fps: Filter) -> None:
    fields = FilterFields()
    assert fps.name in fields.names()
    assert fields.compile({"fps": (24, None)}).condition == "frame_rate >= 24.0"
    request = SearchRequest.model_validate({"clip": "a", "filters": {"fps": [24, 30]}})
    condition = fields.compile(request.query().filters).condition
    assert condition == "frame_rate >= 24.0 and frame_rate <= 30.0"
    with pytest.raises(ValueError, match="filter 'fps' is 'fast'; it must be a number"):
        fields.compile({"fps": "fast"})


def test_without_it_the_name_is_refused_and_no_name_is_taken_twice() -> None:
    assert "fps" not in SearchRequest.model_json_schema()["properties"]["filters"]["properties"]
    with pytest.raises(ValueError, match="no filter is named 'fps'"):
        FilterFields().compile({"fps": 25})
    with pytest.raises(ValueError, match="'label' is registered already"):
        register_filter(Filter(name="label", type=TEXT, description="again"))


def test_dots_make_a_range_of_numbers_only() -> None:
    assert parse_filters(["twists=1..2.5"]) == {"twists": (1.0, 2.5)}
    assert parse_filters(["note=see p. 2..3"]) == {"note": "see p. 2..3"}
    assert parse_filters(['note=["a..b", "c"]']) == {"note": ["a..b", "c"]}
