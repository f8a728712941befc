"""The metrics log: one line a call, cut back to the checkpoint on resuming."""

import json
import math

import pytest

from collectiverl.artifacts.metrics import MetricsLog, metrics_log, read_metrics


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def fill(folder, steps):
    with metrics_log(folder) as log:
        for step in steps:
            log.write(step, {"loss": step / 2})


def test_every_call_is_a_line(tmp_path):
    fill(tmp_path, [0, 5])
    assert lines(tmp_path) == [{"step": 0, "loss": 0.0}, {"step": 5, "loss": 2.5}]
    assert list((tmp_path / "tensorboard").iterdir())


def test_small_numbers_keep_their_digits(tmp_path):
    with metrics_log(tmp_path) as log:
        log.write(1, {"temperature": 1.234567e-9, "nan": math.nan})
    assert lines(tmp_path)[0]["temperature"] == 1.234567e-9
    assert math.isnan(lines(tmp_path)[0]["nan"])


def test_resuming_cuts_back_to_the_checkpoint_and_drops_half_a_line(tmp_path):
    fill(tmp_path, [1, 2, 3])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    with metrics_log(tmp_path, resume_at=2) as log:
        log.write(4, {"loss": 1})
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 4]


def test_starting_anew_keeps_nothing(tmp_path):
    fill(tmp_path, [1, 2])
    fill(tmp_path, [7])
    assert [line["step"] for line in lines(tmp_path)] == [7]


def test_what_was_logged_is_read_back(tmp_path):
    fill(tmp_path, (1, 2))
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}]


def test_a_log_is_closed_however_its_block_ends(tmp_path):
    with pytest.raises(ZeroDivisionError), metrics_log(tmp_path) as log:
        raise ZeroDivisionError
    assert isinstance(log, MetricsLog)
    with pytest.raises(ValueError, match="closed file"):
        log.write(0, {})


def test_without_a_folder_there_is_no_log():
    with metrics_log(None) as log:
        assert log is None
