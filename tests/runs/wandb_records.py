"""Read what an offline W&B run has written, record by record.

The file is W&B's header and then a LevelDB log: blocks of 32 KiB with records of a 7-byte header
(checksum, length, type), whose payload is a protobuf message.
"""

import json
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from wandb.proto.wandb_internal_pb2 import Record

HEADER = 7
BLOCK = 32_768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_records(file: Path) -> Iterator[Record]:
    """Yield the records of a file, and check their checksums."""
    content = file.read_bytes()
    assert content[:4] == b":W&B"
    position = HEADER
    payload = b""
    while position + HEADER <= len(content):
        room = BLOCK - position % BLOCK
        if room < HEADER:
            position += room
            continue
        checksum, length, kind = struct.unpack_from("<IHB", content, position)
        data = content[position + HEADER : position + HEADER + length]
        assert zlib.crc32(bytes([kind]) + data) == checksum
        position += HEADER + length

        payload = data if kind in (FULL, FIRST) else payload + data
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(payload)
            yield record


class OfflineRun:
    """An offline run of a folder.

    Attributes:
        started: the record that it was started with: id, name, group, job type.
        config: by key.
        rows: the history, in order.
        summary: what was set in the summary, by key.
        metrics: for each defined metric its summaries.
        artifacts: name and type of each.
    """

    def __init__(self, file: Path) -> None:
        self.config: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.metrics: dict[str, set[str]] = {}
        self.artifacts: dict[str, str] = {}
        for record in read_records(file):
            self._add(record)

    def _add(self, record: Record) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            self.started = record.run
            self.config |= {
                each.key: json.loads(each.value_json) for each in record.run.config.update
            }
        elif kind == "config":
            self.config |= {each.key: json.loads(each.value_json) for each in record.config.update}
        elif kind == "history":
            row = {
                each.key or "/".join(each.nested_key): json.loads(each.value_json)
                for each in record.history.item
            }
            self.rows.append(row)
        elif kind == "summary":
            for each in record.summary.update:
                self.summary[each.key or "/".join(each.nested_key)] = json.loads(each.value_json)
        elif kind == "metric":
            kinds = {field.name for field, value in record.metric.summary.ListFields() if value}
            self.metrics[record.metric.name or record.metric.glob_name] = kinds
        elif kind == "artifact":
            self.artifacts[record.artifact.name] = record.artifact.type


def offline_runs(folder: Path, *, patience: float = 20) -> list[OfflineRun]:
    """Return the offline runs of a folder, the oldest first.

    W&B's own process writes the files, and on a busy machine it is still at it when a run has
    finished.

    Args:
        folder: that of the training.
        patience: seconds to wait for the ends.
    """
    files = sorted(
        folder.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime
    )
    deadline = time.monotonic() + patience
    for file in files:
        while not _is_complete(file) and time.monotonic() < deadline:
            time.sleep(0.1)
    return [OfflineRun(file) for file in files]


def _is_complete(file: Path) -> bool:
    """Return whether the record of the end of a run is in its file."""
    try:
        return any(record.WhichOneof("record_type") == "exit" for record in read_records(file))
    except (AssertionError, DecodeError):  # a record is half written
        return False
