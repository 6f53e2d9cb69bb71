"""tfcovr shell: ask, edit the answers, undo, from a prompt."""

import cmd
import dataclasses
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from indexing.archive_folder import ArchiveOptions
from indexing.commands.search import open_client, parse_filters, print_answers

if TYPE_CHECKING:
    from rich.console import Console

    from indexing.search.client import SearchClient
    from indexing.search.types import ComposedQuery, SearchResult

EXAMPLES = """
  tfcovr shell runs/mine
  tfcovr shell --bundle runs/demo/stage2/bundle --milvus-uri runs/demo/milvus
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ArchiveOptions):
    """A prompt for chained edits."""

    limit: int = 10
    """Number of answers."""


class SearchShell(cmd.Cmd):
    """A line that is no command is an edit of the current query."""

    prompt = "tfcovr> "
    intro = (
        "clip CLIP_ID | FILE[@START-END], then type what should be different; help lists the rest"
    )

    def __init__(
        self, client: "SearchClient", *, limit: int, console: "Console | None" = None
    ) -> None:
        from rich.console import Console

        super().__init__()
        self._client, self._limit = client, limit
        self._console = console or Console()
        self._history: list[ComposedQuery] = []
        self._result: SearchResult | None = None

    def do_clip(self, text: str) -> None:
        """clip CLIP_ID or clip FILE[@START-END]: start again from this clip."""
        self._ask(lambda: self._query(clip=text.strip()))

    def do_pick(self, text: str) -> None:
        """pick RANK: start again from an answer."""
        hits = self._result.hits if self._result else ()
        if not text.strip().isdigit() or not 1 <= int(text) <= len(hits):
            self._say(f"pick a number from 1 to {len(hits)}")
            return
        hit = hits[int(text) - 1]
        self._ask(lambda: self._query(clip=hit.clip_id))

    def do_keep(self, text: str) -> None:
        """keep ATTRIBUTE or TEXT; keep alone takes it back."""
        self._change(keep=text.strip())

    def do_exclude(self, text: str) -> None:
        """exclude TEXT; exclude alone takes it back."""
        self._change(exclude=text.strip())

    def do_strength(self, text: str) -> None:
        """strength 0 ... 4"""
        try:
            self._change(strength=float(text))
        except ValueError as error:
            self._say(str(error))

    def do_filter(self, text: str) -> None:
        """filter NAME=VALUE ..., quoted where a value has spaces; filter alone takes all back."""
        try:
            self._change(filters=parse_filters(shlex.split(text)))
        except ValueError as error:
            self._say(str(error))

    def do_undo(self, _text: str) -> None:
        """undo: the query before the last change."""
        if len(self._history) < 2:
            self._say("there is nothing to undo")
            return
        self._history.pop()
        query = self._history.pop()
        self._ask(lambda: query)

    def do_quit(self, _text: str) -> bool:
        """quit: leave."""
        return True

    do_EOF = do_quit

    def default(self, line: str) -> None:
        """An edit text."""
        if self._history:
            self._ask(lambda: self._history[-1].then(line))
        else:
            self._ask(lambda: self._query(edits=(line,)))

    def emptyline(self) -> bool:
        """Nothing is repeated."""
        return False

    def _query(self, **values: Any) -> "ComposedQuery":
        from indexing.search.types import ComposedQuery

        return ComposedQuery(limit=self._limit, **values)

    def _change(self, **values: object) -> None:
        if not self._history:
            self._say("choose a clip or type an edit first")
            return
        self._ask(lambda: dataclasses.replace(self._history[-1], **values))

    def _ask(self, make) -> None:  # noqa: ANN001
        try:
            query = make()
            self._result = self._client.search_many([query])[0]
        except ValueError as error:
            self._say(str(error))
            return
        self._history.append(query)
        print_answers(self._console, self._result)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)


def run(config: Config) -> int:
    """Run the prompt."""
    with open_client(config.located()) as client:
        SearchShell(client, limit=config.limit).cmdloop()
    sys.stdout.write("\n")
    return 0
