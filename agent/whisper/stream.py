"""Stream: one speaker's audio, cut into utterances, and what to decode of it when.

Sans-IO: audio, speech events and transcripts go in; decoding jobs and results come out.

An utterance begins with the speech that the detector found (and a little before it). While
it lasts, a partial is asked for after every half second of it; one that still waits then gives
way to the newer one. At an early pause its audio so far is frozen and a speculative final asked
for; if speech resumes that one is dropped, and if it stops, the final is often there already.

Speech longer than 15 s (less in languages that take many tokens) is split where the speaker
pauses for a moment, and its speculative final is that piece's; where nobody pauses, it is split
before Whisper's window is full, at the quietest moment of the last seconds. It goes on as the
next utterance.

Each decode takes the newest answer of its utterance for a draft, and a short one is told what
was said before in the turn.
"""

from dataclasses import dataclass, field, replace

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.whisper.agreement import Agreement
from talkpath.agent.whisper.buffer import AudioBuffer, faded
from talkpath.agent.whisper.requests import DecodeOptions, Priority, Request
from talkpath.agent.whisper.results import (
    Final,
    Likely,
    Partial,
    StreamFailure,
    StreamResult,
    Transcript,
)
from talkpath.agent.whisper.turn import Turn
from talkpath.agent.whisper.windows import longest_utterance_s

__all__ = ["Cancel", "Decode", "Promote", "Stream", "StreamAction", "StreamOptions"]

_TURN_PAUSE_S = 2.5  # what follows a longer pause is seldom the same sentence
# Silence behind the words that is decoded with them: less costs words (see ``transcribe``).
_TAIL_S = 0.6
# From so much speech on, a pause that would be too short for a stop is good enough for a cut:
# partials cost less and finals are right more often than with cuts wherever it is quiet at 28 s
# (4 minutes of one reader without a stop, the quietest moment sought in 10 s, wrong words of 595:
# 14, and 25 without these cuts; without them and sought in 5 s, 18).
# The longer it is already, the shorter a pause will do (10 minutes of one reader with every
# pause cut to 64 ms, wrong words of 1601: 81 with cuts at 28 s, 37 with the second step).
# Parts of the longest utterance, and seconds.
_PAUSES = ((15 / 28, 0.1), (20 / 28, 0.06))
_SPLIT_SEARCH_S = 5.0  # and at most half of the utterance
_SPLIT_FRAME_S = 0.1
# So little at a time that a split never leaves more than a window holds (28.5 s).
_FEED_SAMPLES = SAMPLE_RATE_HZ // 2
_QUIET_BUFFER_S = 2.5
_SURE_LANGUAGE = 0.9
_TELLING_S = 2.5  # with the pre-roll around it, about two seconds of speech
_FIRST_SECOND_S = 1.3  # of speech, with the pre-roll
_LIKELY_LANGUAGE = 0.5  # below it, a partial is more likely in another language's words


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How a stream is decoded.

    Attributes:
        decode: language, task and the rest; a language of None is detected in each utterance.
        partials: whether partials are wanted.
        likely: whether speculative finals are wanted before the stop confirms them.
        partial_interval_s: seconds of speech between partials.
        language_mode: where the language is detected, ``utterance`` does so anew in each, and
            ``stream`` once, from the first second of speech; it is kept from then on.
        context_words: so many words of the turn so far go with each decode; 0 means none.
        pre_roll_s: seconds of audio before the speech that are decoded with it.
        longest_utterance_s: speech that lasts longer is split; None splits it only where one
            answer of Whisper's has no room for more, which no number here puts off.
    """

    decode: DecodeOptions = field(default_factory=DecodeOptions)
    partials: bool = True
    likely: bool = False
    partial_interval_s: float = 0.5
    language_mode: str = "utterance"
    context_words: int = 30
    pre_roll_s: float = 0.3
    longest_utterance_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Decode:
    """Decode this and bring the transcript back under this ticket.

    It takes the place in the queue of the ticket ``replaces``, of which nothing will be heard
    any more; if a worker has that one already, this one queues after it and both come back.
    """

    ticket: int
    request: Request
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class Promote:
    """The speculative final of this ticket has become the final: it is urgent now."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this ticket any more."""

    ticket: int


