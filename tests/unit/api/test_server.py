"""What a server asks of its machine."""

from __future__ import annotations

import subprocess
import sys

LIMITED = """
import resource
from tunery.api.server import _allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))
_allow_open_files(100)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
_allow_open_files(5_000)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
_allow_open_files(80)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_more_files_may_be_open_as_far_as_the_system_lets_it() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["100", "512", "512"], done.stderr
