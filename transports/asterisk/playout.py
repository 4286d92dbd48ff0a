"""The bot's sound on its way to Asterisk: cut into frames, sent at the pace of speech.

Neither clock nor socket is in here: whoever has both asks when the next frame is due, takes it
and sends it. At most ``lead_s`` of sound are with Asterisk and not heard yet, and two frames
wait here, so that a hold or an interruption finds next to nothing to take back.
"""

import math
from collections import deque
from dataclasses import dataclass

__all__ = ["SLACK_S", "FramePlayout"]

SLACK_S = 0.06
"""Seconds by which a frame may be late and those after it still catch up.

More than a pause of the event loop, less than what a telephone's jitter buffer throws away.
"""

_WAITING_FRAMES = 2


@dataclass(slots=True)
class _Piece:
    data: bytes
    interruptible: bool


class FramePlayout:
    """Sound that is yet to be sent.

    Args:
        frame_bytes: bytes of a frame.
        frame_s: seconds that it lasts.
        lead_s: seconds of sound that Asterisk may have in hand; it must play them at its own
            pace then.
        silence: one silent sample, for filling frames up.
        steady: whether silence is sent where there is no sound.
    """

    def __init__(
        self, *, frame_bytes: int, frame_s: float, lead_s: float, silence: bytes, steady: bool
    ) -> None:
        self._frame_bytes = frame_bytes
        self._frame_s = frame_s
        self._lead_s = lead_s
        self._silence = silence
        self._steady = steady
        self._pieces: deque[_Piece] = deque()
        self._waiting = 0  # bytes
        self._played_s = -math.inf  # when all that was sent has been heard
        self._held_ahead_s: float | None = None  # what of it was not, when the hold began
        self._stopped = False
        self._flushable = False
        self._more_until_s = -math.inf  # until then, a frame that is not full may be filled up

    @property
    def room(self) -> bool:
        """Whether more should be put in now."""
        return self._waiting < _WAITING_FRAMES * self._frame_bytes

    @property
    def empty(self) -> bool:
        """Whether nothing waits here."""
        return not self._waiting

    @property
    def played_s(self) -> float:
        """When all that was sent will have been heard."""
        return self._played_s

    def put(self, data: bytes, now_s: float, *, interruptible: bool = True) -> None:
        """Add sound; ``interruptible`` says whether ``drop`` may drop it."""
        if data:
            self._more_until_s = now_s + self._frame_s
            self._pieces.append(_Piece(data, interruptible))
            self._waiting += len(data)

    def due_s(self) -> float | None:
        """When the next frame is to be taken; None if not before something changes."""
        if self._stopped:
            return None
        if self._held_ahead_s is not None or not self._waiting:
            return self._played_s if self._steady else None
        if self._waiting < self._frame_bytes:  # what is missing may still come
            return self._played_s if self._steady else max(self._played_s, self._more_until_s)
        return self._played_s - self._lead_s

    def take(self, now_s: float) -> bytes:
        """Take the next frame, which is sent now; what is missing is silence."""
        data = bytearray()
        wait = self._waiting < self._frame_bytes and now_s < self._more_until_s
        while (
            self._held_ahead_s is None
            and not wait
            and self._pieces
            and len(data) < self._frame_bytes
        ):
            piece = self._pieces[0]
            part = piece.data[: self._frame_bytes - len(data)]
            data += part
            piece.data = piece.data[len(part) :]
            self._flushable = piece.interruptible
            if not piece.data:
                self._pieces.popleft()
        self._waiting -= len(data)
        late_s = now_s - self._played_s
        self._played_s = (now_s if late_s > SLACK_S else self._played_s) + self._frame_s
        missing = (self._frame_bytes - len(data)) // len(self._silence)
        return bytes(data) + missing * self._silence

    def hold(self, now_s: float) -> None:
        """Give no more of it, and keep it; the clock of what was sent stands still, too."""
        if self._held_ahead_s is None:
            self._held_ahead_s = max(0.0, self._played_s - now_s)

    def resume(self, now_s: float) -> None:
        """Go on with the very next sample."""
        if self._held_ahead_s is not None and not self._steady:
            self._played_s = now_s + self._held_ahead_s
        self._held_ahead_s = None

    def drop(self, now_s: float) -> bool:
        """Forget what is not to be heard any more; gives whether Asterisk should forget, too."""
        self._pieces = deque(piece for piece in self._pieces if not piece.interruptible)
        self._waiting = sum(len(piece.data) for piece in self._pieces)
        flush, self._flushable = self._flushable, False
        if flush and not self._steady:
            self._played_s = min(self._played_s, now_s)
            self._held_ahead_s = None if self._held_ahead_s is None else 0.0
            self._stopped = False  # an empty queue is not full
        return flush

    def stop(self) -> None:
        """Asterisk takes no more."""
        self._stopped = True

    def go(self) -> None:
        """Asterisk takes more."""
        self._stopped = False
