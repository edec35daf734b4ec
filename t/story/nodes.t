#!/usr/bin/env python3
"""Ten thousand nodes: they come and go while requests run, and no request fails; each gets its share."""

import asyncio
import resource
import socket
import time
from collections import Counter

import story
from story import Client, Cut, Nginx, free_port, until

NODES, CHANGED, ROUNDS = 10_000, 250, 6


class Nodes:
    """Backends on one port of as many addresses; an answer says which it is."""

    def __init__(self, tap):
        self.port, self.servers, self.counts, self.connections = free_port(), {}, Counter(), {}
        tap.ends.append(lambda: [self.stop(number) for number in list(self.servers)])

    @staticmethod
    def address(number):
        return f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}"

    async def start(self, number):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.address(number), self.port))
        self.connections[number] = set()
        self.servers[number] = await asyncio.get_running_loop().create_server(lambda: Node(self, number), sock=sock, backlog=16)

    def stop(self, number):
        self.servers.pop(number).close()
        for transport in list(self.connections.pop(number)):
            transport.abort()

    def list(self, numbers):
        return [{"host": self.address(number), "port": self.port} for number in sorted(numbers)]


class Node(asyncio.Protocol):
    def __init__(self, nodes, number):
        self.nodes, self.number, self.data = nodes, number, b""

    def connection_made(self, transport):
        self.transport = transport
        self.nodes.connections[self.number].add(transport)

    def connection_lost(self, _):
        self.nodes.connections.get(self.number, set()).discard(self.transport)

    def data_received(self, data):
        self.data += data
        while b"\r\n\r\n" in self.data:
            _, _, self.data = self.data.partition(b"\r\n\r\n")
            self.nodes.counts[self.number] += 1
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Node: %d\r\n\r\nok\n" % self.number)


def document(nodes, numbers):
    listed = nodes.list(numbers)
    return {
        "version": 1,
        "upstreams": [{"name": name, "algorithm": name, "nodes": listed} for name in ("round_robin", "adaptive")],
        "routes": [{"name": name, "paths": [f"/{name}"], "upstream": name} for name in ("round_robin", "adaptive")],
    }


async def tell(tap):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(NODES, limit - 2000)
    if count < NODES:
        tap.note(f"this process may have {limit} descriptors, so there are {count} nodes")
    nodes = Nodes(tap)
    numbers = set(range(count))
    for number in numbers:
        await nodes.start(number)
    began = time.monotonic()
    nginx = await Nginx(tap, document(nodes, numbers), zone="128m").start()
    tap.ok(True, f"{count} nodes, twice: nginx is up", f"{time.monotonic() - began:.1f} s")

    statuses, going, slowest = Counter(), True, 0.0

    async def load(path):
        nonlocal slowest
        async with Client(nginx.port) as client:
            while going:
                asked = time.monotonic()
                try:
                    statuses[(await client.get(path)).status] += 1
                except Cut as error:
                    statuses[str(error)] += 1
                slowest = max(slowest, time.monotonic() - asked)
                await asyncio.sleep(0.001)

    async def generation():
        return sum((await nginx.metrics())["gateway_config_generation"].values())

    loads = [asyncio.create_task(load(path)) for path in ["/round_robin", "/adaptive"] * 6]
    await asyncio.sleep(1)
    fresh, times, late = count, [], 0
    for turn in range(ROUNDS):
        # Some that were there from the start, some that came with the last change.
        gone = set(sorted(numbers)[turn * 100 : turn * 100 + CHANGED - 50]) | set(sorted(numbers)[-50:])
        come = set(range(fresh, fresh + CHANGED))
        fresh += CHANGED
        for number in come:
            await nodes.start(number)
        numbers = numbers - gone | come
        before, began = await generation(), time.monotonic()
        nginx.edit(document(nodes, numbers))

        async def is_live():
            return await generation() != before

        live = await until(is_live, 15)
        times.append(time.monotonic() - began)
        if not live:
            break
        # What was on its way there has come to its end.
        await asyncio.sleep(0.5)
        had = {number: nodes.counts[number] for number in gone}
        await asyncio.sleep(0.3)
        late += sum(nodes.counts[number] - had[number] for number in gone)
        for number in gone:
            nodes.stop(number)
    tap.ok(len(times) == ROUNDS and max(times) < 10, f"{ROUNDS} times {CHANGED} come and {CHANGED} go",
           "live after " + ", ".join(f"{seconds:.1f}" for seconds in times) + " s")
    tap.ok(not late, "nobody asks a node that has gone", late)
    going = False
    await asyncio.gather(*loads)
    tap.ok(set(statuses) == {200} and statuses[200] > 2000, "no request fails",
           f"{dict(statuses)}, the slowest took {1000 * slowest:.0f} ms")

    # Round robin gives each node one of as many requests as there are nodes.
    nodes.counts.clear()
    left = iter(range(len(numbers)))

    async def some():
        async with Client(nginx.port) as client:
            for _ in left:
                assert (await client.get("/round_robin")).status == 200

    began = time.monotonic()
    await asyncio.gather(*(some() for _ in range(16)))
    share = Counter(nodes.counts[number] for number in numbers)
    tap.ok(set(nodes.counts) <= numbers and share[1] >= len(numbers) * 0.99, "round robin: once round is one for each",
           f"{dict(share)} in {time.monotonic() - began:.1f} s")
    tap.ok(not nginx.logged("alert", "emerg", "crit", "error"), "no error in the log",
           *nginx.logged("alert", "emerg", "crit", "error")[:5])


story.main(tell)
