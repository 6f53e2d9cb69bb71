"""A killable child process around native code: `process` is the parent's side, `worker` the child's."""

__all__ = ["process", "worker"]
