"""Where work runs: Ray, storage, retry, and what this machine has. Knows no model, video or Milvus."""
