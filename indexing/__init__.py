"""Bundle and clips to Milvus to answers: plan, write, ledger, verify, search."""
