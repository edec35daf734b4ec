#!/usr/bin/env python3
"""The log: a line for each request, whatever happens to the file, the disk and the processes."""

import asyncio
import json
import signal

import story
from story import Backend, Client, Load, Nginx, total, until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def document(backend):
    return {
        "version": 1,
        "auth": [{"name": "key", "api_key": {"header": "X-Api-Key", "query": "ticket"}}],
        "consumers": [{"name": "ada", "api_key": ["sha256:" + "9" * 64]}],
        "limiters": [{"name": "few", "key": ["header:x-key"], "rate": "1/m", "burst": 1}],
        "upstreams": [{"name": "u", "nodes": [backend.node]}],
        "routes": [
            {"name": "all", "paths": ["/*"], "upstream": "u"},
            {"name": "few", "paths": ["/few"], "upstream": "u", "limits": ["few"]},
            {"name": "guarded", "paths": ["/guarded"], "upstream": "u", "auth": ["key"]},
        ],
    }


class Lines:
    """The lines of a file, each of which must be one."""

    def __init__(self, *files):
        self.all, self.torn = [], []
        for file in files:
            text = file.read_bytes() if file.exists() else b""
            *lines, last = text.split(b"\n")
            if last:
                self.torn.append(last)
            for line in lines:
                try:
                    self.all.append(json.loads(line))
                except ValueError:
                    self.torn.append(line)

    def __len__(self):
        return len(self.all)

    def of(self, uri):
        return [line for line in self.all if line["uri"] == uri]


async def tell(tap):
    backend = await Backend(tap, "u").start()
    nginx = await Nginx(
        tap, document(backend), http="gateway_log logs/gateway.json all redact=own; gateway_node edge-1;",
        server="location /static { return 200 static; }",
    ).start()
    file = nginx.folder / "logs/gateway.json"

    async def settle(count, *files):
        """The lines, once there are so many, or none come any more."""
        await until(lambda: len(Lines(*(files or (file,)))) >= count, 5)
        return Lines(*(files or (file,)))

    async with Client(nginx.port) as client:
        await client.get("/a/b%20c?page=2&token=s3cret&own=s3cret&ticket=s3cret",
                         headers=["User-Agent: quo\"te\\", f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01",
                                  "Referer: https://x.example/?code=s3cret&y=1", "X-Request-Id: story-0001"])
        await client.get("/few", headers=["X-Key: k"])
        await client.get("/few", headers=["X-Key: k"])
        await client.get("/guarded")
        await client.get("/static")
        await client.get("/none", headers=["User-Agent: \xff\x01"])
    lines = await settle(6)
    found = (lines.of("/a/b%20c") or [{}])[0]
    tap.ok(len(lines) == 6 and not lines.torn, "a line for each request", len(lines), lines.torn[:2])
    said = {name: found.get(name) for name in
            ("request_id", "method", "args", "host", "client_ip", "user_agent", "referer", "status", "trace_id", "node",
             "route", "upstream", "decision", "reason", "tries", "upstream_status", "upstream_addr", "user_id")}
    wanted = {
        "request_id": "story-0001", "method": "GET", "args": "page=2&token=***&own=***&ticket=***", "host": "story",
        "client_ip": "127.0.0.1", "user_agent": "quo\"te\\", "referer": "https://x.example/?code=***&y=1", "status": 200,
        "trace_id": TRACE, "node": "edge-1", "route": "all", "upstream": "u", "decision": "forward", "reason": None,
        "tries": 1, "upstream_status": 200, "upstream_addr": f"127.0.0.1:{backend.port}", "user_id": None,
    }
    tap.ok(said == wanted, "what it says",
           *(f"{name}: {said[name]!r}, not {value!r}" for name, value in wanted.items() if said[name] != value))
    tap.ok(found.get("span_id") not in (None, "00f067aa0ba902b7") and found.get("gateway_time", 0) > 0
           and found.get("bytes_sent", 0) > 0, "a span of its own, the time that we took, the bytes that were sent", found)
    few = lines.of("/few")
    tap.ok([(line["status"], line["decision"], line["reason"], line["limit"]) for line in few]
           == [(200, "forward", None, "PASSED"), (429, "refuse", "limit.exceeded", "REJECTED")], "a refusal says why", few)
    guarded = (lines.of("/guarded") or [{}])[0]
    tap.ok((guarded.get("status"), guarded.get("reason")) == (401, "auth.missing"), "so does one for want of a key",
           guarded)
    static = (lines.of("/static") or [{}])[0]
    tap.ok(static.get("status") == 200 and static.get("decision", 0) is None and static.get("route", 0) is None,
           "`all`: what the gateway did not decide on", static)
    tap.ok("s3cret" not in file.read_text() and "s3cret" not in nginx.log(), "no secret in it")

    # What a request is called reaches the backend: the trace goes on, our span is its parent.
    heads = []
    backend.heads = heads
    async with Client(nginx.port) as client:
        await client.get("/trace1", headers=[f"traceparent: 00-{TRACE}-00f067aa0ba902b7-00", "tracestate: a=b"])
        await client.get("/trace2", headers=["traceparent: nonsense", "tracestate: a=b"])
        await client.get("/trace3")
    backend.heads = None
    lines = await settle(9)
    parents = [head_line(head, "traceparent") for head in heads]
    states = [head_line(head, "tracestate") for head in heads]
    logged = [(line["trace_id"], line["span_id"]) for line in lines.all[6:9]]
    tap.ok(len(parents) == 3 and all(len(parent) == 1 for parent in parents)
           and [tuple(parent[0].split("-")[1:3]) for parent in parents] == logged and logged[0][0] == TRACE
           and len({span for _, span in logged}) == 3, "the backend is told the trace and the span that are logged",
           parents, logged)
    tap.ok([parent[0][-2:] for parent in parents] == ["00", "01", "01"] and states == [["a=b"], [], []],
           "a decision not to sample holds, and `tracestate` goes only with a valid `traceparent`", parents, states)

    # Rotation under load: rename, then USR1.
    start = len(lines)
    load = Load(nginx.port, 16, path="/rotate").start()
    files = [file]
    for number in range(5):
        await asyncio.sleep(0.4)
        old = file.with_suffix(f".json.{number}")
        file.rename(old)
        files.append(old)
        nginx.process.send_signal(signal.SIGUSR1)
        await until(file.exists, 5)
    await load.stop()
    lines = await settle(start + load.sent, *files)
    tap.ok(not load.bad and not lines.torn and len(lines) == start + load.sent,
           "five rotations under load: every request has its line, and every line is whole",
           f"{load.sent} requests, {len(lines) - start} lines, {len(lines.torn)} torn")
    ids = [line["request_id"] for line in lines.all if line["uri"] == "/rotate"]
    tap.ok(len(set(ids)) == len(ids), "none is there twice", len(ids) - len(set(ids)))

    # A reload, a killed worker, a killed leader: whoever answered has its line.
    start = len(lines)
    load = Load(nginx.port, 8, path="/deaths").start()
    await asyncio.sleep(0.3)
    nginx.reload()
    await asyncio.sleep(1)
    story.send(nginx.leader_pid(), signal.SIGKILL)
    await asyncio.sleep(1.5)
    await load.stop()
    answered = load.sent - len(load.cuts)
    lines = await settle(start + answered, *files)
    count = len(lines.of("/deaths"))
    ids = {line["request_id"] for line in lines.of("/deaths")}
    tap.ok(len(ids) >= answered and count - len(ids) <= 1000 and not lines.torn,
           "a reload and a killed leader lose no line",
           f"{answered} answers, {len(ids)} requests in {count} lines, {len(lines.torn)} torn, {load.summary()}")

    metrics = await nginx.metrics()
    tap.ok(total(metrics, "gateway_log_lines_total", result="dropped") == 0
           and total(metrics, "gateway_log_lines_total", result="written") >= len(lines) - 1, "the metrics count them",
           total(metrics, "gateway_log_lines_total", result="written"), len(lines))

    # The end: nothing that was answered is left behind.
    async with Client(nginx.port) as client:
        for _ in range(50):
            await client.get("/last")
    nginx.process.terminate()
    await asyncio.to_thread(nginx.process.wait, 10)
    last = len(Lines(*files).of("/last"))
    tap.ok(last == 50, "a stop writes what is on its way", last)

    await full(tap, backend)


