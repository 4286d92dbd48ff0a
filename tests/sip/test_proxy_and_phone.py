"""A PBX between the telephone and the product, and a second make of telephone."""

import asyncio
from pathlib import Path

from talkpath.agent.bench.telephone import TELEPHONE_CODECS, line_figures, payloads
from talkpath.agent.bench.telephone_call import call
from tests.sip.kamailio import kamailio
from tests.sip.phones import linphone
from tests.sip.telephone import Telephone, telephone

_PCMU = TELEPHONE_CODECS["pcmu"]

_TRUNK = """\
[[trunk]]
name = "pbx"
servers = ["sip:127.0.0.1:{port}"]
user = "bot"
password = "{password}"
register = true
"""


async def test_a_bot_registers_with_kamailio_and_is_called_through_it(tmp_path: Path) -> None:
    async with kamailio(tmp_path / "kamailio") as pbx:
        trunks = tmp_path / "trunks.toml"
        await asyncio.to_thread(
            trunks.write_text, _TRUNK.format(port=pbx.port, password=pbx.password)
        )
        running = telephone("loopback", tmp_path / "log", trunks=trunks)
        await asyncio.to_thread(running.__enter__)
        try:
            await pbx.program.says("registered: bot", within_s=20)
            packets = payloads(_PCMU, 3.0)
            record = await call("127.0.0.1", pbx.port, _PCMU, packets, user="bot")
            figures = line_figures(_PCMU, 3.0, [record])
            assert not record.failure
            assert (figures.sent, figures.lost, figures.missed) == (len(packets), 0, 0)
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)
        # Whoever stops says so: nobody is sent to an empty room.
        record = await call("127.0.0.1", pbx.port, _PCMU, payloads(_PCMU, 1.0), user="bot")
        assert "404" in record.failure


async def test_linphone_calls_holds_resumes_and_hangs_up(line: Telephone, tmp_path: Path) -> None:
    async with linphone(tmp_path / "linphone") as phone:
        await phone.send(f"call {line.uri()}")
        await phone.says("LinphoneCallStreamsRunning")
        await phone.says("Received-InterarrivalJitter")  # the bot's packets
        await phone.send("call-pause 1")
        await phone.says("LinphoneCallPaused\n")
        place = len(phone.text)
        await phone.send("call-resume 1")
        await phone.says("LinphoneCallStreamsRunning", past=place)
        await phone.send("terminate 1")
        await phone.says("LinphoneCallReleased")
    assert "LinphoneCallError" not in phone.text
