#!/usr/bin/env python3
"""The dashboard in a headless Chromium: what it shows, what it asks for, and what names of a document cannot do to it.

    SHOTS    a folder for screenshots of every view, wide and narrow, light and dark
"""

import json
import os
import sys

import chromium
import story
from story import Backend, Client, Nginx, until

TOKEN = "0123456789abcdef"
# What a page that took names for markup would run.
EVIL = "<img src=x onerror=document.title='broken'>"
VIEWS = ["routes", "upstreams", "breakers", "limits", "canaries", "overlays", "revisions", "explain"]


def document(one, two, new):
    return {
        "version": 1,
        "auth": [{"name": "staff", "jwt": {"issuer": "i", "audience": "a", "keys": [{"alg": "HS256", "secret": TOKEN * 2}]}}],
        "limiters": [{"name": "few", "key": ["ip"], "rate": "2/s", "burst": 5}, {"name": "per-user", "key": ["route", "consumer"], "rate": "100/m"}],
        "upstreams": [
            {"name": "orders", "nodes": [{**one.node, "weight": 3}, two.node], "breaker": {"failures": 500, "window": "10s", "open_for": "5s"}, "outlier": {"consecutive_5xx": 3}},
            {"name": "orders-next", "nodes": [new.node]},
        ],
        "routes": [
            {"name": "all", "paths": ["/*"], "upstream": "orders"},
            {"name": "own", "hosts": ["api.example.com", "*.api.example.com"], "paths": ["/own/{id}", "/a/very/long/path/of/many/segments/that/has/no/place/to/break/*"], "methods": ["GET", "PUT"],
             "auth": ["staff"], "limits": ["few"], "upstream": "orders", "labels": {"team": EVIL}},
            {"name": "split", "paths": ["/split/*"], "upstream": "orders", "canary": {"key": "header:x-user", "variants": [{"name": "stable", "weight": 90}, {"name": "next", "upstream": "orders-next", "weight": 10}]}},
            {"name": "old", "paths": ["/old/{*rest}"], "redirect": {"to": "/new/{rest}", "status": 308}},
            {"name": "evil", "paths": ["/evil"], "reply": {"status": 503, "body": EVIL}},
        ],
    }


async def drained(weights, port, wanted):
    return (await weights())[port] == wanted


async def moved(call, wanted):
    return (await call("GET", "/v1/routes/split/canary"))["percent"] == wanted