async def full(tap, backend):
    """A disk that takes nothing holds nobody up; what finds no room is counted; it goes on by itself."""
    nginx = Nginx(tap, document(backend), http="gateway_log logs/link all buffer=9m;")
    link, file = nginx.folder / "logs/link", nginx.folder / "logs/real.json"
    link.symlink_to("/dev/full")
    await nginx.start()
    load = Load(nginx.port, 16, path="/full").start()
    await until(lambda: load.sent > 30_000, 40)
    await load.stop()
    metrics = await nginx.metrics()
    dropped = total(metrics, "gateway_log_lines_total", result="dropped")
    waiting = total(metrics, "gateway_log_waiting_bytes")
    tap.ok(not load.bad and load.sent > 200, "a full disk: requests go on", load.summary())
    tap.ok(dropped > 0 and total(metrics, "gateway_log_lines_total", result="written") == 0 and waiting > 0,
           "and what finds no room is counted", f"{dropped:.0f} dropped, {waiting:.0f} bytes wait")
    complaints = nginx.log().count("No space left on device")
    tap.ok(complaints == 1, "one complaint a minute", complaints)
    link.unlink()
    link.symlink_to(file)
    nginx.process.send_signal(signal.SIGUSR1)
    await until(file.exists, 5)
    async with Client(nginx.port) as client:
        await client.get("/after")
    await until(lambda: len(Lines(file).of("/after")) == 1, 5)
    metrics = await nginx.metrics()
    lines = Lines(file)
    dropped = total(metrics, "gateway_log_lines_total", result="dropped")
    written = total(metrics, "gateway_log_lines_total", result="written")
    tap.ok(not lines.torn and len(lines) + dropped == load.sent + 2 and written == len(lines),
           "once there is room again: lines and drops are the requests",
           f"{len(lines)} lines + {dropped:.0f} dropped, {load.sent} + 2 requests, {len(lines.torn)} torn")


def head_line(head, name):
    return [line.split(":", 1)[1].strip() for line in head.split("\r\n")[1:] if line.lower().startswith(name + ":")]


story.main(tell)
