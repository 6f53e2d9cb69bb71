"""How near the code is to the paper's equations, formats and scale.

Read in this order: encoder, released, release, triplets, embeddings, two_workers, bad_files, bad_inputs, milvus, run.
"""
