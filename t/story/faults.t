#!/usr/bin/env python3
"""Backends that refuse, are silent, reset, drip, talk garbage: in time, not twice, and never a mixture of two answers."""

import asyncio
import re
import socket
import struct
import time
from collections import Counter

import story
from story import Backend, Client, Cut, Load, Nginx, free_port, total, until

CONNECT, READ, TRY = 0.3, 0.4, 0.6
# What the client, two shared cores and nginx's own clock may add.
GRACE = 0.35
SIZE = 120_000

KEPT = "is silent on a kept connection"
# What a client gets of a node that does this to every request, and after how long at most.
BEFORE_THE_ANSWER = {
    "refuses": (502, 0.0),
    "does not take the connection": (504, CONNECT),
    "resets the connection at once": (502, 0.0),
    "is silent": (504, READ),
    # Each connection is good for one answer, so it is good between two failures, and stays.
    KEPT: (504, READ),
    "ends the connection": (502, 0.0),
    "ends its half of the connection": (502, 0.0),
    "resets the connection": (502, 0.0),
    "talks garbage": (502, 0.0),
    "has a header without an end": (502, 0.0),
    "has a status that is none": (502, 0.0),
    "has half a header and no more": (504, READ),
    "drips its header": (504, TRY),
}
# 200, and then the connection ends.
IN_THE_ANSWER = {
    "resets in the body": 0.0,
    "ends in the body": 0.0,
    "is silent in the body": READ,
    "ends between two chunks": 0.0,
    "has chunks that are none": 0.0,
}
FAULTS = [*BEFORE_THE_ANSWER, *IN_THE_ANSWER]
# Those that a backend may begin with at any moment.
ONSET = ("refuses", "is silent", "resets the connection", "talks garbage", "ends its half of the connection")


