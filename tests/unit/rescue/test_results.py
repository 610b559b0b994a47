"""Result files: their bytes say whether they are a CSV, one in base64, or neither."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tunery.rescue.results import Results, read_results

CSV = b"step,train_loss,valid_loss\n1,0.5,\n2,0.25,0.75\n3,nan,\n"
LAST = {"step": 3.0, "train_loss": 0.25, "valid_loss": 0.75}


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (CSV, Results("csv", LAST)),
        (b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n"), Results("csv", LAST)),
        (base64.b64encode(CSV), Results("base64", LAST)),
        (base64.encodebytes(CSV), Results("base64", LAST)),
        (b"step,train_loss\n", Results("csv", {})),
        (b"", None),
        (b"epoch,loss\n1,2\n", None),
        (base64.b64encode(b"something else"), None),
        (b"\x00\xff" * 40, None),
    ],
)
def test_bytes_decide(raw: bytes, found: Results | None, tmp_path: Path) -> None:
    file = tmp_path / "file-1"
    file.write_bytes(raw)
    assert read_results(file) == found
