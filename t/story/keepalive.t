#!/usr/bin/env python3
"""Connections to backends are used again: at least 99 of 100 requests under a steady load, over HTTP, TLS and gRPC.

The backend is an nginx of its own that writes down on which connection each request came.
"""

import asyncio
import os
import subprocess
from collections import Counter

import story
from story import BINARY, Backend, Load, Nginx, free_port, total, until

REQUESTS = 3000
KINDS = ("http", "https", "grpc", "grpcs")


class Origin:
    """nginx with three ports for each kind."""

    def __init__(self, tap, folder, key):
        self.folder, self.ports = folder, {kind: [free_port() for _ in range(3)] for kind in KINDS}
        servers = ""
        for kind, ports in self.ports.items():
            how = f"{' ssl' if kind.endswith('s') else ''}{' http2' if kind.startswith('grpc') else ''}"
            listens = "\n".join(f"listen 127.0.0.1:{port}{how};" for port in ports)
            servers += f'server {{ {listens} ssl_certificate {key}.pem; ssl_certificate_key {key}.key; location / {{ return 200 "ok\\n"; }} }}\n'
        (folder / "origin.conf").write_text(
            f"""
            daemon off; pid {folder}/origin.pid; error_log {folder}/origin.log warn; worker_processes 1;
            events {{ worker_connections 2048; }}
            http {{
                log_format which "$server_port $connection";
                access_log {folder}/origin.access which;
                client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
                uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
                keepalive_requests 1000000; keepalive_timeout 60s;
                {servers}
            }}
            """
        )
        self.process = None
        tap.ends.append(self.stop)

    async def start(self):
        self.process = subprocess.Popen([BINARY, "-p", self.folder, "-c", self.folder / "origin.conf", "-e", self.folder / "origin.log"])
        await until(lambda: (self.folder / "origin.pid").exists(), 5)
        return self

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(5)

    def seen(self, kind):
        """Requests and connections so far."""
        mine = {str(port) for port in self.ports[kind]}
        lines = [line for line in (self.folder / "origin.access").read_text().splitlines() if line.split()[0] in mine]
        return len(lines), len(set(lines))


def certificate(folder):
    key = folder / "origin"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=origin.test", "-addext", "subjectAltName=DNS:origin.test", "-keyout", f"{key}.key", "-out", f"{key}.pem"],
        check=True, capture_output=True,
    )
    os.chmod(f"{key}.key", 0o644)
    return key


async def tell(tap):
    empty = {"version": 1, "upstreams": [], "routes": []}
    nginx = Nginx(
        tap, empty,
        http="upstream gateway_grpc { gateway_balancer; keepalive 64; }",
        server="""
            location /grpc { gateway on; grpc_pass grpc://gateway_grpc; }
            location /grpcs { gateway on; grpc_pass grpcs://gateway_grpc; }
        """,
    )
    key = certificate(nginx.folder)
    origin = await Origin(tap, nginx.folder, key).start()
    idle = await Backend(tap, "idle").start()
    upstreams = [{"name": "idle", "nodes": [idle.node], "max_ejection_percent": 100,
                  "breaker": {"failures": 3, "window": "10s", "open_for": "30s"}, "retries": {"attempts": 1}}]
    for kind, ports in origin.ports.items():
        upstreams.append({"name": kind, "nodes": [{"host": "127.0.0.1", "port": port} for port in ports]})
        if kind.endswith("s"):
            upstreams[-1]["tls"] = {"sni": "origin.test", "ca": f"$file://{key}.pem"}
    nginx.edit({
        "version": 1, "upstreams": upstreams,
        "routes": [{"name": each["name"], "paths": [f"/{each['name']}"], "upstream": each["name"]} for each in upstreams],
    })
    await nginx.start()

    async def load(path, requests):
        """So many requests, eight at a time."""
        left = iter(range(requests))
        statuses = Counter()

        async def one():
            async with story.Client(nginx.port) as client:
                for _ in left:
                    statuses[(await client.get(path)).status] += 1

        await asyncio.gather(*(one() for _ in range(8)))
        return statuses

    for kind in KINDS:
        statuses = await load(f"/{kind}", REQUESTS)
        requests, connections = origin.seen(kind)
        share = 1 - connections / max(requests, 1)
        tap.ok(statuses == {200: REQUESTS} and requests == REQUESTS, f"{kind}: all are answered", dict(statuses), requests)
        tap.ok(share >= 0.99, f"{kind}: at least 99 % on a connection that was there",
               f"{connections} connections for {requests} requests over three nodes: {100 * share:.2f} %")

    # A backend that closes what is idle, at any moment, also while a request is on its way there.
    async def closes():
        while going:
            for transport in list(idle.connections):
                # A new one that ends before its first answer is another matter.
                if transport.get_protocol().served and not transport.get_protocol().busy:
                    transport.close()
            await asyncio.sleep(0.004)

    going, closing = True, asyncio.create_task(closes())
    work = Load(nginx.port, 8, path="/idle", pause=0.001).start()
    await asyncio.sleep(4)
    await work.stop()
    going = False
    await closing
    metrics = await nginx.metrics()
    stale = [line for line in nginx.logged("error", "info") if "prematurely closed" in line or "reset by peer" in line]
    tap.ok(not work.bad and not work.cuts, "no client notices that idle connections are closed", work.summary())
    tap.ok(len(stale) >= 3, "and some were while a request was on its way", len(stale))
    tap.ok(total(metrics, "gateway_peer_ejections_total", upstream="idle") == 0, "the node is not ejected")
    tap.ok(total(metrics, "gateway_circuit_breaker_state", upstream="idle") == 0, "the breaker stays closed")
    tap.ok(not nginx.logged("alert", "emerg", "crit"), "no alert", *nginx.logged("alert", "emerg", "crit")[:5])


story.main(tell)
