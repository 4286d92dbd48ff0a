"""Places: how many may come in, and who is turned away why."""

import asyncio
import contextlib

import pytest

from talkpath.agent.server.admission import Admission, Client, Denied, client_of


def test_a_stream_more_than_there_are_places_is_denied_until_one_ends() -> None:
    admission = Admission(streams=2)
    with contextlib.ExitStack() as held:
        held.enter_context(admission.stream(Client()))
        with admission.stream(Client("ann")):
            assert admission.streams == 2
            with (
                pytest.raises(Denied, match="all 2 streams of this server are in use") as denied,
                admission.stream(Client()),
            ):
                pass
            assert (denied.value.status, denied.value.close_code) == (503, 1013)
        with admission.stream(Client()):
            assert admission.streams == 2
    assert admission.streams == 0


def test_one_key_cannot_take_the_places_of_another() -> None:
    admission = Admission(streams=10, streams_per_key=1)
    with admission.stream(Client("ann")), admission.stream(Client("bob")):
        with (
            pytest.raises(Denied, match="all 1 streams of this key are in use") as denied,
            admission.stream(Client("ann")),
        ):
            pass
        assert denied.value.status == 429
    with admission.stream(Client("ann")):
        assert admission.streams == 1


def test_a_place_is_free_again_after_an_error() -> None:
    admission = Admission(streams=1, uploads=1)
    for _ in range(2):
        with (
            pytest.raises(ZeroDivisionError),
            admission.stream(Client()),
            admission.upload(Client()),
        ):
            raise ZeroDivisionError
    assert (admission.streams, admission.uploads) == (0, 0)


def test_a_recording_more_than_there_are_places_is_denied() -> None:
    admission = Admission(streams=1, uploads=1)
    with admission.upload(Client()):
        with (
            pytest.raises(Denied, match="works on 1 recording at once"),
            admission.upload(Client()),
        ):
            pass
        assert admission.uploads == 1


def test_one_key_cannot_take_all_places_for_recordings() -> None:
    admission = Admission(streams=1, uploads=3, uploads_per_key=2)
    with admission.upload(Client("ann")), admission.upload(Client("ann")):
        with (
            pytest.raises(Denied, match="2 recordings of a key at once") as denied,
            admission.upload(Client("ann")),
        ):
            pass
        assert denied.value.status == 429
        with admission.upload(Client("bob")):
            assert admission.uploads == 3
    with admission.upload(Client("ann")):
        assert admission.uploads == 1


async def test_nobody_is_let_in_while_the_server_drains_and_it_learns_when_recordings_end() -> None:
    admission = Admission(streams=9)
    await admission.uploads_ended()
    with admission.upload(Client()):
        with admission.upload(Client()):
            ended = asyncio.create_task(admission.uploads_ended())
            admission.drain()
            for place in (admission.stream(Client()), admission.upload(Client())):
                with pytest.raises(Denied, match="about to stop") as denied, place:
                    pass
                assert (denied.value.status, denied.value.close_code) == (503, 1013)
        await asyncio.sleep(0)
        assert not ended.done()
    async with asyncio.timeout(60):
        await ended
    assert admission.draining


def test_without_a_guard_a_caller_has_no_name() -> None:
    assert client_of({}) == Client()
    assert client_of({"talkpath.client": Client("ann")}) == Client("ann")
