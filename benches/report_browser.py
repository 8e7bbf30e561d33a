"""Looks at report pages in a real browser: `python benches/report_browser.py PAGE.html ... [--shots FOLDER]`.

At 1280 and 390 pixels, light and dark: nothing may reach out of the window sideways, and no letter of a figure may be
smaller than 10 pixels. Needs playwright (PyPI) and a Chromium (`apt-get install chromium`); without them it says so
and ends.
"""

import argparse
import shutil
import sys
from pathlib import Path

SIZES = (1280, 390)
LEAST = 10.0
SMALLEST = """Math.min(1e9, ...[...document.querySelectorAll('svg text')].map(text => {
    const matrix = text.getScreenCTM()
    return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(matrix.a, matrix.b)
}))"""
OUTSIDE = "document.documentElement.scrollWidth - window.innerWidth"


def main() -> None:
    """Looks at each page in each size and mode, and fails where one is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--shots", type=Path, help="folder for pictures of what was seen")
    options = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("Skipped: playwright is not installed (pip install playwright).")
    if browser is None:
        sys.exit("Skipped: there is no chromium (apt-get install chromium).")
    faults = 0
    flags = ["--no-sandbox", "--disable-gpu"]
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=browser, args=flags) as chromium,
    ):
        for path in options.pages:
            for width in SIZES:
                for mode in ("light", "dark"):
                    tab = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=mode)
                    tab.goto(path.resolve().as_uri())
                    outside, smallest = tab.evaluate(OUTSIDE), tab.evaluate(SMALLEST)
                    wrong = outside > 0 or smallest < LEAST
                    faults += wrong
                    print(
                        f"{path}, {width} px, {mode}: {outside} px outside, smallest letter of a figure "
                        f"{smallest:.1f} px{' WRONG' if wrong else ''}"
                    )
                    if options.shots is not None:
                        options.shots.mkdir(parents=True, exist_ok=True)
                        name = f"{path.stem}-{width}-{mode}.png"
                        tab.screenshot(path=options.shots / name, full_page=True)
                    tab.close()
    sys.exit(min(faults, 1))


if __name__ == "__main__":
    main()
