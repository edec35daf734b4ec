#!/usr/bin/env python3
"""Records which server a running nginx chooses, for tests/balancer_nginx.rs to compare ours with.

    tests/data/balancer/record.py > tests/data/balancer/nginx.json

Each case is an upstream{} block of one nginx with one worker. Servers that answer share one listening nginx, the others
are addresses where nobody listens; `$upstream_addr` says where a request went, and with several tries where it went in
turn. Needs nginx in the path and 127.0.0.0/8; nothing else runs.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

PORT, FRONT, DEAD = 18100, 18099, 18101

ROTATIONS = [
    {"weights": [1]},
    {"weights": [1, 1, 1]},
    {"weights": [5, 1, 1]},
    {"weights": [1, 1, 5]},
    {"weights": [4, 3, 2, 1]},
    {"weights": [10, 3, 7]},
    {"weights": [2, 4, 6]},
    {"weights": [100, 50, 25, 1]},
    {"weights": [3, 3, 2, 2, 1, 1, 7]},
    {"weights": [5, 1, 1], "down": [0]},
    {"weights": [5, 2, 3], "down": [1]},
    {"weights": [5, 2, 3, 4], "down": [0, 1], "backup": [2, 3]},
]
RINGS = [
    {"weights": [1, 1, 1]},
    {"weights": [1, 2, 3]},
    {"weights": [1] * 12},
    {"weights": [7, 1, 4, 2]},
    {"weights": [1, 1, 1, 1], "down": [2]},
]
KEYS = [f"user-{n}" for n in range(300)] + ["a", "A", "0", "192.0.2.7", "2001:db8::1", "x" * 100, "%C3%A9t%C3%A9", "a:b"]


def servers(name, case, method, port=PORT):
    lines = [f"upstream {name} {{", f"  {method}"]
    for index, weight in enumerate(case["weights"]):
        marks = " down" * (index in case.get("down", [])) + " backup" * (index in case.get("backup", []))
        lines.append(f"  server 127.0.0.{index + 1}:{port} weight={weight} max_fails=0{marks};")
    return "\n".join(lines + ["}"])


def place(address):
    return int(address.rsplit(":", 1)[0].rsplit(".", 1)[1]) - 1


def main():
    blocks, locations = [], []

    def block(name, *arguments):
        blocks.append(servers(name, *arguments))
        locations.append(
            f"location /{name} {{ proxy_pass http://{name}; proxy_next_upstream error; "
            'add_header X-Went "$upstream_addr" always; }'
        )

    for index, case in enumerate(ROTATIONS):
        block(f"rr{index}", case, "")
        if "backup" not in case:
            block(f"lc{index}", case, "least_conn;")
    for index, case in enumerate(RINGS):
        block(f"hash{index}", case, "hash $arg_key consistent;")
        if len(case["weights"]) < 6:
            block(f"retry{index}", case, "hash $arg_key consistent;", DEAD)
    block("none", {"weights": [5, 1, 1]}, "hash $arg_key consistent;")

    folder = tempfile.mkdtemp()
    listens = "\n".join(f"listen 127.0.0.{n}:{PORT};" for n in range(1, 13))
    conf = f"""
daemon off; master_process off; error_log {folder}/error.log crit; pid {folder}/pid;
events {{ worker_connections 512; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  scgi_temp_path {folder}/4; uwsgi_temp_path {folder}/5;
  {chr(10).join(blocks)}
  server {{ {listens} return 200 "ok"; }}
  server {{ listen 127.0.0.1:{FRONT}; {chr(10).join(locations)} }}
}}
"""
    with open(f"{folder}/nginx.conf", "w") as out:
        out.write(conf)
    version = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.strip().rsplit("/", 1)[1]
    server = subprocess.Popen(["nginx", "-c", f"{folder}/nginx.conf", "-p", folder])
    time.sleep(1)
    client = http.client.HTTPConnection("127.0.0.1", FRONT)

    def ask(name, key=""):
        client.request("GET", f"/{name}?key={key}")
        answer = client.getresponse()
        answer.read()
        return [place(address) for address in answer.headers["X-Went"].split(", ")]

    def turns(name, case):
        return {**case, "sequence": [ask(name)[0] for _ in range(min(3 * sum(case["weights"]), 400))]}

    def ring(name, case, tries):
        chosen = [ask(name, key) for key in KEYS]
        return {**case, "chosen": chosen if tries else [one[0] for one in chosen]}

    try:
        record = {
            "nginx": version,
            "ports": {"answering": PORT, "dead": DEAD},
            "round_robin": [turns(f"rr{index}", case) for index, case in enumerate(ROTATIONS)],
            "least_conn": [
                turns(f"lc{index}", case) for index, case in enumerate(ROTATIONS) if "backup" not in case
            ],
            "keys": KEYS,
            "hash": [ring(f"hash{index}", case, False) for index, case in enumerate(RINGS)],
            "hash_tries": [
                ring(f"retry{index}", case, True) for index, case in enumerate(RINGS) if len(case["weights"]) < 6
            ],
            "hash_without_key": turns("none", {"weights": [5, 1, 1]}),
        }
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()
        shutil.rmtree(folder)
    text = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in record.items())
    print("{\n" + text.replace('},{"weights"', '},\n{"weights"') + "\n}")


if __name__ == "__main__":
    os.umask(0o022)
    main()
