"""The status page in a real browser, over a real server with clients at work.

`make test-page` runs it and leaves pictures in build/page/ for people to look at.
"""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Server, Watched, eventually
from playwright.sync_api import Browser, expect

Open = Callable[..., Watched]
HOSTILE = """<script>window.hacked=1</script><img src=x onerror="window.hacked=2">'"`&amp;</pre>"""
TURNED = "abc\u202e}gnp.exe\u2066 \u05d0\u05d1\u05d2 \x07\x1b[2J\u200b"


def test_an_idle_server_says_that_it_is_free_and_empty(server: Server, watch: Open) -> None:
    """Nothing has happened yet."""
    page = watch().page
    expect(page.locator("#holder")).to_have_text("Free")
    expect(page.locator("#state")).to_have_text("Serving")
    expect(page.locator("#queue")).to_have_text("Nobody waits.")
    expect(page.locator("#files")).to_have_text("Nothing has been published yet.")
    expect(page).to_have_title(f"Baton {server.address}")


def test_holder_queue_and_data_change_while_one_looks(server: Server, watch: Open) -> None:
    """One holds, two wait; the holder dies, and is revoked before its lease ends."""
    watched = watch()
    page = watched.page
    first = server.holder("first")
    expect(page.locator("#hold")).to_contain_text("first")
    server.work("second", 3, 0.3, text="from the second")
    server.work("third", 3, 0.3, text="from the third")
    expect(page.locator("#queue tr")).to_have_count(2)
    expect(page.locator("#queue")).to_contain_text("second")
    expect(page.locator("#waiting")).to_have_text("2 waiting")
    watched.shot("held")
    first.kill()
    token = json.loads(server.baton("who", "--json"))["holder"]["token"]
    server.baton("revoke", "--reason", "it is dead", str(token))
    expect(page.locator("#files pre").first).to_contain_text("from the second 2")
    expect(page.locator("#files pre").first).to_contain_text("from the third 2")
    expect(page.locator("#files")).not_to_contain_text("Nothing has been published")
    expect(page.locator("#holder")).to_have_text("Free")
    # Seven grants of three clients, one taken away.
    expect(page.locator("#timeline .band")).to_have_count(7)
    expect(page.locator("#timeline .band.lost")).to_have_count(1)
    expect(page.locator("#timeline")).to_have_attribute("aria-label", re.compile("7 grants to 3"))
    page.get_by_text("The same as a table").click()
    expect(page.locator("#grants tr")).to_have_count(7)
    expect(page.locator("#grants")).to_contain_text("it is dead")
    watched.shot("after")


def test_under_load_rates_and_latencies_are_plotted(server: Server, watch: Open) -> None:
    """Eight clients as fast as they can."""
    watched = watch()
    page = watched.page
    for number in range(8):
        server.work(f"busy{number}", 100_000, 0.0, text=f"line of {number}")
    watched.looks(8)
    rate = page.locator(".plot .now").first
    expect(rate).to_have_text(re.compile(r"^[1-9][\d.]*/s$"))
    answer = page.locator(".plot", has_text="Answer").locator(".now")
    expect(answer).to_have_text(re.compile("median .*s · 99 % .*s"))
    eventually("many grants are drawn", lambda: page.locator("#timeline .band").count() > 20)
    points = page.locator(".plot polyline").first.get_attribute("points") or ""
    assert len(points.split()) >= 6
    watched.shot("load")
    page.emulate_media(color_scheme="dark")
    watched.looks(1)
    watched.shot("load-dark")


