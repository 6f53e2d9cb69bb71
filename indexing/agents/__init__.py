"""Other ways to ask: an asyncio twin of the search client, and tools for agents (MCP).

Read in this order: async_client, tools, mcp_server.
"""

__all__ = ["async_client", "mcp_server", "tools"]
