"""Telephones of others, without a sound card: baresip and linphone."""

import contextlib
import functools
import wave
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.sip.programs import Program, find, free_port, program
from tests.speech import read_wav, resample, speech_wav, write_wav

__all__ = ["RATES_HZ", "Heard", "baresip_call", "linphone"]

RATES_HZ = {"PCMU": 8000, "PCMA": 8000, "G722": 16000, "opus": 48000}
"""Of the WAV file that baresip plays with each codec; it must be the codec's own."""

# What it does not find by its name, it replaces by all that it has.
_NAMES = {"G722": "G722/16000/1", "opus": "opus/48000/2"}

_MODULES = ("aubridge", "g711", "g722", "opus", "aufile", "sndfile", "srtp")
_BARESIP_MODULES = Path("/usr/lib/baresip/modules")


class Heard:
    """What a call was for the telephone.

    Attributes:
        log: what the program wrote.
        folder: where it recorded.
    """

    def __init__(self, log: str, folder: Path) -> None:
        self.log = log
        self.folder = folder

    def sound(self) -> NDArray[np.float32]:
        """What it heard, float32 at 16 kHz; the longest of its recordings."""
        files = sorted(self.folder.glob("dump-*-dec.wav"), key=lambda file: file.stat().st_size)
        assert files, self.log[-3000:]
        with wave.open(str(files[-1]), "rb") as file:
            rate_hz, channels = file.getframerate(), file.getnchannels()
        samples = read_wav(files[-1])[::channels]
        return resample(np.ascontiguousarray(samples), rate_hz, 16_000)


async def baresip_call(
    folder: Path,
    uri: str,
    *clips: str,
    codec: str = "PCMU",
    options: str = "",
    config: str = "",
    gap_s: float = 1.5,
    tail_s: float = 3.0,
) -> Heard:
    """Call, say clips of ``tests.speech``, listen for ``tail_s``, and hang up.

    Args:
        folder: for its settings and recordings.
        uri: whom to call.
        clips: names.
        codec: the only one that it offers, as baresip spells it.
        options: more parameters of the account, such as ``;mediaenc=srtp-mand``.
        config: more lines of settings.
        gap_s: silence between two clips.
        tail_s: silence behind the last one.
    """
    says = functools.partial(
        speech_wav, names=clips, rate_hz=RATES_HZ[codec], lead_s=1.0, gap_s=gap_s, tail_s=tail_s
    )
    _configure_baresip(folder, says, codec, options, config)
    # Its output is a pipe, which it would fill before anybody reads it: a line at a time.
    command = [find("stdbuf"), "-oL", find("baresip"), "-f", str(folder), "-4", "-v"]
    async with program([*command, "-e", f"d {uri}"], folder) as running:
        await running.says("Call established", "session closed", "terminated (", within_s=180)
        await running.says("session closed", "terminated (", within_s=180)
    if "Call established" in running.text:
        assert f"Set audio decoder: {codec} " in running.text, running.text[-3000:]
    return Heard(running.text, folder)


def _configure_baresip(
    folder: Path, says: Callable[[Path], Path], codec: str, options: str, config: str
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wav = says(folder / "says.wav")
    rate_hz, channels = RATES_HZ[codec], 1
    if codec == "opus":  # baresip's is stereo, and so must be what it plays
        channels = 2
        _make_stereo(wav, rate_hz)
    lines = [
        "net_interface 127.0.0.1",
        "sip_listen 127.0.0.1:0",
        f"audio_source aufile,{wav}",
        "audio_player aubridge,play",
        "audio_alert aubridge,alert",
        f"ausrc_srate {rate_hz}",
        f"auplay_srate {rate_hz}",
        f"ausrc_channels {channels}",
        f"auplay_channels {channels}",
        "audio_txmode poll",
        f"module_path {_BARESIP_MODULES}",
        *(f"module {name}.so" for name in _MODULES),
        f"snd_path {folder}",
        "module_tmp account.so",
        "module_app contact.so",
        "module_app menu.so",
        config,
    ]
    (folder / "config").write_text("\n".join(lines) + "\n")
    (folder / "contacts").touch()
    account = f"<sip:caller@127.0.0.1>;regint=0;audio_codecs={_NAMES.get(codec, codec)}{options}\n"
    (folder / "accounts").write_text(account)


def _make_stereo(wav: Path, rate_hz: int) -> None:
    samples = read_wav(wav)
    write_wav(wav, np.stack([samples, samples]), rate_hz)


# Without bind_address it takes any address of the machine, even one of IPv6, for its sound.
_LINPHONE = """\
[sip]
sip_port={port}
sip_tcp_port=0
sip_tls_port=0
use_ipv6=0
guess_hostname=0
contact=sip:phone@127.0.0.1:{port}
bind_address=127.0.0.1
[net]
firewall_policy=0
[video]
capture=0
display=0
automatically_initiate=0
automatically_accept=0
[rtp]
audio_rtp_port=-1
bind_address=127.0.0.1
"""


def _configure_linphone(folder: Path) -> None:
    (folder / ".local/share/linphone").mkdir(parents=True)  # else it complains
    (folder / "linphonerc").write_text(_LINPHONE.format(port=free_port()))


@contextlib.asynccontextmanager
async def linphone(folder: Path) -> AsyncIterator[Program]:
    """linphone's daemon: commands are typed, answers and events are in its text."""
    _configure_linphone(folder)
    command = [find("stdbuf"), "-oL", find("linphone-daemon"), "--config", "linphonerc"]
    async with program(command, folder) as running:
        await running.says("daemon-linphone>")
        await running.send("ipv6 disable")
        await running.says("State: disabled")
        yield running
