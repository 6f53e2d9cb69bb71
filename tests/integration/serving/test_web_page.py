"""The page in a real browser: ask, see, play, chain, undo, upload, permalink, and what it says when something fails."""

import shutil
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from cluster.network import free_port
from indexing.search.client import SearchClient, SearchOptions
from indexing.serving.app import UPLOAD_LIMITS, create_app

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def address(archive, tiny_bundle) -> Iterator[str]:
    options = SearchOptions(num_threads=1, files=False, limits=UPLOAD_LIMITS)

    def open_client() -> SearchClient:
        return SearchClient(str(archive[0] / "milvus"), "clips", tiny_bundle, options=options)

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(open_client), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def test_a_person_asks_plays_chains_undoes_and_uploads(address, browser, archive) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    expect = playwright.expect
    page.goto(f'{address}/?q={{"clip":"clip/1"}}')
    expect(page.locator(".hit")).to_have_count(11)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    page.keyboard.press("/")
    page.keyboard.type("in tuck")
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_contain_text("in tuck")
    expect(page.locator("#chain li")).to_have_count(1)
    assert "in%20tuck" in page.url
    permalink = page.url

    first = page.locator("#query-player video")
    page.wait_for_timeout(1200)
    assert (
        0.2 <= first.evaluate("video => video.currentTime") <= 0.8 + 0.1
    )  # the clip's span, looped
    assert page.locator("video:not([aria-label])").count() == 0

    page.keyboard.press("Escape")
    page.keyboard.press("u")
    expect(page.locator("#chain li")).to_have_count(0)
    page.locator(".hit button:has-text('edit this')").first.click()
    expect(page.locator("#query-name")).not_to_contain_text("clip/1 ")

    page.goto(permalink)
    expect(page.locator("#message")).to_contain_text("in tuck")
    complaints = [
        one for one in complaints if "404" not in one
    ]  # two rows name no video, on purpose
    page.locator("#upload").set_input_files(str(archive[0] / "1.mp4"))
    expect(page.locator("#query-name")).to_have_text("1.mp4")
    expect(page.locator(".hit")).to_have_count(12)
    # Two rows name no video, on purpose: their media are not found.
    assert [one for one in complaints if "404" not in one] == []

    page.locator("#upload").set_input_files(str(archive[0] / "text.mp4"))
    expect(page.locator("#message")).to_contain_text("container_not_allowed")
    page.goto(f'{address}/?q={{"clip":"nowhere"}}')
    expect(page.locator("#message")).to_contain_text("no such clip")
    page.close()


def test_a_person_browses_keeps_two_answers_and_takes_a_list_of_cuts(address, browser) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    expect = playwright.expect
    page.goto(f'{address}/?q={{"clip":"clip/1"}}')
    expect(page.locator(".hit")).to_have_count(11)
    expect(page.locator("#timeline button")).to_have_count(9)  # the clips of the query clip's video
    # Posters stand before videos play.
    assert page.locator(".hit .frames img").count() >= 9

    page.keyboard.press("Escape")
    page.locator("#browse-button").click()
    page.locator("#labels button", has_text="l0").click()
    expect(page.locator("#found .poster")).to_have_count(4)
    page.locator("#found .poster").first.click()
    expect(page.locator("#browse")).to_be_hidden()
    expect(page.locator("#query-name")).to_contain_text("l0")

    # What had the focus has it after the answers are drawn again.
    page.goto(f'{address}/?q={{"clip":"clip/1"}}')
    expect(page.locator(".hit")).to_have_count(11)
    playable = page.locator(".hit:has(a[href*='clip%2F2']), .hit:has(a[href*='clip%2F3'])")
    for number in (0, 1):
        playable.nth(number).locator("[data-key=keep]").click()
        assert page.evaluate("document.activeElement.dataset.key") == "keep"
    expect(page.locator("#basket-button")).to_have_text("basket (2)")
    page.locator(".hit [data-key='more like this']").first.click()
    expect(page.locator("#message")).to_contain_text("answers")
    assert page.evaluate("document.activeElement.closest('.hit') !== null")

    page.reload()  # the basket is still there
    expect(page.locator("#basket-button")).to_have_text("basket (2)")
    page.locator("#basket-button").click()
    with page.expect_download() as download:
        page.locator("#basket .main").click()
    text = download.value.path().read_text()
    assert "0.mp4" in text
    assert text.count("FROM CLIP NAME") == 2
    page.close()
