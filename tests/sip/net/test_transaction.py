from talkpath.agent.sip.message import Request, Response, parse_message
from talkpath.agent.sip.transaction import OWN_BRANCH, ClientTransaction, State, new_branch
from tests.sip.net.stage import answer, options


def _request() -> Request:
    request = parse_message(options())
    assert isinstance(request, Request)
    return request


def _response(status: int) -> Response:
    return answer(_request(), status)


def _times(transaction: ClientTransaction, until_s: float) -> list[float]:
    """When the request is sent again, by a clock that jumps from timer to timer."""
    sent = []
    while (due_s := transaction.due_s) is not None and due_s <= until_s:
        if transaction.tick(due_s):
            sent.append(due_s)
    return sent


def test_udp_repeats_a_request_ever_more_slowly_until_it_times_out() -> None:
    transaction = ClientTransaction(_request(), reliable=False, now_s=100.0)
    times = _times(transaction, 200.0)
    assert times == [100.5, 101.5, 103.5, 107.5, 111.5, 115.5, 119.5, 123.5, 127.5, 131.5]
    assert transaction.state is State.OVER and transaction.timed_out
    assert transaction.receive(_response(200), 132.5) is None
    assert not transaction.tick(140.0)


def test_a_provisional_response_slows_repetitions_down_and_moves_no_timeout() -> None:
    transaction = ClientTransaction(_request(), reliable=False, now_s=0.0)
    assert _times(transaction, 0.6) == [0.5]
    assert transaction.receive(_response(100), 0.7)
    assert transaction.state is State.PROCEEDING
    assert _times(transaction, 12.0) == [1.5, 5.5, 9.5]
    assert _times(transaction, 99.0)[-1] == 29.5
    assert transaction.timed_out


def test_a_final_response_counts_once_and_its_repetitions_are_taken_in() -> None:
    transaction = ClientTransaction(_request(), reliable=False, now_s=0.0)
    response = transaction.receive(_response(404), 1.0)
    assert response is not None and response.status == 404
    states = [transaction.state]
    assert transaction.receive(_response(404), 2.0) is None
    assert transaction.receive(_response(100), 2.0) is None
    assert transaction.due_s == 6.0
    assert _times(transaction, 99.0) == []
    states.append(transaction.state)
    assert states == [State.COMPLETED, State.OVER] and not transaction.timed_out


def test_tcp_repeats_nothing_and_waits_for_no_repetitions() -> None:
    transaction = ClientTransaction(_request(), reliable=True, now_s=0.0, timeout_s=3.0)
    assert transaction.due_s == 3.0
    assert not transaction.tick(1.0)
    assert transaction.receive(_response(200), 1.0)
    assert transaction.state is State.OVER and transaction.due_s is None
    silent = ClientTransaction(_request(), reliable=True, now_s=0.0, timeout_s=3.0)
    assert _times(silent, 99.0) == [] and silent.timed_out


def test_a_response_to_another_method_is_not_its_own() -> None:
    transaction = ClientTransaction(_request(), reliable=False, now_s=0.0)
    other = _response(200)
    other.headers.set("CSeq", "1 REGISTER")
    assert transaction.receive(other, 0.1) is None
    assert transaction.state is State.TRYING


def test_branches_are_known_by_their_beginning_and_never_the_same() -> None:
    first, second = new_branch(), new_branch()
    assert first != second and first.startswith(OWN_BRANCH) and second.startswith("z9hG4bKtpr")
