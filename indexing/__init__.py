"""Bundle and clips to Milvus to answers: plan, write, ledger, verify, search."""

import os

# gRPC tells a terminal of every connection that it opens again; what fails for good is raised.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
