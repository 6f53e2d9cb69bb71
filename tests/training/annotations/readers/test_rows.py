"""Literals and rows of other people's files: what is data is read, what is not is refused with its place."""

import pytest

from training.annotations.readers.rows import (
    Problems,
    parse_literal,
    plain_number,
    read_csv_rows,
    read_lines,
)


@pytest.mark.parametrize(
    "value",
    [{"107b": {"modification": "it's 'one' more"}}, ["a", "b"], {"a": [1, 2.5, None, (True,)]}],
)
def test_literals_come_back(value):
    assert parse_literal(str(value)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os').system('true')", "not a Python literal"),
        ("[x for x in (1,)]", "not a Python literal"),
        ("{'a': open('/etc/passwd')}", "not a Python literal"),
        ("f'{1}'", "not a Python literal"),
        ("[1, 2", "not a Python literal"),
        ("{[]: 1}", "not a Python literal"),
        ("[" * 21 + "]" * 21, "nested brackets"),
        ("-" * 90_000 + "1", "not a Python literal"),
        ("'" + "x" * 100_001 + "'", "100003 characters"),
    ],
)
def test_everything_else_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_literal(text)


def rows_of(tmp_path, content):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    return list(read_csv_rows(path, ("a", "b"), Problems()))


def test_rows_know_their_lines_over_quoted_line_breaks_and_blank_lines(tmp_path):
    rows = rows_of(tmp_path, b'\xef\xbb\xbfa,b,c\r\n1,"two\nlines",x\r\n\r\n3,4,\r\n')
    assert [(row.line, row.cells) for row in rows] == [
        (3, {"a": "1", "b": "two\nlines", "c": "x"}),
        (5, {"a": "3", "b": "4", "c": ""}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: the file is empty"),
        (b"a,c\n", "line 1: column 'b' is missing"),
        (b"a,b,a\n", "line 1: column 'a' occurs twice"),
        (b"a,b\n1\n", "line 2: 1 columns; the header has 2"),
        (b"a,b\n1,\xff\n", "not UTF-8"),
        (b'a,b\n1,"x\n', "not CSV"),
        (b"a,b\n1," + b"x" * 1_100_000 + b"\n", "field larger than field limit"),
    ],
)
def test_what_is_wrong_in_a_csv_is_named_with_its_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"rows\.csv: .*{message}"):
        rows_of(tmp_path, content)


def test_cells_are_checked_by_the_column(tmp_path):
    [row] = rows_of(tmp_path, b"a,b\n ,../x\n")
    with pytest.raises(ValueError, match=r"line 2: a is ' '; it must be a non-empty text"):
        row.text("a")
    with pytest.raises(ValueError, match=r"line 2: b is '\.\./x'; it must be a name"):
        row.name("b")
    with pytest.raises(ValueError, match=r"b is .*; it must be a number"):
        row.parsed("b", float, "a number")


def test_lines_that_are_not_blank_have_their_numbers(tmp_path):
    (tmp_path / "x.txt").write_text(" one \n\n  \ntwo")
    assert list(read_lines(tmp_path / "x.txt", Problems())) == [(1, "one"), (4, "two")]


def test_problems_end_the_run_or_are_listed():
    def read(problems):
        for number in range(4):
            with problems.of_row():
                if number % 2:
                    raise ValueError(f"row {number}")

    with pytest.raises(ValueError, match="row 1"):
        read(Problems())
    listing = Problems(skip_bad=True)
    read(listing)
    assert listing.messages == ["row 1", "row 3"]


def test_a_bad_row_costs_itself_and_blank_rows_and_unnamed_columns_are_nothing(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b',a,b\n0,1,2\n1,\xff,3\n , ,\n2,4\n3,"5"x,6\n4,7,8,,\n5,9,10\n')
    problems = Problems(skip_bad=True)
    rows = list(read_csv_rows(path, ("a", "b"), problems))
    assert [row.cells for row in rows] == [
        {"a": "1", "b": "2"},
        {"a": "7", "b": "8"},
        {"a": "9", "b": "10"},
    ]
    assert [message.split(": ")[1:3] for message in problems.messages] == [
        ["line 3", "not UTF-8; save the table as CSV in UTF-8"], ["line 5", "2 columns; the header has 3"], ["line 6", "not CSV"],
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["1_0", "\u0661", "nan", "inf", "0x1", "1 0", "", "1e2", "+1"])
def test_only_plain_decimals_are_numbers(text):
    with pytest.raises(ValueError, match="plain decimal"):
        plain_number(text)
    assert (plain_number("10"), plain_number("-.5"), plain_number("2.")) == (10, -0.5, 2)
