import errno
import json
import math
import os

import pytest

from regimes.lab.log import PointLog, Record, point_key, read_log

RECORDS = [
    Record({"x": 1.0, "seed": 0}, [{"y": 0.1 + 0.2, "n": 3, "label": "é|,\n"}], 0.5),
    Record({"x": 1.0, "seed": 1}, [{"y": 1e-310}, {"y": -0.0}], 0.25),
    Record({"x": 1 / 3, "seed": 0}, [], 0.0),
]


@pytest.fixture
def log(tmp_path):
    log = PointLog(tmp_path)
    yield log
    log.close()


def test_records_come_back_exactly(tmp_path, log):
    log.append(RECORDS[:2])
    log.append(RECORDS[2:])
    assert read_log(tmp_path) == (RECORDS, False)
    assert math.copysign(1, read_log(tmp_path).records[1].rows[1]["y"]) == -1


def test_a_stamp_comes_back_and_logs_without_are_read(tmp_path, log):
    stamped = RECORDS[0]._replace(stamp={"config": "abc"})
    log.append([stamped, RECORDS[1]])
    assert read_log(tmp_path).records == [stamped, RECORDS[1]]
    assert "stamp" not in (tmp_path / "points.jsonl").read_text().splitlines()[1]


def test_undefined_and_infinite_numbers_come_back(tmp_path, log):
    log.append([Record({"x": 1}, [{"a": math.nan, "b": math.inf, "c": -math.inf}], 0.0)])
    (row,) = read_log(tmp_path).records[0].rows
    assert math.isnan(row["a"])
    assert (row["b"], row["c"]) == (math.inf, -math.inf)


def test_a_missing_log_is_empty(tmp_path):
    assert read_log(tmp_path) == ([], False)


def test_a_log_cut_anywhere_loses_only_the_cut_line(tmp_path, log):
    log.append(RECORDS)
    data = log.path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for length in range(len(data) + 1):
        log.path.write_bytes(data[:length])
        records, torn = read_log(tmp_path)
        assert records == RECORDS[: sum(end <= length for end in ends)]
        assert torn == (length not in (0, *ends))


@pytest.mark.parametrize(
    "damage", ["not json", "[]", '{"point": {}}', '{"point": 3, "rows": [], "seconds": 0}', "\x00\x00", ""]
)
def test_a_damaged_line_is_named(tmp_path, log, damage):
    log.append(RECORDS)
    lines = log.path.read_text().splitlines()
    lines[1] = damage
    log.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="line 2 is no finished point"):
        read_log(tmp_path)


def test_a_full_disk_keeps_what_was_there_and_nothing_half(tmp_path, log, monkeypatch):
    log.append(RECORDS[:1])
    write = os.write

    calls = iter([10, None])

    def fills_up(descriptor, data):
        if next(calls) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:10])

    monkeypatch.setattr(os, "write", fills_up)
    with pytest.raises(OSError, match="No space left on device; the points finished before are kept") as caught:
        log.append(RECORDS[1:])
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert read_log(tmp_path) == (RECORDS[:1], False)
    log.append(RECORDS[1:])
    assert read_log(tmp_path) == (RECORDS, False)


def test_the_key_of_a_point_does_not_depend_on_the_order_of_its_axes():
    point = {"x": 0.1, "seed": 3}
    assert point_key(point) == point_key(dict(reversed(point.items()))) == point_key(json.loads(point_key(point)))


def test_a_point_counts_only_once_it_is_on_the_disk(log, monkeypatch):
    order = []
    write, fsync = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda d, data: order.append("write") or write(d, data))
    monkeypatch.setattr(os, "fsync", lambda d: order.append("fsync") or fsync(d))
    log.append(RECORDS)
    assert order == ["write", "fsync"]
