"""The way forward and the way back: moving the ``champion`` alias, with who, when and why."""

from __future__ import annotations

from tunery.core.errors import ConfigError, ConflictError, GateFailed
from tunery.core.registry import AliasMove, ModelVersion, parse_ref
from tunery.registry.versions import CHAMPION, resolve
from tunery.store.workspace import Workspace


def promote(workspace: Workspace, ref: str, *, actor: str, reason: str) -> AliasMove:
    """Make a version the champion of its name; the champion before it is recorded with the move.

    Promoting the champion again moves nothing and returns the move that made it champion. A version that its
    gate refused is promoted only after :func:`~tunery.registry.versions.override_gate`; the move says so.

    Args:
        workspace: Where versions and aliases lie.
        ref: ``name@N`` or ``name@alias``; a bare name would not say which version is meant.
        actor: Who does it.
        reason: Why.

    Raises:
        ConfigError: The reference names no version.
        NotFoundError: There is no such version.
        GateFailed: The version's gate refused it, and nobody overrode that.
    """
    wanted = parse_ref(ref)
    if wanted.version is None and wanted.alias is None:
        raise ConfigError(
            f"say which version of {wanted.name} to promote", hint=f"tunery deploy promote {wanted.name}@N"
        )
    version = resolve(workspace, ref)
    if not version.gate_passed:
        refused = _refused_because(workspace, version)
        if not version.overrides:
            raise GateFailed(
                f"the gate refused {version.ref}, so it is not promoted{refused}",
                hint=f"tunery registry show {version.ref}, or: tunery registry promote {version.ref} "
                "--override-gate --by NAME --reason TEXT",
            )
        reason = f"{reason} (gate overridden by {version.overrides[-1].by}{refused})"
    return workspace.models.set_alias(version.name, CHAMPION, version.version, actor=actor, reason=reason)


def rollback(workspace: Workspace, name: str, *, actor: str, reason: str) -> AliasMove:
    """Make the champion before this one the champion again.

    Rolling back twice goes two champions back. A champion that was deleted meanwhile is passed over.

    Raises:
        NotFoundError: There is no model of that name.
        ConflictError: It has no champion, or never had another before this one.
    """
    resolve(workspace, name)
    current = workspace.models.aliases(name).get(CHAMPION)
    if current is None:
        raise ConflictError(f"{name} has no champion to roll back", hint=f"tunery deploy promote {name}@N")
    return workspace.models.restore_alias(name, CHAMPION, current=current, actor=actor, reason=reason)


def unalias(workspace: Workspace, ref: str, *, actor: str, reason: str) -> AliasMove:
    """Take an alias away; without its champion, a bare name means the highest version that its gate passed.

    Args:
        ref: ``name@alias``.

    Raises:
        ConfigError: The reference names no alias.
        NotFoundError: There is no such alias.
        ConflictError: A running canary or job needs it.
    """
    wanted = parse_ref(ref)
    if wanted.alias is None:
        raise ConfigError(f"say which alias of {wanted.name} goes", hint=f"{wanted.name}@{CHAMPION}")
    return workspace.models.remove_alias(wanted.name, wanted.alias, actor=actor, reason=reason)


def _refused_because(workspace: Workspace, version: ModelVersion) -> str:
    gate = workspace.gates.find(version.gate_id)
    sentences = [outcome.sentence for outcome in gate.rules if not outcome.passed] if gate else []
    return f": {'; '.join(sentences)}" if sentences else ""
