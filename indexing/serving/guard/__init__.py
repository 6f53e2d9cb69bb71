"""Everything between a socket and the app: connections, limits, access, refusals.

Read in this order: problems, limits, rates, access, middleware, connections.
"""

__all__ = ["access", "connections", "limits", "middleware", "problems"]
