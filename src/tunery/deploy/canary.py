"""A canary: a challenger answers some users until its numbers say stop, or its course is run.

The rollout record is the only state. Whoever finds it still running may judge it; ending it is atomic in the
store, so of several processes that judge at once one decides, and the others find it decided.
"""

from __future__ import annotations

from typing import NamedTuple

from tunery.core.config import parse_settings
from tunery.core.errors import ConflictError, GateFailed, NotFoundError
from tunery.core.ids import new_id
from tunery.core.registry import AliasMove, ModelVersion, parse_ref
from tunery.core.rollout import FORWARDED, Rollout
from tunery.deploy.config import CanaryConfig
from tunery.deploy.guards import Judgement, weigh
from tunery.store.workspace import Workspace

ACTOR = "canary"
"""Who moves an alias or ends a rollout when no person does."""


class CanaryStatus(NamedTuple):
    """A rollout and what its numbers say now."""

    rollout: Rollout
    judgement: Judgement


def start(
    workspace: Workspace,
    ref: str,
    *,
    actor: str,
    config: CanaryConfig | None = None,
    percent: float | None = None,
) -> Rollout:
    """Let a version answer a share of the users of its name's champion.

    The alias ``challenger`` moves to the version and stays there when the rollout ends, as a note of who
    challenged last; only the running rollout sends it traffic.

    Args:
        ref: The challenger: ``name@N`` or ``name@alias``.
        config: The rule; kept in the rollout as it is now.
        percent: Share of users [%], in place of the rule's.

    Raises:
        NotFoundError: No such version or alias.
        ForbiddenError: Another project shares the name.
        ConflictError: The name has no champion, the version is the champion, or a canary of the name runs
            already. GateFailed: The version's gate refused it and nobody overrode that. ConfigError: The
            percentage is out of range.
    """
    rule = config or CanaryConfig()
    if percent is not None:
        rule = parse_settings(CanaryConfig, {**rule.model_dump(), "percent": percent}, where="canary")
    challenger = _resolve(workspace, ref)
    champion = _champion_to_challenge(workspace, challenger)
    if not (challenger.gate_passed or challenger.overrides):
        raise GateFailed(
            f"the gate refused {challenger.ref}, so it gets no traffic",
            hint=f"tunery registry show {challenger.ref}, or: tunery deploy canary {challenger.ref} "
            "--override-gate --by NAME --reason TEXT",
        )
    workspace.model_names.require_own(workspace.database, challenger.name)
    rollout = begin(workspace, challenger, champion, rule, actor=actor)
    reason = f"canary {rollout.id} at {rule.percent:g} % of users"
    if not challenger.gate_passed:
        reason += f", although the gate refused it; overridden by {challenger.overrides[-1].by}"
    workspace.models.set_alias(challenger.name, "challenger", challenger.version, actor=actor, reason=reason)
    return rollout


def begin(
    workspace: Workspace, challenger: ModelVersion, champion: int, rule: CanaryConfig, *, actor: str
) -> Rollout:
    """Store a rollout that runs from now on.

    Args:
        challenger: Who answers a share of the users.
        champion: Version that answers the others, or :data:`~tunery.core.rollout.FORWARDED`.
        rule: When it ends.
        actor: Who starts it.

    Raises:
        ConflictError: Another one of the name runs.
    """
    now = workspace.clock.now()
    rollout = Rollout(
        id=new_id("rollout", now),
        name=challenger.name,
        champion=champion,
        challenger=challenger.version,
        traffic_percent=rule.percent,
        rule=rule.model_dump(mode="json"),
        status="running",
        actor=actor,
        created_at=now,
    )
    return workspace.rollouts.add(rollout)


def judge(workspace: Workspace, rollout: Rollout) -> Judgement:
    """Say what a rollout's requests so far ask for; changes nothing.

    May be called at any time and any number of times: the chance that a challenger no worse than tolerated is
    ever found worse stays under the rule's ``alpha``. See :mod:`tunery.deploy.confidence`.
    """
    rule = parse_settings(CanaryConfig, rollout.rule, where=f"rule of {rollout.id}")
    tallies = workspace.requests.tallies(rollout.id)
    until = rollout.ended_at or workspace.clock.now()
    return weigh(
        rule,
        tallies["champion"],
        tallies["challenger"],
        hours=(until - rollout.created_at).total_seconds() / 3600,
    )


def step(workspace: Workspace, rollout_id: str) -> Rollout:
    """Judge a rollout and act on it: roll back, promote, or let it run on.

    Safe to call from several processes at once and after a crash at any point: the rollout ends once, with
    one reason, and the champion moves at most once. Where a person has moved the champion meanwhile, the
    canary compares with something that no longer answers, and ends without touching the alias.

    Raises:
        NotFoundError: No such rollout.
    """
    rollout = workspace.rollouts.get(rollout_id)
    old = rollout.champion == FORWARDED  # then no alias says who answers, and none moves
    if rollout.status == "running":
        rollout = (None if old else _overtaken(workspace, rollout)) or _judged(workspace, rollout)
    if rollout.status == "promoted" and not old:
        _move_champion(workspace, rollout)
    return rollout


