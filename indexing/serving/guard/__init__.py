"""Everything between a socket and the app: connections, limits, access, refusals, and queues of slow work.

Read in this order: problems, limits, rates, access, middleware, connections, work_queue.
"""

__all__ = ["access", "connections", "limits", "middleware", "problems", "work_queue"]
