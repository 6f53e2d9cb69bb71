"""The page in a real browser: pictures load, nothing is wider than a phone, the console is silent."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from benchmarks.report.page import write_report

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
# Appended to a copy of the page: looks at it from inside and writes down what it sees.
PROBE = """<script>
addEventListener("load", () => {
  const images = [...document.images].map(image => image.naturalWidth);
  const root = document.documentElement;
  const seen = {images, overflow: root.scrollWidth - root.clientWidth,
                bars: [...document.querySelectorAll(".fill")].map(bar => bar.offsetWidth),
                lines: document.querySelectorAll("polyline").length};
  document.title = "SEEN" + JSON.stringify(seen) + "SEEN";
});
</script></body>"""


def write(run_dir, name: str, content: object) -> None:
    path = run_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "run"
    (folder / "strips").mkdir(parents=True)
    frames = np.random.default_rng(0).integers(0, 255, (64, 640, 3), np.uint8)
    Image.fromarray(frames).save(folder / "strips" / "a.jpg")
    strip = "strips/a.jpg"
    hits = [
        {"clip_id": f"c{n}", "label": "5235d", "score": 0.9, "is_right": n < 3, "strip": strip}
        for n in range(5)
    ]
    answer = {"query_clip_id": "q", "query_label": "5233d", "edit_text": "with 2.5 twists"}
    write(folder, "answers.json", [{**answer, "query_strip": strip, "hits": hits}] * 3)
    write(folder, "summary.json", {"top1": 0.8, "seconds_total": 700})
    row = {"map@50": 0.4, "map@50_low": 0.35, "map@50_high": 0.45, "recall@1": 0.5}
    rows = [{"name": name, **row} for name in ("composed", "video_only", "text_only")]
    write(folder, "evaluate/metrics.json", {"rows": rows, "num_queries": 100})
    (folder / "stage1").mkdir()
    lines = [json.dumps({"step": n, "loss": 2 / (n + 1), "val_top1": 0.1 * n}) for n in range(8)]
    (folder / "stage1" / "metrics.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.parametrize("width", [500, 1200])  # Chromium makes no window narrower than 500
def test_the_page_opens(run_dir, tmp_path, width: int) -> None:
    page = write_report(run_dir)
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", PROBE))
    result = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},900",
            "--virtual-time-budget=3000",
            "--dump-dom",
            probed.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    seen = json.loads(result.stdout.split("SEEN")[1].replace("&quot;", '"'))
    assert seen["images"] == [640] * 18
    assert seen["overflow"] == 0
    assert all(length > 0 for length in seen["bars"])
    assert seen["lines"] == 2
    assert "CONSOLE" not in result.stderr
