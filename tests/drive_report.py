"""Opens a quality report in headless Chromium, drags its sliders, and says what it saw.

    python tests/drive_report.py W/report/index.html PICTURE.png

Speaks the DevTools protocol over a pipe and needs nothing but Python and Chromium. It
fails if the page logs an error or a warning, asks for anything but itself and data
URIs, or if a slider does not uncover what it should.
"""

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

FLAGS = "--headless --no-sandbox --disable-gpu --remote-debugging-pipe".split()
SIZE = 1100, 1740
SHOW = "document.querySelector('.examples').scrollIntoView({block: 'center'})"
STATE = """JSON.stringify([...document.querySelectorAll('.example')].map(e => ({
  value: e.querySelector('input').valueAsNumber,
  covered: [...e.querySelectorAll('.stack img')].slice(1).map(
    i => parseFloat(getComputedStyle(i).clipPath.split(' ')[1])),
  drawn: [...e.querySelectorAll('img')].every(i => i.naturalWidth > 0),
  box: (({x, y, width, height}) => [x, y, width, height])(
    e.querySelector('input').getBoundingClientRect()),
})))"""


class Page:
    """One tab, and the events that it sent."""

    def __init__(self, url: str):
        """Starts the browser and opens a page."""
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        self._browser = subprocess.Popen(
            ["sh", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "sh"]
            + ["chromium", *FLAGS, f"--window-size={SIZE[0]},{SIZE[1]}"],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call(
            "Target.attachToTarget", targetId=target, flatten=True
        )["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._read())

    def call(self, method: str, **params) -> dict:
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                return answer["result"]
            self.events.append(answer)

    def _read(self) -> dict:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 2**20)
            if not part:
                raise EOFError("the browser ended")
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def sliders(self) -> list[dict]:
        """Returns the state of every slider."""
        result = self.call("Runtime.evaluate", expression=STATE)["result"]
        return json.loads(result["value"])

    def drag(self, box: list[float], start: float, end: float) -> None:
        """Drags a slider with the mouse, from one part of its way to another."""
        left, top, width, height = box
        y = top + height / 2
        for kind, part in (
            ("mousePressed", start),
            ("mouseMoved", (start + end) / 2),
            ("mouseMoved", end),
            ("mouseReleased", end),
        ):
            x = left + 8 + part * (width - 16)  # the thumb is 16 pixels wide
            buttons = {"button": "left", "buttons": 1, "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **buttons)

    def picture(self, path: str) -> None:
        """Writes what the window shows."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Ends the browser."""
        self._browser.terminate()
        self._browser.wait()


def main(report: str, picture: str) -> None:
    """Drives every slider to five places."""
    page = Page(Path(report).resolve().as_uri())
    try:
        page.call("Runtime.evaluate", expression=SHOW)
        count, at = len(page.sliders()), {}
        for place in (0.0, 0.25, 0.5, 0.75, 1.0, 0.75):
            for number in range(count):
                box = page.sliders()[number]["box"]
                page.drag(box, at.get(number, 0.5), place)
                at[number] = place
                state = page.sliders()[number]
                value = state["value"]
                expected = [100 * (1 - min(1, max(0, value - i))) for i in (0, 1)]
                print(number, place, value, state["covered"])
                assert abs(value - 2 * place) < 0.03, "the slider did not follow"
                assert state["drawn"], "a picture is empty"
                for covered, wanted in zip(state["covered"], expected, strict=True):
                    assert abs(covered - wanted) < 0.1, "the wrong part is covered"
        page.call("Runtime.evaluate", expression="scrollTo(0, 0)")
        time.sleep(0.2)
        page.picture(picture)
        requests = [
            event["params"]["request"]["url"]
            for event in page.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        outside = [x for x in requests if not x.startswith(("file:", "data:"))]
        logged = [
            event["params"]
            for event in page.events
            if event.get("method")
            in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        ]
        print(f"{len(requests)} requests, {len(outside)} outside; logged: {logged}")
        assert not outside and not logged
    finally:
        page.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
