"""Kamailio: a registrar that asks for a password, and a proxy in front of who has registered."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.sip.programs import Program, find, free_port, program
from tests.sip.waiting import SOON_S

__all__ = ["Kamailio", "kamailio"]

_MODULES = (
    *("tm", "sl", "rr", "pv", "maxfwd", "usrloc", "registrar", "siputils", "auth", "textops"),
    "xlog",
)

_CONFIG = """\
debug=1
log_stderror=yes
fork=yes
children=1
disable_tcp=yes
auto_aliases=no
listen=udp:127.0.0.1:{port}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/:/usr/lib/kamailio/modules/"
{modules}
modparam("usrloc", "db_mode", 0)
modparam("registrar", "min_expires", 5)

request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK") && t_check_trans()) t_relay();
        exit;
    }}
    if (is_method("REGISTER")) {{
        if (!pv_www_authenticate("{realm}", "{password}", "0")) {{
            www_challenge("{realm}", "1");
            exit;
        }}
        xlog("L_ERR", "registered: $fU expires $hdr(Expires) $(ct{{nameaddr.uri}})\\n");
        save("location");
        exit;
    }}
    record_route();
    if (!lookup("location")) {{ sl_send_reply("404", "Not Found"); exit; }}
    xlog("L_ERR", "relayed: $rm to $ru\\n");
    t_relay();
}}
"""


@dataclass(frozen=True)
class Kamailio:
    """One that runs.

    Attributes:
        port: of SIP, UDP.
        program: what it writes: a line with ``registered: NAME`` for each registration.
        password: that it takes from everybody.
    """

    port: int
    program: Program
    password: str = "through the door"


@contextlib.asynccontextmanager
async def kamailio(folder: Path) -> AsyncIterator[Kamailio]:
    """Run it inside the block, on a port of the system's choice."""
    port = free_port()
    _configure(folder, port)
    command = [find("kamailio"), "-f", "kamailio.cfg", "-DD", "-E", "-e", "-Y", str(folder)]
    command += ["-P", str(folder / "pid"), "-m", "32", "-M", "4"]
    async with program(command, folder) as running:
        # It says no word when it is ready: each of its modules answers before, or it ends.
        await _answers(port, running)
        yield Kamailio(port, running)


def _configure(folder: Path, port: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    modules = "\n".join(f'loadmodule "{name}.so"' for name in _MODULES)
    (folder / "kamailio.cfg").write_text(
        _CONFIG.format(port=port, modules=modules, realm="pbx", password=Kamailio.password)
    )


async def _answers(port: int, running: Program) -> None:
    """Wait until it answers, whatever it says."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()

    class Ear(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            came.set()

        def error_received(self, exc: Exception) -> None:
            """Nobody is there yet."""

    transport, _ = await loop.create_datagram_endpoint(Ear, remote_addr=("127.0.0.1", port))
    here = "{}:{}".format(*transport.get_extra_info("sockname"))
    message = (
        f"INVITE sip:nobody@127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bKa\r\n"
        f"From: <sip:a@{here}>;tag=1\r\nTo: <sip:nobody@127.0.0.1>\r\nCall-ID: a\r\n"
        f"CSeq: 1 INVITE\r\nContact: <sip:a@{here}>\r\nMax-Forwards: 9\r\nContent-Length: 0\r\n\r\n"
    )
    try:
        async with asyncio.timeout(SOON_S):
            while not came.is_set():
                assert running.code is None, running.text[-3000:]
                transport.sendto(message.encode())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(came.wait(), 0.2)
    finally:
        transport.close()