StreamAction = Decode | Promote | Cancel


@dataclass(slots=True)
class _PendingFinal:
    """A final that has not gone out: it waits for its outcome, the stop, or earlier finals."""

    ticket: int
    request: Request
    utterance: int
    start_s: float
    speculative: bool
    ends_speech: bool = True
    outcome: Transcript | Exception | None = None


class Stream:
    """The state of one stream. Not thread-safe: one thread or one event loop drives it."""

    def __init__(self, options: StreamOptions | None = None) -> None:
        self._options = options or StreamOptions()
        self._next_options: StreamOptions | None = None
        self._audio = AudioBuffer()
        self._speaking = False
        self._closed = False
        self._utterance = 0
        self._start_s = 0.0  # where its audio begins
        self._agreement = Agreement()
        self._language: str | None = None
        self._usual_language: str | None = None
        self._kept_language: str | None = None
        self._interval_s = self._options.partial_interval_s  # stretched under load
        self._partial_at = 0  # samples that the last partial covers
        self._answered = 0  # those of the last one that came back
        self._partial: int | None = None  # the newest one's ticket
        self._showable = 0  # answers to partials with older tickets are stale
        self._first_ticket = 0  # of the utterance
        self._draft: tuple[int, ...] = ()
        self._draft_ticket = 0
        self._speculation: _PendingFinal | None = None
        self._paused_at = 0  # samples that it covers
        self._finals: list[_PendingFinal] = []
        self._tickets = 0
        self._turn = Turn(self._options.context_words)
        self._fed = 0  # samples since the beginning
        self._quiet_since = 0  # samples fed when the last speech ended
        self._actions: list[StreamAction] = []
        self._results: list[StreamResult] = []

    @property
    def speaking(self) -> bool:
        """Whether an utterance is under way."""
        return self._speaking

    @property
    def utterance(self) -> int:
        """Number of the utterance that was begun last; 0 before the first."""
        return self._utterance

    @property
    def pending(self) -> bool:
        """Whether a final is still to come for speech that has stopped."""
        return bool(self._finals)

    def forget(self) -> None:
        """Forget the audio before the next utterance: what follows does not join it."""
        if not self._speaking:
            self._audio.keep_last(0)

    def abandon(self) -> None:
        """Forget the utterance under way, too: nothing more comes of it."""
        if self._speaking:
            self._cancel_partial()
            self._void_speculation()
            self._turn.heard(self._utterance, "")
            self._speaking = False
            self._quiet_since = self._fed
        self.forget()

    def configure(self, options: StreamOptions) -> None:
        """Go by other options from the next utterance on."""
        self._next_options = options
        if not self._speaking:
            self._take_options()

    def _take_options(self) -> None:
        if self._next_options is None:
            return
        before, self._options = self._options.decode, self._next_options
        self._next_options = None
        if not _same_languages(self._options.decode, before):
            self._usual_language = self._kept_language = None

    def set_language(self, language: str | None) -> None:
        """Decode in this language, or detect it (None), from the next utterance on."""
        decode = replace(self._options.decode, language=language)
        self._options = replace(self._options, decode=decode)
        self._usual_language = self._kept_language = None

    def end_turn(self) -> None:
        """What is said from now on does not go on what was said before."""
        self._turn.clear()

    def set_partial_interval(self, seconds: float) -> None:
        """Ask for a partial after so many seconds of speech from now on."""
        self._interval_s = seconds

    def actions(self) -> list[StreamAction]:
        """Take what is to be done since the last call, in order."""
        actions, self._actions = self._actions, []
        return actions

    def results(self) -> list[StreamResult]:
        """Take the results since the last call, in order."""
        results, self._results = self._results, []
        return results

    def feed(self, audio: FloatArray) -> None:
        """Take the next samples, float32 ``[n]``, 16 kHz, any number of them."""
        for start in range(0, len(audio), _FEED_SAMPLES):
            self._feed(audio[start : start + _FEED_SAMPLES])

    def _feed(self, audio: FloatArray) -> None:
        self._audio.append(audio)
        self._fed += len(audio)
        if not self._speaking:
            keep = round(_QUIET_BUFFER_S * SAMPLE_RATE_HZ)
            if len(self._audio) > 2 * keep:
                self._audio.keep_last(keep)
            return
        if len(self._audio) >= self._longest:
            self._split()
        self._maybe_partial()

    def speech_started(self, ago_s: float) -> None:
        """Speech began ``ago_s`` seconds before the end of the audio so far."""
        if self._speaking or self._closed:
            return
        begun = self._fed - round(ago_s * SAMPLE_RATE_HZ)
        if begun - self._quiet_since > _TURN_PAUSE_S * SAMPLE_RATE_HZ:
            self.end_turn()
        self._audio.keep_last(round((ago_s + self._options.pre_roll_s) * SAMPLE_RATE_HZ))
        self._speaking = True
        self._begin_utterance()

    def early_pause(self) -> None:
        """It has been silent for a moment: freeze the audio and speculate on a stop."""
        if not self._speaking or self._speculation is not None:
            return
        self._cancel_partial()
        self._paused_at = len(self._audio)
        self._speculation = self._final(faded(self._audio.snapshot()), Priority.SPECULATIVE)

    def speech_resumed(self) -> bool:
        """Speech went on: what was speculated is void, or the final of a piece that ends there.

        Returns:
            Whether it is a piece's final.
        """
        if self._speculation is None:
            return False
        pause = len(self._audio) - self._paused_at
        if any(
            self._paused_at >= part * self._longest and pause >= pause_s * SAMPLE_RATE_HZ
            for part, pause_s in _PAUSES
        ):
            self._split_at_pause()
            return True
        self._void_speculation()
        return False

    def _void_speculation(self) -> None:
        if self._speculation is not None and self._speculation.outcome is None:
            self._actions.append(Cancel(self._speculation.ticket))
        self._speculation = None

    def speech_stopped(self, silence_s: float) -> None:
        """Speech ended ``silence_s`` seconds before the end of the audio: the final is due."""
        if not self._speaking:
            return
        self._cancel_partial()
        final, self._speculation = self._speculation, None
        if final is None:
            final = self._final(self._audio.snapshot(self._end_of_words(silence_s)), Priority.FINAL)
        elif final.outcome is None:
            self._actions.append(Promote(final.ticket))
        self._finals.append(final)
        self._speaking = False
        self._quiet_since = self._fed - round(silence_s * SAMPLE_RATE_HZ)
        # The next utterance reaches back a little: not into this one's last word.
        self._audio.keep_last(round(silence_s * SAMPLE_RATE_HZ))
        self._release_finals()

    def transcript(self, ticket: int, transcript: Transcript) -> None:
        """A decode came back. One that nobody waits for may still serve as a draft."""
        self._keep_draft(ticket, transcript)
        self._keep_language(transcript)
        if self._partial is not None and self._showable <= ticket <= self._partial:
            self._showable = ticket + 1
            if ticket == self._partial:
                self._partial = None
            self._answered = round(transcript.duration_s * SAMPLE_RATE_HZ)
            self._take_partial(transcript)
        final = self._find_final(ticket)
        if final is not None:
            said = "" if transcript.possible_hallucination else transcript.text
            self._turn.heard(final.utterance, said)
            if transcript.language_probability >= _SURE_LANGUAGE and transcript.text:
                self._usual_language = transcript.language
            final.outcome = transcript
            if final is self._speculation and self._options.likely:
                self._results.append(Likely(final.utterance, transcript, final.start_s))
            self._release_finals()

    def not_begun_at_stop(self, ticket: int) -> None:
        """A speculation had not been begun when speech stopped: it is a final like any other."""
        final = self._find_final(ticket)
        if final is not None:
            final.speculative = False

    def failed(self, ticket: int, error: Exception) -> None:
        """A decode failed. A lost partial is made up for by the next one; a final is reported."""
        final = self._find_final(ticket)
        if self._partial is not None and self._showable <= ticket <= self._partial:
            self._showable = ticket + 1
            if ticket == self._partial:
                self._partial = None
        elif final is not None and final is self._speculation:
            self._speculation = None  # the stop will ask for the final anew
        elif final is not None:
            final.outcome = error
            self._release_finals()

    def close(self) -> None:
        """Nobody waits for anything of this stream any more."""
        self._cancel_partial()
        if self._speculation is not None:
            self._finals.append(self._speculation)
            self._speculation = None
        for final in self._finals:
            if final.outcome is None:
                self._actions.append(Cancel(final.ticket))
        self._finals = []
        self._speaking = False
        self._closed = True

    @property
    def _longest(self) -> int:
        """Samples of an utterance at which it is split."""
        language = self._language or self._usual_language or "en"
        longest_s = longest_utterance_s(language)
        if self._options.longest_utterance_s is not None:
            longest_s = min(longest_s, self._options.longest_utterance_s)
        return round(longest_s * SAMPLE_RATE_HZ)

    def _begin_utterance(self) -> None:
        self._take_options()
        self._utterance += 1
        self._start_s = (self._fed - len(self._audio)) / SAMPLE_RATE_HZ
        self._agreement = Agreement()
        self._language = self._options.decode.language or self._kept_language
        self._partial_at = 0
        self._answered = 0
        self._first_ticket = self._tickets + 1
        self._draft, self._draft_ticket = (), 0

    def _request(self, audio: FloatArray, priority: Priority) -> Request:
        language = self._language
        if language is None and len(audio) < _TELLING_S * SAMPLE_RATE_HZ:
            # A word or two tell the language badly: the stream's usual one is a better guess.
            language = self._usual_language
        return Request(
            audio,
            priority,
            replace(self._options.decode, language=language),
            context=self._turn.before(self._utterance, len(audio)),
            draft=self._draft,
        )

    def _decode(self, request: Request, *, replaces: int | None = None) -> int:
        self._tickets += 1
        self._actions.append(Decode(self._tickets, request, replaces))
        return self._tickets

    def _keep_draft(self, ticket: int, transcript: Transcript) -> None:
        """The newest answer of this utterance is what the next one probably begins with."""
        if ticket < max(self._first_ticket, self._draft_ticket):
            return
        if ticket <= self._tickets and not transcript.possible_hallucination:
            self._draft, self._draft_ticket = transcript.tokens, ticket

    def _final(self, audio: FloatArray, priority: Priority) -> _PendingFinal:
        request = self._request(audio, priority)
        return _PendingFinal(
            ticket=self._decode(request),
            request=request,
            utterance=self._utterance,
            start_s=self._start_s,
            speculative=priority is Priority.SPECULATIVE,
        )

    def _maybe_partial(self) -> None:
        if (
            not self._options.partials
            or self._speculation is not None
            or len(self._audio) < self._partial_at + round(self._interval_s * SAMPLE_RATE_HZ)
        ):
            return
        self._partial_at = len(self._audio)
        priority = Priority.PARTIAL if self._agreement.begun else Priority.FIRST_PARTIAL
        replaces = self._partial
        request = self._request(self._audio.snapshot(), priority)
        self._partial = self._decode(request, replaces=replaces)
        if replaces is None:
            self._showable = self._partial

    def _cancel_partial(self) -> None:
        if self._partial is not None:
            self._actions.append(Cancel(self._partial))
            self._partial = None
            self._partial_at = self._answered  # should speech go on, the next one is due sooner

    def _keep_language(self, transcript: Transcript) -> None:
        if (
            self._options.language_mode == "stream"
            and self._options.decode.language is None
            and self._kept_language is None
            and transcript.text
            and transcript.duration_s >= _FIRST_SECOND_S
            and transcript.language_probability >= _LIKELY_LANGUAGE
            and self._was_detected(transcript)
        ):
            self._kept_language = self._language = transcript.language

    def _was_detected(self, transcript: Transcript) -> bool:
        """Whether its language was heard in its audio, and is not the stream's usual one."""
        return self._usual_language is None or transcript.duration_s >= _TELLING_S

    def _take_partial(self, transcript: Transcript) -> None:
        if (
            self._language is None
            and transcript.language_probability >= _SURE_LANGUAGE
            and self._was_detected(transcript)
        ):
            self._language = transcript.language
        if (
            transcript.possible_hallucination
            or not transcript.text
            or transcript.language_probability < _LIKELY_LANGUAGE
        ):
            return
        stable, rest = self._agreement.update(transcript.text)
        self._turn.heard(self._utterance, stable)
        self._results.append(
            Partial(
                self._utterance,
                stable,
                rest,
                transcript.language,
                transcript.duration_s,
                self._start_s,
            )
        )

    def _end_of_words(self, silence_s: float) -> int:
        """Where in the audio nothing worth decoding follows: noise can become words."""
        end = len(self._audio) - round((silence_s - _TAIL_S) * SAMPLE_RATE_HZ)
        return min(max(end, round(_TAIL_S * SAMPLE_RATE_HZ)), len(self._audio))

    def _find_final(self, ticket: int) -> _PendingFinal | None:
        candidates = [*self._finals, *([self._speculation] if self._speculation else [])]
        return next(
            (item for item in candidates if item.ticket == ticket and item.outcome is None), None
        )

    def _release_finals(self) -> None:
        """Hand out finals in the order of their utterances, each once it is decoded."""
        while self._finals and (outcome := self._finals[0].outcome) is not None:
            final = self._finals.pop(0)
            self._results.append(
                StreamFailure(final.utterance, outcome, final.ends_speech)
                if isinstance(outcome, Exception)
                else Final(
                    final.utterance, outcome, final.ends_speech, final.speculative, final.start_s
                )
            )

    def _split(self) -> None:
        """End the utterance at the quietest moment of its last seconds and begin the next."""
        self._cancel_partial()
        self._void_speculation()
        search = min(round(_SPLIT_SEARCH_S * SAMPLE_RATE_HZ), len(self._audio) // 2)
        cut = self._audio.quietest(search, round(_SPLIT_FRAME_S * SAMPLE_RATE_HZ))
        final = self._final(self._audio.snapshot(cut), Priority.FINAL)
        self._go_on(final, cut)

    def _split_at_pause(self) -> None:
        """Make the speculation the final of a piece, and go on with what came after it."""
        final, self._speculation = self._speculation, None
        assert final is not None
        if final.outcome is None:
            self._actions.append(Promote(final.ticket))
        self._go_on(final, self._paused_at)

    def _go_on(self, piece: _PendingFinal, cut: int) -> None:
        """Begin the next utterance in the middle of speech, where this piece ends."""
        piece.ends_speech = False
        self._finals.append(piece)
        self._audio.drop_first(cut)
        language, before = self._language, self._options.decode
        self._begin_utterance()
        if _same_languages(self._options.decode, before):
            self._language = language
        self._release_finals()


def _same_languages(one: DecodeOptions, other: DecodeOptions) -> bool:
    """Whether what is known of the speaker's language by the one holds by the other."""
    return (one.language, one.languages) == (other.language, other.languages)
