"""The search benchmark: latency, load, scale, quality, hostile requests.

Read in this order: texts, service, load, latency, quality, scale, hostile, run.
"""
