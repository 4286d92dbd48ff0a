"""sipp calls the product, as it should and as it should not: each call goes as RFC 3261 says."""

import asyncio
from pathlib import Path

import pytest

from talkpath.agent.sip.message import Request, Response
from tests.sip.peer import Address, PeerCall, SipPeer
from tests.sip.programs import listens
from tests.sip.sipp import (
    ack,
    answered,
    bye,
    invite,
    media,
    pause,
    receive,
    request,
    send,
    sipp,
    talk,
)
from tests.sip.telephone import Telephone
from tests.sip.waiting import SOON_S, soon

_BYE_OF_FRIEND = """\
BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:friend@127.0.0.1:[local_port]>;tag=f[call_number]
To:[$1]
Call-ID: [call_id]
CSeq: 1 BYE
Max-Forwards: 70
Content-Length: 0
"""


def _ringing() -> str:
    return "".join(receive(status, optional=True) for status in (100, 180, 183))


async def _passes(folder: Path, line: Telephone, *steps: str, **options: object) -> None:
    result = await sipp(folder, line.port, *steps, **options)  # type: ignore[arg-type]
    assert (result.code, result.failed) == (0, 0), result.log


async def test_an_invite_without_a_description_is_answered_with_an_offer(
    line: Telephone, tmp_path: Path
) -> None:
    await _passes(
        tmp_path, line, invite(body=""), answered(1, with_media=media()), talk(600), bye()
    )


class _Stutterer(SipPeer):
    """Each of its INVITEs comes twice."""

    def send(self, message: Request | Response, to: Address) -> None:
        super().send(message, to)
        if isinstance(message, Request) and message.method == "INVITE":
            super().send(message, to)


async def test_an_invite_that_comes_twice_is_one_call(line: Telephone) -> None:
    before = line.log.read_text().count("loopback takes it")  # told before it is answered
    async with _Stutterer() as phone:  # sipp would not know what to make of two answers
        call = await phone.call(line.uri())
        assert call.status == 200
        assert (await call.request("BYE")).status == 200
    assert line.log.read_text().count("loopback takes it") == before + 1


async def test_a_bye_that_comes_twice_is_answered_twice(line: Telephone) -> None:
    async with SipPeer() as phone:  # sipp takes the second answer for the first one
        call = await phone.call(line.uri())
        bye = call.make("BYE", call.sequence + 1)
        for _ in range(2):
            phone.send(bye, call.to)
            assert await _answer_to_bye(call) == 200


async def _answer_to_bye(call: PeerCall) -> int:
    """Its status; the answer to the INVITE may have come again before it."""
    async with asyncio.timeout(SOON_S):
        while (response := await call.answers.get()).cseq[1] != "BYE":
            continue
    return response.status


async def test_a_call_is_held_and_resumed(line: Telephone, tmp_path: Path) -> None:
    held = '<ereg regexp="a=(recvonly|inactive)" search_in="body" check_it="true" assign_to="1"/>'
    resumed = '<ereg regexp="a=(sendonly|inactive)" search_in="body" check_it_inverse="true" '
    resumed += 'assign_to="2"/>'
    again = receive(100, optional=True)
    await _passes(
        tmp_path,
        line,
        *(invite(), answered(), talk(300)),
        send(request("INVITE", 2, media(direction="sendonly", version=2))),
        again + receive(200, actions=held) + ack(2) + pause(300),
        send(request("INVITE", 3, media(version=3))),
        again + receive(200, actions=resumed) + ack(3) + talk(300),
        bye(4) + '<Reference variables="1,2"/>',
    )


async def test_a_key_by_info_is_taken(line: Telephone, tmp_path: Path) -> None:
    info = request("INFO", 2, "Signal=5\nDuration=160\n", kind="application/dtmf-relay")
    await _passes(tmp_path, line, invite(), answered(), talk(200), send(info), receive(200), bye(3))


async def test_keys_in_the_sound_do_not_disturb_it(line: Telephone, tmp_path: Path) -> None:
    folder = Path("/usr/share/sip-tester")
    pcap = "dtmf_2833_1.pcap"
    if not (folder / pcap).exists():
        pytest.skip("sipp's recordings of keys are not installed")
    keys = f'<nop><action><exec play_pcap_audio="{folder / pcap}"/></action></nop>'
    plain = media().replace("[rtpstream_audio_port]", "[auto_media_port]")
    await _passes(tmp_path, line, invite(plain), answered(), keys, pause(1000), bye())


async def test_no_common_codec_is_refused(line: Telephone, tmp_path: Path) -> None:
    await _passes(tmp_path, line, invite(media("3")), _ringing(), receive(488), ack())


async def test_a_call_is_sent_on_where_the_dial_plan_permits_it(
    line: Telephone, tmp_path: Path, friend_port: int
) -> None:
    friend = f"sip:friend@127.0.0.1:{friend_port}"
    who = '<ereg regexp=".*" search_in="hdr" header="From:" assign_to="1"/>'
    taken = f'<recv request="INVITE" rrs="true"><action>{who}</action></recv>'
    taken += send(_response(200, media()), again=False) + '<recv request="ACK"/>' + talk(500)
    taken += send(_BYE_OF_FRIEND) + receive(200)
    called = asyncio.create_task(sipp(tmp_path / "friend", line.port, taken, own_port=friend_port))
    await soon(lambda: listens(friend_port), "the friend")
    refer = request("REFER", 2, headers=f"Refer-To: <{friend}>")
    notify = '<recv request="NOTIFY"/>' + send(_response(200, tag=""), again=False)
    gone = '<recv request="BYE"/>' + send(_response(200, tag=""), again=False)
    await _passes(
        tmp_path,
        line,
        *(invite(), answered(), talk(300), send(refer), receive(202), notify, notify, gone),
    )
    result = await called  # who is hung up on once its connection stands
    assert result.successful == 1, result.log


async def test_a_call_is_sent_nowhere_else(line: Telephone, tmp_path: Path) -> None:
    refer = request("REFER", 2, headers="Refer-To: <sip:+1900@127.0.0.1:9>")
    await _passes(
        tmp_path,
        line,
        *(invite(), answered(), talk(200), send(refer), receive(403), talk(200), bye(3)),
    )


def _response(status: int, body: str = "", tag: str = ";tag=f[call_number]") -> str:
    lines = [
        f"SIP/2.0 {status} OK",
        *("[last_Via:]", "[last_Record-Route:]", "[last_From:]", f"[last_To:]{tag}"),
        *("[last_Call-ID:]", "[last_CSeq:]"),
        "Contact: <sip:friend@[local_ip]:[local_port]>",
        *(["Content-Type: application/sdp"] if body else []),
        "Content-Length: [len]" if body else "Content-Length: 0",
    ]
    return "\n".join(lines) + "\n\n" + "\n".join(line.strip() for line in body.strip().splitlines())
