#!/usr/bin/env python3
"""The admin API under racing writers, with leaders that are killed while they save, and with 10,000 wrong tokens."""

import asyncio
import http.client
import json
import os
import random
import signal
import time
from collections import Counter

import story
from story import Backend, Client, Load, Nginx, until

TOKEN = "0123456789abcdef"
WRITERS = 4
KILLS = 25
ROUNDS = 20


def document(backend):
    return {
        "version": 1,
        "upstreams": [{"name": "u", "nodes": [backend.node]}],
        "routes": [
            {"name": "all", "paths": ["/*"], "upstream": "u"},
            *({"name": f"w{n}", "paths": [f"/w{n}"], "upstream": "u", "labels": {"n": "0"}} for n in range(WRITERS)),
        ],
    }


async def call(port, method, path, body=None, *headers):
    kind = {"PATCH": "application/merge-patch+json"}.get(method, "application/json")
    lines = [f"Authorization: Bearer {TOKEN}", *headers] + ([f"Content-Type: {kind}"] if body is not None else [])
    async with Client(port, retry=False) as client:
        answer = await client.request(method, path, lines, b"" if body is None else json.dumps(body).encode())
        return answer, json.loads(answer.body or b"null")


async def tell(tap):
    backend = await Backend(tap, "u").start()
    nginx = Nginx(tap, document(backend), server="location /v1/ { gateway_admin token_file=TOKENS; }")
    tokens = nginx.folder / "tokens"
    tokens.write_text(f"ann {TOKEN}\n")
    tokens.chmod(0o600)
    text = nginx.conf.read_text().replace("TOKENS", str(tokens))
    text = text.replace(f"gateway_config {nginx.file};", f"gateway_config {nginx.file} mode=api;\ngateway_state {nginx.folder}/state;")
    nginx.conf.write_text(text)
    await nginx.start()
    seed = random.randrange(1 << 32)
    random.seed(seed)
    tap.note(f"seed {seed}")

    # Who saw the same, and writes: one wins.
    wrong = []
    for number in range(ROUNDS):
        answer, _ = await call(nginx.port, "GET", "/v1/routes/all")
        condition = f"If-Match: {answer.headers['etag']}"
        writes = [call(nginx.port, "PATCH", "/v1/routes/all", {"labels": {"by": f"{number}-{n}"}}, condition) for n in range(8)]
        statuses = sorted(answer.status for answer, _ in await asyncio.gather(*writes))
        if statuses != [200] + [412] * 7:
            wrong.append(statuses)
    tap.ok(not wrong, f"{ROUNDS} times 8 writers with one If-Match: one wins", *wrong[:5])

    # Writers go on while leaders are killed.
    acknowledged, tried, others, ended = [0] * WRITERS, [0] * WRITERS, Counter(), asyncio.Event()
    revisions = []

    async def write(n):
        while not ended.is_set():
            tried[n] += 1
            answer, value = await call(nginx.port, "PATCH", f"/v1/routes/w{n}", {"labels": {"n": str(tried[n])}})
            if answer.status == 200:
                acknowledged[n] = tried[n]
                revisions.append(value["revision"])
            else:
                others[(answer.status, value.get("code"))] += 1

    load = Load(nginx.port, 4, path="/x", pause=0.005).start()
    writers = [asyncio.create_task(write(n)) for n in range(WRITERS)]
    slowest = 0.0
    for _ in range(KILLS):
        await asyncio.sleep(random.uniform(0.05, 0.3))
        leader, began, before = nginx.leader_pid(), time.monotonic(), len(revisions)
        if leader is None:
            continue
        os.kill(leader, signal.SIGKILL)
        if not await until(lambda: len(revisions) > before + WRITERS, 8):
            tap.note("no write came through within 8 s of a kill")
        slowest = max(slowest, time.monotonic() - began)
    ended.set()
    await asyncio.gather(*writers)
    await load.stop()
    tap.note(f"{sum(acknowledged)} writes acknowledged, {dict(others)}, slowest takeover {slowest:.2f} s")
    tap.ok(set(others) <= {(503, "admin.leader")}, "a write that was not done, or nobody knows, says so", dict(others))
    tap.ok(len(set(revisions)) == len(revisions) and len(revisions) > KILLS, "no revision was given twice", len(revisions))
    tap.ok(not load.bad and not load.cuts, "no request failed", load.summary())

    async def right(name):
        lost = []
        for n in range(WRITERS):
            _, value = await call(nginx.port, "GET", f"/v1/routes/w{n}")
            kept = int(value["labels"]["n"])
            if not acknowledged[n] <= kept <= tried[n]:
                lost.append((n, acknowledged[n], kept, tried[n]))
        tap.ok(not lost, name, *lost)

    await right("what was acknowledged is there")
    torn = []
    for path in (nginx.folder / "state/revisions").glob("*.json"):
        try:
            about, text = path.read_text().splitlines()
            assert json.loads(about)["revision"] == int(path.stem) and json.loads(text)["version"] == 1
        except (ValueError, AssertionError) as error:
            torn.append((path.name, error))
    tap.ok(not torn, "no revision is torn", *torn)
    nginx.process.send_signal(signal.SIGQUIT)
    await until(lambda: nginx.process.poll() is not None, 10)
    await nginx.start()
    await right("also after a restart")

    # Guesses.
    before = nginx.rss()
    statuses = Counter()

    async def guess(client, number):
        answer = await client.get("/v1/status", headers=[f"Authorization: Bearer 0123456789abc{number:05}"])
        statuses[answer.status] += 1

    async def guesses(first):
        async with Client(nginx.port) as client:
            for number in range(first, first + 1_250):
                await guess(client, number)

    began = time.monotonic()
    await asyncio.gather(*(guesses(first) for first in range(0, 10_000, 1_250)))
    seconds = time.monotonic() - began
    tap.ok(sum(statuses.values()) == 10_000 and set(statuses) == {401, 429}, "10,000 wrong tokens: none let in", statuses)
    tap.ok(10 <= statuses[401] <= 10 + seconds + 2, "ten are looked at, then one a second", statuses, f"{seconds:.1f} s")

    def elsewhere():
        connection = http.client.HTTPConnection("127.0.0.1", nginx.port, source_address=("127.0.0.2", 0))
        connection.request("GET", "/v1/status", headers={"Authorization": f"Bearer {TOKEN}"})
        return connection.getresponse().status

    tap.ok(await asyncio.to_thread(elsewhere) == 200, "another address is not in their way")
    lines = [json.loads(line) for line in (nginx.folder / "state/audit.log").read_text().splitlines()]
    refused = Counter(line.get("code") for line in lines)
    tap.ok(refused["admin.token"] == statuses[401] and refused["admin.throttled"] <= 2 * (seconds + 2),
           "every one that was looked at stands in the audit log", refused)
    unsaid = sum(line.get("unsaid", 0) for line in lines) + refused["admin.throttled"]
    tap.ok(unsaid <= statuses[429], "and of the others how many there were", f"{unsaid} of {statuses[429]}")
    tap.note(f"{10_000 / seconds:.0f} guesses a second, memory {before} before and {nginx.rss()} after")
    written = [line for line in lines if line["method"] == "PATCH" and line["status"] == 200]
    tap.ok(len(written) >= len(revisions), "every write stands there", f"{len(written)} of {len(revisions)}")


story.main(tell, limit=240)
