"""The command ``talkpath transcribe`` as a user runs it: a process, its output, its exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from talkpath.bots.cli import main
from tests.speech import clip, read_wav, silence, speech_wav, word_error_rate, write_wav

MAIN = "import sys; from talkpath.bots.cli import main; sys.exit(main())"
COMMAND = [sys.executable, "-c", MAIN, "transcribe"]
LIGHT = ("--model", "tiny.en")  # where the words are not what is tested


@pytest.fixture(autouse=True)
def base(model: Callable[[str], Path]) -> Path:
    """Fetch the model first: a download is no part of what is tested here."""
    return model("base")


def talkpath(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command in this process, with arguments that cannot be; gives the one error line."""

    def run(*arguments: str | Path) -> str:
        code: object
        try:
            code = main(["transcribe", *map(str, arguments)])
        except SystemExit as leaving:  # argparse
            code = leaving.code
        out, err = capsys.readouterr()
        assert code == 2
        assert out == ""
        return err.splitlines()[-1]

    return run


def error_lines(result: subprocess.CompletedProcess[str]) -> list[str]:
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()


def test_good_files_are_transcribed_beside_bad_ones(tmp_path: Path) -> None:
    good = clip("librivox-0880")
    empty, words = tmp_path / "empty.mp3", tmp_path / "words.wav"
    cut_off = speech_wav(tmp_path / "cut off.wav", ["librivox-0930", "librivox-0890"])
    cut_off.write_bytes(cut_off.read_bytes()[: 44 + 2 * round(4.4 * 16_000)])
    empty.touch()
    words.write_text("Nobody speaks here.\n" * 9)
    result = talkpath(empty, good.path, words, tmp_path / "nowhere.ogg", tmp_path, cut_off)
    assert result.returncode == 1
    head, text, other_head, other_text = result.stdout.splitlines()
    assert (head, other_head) == (f"==> {good.path} <==", f"==> {cut_off} <==")
    assert word_error_rate([good.text], [text]) <= 0.25
    assert word_error_rate([clip("librivox-0930").text], [other_text]) <= 0.25
    assert error_lines(result) == [
        f"talkpath: {empty} is empty",
        f"talkpath: {words} is not an audio file, or it is damaged",
        f"talkpath: {tmp_path / 'nowhere.ogg'} does not exist",
        f"talkpath: {tmp_path} is a folder, not an audio file",
        f"talkpath: warning: {cut_off} is incomplete: 4.4 s of the 11.1 s that it states "
        "could be read",
    ]


def test_a_cut_off_file_alone_is_a_warning_and_no_failure(tmp_path: Path) -> None:
    path = speech_wav(tmp_path / "a.wav", ["librivox-0930", "librivox-0890"])
    path.write_bytes(path.read_bytes()[:140_000])
    result = talkpath(path, *LIGHT)
    assert result.returncode == 0
    assert "amiable" in result.stdout
    assert "warning" in result.stderr


def test_each_recording_gets_a_file_of_its_own(tmp_path: Path) -> None:
    first = speech_wav(tmp_path / "a.wav", ["librivox-0880"])
    (tmp_path / "b").mkdir()
    second = speech_wav(tmp_path / "b" / "A.WAVE", ["librivox-0930"])
    third = speech_wav(tmp_path / "c.wav", ["librivox-0890"])
    folder = tmp_path / "new" / "folder"
    result = talkpath(first, second, third, first, *LIGHT, "--format", "json", "--output", folder)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert sorted(path.name for path in folder.iterdir()) == [
        "A.WAVE.json",
        "a.wav.json",
        "c.json",
    ]
    document = json.loads((folder / "c.json").read_text(encoding="utf-8"))
    assert document["file"] == str(third)
    assert document["language"] == "en"
    assert word_error_rate([clip("librivox-0890").text], [document["text"]]) <= 0.3


def test_subtitles_on_standard_output() -> None:
    result = talkpath(clip("librivox-0870").path, "--format", "vtt", "--language", "en")
    assert result.returncode == 0
    assert result.stdout.startswith("WEBVTT\n\n00:00:0")
    assert "Dashwood" in result.stdout


