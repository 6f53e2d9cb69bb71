"""Clips and text to vectors: decoding, models, bundles, backends, metrics. Knows no Ray and no Milvus."""
