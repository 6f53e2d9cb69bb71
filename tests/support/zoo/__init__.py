"""A zoo of media files, the comparison of their frames with FFmpeg's, and their mutants; `make test-long` takes all of them."""
