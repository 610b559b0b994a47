"""The meter as one project may use it."""

from __future__ import annotations

from tunery.core.limits import Scope
from tunery.core.prices import Used
from tunery.traffic.limits.account import Claim
from tunery.traffic.limits.meter import Hold, Meter, Refusal
from tunery.traffic.limits.refusal import Size
from tunery.traffic.limits.room import answer_headers
from tunery.traffic.limits.standing import Standing, standings


class ProjectMeter:
    """Lets calls of one project in, and says how its limits stand.

    Args:
        meter: Of all projects.
        project: Whose calls.
    """

    def __init__(self, meter: Meter, project: str) -> None:
        self._meter = meter
        self._project = project

    def admit(self, id: str, caller: Scope, size: Size, *, spare: float = 0.0) -> Hold:
        """Reserve what a call may use, and have the request that is being answered say what is left.

        Raises:
            TuneryError: A limit does not let it in, or nobody can count; as :meth:`Meter.admit` says.
        """
        hold = self._meter.admit(id, caller._replace(project=self._project), size, spare=spare)
        headers = answer_headers.get()
        if headers is not None:
            headers.update(hold.headers)
        if isinstance(hold, Refusal):
            raise hold.error
        return hold

    def settle(self, hold: Hold, caller: Scope, used: Used) -> None:
        """Book what a call used that leaves no record of its own, in its limits and in usage."""
        booked = hold.settle(used.prompt_tokens, used.completion_tokens)
        self._meter.use(caller._replace(project=self._project), booked)

    def standings(self, caller: Scope, now: float) -> list[Standing]:
        """Return the limits that hold for a caller and how they stand.

        Those that other projects share are left out: how they stand tells what others do.
        """
        found = self._meter.rules.claims(caller._replace(project=self._project))
        claims = [claim for claim in found if _is_of_one_project(claim)]
        accounts = self._meter.look(claims)
        return [s for claim in claims for s in standings(claim, accounts.get(claim.account), now)]


def _is_of_one_project(claim: Claim) -> bool:
    scope = Scope.of_account(claim.account)
    return scope.project is not None or scope.key is not None
