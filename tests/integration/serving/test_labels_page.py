"""Labelling in a real browser: keys, undo, ends of a span, thumbs; no click is lost by a closed page or a killed service."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from cluster.network import free_port
from indexing.labelling.clicks import Clicks
from indexing.labelling.journal import JOURNAL_NAME, read_journal
from tests.support.labelled_archive import open_app

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def labels_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("labels")


def wait_for_questions(address: str) -> None:
    """The first refit imports scikit-learn, which takes long on a busy machine."""
    for _ in range(1000):
        try:
            with urllib.request.urlopen(f"{address}/v1/labels/next", timeout=100):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the service asks nothing")


@pytest.fixture(scope="module")
def address(unlabelled, tiny_bundle, labels_dir) -> Iterator[str]:
    port = free_port()
    app = open_app(unlabelled, tiny_bundle, labels_dir)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.05)
    address = f"http://127.0.0.1:{port}"
    wait_for_questions(address)
    yield address
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def context() -> Iterator[object]:
    """One browser with its storage, which outlives pages."""
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_context(viewport={"width": 390, "height": 844})
        opened.set_default_timeout(60_000)
        playwright.expect.set_options(timeout=60_000)  # the first refit imports scikit-learn
        yield opened
        playwright.expect.set_options(timeout=5_000)
        browser.close()


def stored(folder: Path) -> Clicks:
    return read_journal(folder / JOURNAL_NAME)[0]


def open_sheet(context, address: str):
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f'{address}/?q={{"clip":"clip/1"}}')
    playwright.expect(page.locator(".hit").first).to_be_visible()
    page.keyboard.press("Escape")  # out of the field that has the focus
    page.locator("#labelling-button").click()
    playwright.expect(page.locator("#label-name")).to_contain_text("clip/")
    return page, complaints


def test_keys_label_undo_and_move_ends(context, address, labels_dir) -> None:
    page, complaints = open_sheet(context, address)
    expect = playwright.expect
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    first = page.locator("#label-name").text_content()
    page.keyboard.press("l")
    page.keyboard.type("kind 0")
    page.keyboard.press("Enter")
    expect(page.locator("#label-name")).not_to_have_text(first)
    expect(page.locator("#label-choices button").first).to_contain_text("kind 0")
    second = page.locator("#label-name").text_content()
    page.keyboard.press("1")
    expect(page.locator("#label-name")).not_to_have_text(second)
    page.keyboard.press("u")
    expect(page.locator("#label-name")).to_have_text(second)
    page.keyboard.press("y")
    expect(page.locator("#label-name")).not_to_have_text(second)
    third = page.locator("#label-name").text_content()
    expect(page.locator("#label-player video.ready")).to_have_count(1)
    before = page.locator("#label-end").text_content()
    page.keyboard.press("}")
    page.keyboard.press("]")
    expect(page.locator("#label-end")).not_to_have_text(before)
    assert page.locator("#label-player video").evaluate("video => video.paused")
    expect(page.locator("#labelling-button")).to_have_text("label")  # nothing waits
    clicks = stored(labels_dir)
    assert [clicks.state(name).label for name in (first, second)] == ["kind 0", "kind 0"]
    moved = clicks.state(third)
    assert moved.is_moved
    frame_s = moved.end_s - float(before.split()[0])
    assert frame_s == pytest.approx(1 / 25, abs=0.03)  # of 25 a second, or of the measured rate
    page.keyboard.press("Escape")
    expect(page.locator("#labelling")).to_be_hidden()
    assert complaints == []
    page.close()


def test_a_thumb_on_an_answer_is_a_label_where_the_query_has_one(
    context, address, labels_dir
) -> None:
    page = context.new_page()
    page.goto(f'{address}/?q={{"clip":"clip/1"}}')
    page.locator(".hit [data-key='more like this']").first.click()
    # Neither the query clip nor an edit says which label is meant.
    playwright.expect(page.locator("#label-note")).to_contain_text("ranks the answers only")
    page.close()


def test_clicks_of_a_page_that_is_closed_while_the_service_is_away_are_stored_later(
    context, address, labels_dir
) -> None:
    before = len(stored(labels_dir))
    page, _ = open_sheet(context, address)
    context.route("**/v1/labels/clicks", lambda route: route.abort())
    names = []
    for _ in range(3):
        names.append(page.locator("#label-name").text_content())
        page.keyboard.press("l")
        page.keyboard.type("kind 1")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#label-name")).not_to_have_text(names[-1])
    playwright.expect(page.locator("#labelling-button")).to_contain_text("waiting")
    page.close()
    assert len(stored(labels_dir)) == before
    context.unroute("**/v1/labels/clicks")
    page = context.new_page()
    page.goto(address)
    playwright.expect(page.locator("#labelling-button")).to_have_text("label")
    for _ in range(100):
        if len(stored(labels_dir)) == before + 3:
            break
        page.wait_for_timeout(50)
    clicks = stored(labels_dir)
    assert len(clicks) == before + 3
    assert all(clicks.state(name).label for name in names)
    page.close()


@pytest.mark.long
def test_no_click_is_lost_by_a_service_that_is_killed(
    context, unlabelled, tiny_bundle, tmp_path: Path
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"

    def start() -> subprocess.Popen:
        command = [sys.executable, "-m", "tests.support.labelled_archive", unlabelled, tiny_bundle, tmp_path, port]  # fmt: skip
        process = subprocess.Popen([str(part) for part in command])
        wait_for_questions(address)
        return process

    process = start()
    try:
        page, _ = open_sheet(context, address)
        names = []
        for number in range(6):
            names.append(page.locator("#label-name").text_content())
            page.keyboard.press("l")
            page.keyboard.type(f"kind {number}")
            page.keyboard.press("Enter")
            if number == 2:
                process.send_signal(signal.SIGKILL)
                process.wait()
            playwright.expect(page.locator("#label-name")).not_to_have_text(names[-1])
        process = start()
        playwright.expect(page.locator("#labelling-button")).to_have_text("label", timeout=90_000)
        clicks = stored(tmp_path)
        assert [clicks.state(name).label for name in names] == [f"kind {n}" for n in range(6)]
        lines = (tmp_path / JOURNAL_NAME).read_text().splitlines()
        ids = [json.loads(line)["click_id"] for line in lines]
        assert len(ids) == len(set(ids)) == 6
        page.close()
    finally:
        process.kill()
        process.wait()
