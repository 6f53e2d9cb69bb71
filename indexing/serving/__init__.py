"""Answers over HTTP: routes, batching of concurrent queries, limits, the web page, deployment on Ray Serve.

Read in this order: guard, schemas, uploads, metrics, spans, batching, media, clip_urls, routes, app, config, deploy.
"""

__all__ = ["app", "batching", "clip_urls", "config", "deploy"]
