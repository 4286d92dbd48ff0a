"""A telephone's keys, as a menu and as numbers."""

from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import Frame, InputDTMFFrame, TranscriptionFrame

from talkpath.processors.keys import KeyPad
from tests.processors.sending import SleepFrame, run_test


async def _keyed(*presses: str | float) -> tuple[list[str], int]:
    """Press keys, with pauses in seconds; the numbers, and how often the hash was a key alone."""
    left = 0

    async def leave() -> None:
        nonlocal left
        left += 1

    frames: list[Frame] = []
    for press in presses:
        if isinstance(press, float):
            frames.append(SleepFrame(sleep=press))
        else:
            frames += [InputDTMFFrame(button=KeypadEntry(key)) for key in press]
    down, _ = await run_test(KeyPad({"#": leave}, timeout_s=0.1), frames_to_send=frames)
    return [frame.text for frame in down if isinstance(frame, TranscriptionFrame)], left


async def test_the_hash_behind_a_number_ends_the_number_however_late_it_comes() -> None:
    assert await _keyed("123#", 0.05) == (["DTMF: 123"], 0)
    assert await _keyed("123", 0.3, "#", 0.05) == (["DTMF: 123"], 0)
    assert await _keyed("123", 0.3, "##", 0.05) == (["DTMF: 123"], 1)
    assert await _keyed("12", 0.3, "3#", 0.05) == (["DTMF: 12", "DTMF: 3"], 0)


async def test_a_handset_that_hangs_loses_no_digit() -> None:
    assert await _keyed("1" * 33 + "#") == (["DTMF: " + "1" * 32, "DTMF: 1"], 0)
