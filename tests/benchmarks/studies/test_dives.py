"""The study's AIM rows, and that it refuses what it does not know."""

from dataclasses import replace

import pytest

from benchmarks.dives.archive import ArchiveConfig, write_archive
from benchmarks.studies import dives
from encoders.video_encoder.config import AimConfig


def test_aim_is_measured_in_order_shuffled_and_by_single_frames(tmp_path):
    clips = write_archive(
        tmp_path / "archive",
        ArchiveConfig(classes=("103b", "203b"), clips_per_class=(2, 1, 1), size=32),
        quiet=True,
    )
    (variant,) = [v for v in dives.variants(None) if v.name == "aim_random_image_part"]
    encoder = AimConfig(num_frames=3, image_size=16, patch_size=8, width=16, depth=1, num_heads=2)
    config = replace(
        variant.config,
        encoder=encoder,
        loop=replace(variant.config.loop, num_epochs=1, batch_size=2),
    )
    variant = dives.Variant(name="aim", config=config)
    rows = dives.run_variant(variant, clips, tmp_path / "run")
    names = ["ordered", "shuffled", "single_frame"]
    assert [(row["name"], row["num_clips"]) for row in rows] == [(name, 2) for name in names]
    assert all(row["top1"] in (0, 0.5, 1) for row in rows)


def test_aim_starts_from_a_folder_or_at_random(tmp_path, capsys):
    def starts(given):
        chosen = {one.name: one.config for one in dives.variants(given)}
        return {n: c.pretrained_image for n, c in chosen.items() if n.startswith("aim")}

    assert starts(None) == {"aim_random_image_part": None}
    started = {"aim": "folder", "aim_full": "folder", "aim_all_weights": "folder"}
    assert starts("folder") == started | {"aim_random_image_part": None}
    with pytest.raises(SystemExit):
        dives.main(["--out", str(tmp_path), "--only", "aim_small"])
    assert "'aim_small' is unknown; choose from demo_seed0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        dives.main(["--out", str(tmp_path), "--aim-start", str(tmp_path)])
    assert "is not a folder of" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
