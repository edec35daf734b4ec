"""A headless Chromium and one page of it, spoken to over a pipe (Chrome DevTools Protocol). Python's own library alone.

    CHROMIUM    the browser (chromium, or what else of its kind is in PATH)
"""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile

from story import until

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find():
    """The browser's path, or `None`."""
    named = os.environ.get("CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One page: what it asked for, and what its console says, are kept from the first byte on."""

    def __init__(self, tap):
        self.folder = tempfile.mkdtemp(prefix="gateway-chromium-")
        self.requests, self.complaints, self.waiting, self.last, self.session = [], [], {}, 0, None
        self.process = None
        tap.ends.append(self.stop)

    async def start(self):
        to, mine = os.pipe()
        ours, back = os.pipe()
        # The protocol's pipes are descriptors 3 and 4. bash knows how to move those of two digits.
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", f'exec "$@" 3<&{to} 4>&{back}', "chromium", find()]
            + ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions"]
            + ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"]
            + [f"--user-data-dir={self.folder}", "--remote-debugging-pipe", "about:blank"],
            pass_fds=(to, back),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to)
        os.close(back)
        self.pipe = os.fdopen(mine, "wb", buffering=0)
        reader = asyncio.StreamReader(limit=1 << 26)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb"))
        self.listening = asyncio.create_task(self.listen(reader))
        target = await self.call("Target.createTarget", url="about:blank")
        self.session = (await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True))["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        return self

    def stop(self):
        # A session of its own: whoever is in it was started here.
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def listen(self, reader):
        while True:
            try:
                message = json.loads((await reader.readuntil(b"\0"))[:-1])
            except asyncio.IncompleteReadError:
                return
            if "id" in message:
                self.waiting.pop(message["id"]).set_result(message)
            else:
                self.heard(message["method"], message["params"])

    def heard(self, method, params):
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(str([one.get("value", one.get("description")) for one in params["args"]]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    async def call(self, method, **params):
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        answer = self.waiting[self.last] = asyncio.get_running_loop().create_future()
        self.pipe.write(json.dumps(message).encode() + b"\0")
        found = await asyncio.wait_for(answer, 20)
        if "error" in found:
            raise RuntimeError(f"{method}: {found['error']}")
        return found["result"]

    async def open(self, url):
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def value(self, script):
        """What `script` comes to. It is the test's own, so the page's policy does not hold for it."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    async def until(self, script, seconds=10):
        return await until(lambda: self.value(script), seconds, 0.05)

    async def text(self, selector="body"):
        return await self.value(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    async def sees(self, words, selector="body", seconds=10):
        """Waits until `words` stand there."""
        return await self.until(f"(document.querySelector({json.dumps(selector)})?.innerText ?? '').includes({json.dumps(words)})", seconds)

    async def click(self, selector, words=""):
        """Clicks the first element that is there to be seen, that `selector` finds and that has `words` in it, as a mouse does."""
        script = f"""(() => {{
            const node = [...document.querySelectorAll({json.dumps(selector)})].find((one) => one.getClientRects().length && one.innerText.includes({json.dumps(words)}));
            if (!node) return null;
            node.scrollIntoView({{block: "center"}});
            const box = node.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        await self.until(script)
        # What has just come up can be hit once it is painted, where it is then.
        await self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")
        place = await self.value(script)
        if not place:
            raise RuntimeError(f"nothing to click: {selector} {words}")
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    async def type(self, selector, text):
        """Types `text` in the place of what stands in the field."""
        await self.until(f"document.querySelector({json.dumps(selector)}) !== null")
        await self.value(f"(() => {{ const node = document.querySelector({json.dumps(selector)}); node.focus(); node.select(); }})()")
        await self.call("Input.insertText", text=text)

    async def key(self, name):
        code = {"Enter": 13, "Tab": 9, "ArrowRight": 39}[name]
        text = {"text": "\r"} if name == "Enter" else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=name, windowsVirtualKeyCode=code, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=name, windowsVirtualKeyCode=code)

    async def size(self, width, height=900):
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    async def scheme(self, name):
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    async def shot(self, path):
        found = await self.call("Page.captureScreenshot", format="png")
        with open(path, "wb") as file:
            file.write(base64.b64decode(found["data"]))
