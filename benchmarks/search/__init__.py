"""The search benchmark: latency, load, scale, quality, hostile requests, floods.

Read in this order: texts, service, load, latency, quality, scale, hostile, hostile_bodies, floods,
trust, run.
"""
