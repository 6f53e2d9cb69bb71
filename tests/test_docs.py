"""The pages keep their word: every command parses, and every target, option, link, file and route that they name exists."""

import ast
import importlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import tyro
from starlette.testclient import TestClient

import tfcovr
from indexing.serving.app import create_app
from indexing.serving.schemas import SearchRequest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
]
MAX_README_LINES = 150
SHELLS = ("bash", "console", "sh", "shell")
# Programs that are not ours. What is looked at is that they are spelled rightly, and that files they name exist.
OTHERS = (
    "docker",
    "helm",
    "kubectl",
    "pip",
    "pyright",
    "pytest",
    "ruff",
    "source",
    "export",
    "ray",
)
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"(?:cluster|encoders|training|indexing|benchmarks|tests|docs)/[\w./-]+")
_OPTION = re.compile(r"--[a-z][\w.-]*")


@dataclass(frozen=True)
class Command:
    """One command of a page, as words."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


class _Parsed(BaseException):
    """The real parser has accepted the command line; nothing of the command runs."""


def fenced_blocks(text: str, languages: Sequence[str]) -> Iterator[str]:
    for language, block in _FENCE.findall(text):
        if language in languages:
            yield block


def commands_of(text: str, page: str) -> Iterator[Command]:
    """The commands of every shell block, with what follows `&&`, `;`, `|` and `&` as commands of their own."""
    for block in fenced_blocks(text, SHELLS):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="&;|<>")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) <= set("&;|"):
                    if words:
                        yield Command(page, tuple(words))
                    words = []
                else:
                    words.append(word)


def check(command: Command) -> None:
    """AssertionError with the command where it is wrong."""
    program, *rest = (word for word in command.words if not re.fullmatch(r"[A-Z_]+=\S*", word))
    program = program.removeprefix(".venv/bin/")
    if ">" in rest:
        rest = rest[: rest.index(">")]
    if program == "tfcovr":
        _parse(command, lambda: tfcovr.main(rest))
    elif program in ("python", "python3"):
        _check_python(command, rest)
    elif program == "make":
        _check_make(command, rest)
    elif program == "curl":
        _check_curl(command, rest)
    else:
        assert program in OTHERS, f"{command}: {program!r} is not a known program"
        if program == "ray" and "--" in rest:
            assert rest[:2] == ["job", "submit"], (
                f"{command}: only `ray job submit` takes a command"
            )
            check(Command(command.page, tuple(rest[rest.index("--") + 1 :])))
        for word in rest:
            if word.endswith((".yaml", ".txt")) or _FILE.fullmatch(word):
                assert (ROOT / word).exists(), f"{command}: {word} does not exist"


def _check_python(command: Command, rest: Sequence[str]) -> None:
    if rest[0] == "-m" and rest[1] in ("pytest", "venv"):
        return
    if rest[:2] == ["-m", "tfcovr"]:
        _parse(command, lambda: tfcovr.main(list(rest[2:])))
        return
    name = rest[1] if rest[0] == "-m" else rest[0].removesuffix(".py").replace("/", ".")
    arguments = list(rest[2:] if rest[0] == "-m" else rest[1:])
    assert rest[0] == "-m" or (ROOT / rest[0]).is_file(), f"{command}: {rest[0]} does not exist"
    try:
        module = importlib.import_module(name)
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"{name}.__main__")
    except ModuleNotFoundError as error:
        raise AssertionError(f"{command}: {error}") from error
    _parse(command, lambda: module.main(arguments))


def _parse(command: Command, run: Callable[[], Any]) -> None:
    """Let the real parsers read the command line, and stop when they are done."""
    shown = io.StringIO()
    outcome: object = None
    with redirect_stdout(shown), redirect_stderr(shown):
        try:
            outcome = run()
        except _Parsed:
            return
        except (SystemExit, ValueError) as error:
            outcome = error.code if isinstance(error, SystemExit) else error
    asks_help = {"--help", "--version"} & set(command.words)
    is_list = command.words == ("python", "-m", "benchmarks")
    is_shown = (asks_help or is_list) and outcome == 0
    assert is_shown, f"{command}: {outcome}\n{shown.getvalue()}"


@pytest.fixture(autouse=True)
def _stop_after_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever parses, by tyro or by argparse, gets no further."""
    from argparse import ArgumentParser

    parse_tyro, parse_args = tyro.cli, ArgumentParser.parse_args
    is_in_tyro = False

    def cli(*args: Any, **options: Any) -> None:
        nonlocal is_in_tyro
        is_in_tyro = True
        try:
            parse_tyro(*args, **options)
        finally:
            is_in_tyro = False
        raise _Parsed

    def parse(self: ArgumentParser, *args: Any, **options: Any) -> Any:
        values = parse_args(self, *args, **options)
        if not is_in_tyro:
            raise _Parsed
        return values

    monkeypatch.setattr(tyro, "cli", cli)
    monkeypatch.setattr(ArgumentParser, "parse_args", parse)


