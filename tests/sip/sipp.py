"""sipp: scenarios put together from steps, and what became of their calls.

A scenario is a list of steps (``invite()``, ``answered()``, ``pause(500)``, ``bye()``), so that a
test shows what is special about its call and nothing else.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.sip.programs import find, free_port, program

__all__ = [
    "PCMU",
    "SippResult",
    "ack",
    "answered",
    "bye",
    "invite",
    "media",
    "pause",
    "receive",
    "request",
    "send",
    "sipp",
    "talk",
]

PCMU = "0"
_TONE_S = 8


def media(formats: str = f"{PCMU} 101", direction: str = "sendrecv", version: int = 1) -> str:
    """A session description; ``formats`` are payload types, 101 for keys."""
    return f"""
      v=0
      o=sipp 1 {version} IN IP4 [local_ip]
      s=-
      c=IN IP4 [media_ip]
      t=0 0
      m=audio [rtpstream_audio_port] RTP/AVP {formats}
      a=rtpmap:101 telephone-event/8000
      a=fmtp:101 0-15
      a={direction}
"""


def request(
    method: str,
    number: int,
    body: str = "",
    *,
    kind: str = "application/sdp",
    headers: str = "",
    first: bool = False,
    branch: str = "[branch]",
) -> str:
    """A message: the first one of a call, or one inside of it."""
    to = "<sip:[service]@[remote_ip]:[remote_port]>" + ("" if first else "[peer_tag_param]")
    target = "sip:[service]@[remote_ip]:[remote_port]" if first else "[next_url]"
    lines = [
        f"{method} {target} SIP/2.0",
        f"Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}",
        *([] if first else ["[routes]"]),
        "From: <sip:sipp@[local_ip]:[local_port]>;tag=[pid]s[call_number]",
        f"To: {to}",
        "Call-ID: [call_id]",
        f"CSeq: {number} {method}",
        "Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>",
        "Max-Forwards: 70",
        *([headers] if headers else []),
        *([f"Content-Type: {kind}"] if body else []),
        "Content-Length: [len]" if body else "Content-Length: 0",
    ]
    return "\n".join(lines) + "\n\n" + "\n".join(line.strip() for line in body.strip().splitlines())


def send(message: str, *, again: bool = True, attributes: str = "") -> str:
    """Send a message, ``again`` until something comes."""
    retrans = ' retrans="500"' if again else ""
    return f"<send{retrans} {attributes}><![CDATA[\n\n{message}\n\n]]></send>"


def invite(body: str | None = None, *, headers: str = "") -> str:
    """The call's first message, with audio in PCMU unless told otherwise."""
    body = media() if body is None else body
    return send(request("INVITE", 1, body, headers=headers, first=True))


def receive(status: int, *, optional: bool = False, attributes: str = "", actions: str = "") -> str:
    """A response."""
    extra = ' optional="true"' if optional else ""
    inside = f"<action>{actions}</action>" if actions else ""
    return f'<recv response="{status}"{extra} {attributes}>{inside}</recv>'


def ack(number: int = 1, body: str = "") -> str:
    """The end of a call's beginning."""
    return send(request("ACK", number, body), again=False)


def answered(number: int = 1, *, with_media: str = "") -> str:
    """Ringing or not, then 200, acknowledged."""
    waits = "".join(receive(status, optional=True) for status in (100, 180, 183))
    return waits + receive(200, attributes='rrs="true"') + ack(number, with_media)


def pause(ms: int) -> str:
    """Wait."""
    return f'<pause milliseconds="{ms}"/>'


def talk(ms: int) -> str:
    """Send a tone for so long."""
    action = '<nop><action><exec rtp_stream="{}"/></action></nop>'
    return action.format("tone.ulaw,-1,0,PCMU/8000") + pause(ms) + action.format("pause")


def bye(number: int = 2) -> str:
    """Hang up."""
    return send(request("BYE", number)) + receive(200)


@dataclass(frozen=True)
class SippResult:
    """What became of the calls.

    Attributes:
        code: sipp's exit code: 0 where all went as the scenario says.
        successful: calls.
        failed: calls.
        log: unexpected messages, and what it printed.
    """

    code: int
    successful: int
    failed: int
    log: str


async def sipp(
    folder: Path,
    port: int,
    *steps: str,
    user: str = "bot",
    calls: int = 1,
    per_s: float = 10.0,
    at_once: int = 30,
    own_port: int = 0,
    arguments: tuple[str, ...] = (),
    within_s: float = 90.0,
) -> SippResult:
    """Run a scenario against 127.0.0.1.

    Args:
        folder: of its own.
        port: of SIP.
        steps: the scenario.
        user: who is called.
        calls: how many.
        per_s: new ones a second.
        at_once: as long as there are so many, no new ones begin.
        own_port: of SIP, for a scenario that is called; 0 takes any.
        arguments: more of sipp's.
        within_s: for all of them.
    """
    _write(folder, steps)
    command = [
        *(find("sipp"), f"127.0.0.1:{port}", "-sf", "scenario.xml", "-s", user, "-nostdin"),
        *("-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", str(own_port or free_port())),
        *("-mp", str(free_port())),
        *("-m", str(calls), "-r", f"{per_s:g}", "-l", str(at_once)),
        *("-trace_stat", "-stf", "statistics.csv", "-fd", "1"),
        *("-trace_err", "-error_file", "errors", "-timeout", f"{within_s:g}s"),
        *("-recv_timeout", "60000", "-trace_msg", "-message_file", "messages"),
        *arguments,
    ]
    async with program(command, folder) as running:
        code = await running.ended(within_s + 10)
    return _read(folder, code, running.text)


def _write(folder: Path, steps: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tone.ulaw").write_bytes(_tone())
    head = "<?xml version='1.0' encoding='us-ascii' ?>\n<scenario name='test'>\n"
    (folder / "scenario.xml").write_text(head + "\n".join(steps) + "\n</scenario>\n")


def _read(folder: Path, code: int, text: str) -> SippResult:
    errors = folder / "errors"
    log = (errors.read_text(errors="replace") if errors.exists() else "") + text[-4000:]
    with (folder / "statistics.csv").open() as file:
        figures = list(csv.DictReader(file, delimiter=";"))[-1]
    return SippResult(
        code=code,
        successful=int(figures["SuccessfulCall(C)"]),
        failed=int(figures["FailedCall(C)"]),
        log=re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", log),
    )


def _tone() -> bytes:
    """440 Hz at -10 dB in mu-law (ITU-T G.711), 8 kHz."""
    samples = (10000 * np.sin(2 * np.pi * 440 * np.arange(8000 * _TONE_S) / 8000)).astype(int)
    sizes = np.minimum(np.abs(samples) + 132, 32767)
    exponents = np.floor(np.log2(sizes)).astype(int) - 7
    codes = np.where(samples < 0, 0x80, 0) | exponents << 4 | sizes >> (exponents + 3) & 0x0F
    return bytes((~codes & 0xFF).astype(np.uint8))