def sweep(workspace: Workspace) -> list[Rollout]:
    """Step the newest rollout of every model name; what a server does every few seconds.

    Returns:
        The rollouts that were running before and are not now.
    """
    newest = {rollout.name: rollout for rollout in reversed(workspace.rollouts.list(limit=1000))}
    stepped = [(r, step(workspace, r.id)) for r in newest.values() if r.status in ("running", "promoted")]
    return [after for before, after in stepped if before.status == "running" and after.status != "running"]


def status(workspace: Workspace, name: str) -> CanaryStatus:
    """Return the running rollout of a model name, else its last one, with what its numbers say.

    Raises:
        NotFoundError: The name never had a canary.
    """
    rollout = workspace.rollouts.running(name) or next(iter(workspace.rollouts.list(name=name)), None)
    if rollout is None:
        raise NotFoundError.of(
            "canary",
            name,
            {r.name for r in workspace.rollouts.list()},
            hint=f"tunery deploy canary {name}@N --percent 10",
        )
    return CanaryStatus(rollout, judge(workspace, rollout))


def cancel(workspace: Workspace, name: str, *, actor: str, reason: str = "cancelled by hand") -> Rollout:
    """End the running canary of a model name; the champion answers everybody again.

    Raises:
        ConflictError: None is running.
    """
    rollout = workspace.rollouts.running(name)
    if rollout is None:
        raise ConflictError(f"no canary of {name} is running", hint=f"tunery deploy status {name}")
    ended = workspace.rollouts.finish(rollout.id, "cancelled", reason=reason, actor=actor)
    if ended.status != "cancelled":
        raise ConflictError(
            f"canary {ended.id} has just ended by itself: {ended.status.replace('_', ' ')}, {ended.reason}"
        )
    return ended


def _resolve(workspace: Workspace, text: str) -> ModelVersion:
    ref = parse_ref(text)
    if ref.version is not None:
        return workspace.models.get(ref.name, ref.version)
    aliases = workspace.models.aliases(ref.name)
    if ref.alias is not None and ref.alias in aliases:
        return workspace.models.get(ref.name, aliases[ref.alias])
    known = [v.ref for v in workspace.models.list(ref.name)] or workspace.models.names()
    if ref.alias is None and ref.name in workspace.models.names():
        # Which one to try on users is not a thing to guess.
        raise ConflictError(
            f"say which version of {ref.name} to try", hint=f"tunery deploy canary {known[0]}"
        )
    raise NotFoundError.of("model version", text, known, hint="tunery registry ls")


def _champion_to_challenge(workspace: Workspace, challenger: ModelVersion) -> int:
    name = challenger.name
    champion = workspace.models.aliases(name).get("champion")
    if champion is None:
        raise ConflictError(
            f"{name} has no champion to challenge", hint=f"tunery deploy promote {challenger.ref}"
        )
    if champion == challenger.version:
        raise ConflictError(f"{challenger.ref} is the champion already", hint="tunery registry ls")
    if running := workspace.rollouts.running(name):
        raise ConflictError(
            f"canary {running.id} of {name}@{running.challenger} is running, and there is one at a time",
            hint=f"tunery deploy status {name}   or   tunery deploy cancel {name}",
        )
    return champion


def _overtaken(workspace: Workspace, rollout: Rollout) -> Rollout | None:
    """End a rollout whose champion a person has moved; None where it is where it was."""
    now = workspace.models.aliases(rollout.name).get("champion")
    if now == rollout.champion:
        return None
    move = _champion_moves(workspace, rollout.name)[-1]
    promoted = now == rollout.challenger
    what = (
        "was promoted"
        if promoted
        else f"gave way: the champion {'moved to ' + f'{rollout.name}@{now}' if now else 'was taken away'}"
    )
    reason = (
        f"{rollout.name}@{rollout.challenger} {what} by {move.actor} while the canary ran ({move.reason})"
    )
    return workspace.rollouts.finish(
        rollout.id, "promoted" if promoted else "cancelled", reason=reason, actor=ACTOR
    )


def _judged(workspace: Workspace, rollout: Rollout) -> Rollout:
    judgement = judge(workspace, rollout)
    if judgement.action == "continue":
        return rollout
    return workspace.rollouts.finish(
        rollout.id,
        "promoted" if judgement.action == "promote" else "rolled_back",
        reason=judgement.reason,
        actor=ACTOR,
    )


def _move_champion(workspace: Workspace, rollout: Rollout) -> None:
    """Point the champion at a promoted challenger, unless it has been moved since the promotion.

    Done after the rollout has ended, so that a verdict of 'roll back' and one of 'promote' reached at the
    same moment cannot both take effect. Setting an alias where it points already is no move, so several
    callers make one; and a caller that died in between is made up for by the next.
    """
    ended = rollout.ended_at
    if ended is None or workspace.models.aliases(rollout.name).get("champion") != rollout.champion:
        return
    # The id in the reason shows that it was done, the time that a person had another thought since.
    if any(rollout.id in m.reason or m.at > ended for m in _champion_moves(workspace, rollout.name)):
        return
    workspace.models.set_alias(
        rollout.name,
        "champion",
        rollout.challenger,
        actor=ACTOR,
        reason=f"canary {rollout.id}: {rollout.reason}",
    )


def _champion_moves(workspace: Workspace, name: str) -> list[AliasMove]:
    return [move for move in workspace.models.moves(name) if move.alias == "champion"]
