"""AsyncSearchClient: the search client for asyncio; queries run in threads, so that the event loop goes on."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from indexing.search.client import ClipPlace, ComposedQuery, SearchClient, SearchResult
from indexing.search.types import UploadedVideo


class AsyncSearchClient:
    """As SearchClient, which is thread-safe, with `await`; opened by `async with` or by the first query."""

    def __init__(self, *where: Any, **how: Any) -> None:
        """The arguments of SearchClient; nothing is opened yet."""
        self._where, self._how = where, how
        self._client: SearchClient | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> SearchClient:
        """The client itself, opened once."""
        async with self._opening:
            if self._client is None:
                self._client = await asyncio.to_thread(SearchClient, *self._where, **self._how)
            return self._client

    async def __aenter__(self) -> "AsyncSearchClient":
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await asyncio.to_thread(self._client.close)

    async def search(
        self,
        *,
        clip: str | bytes | UploadedVideo | ClipPlace = "",
        edit: str | Sequence[str] = (),
        **how: Any,
    ) -> SearchResult:
        """As SearchClient.search."""
        client = await self.open()
        return await asyncio.to_thread(client.search, clip=clip, edit=edit, **how)

    async def search_many(self, queries: Sequence[ComposedQuery]) -> list[SearchResult]:
        """As SearchClient.search_many."""
        return await asyncio.to_thread((await self.open()).search_many, queries)

    async def place_of(self, clip_id: str) -> ClipPlace | None:
        """As SearchClient.place_of."""
        return await asyncio.to_thread((await self.open()).place_of, clip_id)
