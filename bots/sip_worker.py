"""The program of the telephone's workers; ``talkpath run BOT --transport sip`` starts it.

``python -m talkpath.bots.sip_worker [LEVEL] DESCRIPTOR``: the level is that of its logs, and the
descriptor that of the control channel, see ``talkpath.transports.sip.worker``.
"""

import asyncio
import logging
import os
import socket
import sys

from talkpath.bots.process import allow_many_sockets, configure_logs, configure_loguru, quick_loop

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Be a worker; return the exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # see cli.py
    level = arguments[0] if len(arguments) > 1 else "INFO"
    configure_logs(level, debug=level == "DEBUG")
    configure_loguru(level)
    allow_many_sockets()
    # Not before the logs are set up: Pipecat greets when it is imported.
    from talkpath.bots.loader import load_bot
    from talkpath.transports.sip.worker import attend_calls, follow_parent

    follow_parent()
    channel = socket.socket(fileno=int(arguments[-1]))
    with asyncio.Runner(loop_factory=quick_loop()) as runner:
        return runner.run(attend_calls(channel, load_bot))


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    sys.stderr.flush()
    # A SIP stack that died may have left a thread that keeps the interpreter from its end.
    os._exit(code)
