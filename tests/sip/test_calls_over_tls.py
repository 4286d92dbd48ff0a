"""Calls that the telephone makes over TLS: to baresip, and to whom nobody should talk."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from talkpath.agent.config import load_config
from talkpath.transports.sip.listener import Listener
from talkpath.transports.sip.outbound import CallFailed
from tests.certificate import Certificate
from tests.sip.net.stage import Side, logged
from tests.sip.programs import find, free_ports, program
from tests.sip.waiting import SOON_S
from tests.speech import write_wav

_MODULES = Path("/usr/lib/baresip/modules")

_CONFIG = """\
net_interface 127.0.0.1
sip_listen 127.0.0.1:{port}
sip_certificate {certificate}
audio_source aufile,{sound}
audio_player aubridge,play
audio_alert aubridge,alert
ausrc_srate 8000
auplay_srate 8000
audio_txmode poll
module_path {modules}
module g711.so
module aufile.so
module sndfile.so
module aubridge.so
module_tmp account.so
module_app contact.so
module_app menu.so
"""
_ACCOUNT = "<sip:phone@127.0.0.1;transport=tls>;regint=0;answermode=auto;audio_codecs=PCMU\n"


def _configure(folder: Path, port: int, certificate: Certificate) -> None:
    folder.mkdir()
    sound = folder / "tone.wav"
    write_wav(sound, (np.sin(np.arange(80_000) / 3) / 4).astype(np.float32), 8000)
    text = _CONFIG.format(port=port, certificate=certificate.both, modules=_MODULES, sound=sound)
    (folder / "config").write_text(text)
    (folder / "accounts").write_text(_ACCOUNT)
    (folder / "contacts").touch()


async def test_calls_go_over_tls_to_whom_can_be_trusted_and_to_nobody_else(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path, "all")
    expired = Certificate(tmp_path, "expired", days=-1)
    port = free_ports(2)  # baresip takes the second for TLS
    _configure(tmp_path / "phone", port, certificate)
    settings = {
        "server.port": 0,
        "server.host": "127.0.0.1",
        "sip.port": 0,
        "sip.tls_ca": str(_bundle(tmp_path / "ca.pem", certificate, expired)),
    }
    listener = Listener(load_config(settings, environ={}), ["loopback"])
    command = [find("stdbuf"), "-oL", find("baresip"), "-f", str(tmp_path / "phone"), "-4", "-v"]
    async with program(command, tmp_path / "phone") as phone, Side(tls=expired) as stranger:
        await listener.start()
        try:
            await phone.says("baresip is ready")
            for uri in (
                f"sip:phone@127.0.0.1:{port + 1};transport=tls",
                f"sips:phone@127.0.0.1:{port + 1}",
            ):
                call = await listener.dial(uri, by_user=True)
                async with asyncio.timeout(SOON_S):
                    await call.answered()
                (state,) = listener.calls
                assert state.info.transport == "tls"
                await _flows(listener, call.call_id)
                await listener.hang_up(call.call_id)
                _, quality = await call.ended()
                assert quality.received > 5 and quality.sent > 5
            with logged() as lines:
                with pytest.raises(CallFailed) as failed:
                    await (await listener.dial(f"sips:{_rest(stranger)}", by_user=True)).answered()
            assert failed.value.status == 503
            assert len([line for line in lines if "certificate has expired" in line]) == 1
            assert not stranger.came
        finally:
            await listener.stop()


async def _flows(listener: Listener, call_id: str) -> None:
    """Wait for audio, both ways."""
    (worker,) = listener.supervisor.workers
    async with asyncio.timeout(SOON_S):
        while True:
            told = (await worker.channel.ask("quality"))["calls"].get(call_id, {})
            if told.get("received", 0) > 10 and told.get("sent", 0) > 10:
                return
            await asyncio.sleep(0.05)


def _rest(side: Side) -> str:
    return f"phone@127.0.0.1:{side.sockets.ports['tls']}"


def _bundle(file: Path, *certificates: Certificate) -> Path:
    file.write_bytes(b"".join(one.cert.read_bytes() for one in certificates))
    return file
