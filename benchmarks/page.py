"""How much the page transfers and how soon it is usable, in headless Chromium over loopback with an empty cache.

python -m benchmarks.page [--visits 10]
"""

import argparse
from statistics import median
from typing import Any

from benchmarks.service import serving
from tests.support.browser import chromium, missing


def visit(browser: Any, url: str) -> tuple[float, int, int]:
    """Open the page anew; return the ms until it can be used, the bytes it took, the requests."""
    context = browser.new_context()
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    sizes: list[int] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(url)
    page.wait_for_selector("[data-ready]")
    page.wait_for_timeout(200)
    usable = float(page.evaluate("performance.getEntriesByName('usable')[0].startTime"))
    context.close()
    return usable, sum(sizes), len(sizes)


def main() -> None:
    """Print one row for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=10)
    if reason := missing():
        raise SystemExit(reason)
    visits = parser.parse_args().visits
    with serving() as server, chromium() as browser:
        url = server.wait("/ready").url
        seen = [visit(browser, url) for _ in range(visits)]
    times, sizes, requests = zip(*seen, strict=True)
    print("| figure | result |\n| --- | --- |")
    print(f"| usable after, p50 of {visits} visits | {median(times):.0f} ms |")
    print(f"| the slowest | {max(times):.0f} ms |")
    print(f"| transferred | {max(sizes) / 1000:.1f} kB in {max(requests)} requests |")


if __name__ == "__main__":
    main()
