"""Where Milvus answers: folders are served once, named as folders, and never made by who only wants to read."""

import pytest

from indexing.milvus import open_collection
from indexing.milvus_server import place_of, require_archive, serve_milvus


def test_a_folder_is_served_at_one_address_and_known_by_its_name(tmp_path):
    folder = tmp_path / "milvus"
    with serve_milvus(str(folder)) as address, serve_milvus(str(folder)) as again:
        assert address == again
        assert place_of(address) == str(folder)
        with (
            open_collection(str(folder), "nothing") as collection,
            pytest.raises(ValueError, match=rf"Milvus at '{folder}' has no collection 'nothing'"),
        ):
            collection.check(encoder_id="encoder")
    assert place_of(address) == address


def test_a_server_is_named_without_its_password():
    assert place_of("http://user:secret@host:19530") == "http://host:19530"


def test_reading_makes_no_folder(tmp_path):
    with pytest.raises(ValueError, match="is no Milvus Lite folder; run `tfcovr index` first"):
        require_archive(str(tmp_path / "nowhere"))
    require_archive(str(tmp_path))
    require_archive("http://host:19530")
