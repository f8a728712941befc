"""Where output goes, what becomes of it, and signals: nothing that only shows things ends a run."""

import io
import signal
import sys
from types import SimpleNamespace

import pytest
from rich.progress import Progress

from collectiverl.cli import main, progress, streams
from collectiverl.cli.progress import Display, columns, console, display, tell
from collectiverl.pipeline import executor


class Broken(io.StringIO):
    """A stream whose reader has gone, or whose disk is full."""

    def __init__(self, error: type[OSError]):
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.fixture
def handlers():
    """Leaves the signals as they were."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.getsignal(number)) for number in numbers]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def shown_on(file) -> Display:
    made = Progress(
        *columns(80), console=progress._Terminal(file=file, markup=False, emoji=False), disable=True
    )
    return Display(made, [SimpleNamespace(out="a", label="train-task [bold]x[/] :smile:")])


def test_a_message_that_comes_after_the_end_of_its_stage_changes_nothing():
    shown = shown_on(io.StringIO())
    for done, total in ((1, 2), (1, 0), (2, 2), (1, 0)):
        shown.show(executor.Progress("a", done, total, "late"))
    assert shown.progress._tasks[shown.overall].completed == 1
    assert len(shown.progress._tasks) == 1


def test_without_a_terminal_a_stage_at_work_is_told_of_once_a_minute(monkeypatch):
    output, now = io.StringIO(), [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    shown = shown_on(output)
    for seconds in (0, 30, 59, 61, 90, 125):
        now[0] = float(seconds)
        shown.show(executor.Progress("a", seconds, 1000, "success 0.97"))
    lines = [" ".join(line.split()) for line in output.getvalue().splitlines()]
    assert lines == [f"train-task [bold]x[/] :smile:: {seconds}/1,000 success 0.97" for seconds in (61, 125)]


@pytest.mark.parametrize("error", [BrokenPipeError, OSError, UnicodeError])
def test_an_error_of_what_is_shown_is_none_of_the_work(monkeypatch, error):
    shown = shown_on(Broken(error))
    with pytest.raises(error):
        shown.show(executor.Progress("a", 1, 0, ""))
    shown.ended.clear()
    shown(executor.Progress("a", 1, 0, ""))
    monkeypatch.setattr(sys, "stdout", Broken(error))
    tell("3 of 5 stages are done")
    with pytest.raises(error):
        console.print("the table")


def test_the_work_is_done_without_the_bar(monkeypatch):
    def fails(*_):
        raise RuntimeError("a terminal that is gone")

    monkeypatch.setattr(Progress, "start", fails)
    monkeypatch.setattr(Progress, "stop", fails)
    with display([]) as watch:
        watch(executor.Progress("a", 1, 2, ""))


def test_names_that_look_like_markup_are_shown_as_they_are(capsys):
    file = io.StringIO()
    shown_on(file).show(executor.Progress("a", 1, 0, ""))
    assert "done train-task [bold]x[/] :smile: (" in file.getvalue()
    console.print("runs/[/] :smile: [bold]")
    assert "runs/[/] :smile: [bold]" in capsys.readouterr().out


# -- streams -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", "... >= e \\u76ee \\udcff"),
        ("latin-1", "... >= \xe9 \\u76ee \\udcff"),
        ("utf-8", "… ≥ é 目 \\udcff"),
    ],
)
def test_a_stream_takes_every_character(monkeypatch, encoding, expected):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    streams.open_all()
    print("… ≥ é 目 \udcff", end="", flush=True)
    assert raw.getvalue().decode(encoding) == expected


def test_the_output_of_a_command_may_go_anywhere(monkeypatch, handlers):
    for encoding in ("ascii", "latin-1"):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
        with pytest.raises(SystemExit) as stop:
            main.main(["evaluate", "scripted:toy-reach", "toy-reach", "--goals", "0", "1"])
        sys.stdout.flush()
        assert stop.value.code == 0
        assert "toy-reach" in raw.getvalue().decode(encoding)


def test_a_command_may_have_no_output_at_all(monkeypatch, handlers):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as stop:
        main.main(["--version"])
    assert stop.value.code == 0
    sys.stdout.close()


def test_an_output_that_cannot_be_written_is_said(monkeypatch, capsys, handlers):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as stop:
            main.main(["--version"])
    assert stop.value.code == 2
    assert "the output cannot be written: [Errno 28]" in capsys.readouterr().err


# -- signals -----------------------------------------------------------------------------------------------


def test_while_a_command_starts_a_signal_ends_it_silently_and_then_it_is_told(monkeypatch, handlers):
    def command(name, args, at_work):
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        at_work()
        for number, kind in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, main.Terminated)):
            with pytest.raises(kind):
                signal.raise_signal(number)
            assert signal.getsignal(number) is signal.SIG_DFL  # the second one ends it at once
        raise main.Terminated

    monkeypatch.setattr(main, "_command", command)
    with pytest.raises(SystemExit) as stop:
        main.main(["run"])
    assert stop.value.code == 143


def test_an_interrupt_that_is_ignored_stays_so(monkeypatch, handlers):
    def command(name, args, at_work):
        at_work()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        return 0

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what runs in the background
    monkeypatch.setattr(main, "_command", command)
    with pytest.raises(SystemExit):
        main.main(["run"])


def test_the_bar_of_a_run_goes_by_the_work_and_not_by_the_number_of_stages():
    made = Progress(*columns(200), console=progress._Terminal(file=io.StringIO()), disable=True)
    stages = [SimpleNamespace(out=out, label=out) for out in "ab"]
    shown = Display(made, stages, {"a": 90.0, "b": 10.0})
    overall = shown.progress._tasks[shown.overall]
    shown.show(executor.Progress("b", 1, 0, ""))
    assert (overall.completed, overall.total) == (10, 100)
    assert overall.fields["count"] == "1/2"
    shown.show(executor.Progress("a", 1, 2, ""))
    assert overall.completed == 55
    shown.show(executor.Progress("a", 0, 9, "the next part"))  # never backwards
    assert overall.completed == 55
    shown.show(executor.Progress("a", 1, 0, ""))
    assert (overall.completed, overall.fields["count"]) == (100, "2/2")
