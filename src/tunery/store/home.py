"""Which home a database's files lie in: a token in the home, and the same one in the database."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.core.errors import ConflictError, ResourceError
from tunery.store.database import Database, Transaction

if TYPE_CHECKING:
    from tunery.store.remote import RemoteArtifacts

HOME_ID = "home-id"
"""File in a home that says which one it is."""


def check_home(root: Path, database: Database, remote: RemoteArtifacts | None = None) -> None:
    """Refuse a database whose files lie in another home; the first home that opens a database is its own.

    Files of jobs, datasets and adapters lie in the home, their records in the database: a machine that shares
    the one and not the other would accept jobs that it cannot run and list models that it cannot load. Where
    artifacts lie behind a URL, that is the home which counts.

    Raises:
        ConflictError: The database belongs to another home; says to which, and both ways out.
        ResourceError: The home cannot be written.
    """
    if database.driver.lies_in(root):
        return  # it goes wherever the home goes
    token = remote.mark() if remote else _token(root)
    ours = f"{token} {remote.url}" if remote else f"{token} {socket.gethostname()}:{root}"
    find = "SELECT value FROM facts WHERE name = 'home'"

    def settle(transaction: Transaction) -> str:
        transaction.run(
            "INSERT INTO facts (name, value) VALUES ('home', :value) ON CONFLICT (name) DO NOTHING",
            {"value": ours},
        )
        return str(transaction.rows(find)[0]["value"])

    known = database.rows(find)
    said = str(known[0]["value"]) if known else database.atomically(settle)
    theirs, _, place = said.partition(" ")
    if theirs != token and remote:
        raise ConflictError(
            f"the files that belong to {database.driver.label} lie in {place}, not in {remote.url}",
            hint="set TUNERY_ARTIFACTS to that place, or give these artifacts a database of their own with "
            f"TUNERY_DATABASE_URL; where {remote.url} is a copy of that place, its home-id reads {theirs}",
        )
    if theirs != token:
        raise ConflictError(
            f"the files that belong to {database.driver.label} lie in another home, first used as {place}; "
            f"{root} has none of them",
            hint="mount that folder here (NFS or another shared disk, at the same path on every machine) and "
            "set TUNERY_HOME to it; or give this home a database of its own with TUNERY_DATABASE_URL; or, "
            f"where this is that home moved or restored: echo {theirs} > {root / HOME_ID}",
        )


def _token(root: Path) -> str:
    path = root / HOME_ID
    try:
        if not path.exists():
            partial = path.with_name(f".{HOME_ID}.{secrets.token_hex(4)}.partial")
            try:
                partial.write_text(secrets.token_hex(16) + "\n", encoding="ascii")
                with contextlib.suppress(FileExistsError):
                    os.link(partial, path)  # whole, and never in place of another's
            finally:
                partial.unlink(missing_ok=True)
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise ResourceError(f"{path} cannot be written: {error.strerror}", hint=f"ls -ld {root}") from error
