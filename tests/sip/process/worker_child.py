"""A worker of nothing but the control channel, for tests of who starts and watches workers.

The environment variable MANNER says how it behaves: as a good worker does, ``crash`` (exits before
it is ready), ``refuse`` (says why it cannot start), ``deaf`` (answers nothing once it is ready),
``once`` (a good one where the file ONCE does not exist yet, else it crashes).
"""

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

FIGURES = """\
# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{kind="a"} 3
# HELP depth Depth.
# TYPE depth gauge
depth 1
"""


def main() -> None:
    manner = os.environ.get("MANNER", "")
    if manner == "crash":
        sys.exit(3)
    if manner == "once":
        once = Path(os.environ["ONCE"])
        if once.exists():
            sys.exit(4)
        once.touch()
    channel = socket.socket(fileno=int(sys.argv[1]))
    lines = channel.makefile("rb")

    def say(**message: Any) -> None:
        channel.sendall(json.dumps(message).encode() + b"\n")

    start = json.loads(lines.readline())
    assert start["type"] == "start" and start["config"]["sip.port"] == 0, start
    if manner == "refuse":
        say(type="failed", message="there is no bot 'nobody'", setting=True)
        lines.readline()
        return
    say(type="ready", port=40000, users={"main": start["bots"][0]})
    if manner == "deaf":
        time.sleep(60)
    calls = 0
    for line in lines:
        message = json.loads(line)
        if message["type"] == "hang_up":
            say(type="ended", call_id=message["call_id"])
        elif message["type"] == "load":
            calls = message["calls"]
            say(type="load", calls=calls)
        elif "n" in message:
            say(type="answer", n=message["n"], pid=os.getpid(), text=FIGURES)


if __name__ == "__main__":
    main()
