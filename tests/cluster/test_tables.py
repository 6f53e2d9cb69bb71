import io
import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cluster.tables import text_table, wide_console

ROOT = Path(__file__).resolve().parents[2]


def shown(table, width: int = 60) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def test_brackets_are_text_in_every_place() -> None:
    table = text_table(("[bold]", "b"), [("[red]x.mp4", Text("[/]"))], title="[link=a]")
    assert all(text in shown(table) for text in ("[bold]", "[red]x.mp4", "[/]", "[link=a]"))


def test_numbers_are_right_aligned_and_whole_columns_are_not_folded() -> None:
    rows = [("a-long-name-of-a-clip", "1.5", "many words " * 8), ("b", "10.25", "")]
    text = shown(text_table(("clip", "score", "note"), rows, right=("score",), whole=("clip",)))
    assert "a-long-name-of-a-clip" in text
    ends = [line.index(value) + len(value) for line in text.splitlines() for value in ("1.5", "10.25") if f" {value} " in line]  # fmt: skip
    assert len(set(ends)) == 1


def test_without_headings_there_is_no_head() -> None:
    text = shown(text_table(("", ""), [("a", "b")], framed=False))
    assert [line.split() for line in text.splitlines()] == [["a", "b"]]


def test_a_file_gets_wide_lines(capsys) -> None:
    wide_console().print(text_table(("a",), [("word " * 25,)], framed=False))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_tables_and_progress_bars_are_made_in_one_place_each() -> None:
    """A table made elsewhere would read brackets in names as markup again."""
    makers = re.compile(r"\bTable\((?!\))|rich\.progress|\.add_column\(")
    allowed = {ROOT / "cluster" / "tables.py", ROOT / "cluster" / "progress.py"}
    allowed.add(ROOT / "benchmarks" / "harness" / "overall.py")  # the bar of a whole job of parts
    packages = ("cluster", "encoders", "training", "indexing", "benchmarks")
    others = [
        str(path.relative_to(ROOT))
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if path not in allowed and makers.search(path.read_text())
    ]
    assert others == []
