"""Numbers and digits, as a recognizer writes what callers say."""

import pytest

from talkpath.agent.spoken_numbers import digits, number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("About twenty.", 20),
        ("twenty-one", 21),
        ("A hundred.", 100),
        ("one hundred and five", 105),
        ("two thousand and three", 2003),
        ("1,200", 1200),
        ("2.5", 2.5),
        ("Seven, no, eight.", 8),
        ("Seven out of ten.", 7),
        ("a couple of times", 2),
        ("minus five", -5),
        ("To.", 2),
        ("None.", 0),
        ("Seven or eight.", None),
        ("No idea.", None),
        ("To be honest I like it.", None),
        ("Once.", 1),
        ("I called once.", 1),
        ("Once a week.", 1),
        ("Twice.", 2),
        ("Twice? No, seven times.", 7),
        ("7/10", 7),
        ("One.", 1),
        ("Um, one, please.", 1),
        ("One out of ten.", 1),
        ("Number one.", 1),
        ("I'd give it a one.", 1),
        ("about one", 1),
        ("twenty-one out of fifty", 21),
        ("Never.", 0),
        ("I'm not sure, maybe seven.", 7),
        ("Not ten, eight.", 8),
        ("seven no eight", 8),
        ("more or less five", 5),
        ("a negative experience, 3", 3),
        ("negative three", -3),
        ("-3", -3),
        ("That one is a seven.", 7),
        ("one or two", None),
        ("Once or twice.", None),
        ("not ten", None),
        ("I wouldn't give a ten", None),
        ("Ten isn't right.", None),
        ("seven and a half", None),
        ("three quarters", None),
        ("half a dozen", None),
        ("That's a tough one", None),
        ("no one", None),
        ("No one helped me.", None),
        ("one second", None),
        ("One moment please", None),
        ("Hold on two seconds.", None),
        ("less than five", None),
        ("more than five", None),
        ("at least five", None),
        ("under ten", None),
        ("between three and four", None),
        ("2-3 times", None),
        ("nobody gave me one", None),
        ("the 2nd", None),
        ("ten minus two", None),
        ("I called 1-800", None),
        ("", None),
    ],
)
def test_a_number_is_read_from_words_and_digits(text: str, value: float | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("555-0123", "5550123"),
        ("five five five, oh one two three", "5550123"),
        ("double five, five zero", "5550"),
        ("twenty-one, thirty", "2130"),
        ("It's 0151 234.", "0151234"),
        ("none", ""),
        ("555\u00b212", "55512"),
        ("\u0665\u0665\u0665", ""),
    ],
)
def test_digits_are_collected(text: str, found: str) -> None:
    assert digits(text) == found