@cache
def make_targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _check_make(command: Command, rest: Sequence[str]) -> None:
    for word in rest:
        assert word in make_targets(), f"{command}: the Makefile has no target {word!r}"
    for word in command.words:
        name, equals, _ = word.partition("=")
        is_known = not equals or f"$({name})" in (ROOT / "Makefile").read_text()
        assert is_known, f"{command}: the Makefile does not use {name!r}"


@cache
def _service() -> TestClient:
    """The app without its start: a route that exists answers, or says 503 because the service has not started."""

    def open_client() -> Any:
        raise AssertionError("the service must not start")

    return TestClient(create_app(open_client), raise_server_exceptions=False)


def _check_curl(command: Command, rest: Sequence[str]) -> None:
    addresses = [urlsplit(word) for word in rest if "://" in word.partition("{")[0]]
    assert len(addresses) == 1, f"{command}: it must name one address"
    bodies = [rest[i + 1] for i, word in enumerate(rest) if word in ("-d", "-F")]
    for body in bodies:
        text = body.removeprefix("query=")
        if text.startswith("{"):
            try:
                SearchRequest.model_validate_json(text)
            except ValueError as error:
                raise AssertionError(f"{command}: {error}") from error
    address = addresses[0]
    target = f"{address.path}?{address.query}" if address.query else address.path
    reply = _service().request("POST" if bodies else "GET", target)
    # An empty POST to a route that exists is 415: its body is not JSON.
    expected = (415,) if bodies else (200, 503)
    assert reply.status_code in expected, f"{command}: {target} answers {reply.status_code}"