def test_json_of_several_files_is_a_line_each_and_progress_is_shown_when_asked_for() -> None:
    paths = [clip("cards-001").path, clip("librivox-0930").path]
    result = talkpath(*paths, *LIGHT, "--format", "json", "--progress")
    assert result.returncode == 0
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert [document["file"] for document in documents] == [str(path) for path in paths]
    assert "3/3" in result.stderr
    assert "3/3" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.wav", "--format", "docx"], "docx"),
        ([], "FILE"),
        (["a.wav", "b.wav", "--format", "srt"], "--output"),
        (["x/a.wav", "y/a.wav", "--output", "out"], "a.wav"),
        (["a.wav", "--output", "taken"], "taken"),
    ],
)
def test_bad_arguments_are_told_at_once(
    arguments: list[str],
    said: str,
    refused: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").touch()
    assert said in refused(*arguments)


def test_an_unknown_language_is_a_bad_argument(refused: Callable[..., str]) -> None:
    assert "tlh" in refused(clip("cards-001").path, *LIGHT, "--language", "tlh")


def test_a_recording_is_not_replaced_by_its_transcript(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    path = speech_wav(tmp_path / "a.wav", ["cards-001"]).rename(tmp_path / "a.txt")
    assert refused(path, "--output", tmp_path)
    assert path.read_bytes()[:4] == b"RIFF"


def test_a_failed_file_leaves_the_older_transcript(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.txt").write_text("older\n")
    no_sound = write_wav(tmp_path / "a.wav", silence(0))
    assert talkpath(no_sound, *LIGHT, "--output", folder).returncode == 1
    assert (folder / "a.txt").read_text() == "older\n"
    assert len(list(folder.iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_leaves_no_half_written_file(tmp_path: Path) -> None:
    once = read_wav(speech_wav(tmp_path / "once.wav", gap_s=2.5))
    path = write_wav(tmp_path / "a.wav", np.tile(once, 20))  # it is at it for a while
    folder = tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, str(path), "--output", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        # In the background of a shell Ctrl-C is ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 300
    while not (folder.exists() and any(folder.iterdir())):  # it has begun to write
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert list(folder.iterdir()) == []
    assert "Traceback" not in errors


def test_words_are_in_json_when_they_are_asked_for() -> None:
    spoken = clip("librivox-0880")
    result = talkpath(spoken.path, "--format", "json", "--words", "--hotwords", "ill-disposed")
    assert result.returncode == 0, result.stderr
    (segment,) = json.loads(result.stdout)["segments"]
    assert " ".join(word["text"] for word in segment["words"]) == segment["text"]
    assert all(0 <= word["probability"] <= 1 for word in segment["words"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--beam-size", "11"], "whisper.beam_size must lie between 1 and 10"),
        (["--task", "translate", "--model", "tiny.en"], "knows English only and cannot translate"),
    ],
)
def test_what_cannot_be_decoded_so_is_a_wrong_argument(
    arguments: list[str], message: str, refused: Callable[..., str]
) -> None:
    assert message in refused(clip("librivox-0880").path, *arguments)


def test_cues_of_subtitles_begin_and_end_with_their_words() -> None:
    path = clip("librivox-0870").path
    subtitles = talkpath(path, "--format", "srt", "--model", "tiny.en")
    listed = talkpath(path, "--format", "json", "--words", "--model", "tiny.en")
    words = [word for each in json.loads(listed.stdout)["segments"] for word in each["words"]]
    first, second = (cue.splitlines() for cue in subtitles.stdout.strip().split("\n\n"))
    count = len(" ".join(first[2:]).split())
    ends, begins = (time.replace(",", ".") for time in (first[1][-6:], second[1][6:12]))
    assert float(ends) == pytest.approx(words[count - 1]["end_s"], abs=0.01)
    assert float(begins) == pytest.approx(words[count]["start_s"], abs=0.01)
