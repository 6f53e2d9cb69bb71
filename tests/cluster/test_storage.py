import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.storage import (
    atomic_path,
    file_system_of,
    require_shared,
    scratch_folder,
    write_atomic,
)

MOUNTS = """\
overlay / overlay rw 0 0
filer:/export /mnt/shared nfs4 rw 0 0
/dev/sdb1 /mnt/shared/scratch ext4 rw 0 0
filer:/b /mnt/my\\040disk lustre rw 0 0
"""


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "deep" / "done.json"
    write_atomic(path, "old")

    def full_disk(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, b"new")
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["done.json"]


def test_a_file_written_in_place_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "video.mov"

    def fail_half_way() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        fail_half_way()
    assert list(path.parent.iterdir()) == []
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_the_innermost_mount_decides() -> None:
    assert file_system_of("/mnt/shared/runs", mounts=MOUNTS) == "nfs4"
    assert file_system_of("/mnt/shared/scratch/runs", mounts=MOUNTS) == "ext4"
    assert file_system_of("/mnt/sharedish", mounts=MOUNTS) == "overlay"
    assert file_system_of("/mnt/my disk/runs", mounts=MOUNTS) == "lustre"


@pytest.mark.parametrize(
    ("uri", "num_nodes", "is_refused"),
    [
        ("/mnt/shared/scratch/runs", 1, False),
        ("/mnt/shared/scratch/runs", 2, True),
        ("/mnt/shared/runs", 2, False),
        ("file:///home/me/runs", 2, True),
        ("http://milvus.internal:19530", 8, False),
        ("http://127.0.0.1:19530", 8, True),
        ("http://root:TOPSECRET@127.0.0.1:19530", 8, True),
        ("http://[::1]:19530", 8, True),
        ("s3://bucket/runs", 8, False),
    ],
)
def test_storage_of_one_node_is_refused_with_several(uri, num_nodes, is_refused) -> None:
    def check() -> None:
        require_shared(
            uri,
            num_nodes=num_nodes,
            what="the Milvus URI",
            needed="http://HOST:19530",
            mounts=MOUNTS,
        )

    if not is_refused:
        check()
        return
    with pytest.raises(ValueError, match=r"2 nodes|8 nodes") as error:
        check()
    assert "TOPSECRET" not in str(error.value)
    assert uri.replace("root:TOPSECRET@", "") in str(error.value)
    assert "http://HOST:19530" in str(error.value)


_HOLD = """
import sys, time
from pathlib import Path
from cluster.storage import scratch_folder
with scratch_folder(Path(sys.argv[1]), ".scratch-") as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_a_scratch_folder_until_the_next_one(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, ".scratch-") as own:
        command = [sys.executable, "-c", _HOLD, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            other = Path(process.stdout.readline().strip())
            with scratch_folder(tmp_path, ".scratch-") as third:
                assert {path.name for path in tmp_path.iterdir()} == {own.name, other.name, third.name}  # fmt: skip
            process.kill()
        assert (other / "file").exists()
        with scratch_folder(tmp_path, ".scratch-"):
            assert own.exists()
            assert not other.exists()
    assert not list(tmp_path.iterdir())