def anchors_of(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(_FENCE, "", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    broken = []
    for target in _LINK.findall(re.sub(_FENCE, "", text)):
        name, _, anchor = target.partition("#")
        if "://" in name:
            continue
        file = (page.parent / name).resolve() if name else page
        if not file.exists():
            broken.append(f"{page.name}: {target} does not exist")
        elif anchor and anchor not in anchors_of(text if file == page else file.read_text()):
            broken.append(f"{page.name}: {target} is not a heading")
    return broken


def missing_files(text: str) -> list[str]:
    """Files of the repository that a text names in code and that are not there."""
    named = {
        word
        for code in _CODE.findall(re.sub(_FENCE, "", text))
        for word in code.split()
        if _FILE.fullmatch(word)
    }
    return sorted(name for name in named if not any(ROOT.glob(name.rstrip("/"))))


@cache
def known_options() -> frozenset[str]:
    """Every option of every command, as its help shows it."""
    shown = io.StringIO()
    inputs = [[name, "--help"] for name in tfcovr.COMMANDS if name != "train"]
    inputs += [["train", "--recipe", name, "--help"] for name in ("demo_actions", "demo_fusion")]
    inputs += [["train", "--recipe", "tfcovr_base", "--data", "x", "--help"]]
    inputs += [
        ["import-annotations", "table", "--help"],
        ["import-annotations", "tfcovr", "--help"],
        ["import-annotations", "osl", "--help"],
    ]
    inputs += [["collections", "copy", "--help"]]
    for words in inputs:
        with redirect_stdout(shown):
            try:
                tfcovr.main(words)
            except SystemExit:
                continue
    return frozenset(_OPTION.findall(shown.getvalue() + tfcovr.help_text()))


OPTIONS_OF_OTHERS = {
    "--check",
    "--runtime-env-json",
    "--no-deps",
    "--require-hashes",
    "--constraint",
}


def unknown_options(text: str) -> set[str]:
    named = {
        option
        for code in _CODE.findall(re.sub(_FENCE, "", text))
        if not code.startswith("python -m")  # parsed as a whole
        for option in _OPTION.findall(code)
    }
    return named - known_options() - OPTIONS_OF_OTHERS


def diffs_of(text: str) -> list[dict[str, list[str]]]:
    """Of every diff block: file -> its lines, with their first character; a new file is one that no `---` names."""
    blocks = []
    for block in fenced_blocks(text, ("diff",)):
        files: dict[str, list[str]] = {}
        for line in block.splitlines():
            if line.startswith("+++ b/"):
                files[line.removeprefix("+++ b/")] = []
            elif files and not line.startswith(("--- ", "@@")):
                files[next(reversed(files))].append(line)
        blocks.append(files)
    return blocks


def outdated_lines(files: dict[str, list[str]]) -> list[str]:
    """Lines that a diff takes for present and that its file does not hold; a file of added lines alone is new."""
    outdated = []
    for name, lines in files.items():
        present = [line[1:] for line in lines if line[:1] in (" ", "-")]
        if not present:
            continue
        path = ROOT / name
        held = path.read_text().splitlines() if path.exists() else []
        outdated += [f"{name}: {line}" for line in present if line.strip() and line not in held]
    return outdated


COMMANDS = [command for page in PAGES for command in commands_of(page.read_text(), page.name)]


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_the_command_parses(command: Command) -> None:
    check(command)


def test_the_pages_show_commands() -> None:
    shown = {command.page for command in COMMANDS}
    assert {"README.md", "quickstart.md", "indexing.md", "clusters.md", "searching.md"} <= shown
    assert {"demo", "test"} <= make_targets()
    named = {words[1] for command in COMMANDS if (words := command.words)[0] == "tfcovr"}
    assert named >= set(tfcovr.COMMANDS) - {"train"}  # shown as training/run.py


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_of_the_page_exist(page: Path) -> None:
    text = page.read_text()
    assert broken_links(page, text) == []
    if page.name != "CHANGELOG.md":  # which names what is gone
        assert missing_files(text) == []


def test_inline_commands_and_options_exist() -> None:
    for page in PAGES:
        text = page.read_text()
        for code in _CODE.findall(re.sub(_FENCE, "", text)):
            words = code.split()
            if len(words) > 1 and words[0] == "tfcovr" and words[1][0].islower():
                assert words[1] in tfcovr.COMMANDS, f"{page.name}: `{code}`"
            if words[:2] == ["python", "-m"] and len(words) > 2:
                check(Command(page.name, tuple(words)))
            if len(words) > 1 and words[0] == "make" and words[1] != "X":
                assert words[1] in make_targets(), f"{page.name}: `{code}`"
        if page.name != "CHANGELOG.md":
            assert unknown_options(text) == set(), page.name


def test_python_of_the_pages_imports_names_that_exist() -> None:
    blocks = [block for page in PAGES for block in fenced_blocks(page.read_text(), ("python",))]
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


@pytest.mark.parametrize(
    ("typed", "completed"),
    [(["se"], {"search", "serve"}), (["search", "--milvus-u"], {"--milvus-uri"})],
)
def test_the_completion_completes(typed: list[str], completed: set[str]) -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text()
    (script,) = (block for block in fenced_blocks(text, ("text",)) if "COMPREPLY" in block)
    line = f"""
tfcovr() {{ {shlex.quote(sys.executable)} -m tfcovr "$@"; }}
{script}
COMP_WORDS=(tfcovr {shlex.join(typed)}) COMP_CWORD={len(typed)}
_tfcovr
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    shown = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(shown.stdout.split()) == completed, shown.stderr


def test_the_readme_is_short_and_links_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= MAX_README_LINES
    assert "No licence has been chosen by the owner" in text
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert f"(docs/{page.name})" in text, f"README.md does not link docs/{page.name}"


def test_each_addition_of_the_architecture_is_a_small_diff_of_the_present_files() -> None:
    diffs = diffs_of((ROOT / "docs" / "architecture.md").read_text())
    assert len(diffs) == 6
    for files in diffs:
        assert 1 <= len(files) <= 3
        assert outdated_lines(files) == []


def test_an_outdated_diff_is_caught() -> None:
    text = "```diff\n--- a/Makefile\n+++ b/Makefile\n@@\n demo:\n+new:\n+++ b/new.py\n+x = 1\n```\n"
    (files,) = diffs_of(text)
    assert list(files) == ["Makefile", "new.py"]
    assert outdated_lines(files) == ["Makefile: demo:"]


@pytest.mark.parametrize(
    "line",
    [
        "tfcovr serch --clip a",
        "tfcovr search --bundle b --milvus-uri m --clip a --edits 'with one more twist'",
        "tfcovr search --bundle-dir b --milvus-uri m --clip a",
        "tfcovr index --bundle b --clips c.parquet --milvus-uri m --run-dir r --batch-size many",
        "python training/run.py --recipe demo_actions --run-dir r",
        "python training/run.py --recipe demo_action --clips c.parquet --run-dir r",
        "python training/walk.py --recipe demo_actions --clips c.parquet --run-dir r",
        "python -m benchmarks.index",
        "python -m tfcovr verify --bundle b",
        "tfcovr report table",
        "make demonstration",
        "make demo DEMO_FLAG=--tiny",
        "curl -s http://127.0.0.1:8000/v2/search",
        "curl -s http://127.0.0.1:8000/v1/search",
        """curl -s http://127.0.0.1:8000/v1/search -d '{"clip": "a", "edit": "b"}'""",
        "ray up cluster.yaml",
        "ray job submit -- python -m tfcovr index --clips c",
        "tfcvr demo",
    ],
)
def test_a_wrong_command_is_caught(line: str) -> None:
    (planted,) = commands_of(f"# Page\n\n```bash\n{line}\n```\n", "planted.md")
    with pytest.raises(AssertionError, match=r"planted\.md"):
        check(planted)


def test_continued_and_chained_lines_are_whole_commands() -> None:
    text = "```bash\nmake lint && make test  # both\ntfcovr dives a \\\n    --seed 1 &\n```\n"
    words = [command.words for command in commands_of(text, "p")]
    assert words == [("make", "lint"), ("make", "test"), ("tfcovr", "dives", "a", "--seed", "1")]


def test_wrong_links_files_and_options_are_caught(tmp_path: Path) -> None:
    text = "# A page\n\n[a](gone.md) [b](#a-page) [c](#gone) `encoders/gone.py` `--gone`\n"
    page = tmp_path / "page.md"
    page.write_text(text)
    assert [line.split()[1] for line in broken_links(page, text)] == ["gone.md", "#gone"]
    assert missing_files(text) == ["encoders/gone.py"]
    assert unknown_options(text) == {"--gone"}
