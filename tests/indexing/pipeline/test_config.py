from dataclasses import replace
from pathlib import Path

import pytest

from indexing.pipeline.config import CONFIG, IndexConfig, read_config, write_config
from indexing.pipeline.workers import WorkerOptions
from indexing.sources.fetch_cache import FetchOptions


def test_a_run_folder_tells_its_settings_without_secrets(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = IndexConfig(
        bundle=Path("bundle"),
        clips="https://me:pw@host/clips.parquet?X-Amz-Signature=abc",
        milvus_uri="http://root:Milvus@host:19530",
        run_dir=Path("run"),
        batch_size=3,
        workers=WorkerOptions(decode="pyav", num_embed_workers=2),
        fetch=FetchOptions(cache_dir=tmp_path / "cache", cache_gib=1.5),
        retry=("too_short",),
        prune=True,
    )
    write_config(config)
    assert read_config(Path("run")) == replace(
        config,
        bundle=tmp_path / "bundle",
        clips="https://host/clips.parquet",
        milvus_uri="http://host:19530",
        retry=(),
        prune=False,
    )
    assert "pw" not in (tmp_path / "run" / CONFIG).read_text()


def test_a_folder_without_a_run_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give the --run-dir of an earlier `tfcovr index`"):
        read_config(tmp_path)


def test_settings_of_another_version_say_how_to_renew_them(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text('{"bundle_dir": "b", "clips": "c"}')
    with pytest.raises(ValueError, match=r"another version: .*bundle_dir.*run `tfcovr index`"):
        read_config(tmp_path)


def test_milvus_lite_imports_nothing(tmp_path: Path) -> None:
    settings = {"bundle": tmp_path, "clips": "clips.parquet", "run_dir": tmp_path / "run"}
    with pytest.raises(
        ValueError, match=r"bulk_import is 'parts', and Milvus Lite .*imports nothing"
    ):
        IndexConfig(**settings, milvus_uri=str(tmp_path / "milvus"), bulk_import="parts")
    config = IndexConfig(**settings, milvus_uri="http://host:19530", bulk_import="s3://k:pw@b/p")
    write_config(config)
    assert read_config(tmp_path / "run").bulk_import == "s3://b/p"


def test_an_import_takes_float32_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"bulk_import is 'parts' and vector_dtype 'float16'"):
        IndexConfig(
            bundle=tmp_path, clips="clips.parquet", run_dir=tmp_path / "run", milvus_uri="http://host:19530",
            bulk_import="parts", vector_dtype="float16",
        )  # fmt: skip