def test_text_from_clients_is_shown_and_never_run(server: Server, watch: Open) -> None:
    """Names, hosts, contents and reasons that are markup, quotes, controls, turned around."""
    watched = watch()
    page = watched.page
    server.work("<b onclick=1>", 1, 0.0, text=HOSTILE + TURNED, host=HOSTILE[:60]).wait()
    holder = server.holder("\u202e\"'><svg/>", text=HOSTILE, host=TURNED)
    server.work("<i>\x1b[31m\u2066x", 1, text=TURNED, host="<h1>\nhost")
    expect(page.locator("#queue tr td")).to_have_count(6)
    expect(page.locator("#files pre").first).to_contain_text("<script>window.hacked=1</script>")
    expect(page.locator("#files pre").first).to_contain_text(r"\u{202e}")
    expect(page.locator("#queue")).to_contain_text(r"<i>\u{1b}[31m\u{2066}")
    expect(page.locator("#hold")).to_contain_text(r"""\u{202e}"'><svg/>""")
    token = json.loads(server.baton("who", "--json"))["holder"]["token"]
    server.baton("revoke", "--reason", HOSTILE, str(token))
    page.get_by_text("The same as a table").click()
    expect(page.locator("#grants")).to_contain_text("""onerror="window.hacked=2">'"`&amp;""")
    watched.shot("hostile")
    # Its end is to be seen, which is the newest.
    assert page.locator("#files pre").first.evaluate(AT_END)
    # No element came of it, and nothing was asked for elsewhere (the fixture looks at that too).
    assert page.locator("main script, main img, main b, main i, main h1").count() == 0
    assert page.locator("main svg svg").count() == 0
    holder.kill()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_shows_everything_without_scrolling_sideways(
    server: Server, watch: Open, scheme: str
) -> None:
    """As on a telephone, in both schemes."""
    watched = watch(viewport={"width": 320, "height": 640}, color_scheme=scheme)
    page = watched.page
    server.work("x" * 15, 2, 0.0, text="long" * 200, host="h" * 63).wait()
    server.holder("narrow")
    server.work("waits", 1, host="w" * 63)
    expect(page.locator("#queue tr")).to_have_count(1)
    watched.looks(1)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 320, f"{wide} pixels wide"
    watched.shot(f"narrow-{scheme}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_told_from_their_ground(server: Server, watch: Open, scheme: str) -> None:
    """WCAG's contrast of 4.5 for every text that is to be seen."""
    server.holder("holder")
    server.work("waiter", 1)
    watched = watch(color_scheme=scheme)
    expect(watched.page.locator("#queue")).to_contain_text("waiter")
    watched.looks(2)
    low = watched.page.evaluate(CONTRAST)
    assert low == []


def test_the_keyboard_reaches_everything(server: Server, watch: Open) -> None:
    """Skip link, pause, the queue, the span, the table, the files, the links."""
    server.work("client", 2, 0.0).wait()
    watched = watch()
    page = watched.page
    expect(page.locator("#files pre")).to_have_count(2)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the lock"
    expect(page.locator(".skip")).to_be_in_viewport()
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if reached[-1] == "BODY":
            break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"focus cannot be seen on {reached[-1]}"
    for wanted in ["pause", "span", "SUMMARY", "PRE", "A", "DIV"]:
        assert wanted in reached, f"{wanted} is not reached: {reached}"
    page.locator("#pause").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#state")).to_contain_text("Paused")
    page.keyboard.press("Space")
    expect(page.locator("#state")).to_have_text("Serving")


def test_a_screen_reader_finds_names_roles_and_headings(server: Server, watch: Open) -> None:
    """What assistive technology is told, and that it is not told it every second."""
    server.work("client", 2, 0.0).wait()
    watched = watch()
    page = watched.page
    watched.looks(2)
    expect(page.get_by_role("main")).to_have_count(1)
    for level, name in [(1, "Baton"), (2, "Lock"), (2, "Queue"), (2, "Recent grants"), (2, "Files")]:
        expect(page.get_by_role("heading", level=level, name=re.compile(name))).to_have_count(1)
    expect(page.get_by_role("region", name="Lock", exact=True)).to_be_visible()
    expect(page.get_by_role("columnheader", name="Position")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("2 grants to 1 clients"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("Requests: now"))).to_be_visible()
    expect(page.get_by_role("meter", name="Sessions")).to_be_visible()
    expect(page.get_by_role("combobox", name="Show")).to_be_visible()
    unnamed = page.evaluate(
        "[...document.querySelectorAll('[tabindex], button, select, progress, meter, svg[role]')]"
        ".filter(e => !e.hidden && !e.ariaLabel && !e.labels?.length && !e.textContent.trim()"
        " && !e.getAttribute('aria-labelledby')).map(e => e.outerHTML)"
    )
    assert unnamed == []
    page.evaluate(
        "window.told = 0; new MutationObserver(() => window.told += 1)"
        ".observe(document.getElementById('state'), {childList: true, characterData: true,"
        " subtree: true})"
    )
    watched.looks(3)
    assert page.evaluate("window.told") == 0


def test_a_server_that_is_gone_is_said_to_be_gone(server: Server, watch: Open) -> None:
    """And nothing that is shown is taken for news."""
    page = watch().page
    expect(page.locator("#state")).to_have_text("Serving")
    server.process.kill()
    expect(page.locator("#state")).to_contain_text("No answer from the server")
    expect(page.locator("#state")).to_have_attribute("data-state", "bad")


@pytest.mark.flags("--waiter-limit", "1", "--data-limit", "100KiB")
def test_limits_are_shown_before_they_are_reached(server: Server, watch: Open) -> None:
    """The gauges have their ends from the settings."""
    page = watch().page
    expect(page.locator("#gauge-waiters")).to_contain_text("0 of 1")
    expect(page.locator("#gauge-data")).to_contain_text("0 B of 100.0 KiB")
    expect(page.locator("#gauge-sessions")).to_contain_text("0 of 200,000")


def test_the_endpoint_lets_nothing_else_in(server: Server) -> None:
    """A strict policy on every answer, and the same documents as the command line."""
    server.work("client", 2, 0.0).wait()
    for path in ["/", "/page.js", "/api/live", "/metrics", "/nothing"]:
        request = urllib.request.Request(server.url + path)
        try:
            reply = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            reply = error
        policy = reply.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
    fetched = json.load(urllib.request.urlopen(server.url + "/api/history"))
    told = json.loads(server.baton("history", "--json"))
    assert fetched == told
    fetched = json.load(urllib.request.urlopen(server.url + "/api/files"))
    assert fetched == json.loads(server.baton("files", "--json"))
    fetched = json.load(urllib.request.urlopen(server.url + "/api/status"))
    assert fetched.keys() == json.loads(server.baton("status", "--json")).keys()
    eventually("nobody holds", lambda: "null" in server.baton("who", "--json"))


def test_a_cluster_shows_its_servers(tmp_path: Path, browser: Browser) -> None:
    """A member names the leader and itself; on its own it leads."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    member = Server(tmp_path, "--node", "1", "--cluster", f"1=127.0.0.1:{port}")
    try:
        context = browser.new_context()
        page = Watched(context, member).page
        expect(page.locator("#servers")).to_contain_text("leads, shows this page")
        expect(page.locator("#servers")).to_contain_text(member.address)
        member.work("client", 2, 0.0, text="in a cluster").wait()
        expect(page.locator("#files pre").first).to_contain_text("in a cluster")
        context.close()
    finally:
        member.stop()


AT_END = "pre => pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 2"

CONTRAST = """() => {
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const color = rgb(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.querySelectorAll("body *:not(option)")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.getClientRects().length === 0) continue;
    const style = getComputedStyle(e);
    const ink = rgb(e.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${e.tagName} ${e.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return low;
}"""
