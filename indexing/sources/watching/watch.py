"""tfcovr watch: a collection that follows a folder of videos."""

from indexing.sources.watching.config import WatchConfig as Config

EXAMPLES = """
  tfcovr watch /videos --bundle BUNDLE --milvus-uri http://HOST:19530 --run-dir runs/videos
  tfcovr watch s3://BUCKET/FOLDER --bundle BUNDLE --milvus-uri http://HOST:19530 --run-dir runs/bucket
"""


def run(config: Config) -> int:
    """Until Ctrl-C or SIGTERM; what is done goes to stderr."""
    from rich.console import Console

    from indexing.sources.watching.run import watch_archive

    watch_archive(config, console=Console(stderr=True, log_path=False))
    return 0
