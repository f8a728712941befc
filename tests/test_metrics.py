"""The metrics log: one line a call, cut back to the checkpoint on resuming."""

import json
import math
import re
import struct
import time

import pytest
from tensorboardX.proto.event_pb2 import Event

from collectiverl.artifacts.metrics import MetricsLog, metrics_log, read_metrics
from collectiverl.artifacts.wandb_log import PROJECT, use_wandb, wandb_logs


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def board(folder):
    """What TensorBoard shows: a line for each event of its only file."""
    [path] = (folder / "tensorboard").iterdir()
    data, at, shown = path.read_bytes(), 0, []
    while at < len(data):
        [size] = struct.unpack("<Q", data[at : at + 8])
        event = Event.FromString(data[at + 12 : at + 12 + size])
        if event.summary.value:
            shown.append({"step": event.step, **{v.tag: v.simple_value for v in event.summary.value}})
        at += 16 + size
    return shown


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


@pytest.mark.parametrize("closed", [True, False])
def test_tensorboard_shows_the_lines_of_the_log_however_a_run_ended(tmp_path, closed):
    log = MetricsLog(tmp_path)
    for step in (1, 2, 3):
        log.write(step, {"loss": step / 2, "success": 1.0})
    if closed:
        log.close()  # else it is killed, and what was not flushed is lost
    with metrics_log(tmp_path, resume_at=2) as resumed:
        assert board(tmp_path) == lines(tmp_path) != []
        resumed.write(3, {"loss": 0.25})
        resumed.write(5, {"loss": 0.125})
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 5]
    assert board(tmp_path) == lines(tmp_path)
    if not closed:
        log.close()


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


def logged(path) -> list[float]:
    """The values of `loss` in the file of Weights & Biases, in order; a summary follows each."""
    [file] = path.rglob("*.wandb")
    for _ in range(50):  # its own process writes it, and may still be at work
        if found := re.findall(rb"loss[^\d]{1,4}([\d.]+)", file.read_bytes()):
            break
        time.sleep(0.1)
    return [float(value) for value in found]


def test_weights_and_biases_shows_the_same_lines_if_asked(tmp_path, monkeypatch):
    folder = tmp_path / "model" / "reach-v3" / "seed_0.partial"
    folder.mkdir(parents=True)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv(PROJECT, "")  # so that it is put back
    use_wandb("demo")
    with metrics_log(folder) as log:
        log.write(10, {"loss": 1.5})
        log.write(20, {"loss": 0.5})
    assert list(dict.fromkeys(logged(tmp_path / "wandb"))) == [1.5, 0.5]


def test_weights_and_biases_is_not_asked_for_unless_wanted(tmp_path, monkeypatch):
    monkeypatch.delenv(PROJECT, raising=False)
    use_wandb(None)
    assert wandb_logs(tmp_path, []) == []