class Node:
    """A backend whose answers are made of one letter, and which does `fault` to each request; None: it is well."""

    def __init__(self, tap, letter, fault=None):
        self.letter, self.fault, self.port = letter, fault, free_port()
        # Connections and whole requests, by method.
        self.taken, self.asked, self.server, self.writers = 0, Counter(), None, set()
        self.sockets = []
        tap.ends.append(self.stop)

    @property
    def node(self):
        return {"host": "127.0.0.1", "port": self.port}

    async def start(self):
        if self.fault == "does not take the connection":
            listener, place = socket.socket(), socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            # The one place in the queue is taken, and the kernel drops what comes then.
            listener.listen(0)
            place.connect(("127.0.0.1", self.port))
            self.sockets = [listener, place]
        elif self.fault != "refuses":
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port, backlog=512)
        return self

    def stop(self):
        for sock in self.sockets:
            sock.close()
        if self.server:
            self.server.close()
            self.server = None
        for writer in list(self.writers):
            writer.transport.abort()

    async def serve(self, reader, writer):
        self.taken += 1
        self.writers.add(writer)
        try:
            if self.fault == "resets the connection at once":
                return reset(writer)
            served = 0
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = re.search(r"\r\ncontent-length: *(\d+)", head, re.I)
                await reader.readexactly(int(length[1]) if length else 0)
                self.asked[head.split(" ")[0]] += 1
                if not await self.answer(writer, served):
                    return
                served += 1
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.writers.discard(writer)
            if not writer.is_closing():
                writer.close()

    async def answer(self, writer, served):
        fault = self.fault
        body = self.letter.encode() * SIZE
        plain = f"HTTP/1.1 200 OK\r\nX-Node: {self.letter}\r\nX-Port: {self.port}\r\n"
        head = f"{plain}Content-Length: {SIZE}\r\n\r\n".encode()
        chunks = f"{plain}Transfer-Encoding: chunked\r\n\r\n8000\r\n".encode() + body[:0x8000] + b"\r\n"
        if fault is None or fault == KEPT and not served:
            writer.write(head + body)
            return True
        if fault in ("is silent", KEPT):
            await asyncio.sleep(60)
        elif fault == "ends its half of the connection":
            writer.write_eof()
            await asyncio.sleep(60)
        elif fault == "resets the connection":
            reset(writer)
        elif fault == "talks garbage":
            writer.write(bytes(range(128, 256)) * 40)
        elif fault == "has a header without an end":
            writer.write(plain.encode() + b"X-Long: " + b"x" * 200_000)
            await writer.drain()
        elif fault == "has a status that is none":
            writer.write(b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n")
        elif fault == "has half a header and no more":
            writer.write(plain.encode())
            await asyncio.sleep(60)
        elif fault == "drips its header":
            for letter in plain * 100:
                if writer.is_closing():
                    break
                writer.write(letter.encode())
                await writer.drain()
                await asyncio.sleep(0.05)
        elif fault in IN_THE_ANSWER and "chunks" in fault:
            writer.write(chunks + (b"xyz\r\n" if fault == "has chunks that are none" else b""))
            await writer.drain()
            await asyncio.sleep(0.05)
        elif fault in IN_THE_ANSWER:
            writer.write(head + body[: SIZE // 2])
            await writer.drain()
            await asyncio.sleep(60 if "silent" in fault else 0.05)
            if fault == "resets in the body":
                reset(writer)
        return False


def reset(writer):
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Got:
    """One exchange: status, what came of the body, and whether that is of one node alone."""

    def __init__(self, status, node, body, whole, seconds):
        self.status, self.node, self.body, self.whole, self.seconds = status, node, body, whole, seconds

    @property
    def is_pure(self):
        return self.status != 200 or self.node and self.body == self.node.encode() * len(self.body)

    def __repr__(self):
        return f"{self.status} of {self.node}, {len(self.body)} bytes{'' if self.whole else ', cut'}, {self.seconds:.2f} s"


async def ask(port, path, method="GET"):
    """A request on a connection of its own, read to the end, whatever the end is."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    length = "Content-Length: 5\r\n" if method == "POST" else ""
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: story\r\nConnection: close\r\n{length}\r\n".encode())
    if length:
        writer.write(b"hello")
    text = bytearray()
    try:
        while piece := await reader.read(1 << 20):
            text += piece
    except OSError:
        pass
    writer.transport.abort()
    head, _, body = bytes(text).partition(b"\r\n\r\n")
    head = head.decode("latin-1")
    status = int(head.split(" ")[1]) if head.startswith("HTTP/") else 0
    node = re.search(r"\r\nX-Node: (\w)", head)
    whole = bool(head)
    if length := re.search(r"\r\nContent-Length: (\d+)", head):
        whole = len(body) == int(length[1])
    elif re.search(r"\r\nTransfer-Encoding: chunked", head):
        body, whole = chunked(body)
    return Got(status, node and node[1], body, whole, time.monotonic() - began)


def chunked(text):
    body = b""
    while True:
        line, found, text = text.partition(b"\r\n")
        if not found or not re.fullmatch(rb"[0-9a-fA-F]+", line):
            return body, False
        size = int(line, 16)
        body += text[:size]
        if size == 0 or len(text) < size + 2:
            return body, size == 0
        text = text[size + 2 :]


def name(number, kind):
    return f"{kind}{number}"


async def tell(tap):
    upstreams, lone, spoilt, sound, turning, steady = [], {}, {}, {}, {}, {}
    timeouts = {what: f"{int(1000 * seconds)}ms" for what, seconds in (("connect", CONNECT), ("read", READ))}
    per_try = f"{int(1000 * TRY)}ms"

    def upstream(name, nodes, attempts, **more):
        retries = {"attempts": attempts, "per_try_timeout": per_try, "on": ["error", "timeout"], **more.pop("retries", {})}
        upstreams.append({"name": name, "nodes": [node.node for node in nodes], "timeouts": timeouts, "retries": retries,
                          "algorithm": "round_robin", **more})

    for number, fault in enumerate(FAULTS):
        lone[fault] = await Node(tap, "x", fault).start()
        upstream(name(number, "lone"), [lone[fault]], 1, max_ejection_percent=100)
        spoilt[fault], sound[fault] = await Node(tap, "b", fault).start(), await Node(tap, "g").start()
        upstream(name(number, "pair"), [spoilt[fault], sound[fault]], 2, retries={"budget": "100%"})
        # Nobody is ejected here, so that it goes on.
        upstream(name(number, "post"), [spoilt[fault], sound[fault]], 2, retries={"budget": "100%"}, max_ejection_percent=0)
    worst = [await Node(tap, letter, "resets the connection").start() for letter in "pq"]
    good = await Node(tap, "r").start()
    upstream("budget", [*worst, good], 3, max_ejection_percent=0)
    for number, fault in enumerate(ONSET):
        turning[fault], steady[fault] = await Node(tap, "t").start(), await Node(tap, "s").start()
        upstream(name(number, "onset"), [turning[fault], steady[fault]], 2, algorithm="adaptive")
    routes = [{"name": each["name"], "paths": [f"/{each['name']}"], "upstream": each["name"]} for each in upstreams]
    nginx = await Nginx(tap, {"version": 1, "upstreams": upstreams, "routes": routes}, connections=4096).start()
    pids = nginx.worker_pids()

    # One node, ten requests: all are answered in time, and then it is ejected.
    async def ten(number):
        return [await ask(nginx.port, f"/{name(number, 'lone')}") for _ in range(10)]

    answers = dict(zip(FAULTS, await asyncio.gather(*(ten(number) for number in range(len(FAULTS))))))
    metrics = await nginx.metrics()
    for number, fault in enumerate(FAULTS):
        got = answers[fault]
        if fault in BEFORE_THE_ANSWER:
            status, seconds = BEFORE_THE_ANSWER[fault]
            failed = [each for each in got if each.status == status]
            right = len(failed) == len(got) or fault == KEPT and len(failed) >= 3
            right = right and all(each.whole and each.is_pure for each in got)
        else:
            seconds = IN_THE_ANSWER[fault] + 0.05
            # Of chunks that nginx cannot read it sends nothing at all.
            right = all(each.status in (200, 0) and not each.whole and each.is_pure for each in got)
        slowest = max(each.seconds for each in got)
        ejected = total(metrics, "gateway_peer_ejections_total", upstream=name(number, "lone"))
        tap.ok(right and slowest <= seconds + GRACE, f"{fault}: the client knows within {seconds:g} s", f"{slowest:.2f} s", *(got if not right else ()))
        tap.ok(ejected == (fault != KEPT), f"{fault}: {'ejected after ten failures at most' if fault != KEPT else 'it stays'}", ejected)

    # With a good one beside it, what has not begun is tried there.
    async def forty(number):
        return [await ask(nginx.port, f"/{name(number, 'pair')}") for _ in range(40)]

    answers = dict(zip(FAULTS, await asyncio.gather(*(forty(number) for number in range(len(FAULTS))))))
    for number, fault in enumerate(FAULTS):
        got, asked = answers[fault], spoilt[fault].asked["GET"]
        tap.ok(all(each.is_pure for each in got), f"{fault}: no answer is a mixture", *(each for each in got if not each.is_pure))
        cut = [each for each in got if each.status != 200 or not each.whole]
        most = 10 if fault in IN_THE_ANSWER else 0
        tap.ok(len(cut) <= most and all(each.status in (200, 0) for each in cut) and bool(cut) == bool(most),
               f"{fault}: {'at most ten are cut' if most else 'no client notices'}", *cut[:3])
        if fault == KEPT:
            continue
        tap.ok(max(asked, spoilt[fault].taken if not asked else 0) <= 10 and got[-1].node == "g" and got[-1].whole,
               f"{fault}: it is left alone after ten failures at most", f"{asked} requests, {spoilt[fault].taken} connections")

    # What must not be sent twice is not; what was never sent may be.
    async def posts(number, fault):
        before = sum(node.asked["POST"] for node in (spoilt[fault], sound[fault]))
        got = [await ask(nginx.port, f"/{name(number, 'post')}", "POST") for _ in range(8)]
        return got, sum(node.asked["POST"] for node in (spoilt[fault], sound[fault])) - before

    results = await asyncio.gather(*(posts(number, fault) for number, fault in enumerate(FAULTS)))
    for fault, (got, asked) in zip(FAULTS, results):
        unsent = fault in ("refuses", "does not take the connection")
        statuses = Counter(each.status for each in got)
        tap.ok(asked <= len(got) and (not unsent or statuses == {200: len(got)}) and all(each.is_pure for each in got),
               f"{fault}: no POST reaches two nodes{', all reach one' if unsent else ''}", dict(statuses), f"{asked} of {len(got)}")

    # Two of three nodes reset everything: a fifth of the requests, and three, are tried again.
    statuses = Counter([(await ask(nginx.port, "/budget")).status for _ in range(300)])
    tries = sum(node.asked["GET"] for node in (*worst, good))
    tap.ok(300 * 1.15 <= tries <= 300 * 1.2 + 3, "budget: a fifth of the requests at most is tried again",
           f"{tries} tries of 300 requests: {dict(statuses)}")

    # Adaptive, under load: one of two goes bad.
    loads = [Load(nginx.port, 4, path=f"/{name(number, 'onset')}", pause=0.02).start() for number in range(len(ONSET))]
    await asyncio.sleep(2)
    for fault in ONSET:
        turning[fault].fault = fault
        if fault == "refuses":
            turning[fault].stop()
    await asyncio.sleep(4)
    for fault, load in zip(ONSET, loads):
        served = steady[fault].asked["GET"]
        await load.stop()
        tap.ok(not load.bad and not load.cuts and load.ports[turning[fault].port] and served,
               f"adaptive, one of two begins: {fault}: no client notices", load.summary())

    tap.ok(nginx.worker_pids() == pids, "the workers are the same", pids)
    strange = nginx.logged("alert", "emerg", "crit")
    tap.ok(not strange, "no alert", *strange[:5])


story.main(tell)