async def tell(tap):
    one, two, new = [await Backend(tap, name).start() for name in ("one", "two", "next")]
    server = "location /v1/ { gateway_admin token_file=TOKENS; } location = /dashboard { gateway_dashboard; }"
    nginx = Nginx(tap, document(one, two, new), server=server)
    tokens = nginx.folder / "tokens"
    tokens.write_text(f"ann {TOKEN}\n")
    tokens.chmod(0o600)
    text = nginx.conf.read_text().replace("TOKENS", str(tokens))
    nginx.conf.write_text(text.replace(f"gateway_config {nginx.file};", f"gateway_config {nginx.file} mode=api;\ngateway_state {nginx.folder}/state;"))
    await nginx.start()

    async def call(method, path, body=None):
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        lines = [f"Authorization: Bearer {TOKEN}"] + ([f"Content-Type: {kind}"] if body is not None else [])
        async with Client(nginx.port, retry=False) as client:
            answer = await client.request(method, path, lines, b"" if body is None else json.dumps(body).encode())
            return json.loads(answer.body or b"null")

    async with Client(nginx.port) as client:
        for number in range(40):
            await client.get(f"/{number}")
    changed = await call("PATCH", "/v1/routes/all", {"labels": {"team": "web"}})
    tap.ok(changed["revision"] == 2, "a second revision", changed)

    page = await chromium.Page(tap).start()
    await page.size(1280)
    await page.open(f"http://127.0.0.1:{nginx.port}/dashboard")

    # The token.
    tap.ok(await page.sees("Admin token"), "it asks for the token")
    tap.ok(page.requests[:1] == [f"http://127.0.0.1:{nginx.port}/dashboard"] and set(page.requests[1:]) <= {"data:,"}, "and for nothing else before", page.requests)
    await page.type("input[name=token]", "wrong-wrong-wrong-wrong")
    await page.key("Enter")
    tap.ok(await page.sees("not among those", "#alert"), "a wrong one is said to be one")
    tap.ok(await page.value("sessionStorage.length") == 0, "and forgotten")
    # The browser itself tells of the 401 that this was about.
    page.complaints = [text for text in page.complaints if "401" not in text]
    await page.type("input[name=token]", TOKEN)
    await page.key("Enter")
    tap.ok(await page.sees("revision 2", "#facts"), "the right one lets in")
    tap.ok(await page.value("JSON.stringify([{...sessionStorage}, localStorage.length, document.cookie])") == json.dumps([{"gateway-token": TOKEN}, 0, ""], separators=(",", ":")), "it is kept in the session alone")

    # Routes.
    tap.ok(await page.sees("/own/{id}", "#view") and await page.sees("redirect to"), "routes are shown")
    await page.type("input[type=search]", "api.example.com")
    tap.ok(await page.until("document.querySelectorAll('.item').length === 1"), "and searched")
    await page.click("summary", "own")
    tap.ok(await page.sees("limits: [few]", "pre"), "a route's settings", await page.text("pre"))
    tap.ok(await page.sees(EVIL, "pre"), "what looks like markup is text")
    await page.click("summary a", "orders")
    tap.ok(await page.until("location.hash === '#upstreams/orders'"), "from a route to its upstream")

    # Upstreams.
    tap.ok(await page.sees(f"127.0.0.1:{one.port}", "#view"), "nodes are shown")
    row = "[...document.querySelectorAll('tr')].find((row) => row.innerText.includes(':%d'))?.innerText ?? ''"
    tap.ok("serves" in await page.value(row % one.port), "as they stand", await page.value(row % one.port))
    picks = "Number([...document.querySelectorAll('tr')].filter((row) => /:(%d|%d)/.test(row.innerText)).reduce((sum, row) => sum + Number(row.querySelector('[data-label=Picks]').innerText), 0))" % (one.port, two.port)
    before = await page.value(picks)
    async with Client(nginx.port) as client:
        for number in range(10):
            await client.get(f"/{number}")
    tap.ok(await page.until(f"{picks} === {before + 10}"), "and live: ten more picks show by themselves", before, await page.value(picks))

    # A node that fails is ejected.
    two.status = 500
    async with Client(nginx.port) as client:
        # One that fails is asked little.
        for number in range(2000):
            await client.get(f"/{number}")
            if number % 50 == 49 and any(entry["ejected"] for entry in (await call("GET", "/v1/upstreams/orders/nodes"))["nodes"]):
                break
    tap.ok(await page.sees("ejected", "#view"), "an ejected node is told")
    two.status = 200

    # What is done by hand: nodes, breakers, canaries, bans; each has its call, each is ended again.
    node = "/v1/upstreams/orders/nodes"

    async def weights():
        return {entry["node"].split(":")[1]: entry["weight"] for entry in (await call("GET", node))["nodes"]}

    port = str(two.port)
    await page.click(f"button[aria-label='Drain 127.0.0.1:{port}']")
    tap.ok(await until(lambda: drained(weights, port, 0), 5), "a node is drained")
    tap.ok(await page.sees("drained", "#view") and await page.sees("by ann", "#view"), "and told to be, and by whom")
    await page.click(f"button[aria-label='Weight of 127.0.0.1:{port}']")
    await page.type("#ask-value", "7")
    await page.click("dialog button", "Set")
    tap.ok(await until(lambda: drained(weights, port, 7), 5), "it gets another weight")
    await page.click(f"button[aria-label='End what is set by hand of 127.0.0.1:{port}']")
    tap.ok(await until(lambda: drained(weights, port, 1), 5), "and its own again")
    await page.click("nav a", "Breakers")
    tap.ok(await page.sees("closed", "#view"), "breakers")
    await page.click("button[aria-label='Open the breaker of orders']")
    await page.click("dialog button", "Yes")
    tap.ok(await page.sees("forced open", "#view"), "a breaker is forced open")
    async with Client(nginx.port) as client:
        tap.ok((await client.get("/x")).status == 503, "and refuses")
    await page.click("button[aria-label='Auto for the breaker of orders']")
    tap.ok(await page.until("!document.querySelector('#view').innerText.includes('forced')"), "and is itself again")
    await page.click("nav a", "Limits")
    tap.ok(await page.sees("2/s", "#view"), "limits")
    await page.click("nav a", "Canaries")
    tap.ok(await page.sees("orders-next", "#view"), "canaries")
    slider = "document.querySelector('input[type=range]')"
    tap.ok(await page.until(f"{slider}?.value === '10'"), "as they stand")
    await page.value(f"{slider}.focus()")
    for _ in range(3):
        await page.key("ArrowRight")
    tap.ok(await until(lambda: moved(call, 13), 5), "a slider moves one, by the keyboard too", await call("GET", "/v1/routes/split/canary"))
    tap.ok(await page.sees("13 %", "#view"), "and says where it is")
    await page.click("button", "By the document")
    tap.ok(await until(lambda: moved(call, 10), 5), "the document decides again")
    await page.click("nav a", "Overlays")
    await page.type("input[name=cidr]", "127.0.0.9")
    await page.type("input[name=ttl]", "1h")
    await page.click("button.risk", "Ban")
    tap.ok(await page.sees("bans/127.0.0.9", "#view"), "an address is banned")
    tap.ok((await call("POST", "/v1/explain", {"url": "/", "client": "127.0.0.9"})).get("reason") == "access.banned", "and refused")
    await page.type("input[name=cidr]", "127.0.0.7/8x")
    await page.click("button.risk", "Ban")
    tap.ok(await page.sees("cidr", "#alert"), "what is wrong is told", await page.text("#alert"))
    page.complaints = [text for text in page.complaints if "400" not in text]
    await page.click("button[aria-label='End bans/127.0.0.9']")
    tap.ok(await page.until("!document.querySelector('#view').innerText.includes('127.0.0.9')"), "ended")
    left = await call("GET", "/v1/overlays")
    tap.ok(left.get("items") == [], "nothing is left over", left)

    # Explain.
    await page.click("nav a", "Explain")
    await page.type("input[name=url]", "https://api.example.com/own/1")
    await page.type("textarea", "X-A: 1\nAuthorization: Bearer nothing")
    await page.click("button.main", "Explain")
    tap.ok(await page.sees("401", "#view") and await page.sees("own", "section"), "a refusal is explained", await page.text("section"))
    await page.type("input[name=url]", "/split/x")
    await page.type("textarea", "X-User: a")
    await page.key("Tab")
    await page.click("button.main", "Explain")
    tap.ok(await page.sees("forward", "section"), "and what is forwarded", await page.text("section"))
    await page.type("input[name=url]", "/evil")
    await page.click("button.main", "Explain")
    tap.ok(await page.sees(EVIL, "section"), "a body that looks like markup is text")

    # Revisions.
    await page.click("nav a", "Revisions")
    tap.ok(await page.sees("Revision 2", "#view") and await page.sees("by ann"), "revisions")
    await page.click("button", "What changed")
    tap.ok(await page.sees("+ labels: {team: web}", "#view"), "what one changed", await page.text("#view"))
    await page.click("button", "Roll back")
    tap.ok(await page.sees("Roll back to revision 1?", "dialog"), "a rollback is asked about")
    await page.click("dialog button", "Cancel")
    tap.ok((await call("GET", "/v1/status"))["revision"] == 2, "cancelled")
    await page.click("button", "Roll back")
    await page.click("dialog button", "Yes")
    tap.ok(await page.sees("Revision 3", "#view"), "and done")
    tap.ok("labels" not in await call("GET", "/v1/routes/all"), "as the document says")

    # The whole by hand: keys alone.
    focus = "document.activeElement.matches('a, button, input, textarea, summary')"
    await page.value("document.activeElement.blur()")
    stops = []
    for _ in range(9):
        await page.key("Tab")
        stops.append(await page.value(f"{focus} && document.activeElement.innerText"))
    # From the end of the page the first leads to its beginning.
    tap.ok(all(stop is not False for stop in stops[1:]) and "Routes" in stops, "reached by the keyboard", stops)
    unnamed = "[...document.querySelectorAll('input, textarea, select')].filter((one) => !one.closest('label') && !one.ariaLabel).length"

    # On a telephone, and everywhere else.
    folder = os.environ.get("SHOTS")
    for width in (360, 1280):
        await page.size(width, 800)
        for view in VIEWS:
            await page.value(f"void (location.hash = '#{view}/')" if view != "explain" else "void (location.hash = '#explain')")
            await page.until(f"document.querySelector('nav a[aria-current]')?.hash === '#{view}' && !document.querySelector('#view').innerText.includes('Loading')")
            if view in ("routes", "upstreams"):
                await page.value("document.querySelectorAll('.item:not([open]) summary').forEach((one) => one.click())")
            wide = await page.value("[document.documentElement.scrollWidth, ...[...document.querySelectorAll('#view *, header *')].filter((one) => one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))]")
            tap.ok(wide == [width], f"{view} fits into {width} pixels", wide)
            if await page.value(unnamed):
                tap.ok(False, f"{view}: every field has a label")
            for scheme in ("light", "dark") if folder else ():
                await page.scheme(scheme)
                await page.shot(f"{folder}/{view}-{width}-{scheme}.png")

    hosts = {url.split("/")[2] for url in page.requests if not url.startswith("data:")}
    tap.ok(hosts == {f"127.0.0.1:{nginx.port}"}, "no other host was asked for anything", hosts)
    tap.ok(not page.complaints, "and the console is silent", *page.complaints[:8])
    tap.ok("broken" not in await page.value("document.title"), "no name of the document was run")

    # What a policy is for: a script that came in is not run.
    await page.value("(() => { const one = document.createElement('script'); try { one.text = 'window.came = 1'; } catch {} document.body.append(one); })()")
    tap.ok(await page.value("window.came === undefined"), "an inserted script does not run")

    await page.click("button", "Forget token")
    tap.ok(await page.sees("Admin token") and await page.value("sessionStorage.length") == 0, "the token is forgotten on demand")


if not chromium.find():
    print("1..0 # SKIP no Chromium: apt install chromium")
    sys.exit(0)
story.main(tell, 180)
