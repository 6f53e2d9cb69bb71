import json

from PIL import Image

from training.trainer.curves import write_curves


def test_a_picture_is_drawn_even_of_a_run_without_scores(tmp_path) -> None:
    lines = [{"step": n, "loss": 3 / n, "learning_rate": 0.1} for n in range(1, 9)]
    for extra in ([], [{"step": 8, "epoch": 1, "val_top1": 0.5}]):
        rows = [json.dumps(line) for line in [*lines, *extra]]
        (tmp_path / "metrics.jsonl").write_text("\n".join(rows) + "\n")
        with Image.open(write_curves(tmp_path, title="a run")) as picture:
            assert picture.size == (1000, 400)
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20
