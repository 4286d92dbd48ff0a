"""Where session descriptions send audio."""

import pytest

from talkpath.agent.sip.media_description import (
    advertise,
    apart,
    audio_endpoint,
    is_description,
    redirect_audio,
    without_keys,
)

HEAD = "v=0|o=phone 1 2 IN IP4 10.0.0.1|s=-|"
AUDIO = "m=audio 4000 RTP/AVP 0|a=rtpmap:0 PCMU/8000|"
VIDEO = "m=video 5000 RTP/AVP 96|c=IN IP4 10.0.0.9|"


def sdp(text: str) -> bytes:
    return text.replace("|", "\r\n").encode()


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        (HEAD + "c=IN IP4 10.0.0.1|t=0 0|" + AUDIO, ("10.0.0.1", 4000)),
        (HEAD + "t=0 0|" + AUDIO + "c=IN IP4 10.0.0.2|", ("10.0.0.2", 4000)),
        (HEAD + "c=IN IP4 10.0.0.1|t=0 0|" + VIDEO + AUDIO, ("10.0.0.1", 4000)),
        (HEAD + "c=IN IP6 2001:db8::1|t=0 0|" + AUDIO, ("2001:db8::1", 4000)),
        (HEAD + "c=IN IP4 0.0.0.0|t=0 0|" + AUDIO, None),
        (HEAD + "c=IN IP4 10.0.0.1|t=0 0|m=audio 0 RTP/AVP 0|", None),
        (HEAD + "c=IN IP4 10.0.0.1|t=0 0|m=audio 99999 RTP/AVP 0|", None),
        (HEAD + "t=0 0|" + AUDIO, None),
        (HEAD + "c=IN IP4 10.0.0.1|t=0 0|" + VIDEO, None),
        ("", None),
    ],
)
def test_where_audio_is_wanted(body: str, endpoint: tuple[str, int] | None) -> None:
    assert audio_endpoint(sdp(body)) == endpoint
    # Parting the session's address from the media's changes nothing in that.
    assert audio_endpoint(apart(sdp(body), "127.0.0.1")) == endpoint


def test_the_first_address_is_the_sessions_own() -> None:
    for body in (
        HEAD + "c=IN IP4 10.0.0.1|t=0 0|" + AUDIO + VIDEO,
        HEAD + "t=0 0|" + AUDIO + "c=IN IP4 10.0.0.1|" + VIDEO,
        HEAD + "c=IN IP4 10.0.0.1|t=0 0|m=audio 4000 RTP/AVP 0|i=a title|a=sendrecv|",
        HEAD + "c=IN IP4 10.0.0.1|t=0 0|m=audio 4000 RTP/AVP 0",
    ):
        parted = apart(sdp(body), "127.0.0.1")
        addresses = [line for line in parted.split(b"\r\n") if line.startswith(b"c=")]
        assert addresses[0] == b"c=IN IP4 127.0.0.1"
        assert audio_endpoint(parted) == ("10.0.0.1", 4000)
        assert parted.count(b"m=") == body.count("m=")
    titled = apart(sdp(HEAD + "c=IN IP4 10.0.0.1|t=0 0|m=audio 4 RTP/AVP 0|i=a|a=b|"), "127.0.0.1")
    assert titled.endswith(b"i=a\r\nc=IN IP4 10.0.0.1\r\na=b\r\n")


def test_an_address_is_advertised_wherever_one_stands_but_where_a_call_is_held() -> None:
    body = sdp(HEAD + "c=IN IP4 127.0.0.1|t=0 0|" + AUDIO + "a=rtcp:4001 IN IP4 127.0.0.1|" + VIDEO)
    shown = advertise(body, "203.0.113.1")
    assert b"127.0.0.1" not in shown and b"10.0.0" not in shown
    assert b"a=rtcp:4001\r\n" in shown
    assert b"o=phone 1 2 IN IP4 203.0.113.1" in shown
    held = sdp(HEAD + "c=IN IP4 0.0.0.0|t=0 0|" + AUDIO)
    assert b"c=IN IP4 0.0.0.0" in advertise(held, "203.0.113.1")
    assert b"IN IP6 2001:db8::1" in advertise(body, "2001:db8::1")


def test_only_the_first_audio_is_sent_elsewhere() -> None:
    body = sdp(HEAD + "c=IN IP4 10.0.0.1|t=0 0|" + VIDEO + AUDIO + "a=rtcp:4001 IN IP4 10.0.0.1|")
    moved = redirect_audio(body, "127.0.0.1", 6000)
    assert audio_endpoint(moved) == ("127.0.0.1", 6000)
    assert b"m=video 5000 " in moved and b"a=rtcp:6001\r\n" in moved
    refused = sdp(HEAD + "c=IN IP4 10.0.0.1|t=0 0|m=audio 0 RTP/AVP 0|")
    assert b"m=audio 0 " in redirect_audio(refused, "127.0.0.1", 6000)


def test_keys_are_taken_out() -> None:
    body = sdp(HEAD + "c=IN IP4 10.0.0.1|t=0 0|" + AUDIO + "a=crypto:1 X inline:k|a=sendrecv|")
    assert without_keys(body) == body.replace(b"a=crypto:1 X inline:k\r\n", b"")


@pytest.mark.parametrize(
    ("kind", "whether"),
    [
        ("application/sdp", True),
        ("Application/SDP ; a=b", True),
        ("text/plain", False),
        (None, False),
    ],
)
def test_what_is_a_description(kind: str | None, whether: bool) -> None:
    assert is_description(kind) is whether
