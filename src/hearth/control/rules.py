"""Rules: which host names lead to which function, redirect or the API (contract: side-services 8).

All rules are held in memory, because every visit asks; a write replaces what is held.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from hearth.model.ids import unique_id
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.model.resources import Deployment, Rule
from hearth.model.statuses import DeploymentStatus
from hearth.ports import Clock, Conflict, Events, Page, Store, Unit

DEPLOYMENT, REDIRECT, API = "deployment", "redirect", "api"
FUNCTION = "function"
VERIFIED, UNVERIFIED = "verified", "unverified"
#: Seconds a name may take to be looked up.
LOOKUP_S = 5.0

#: The addresses a name has; empty when it has none. Raises OSError when the name system does not answer.
Resolve = Callable[[str], Awaitable[frozenset[str]]]


@dataclass(frozen=True, slots=True)
class Domains:
    """The operator's names: functions live below `functions`; `target` is where other domains must lead (names or
    addresses, empty = where `functions` leads); `reserved` are names of the API itself, which nobody may take.
    """

    functions: str
    target: tuple[str, ...] = ()
    reserved: frozenset[str] = frozenset()

    def is_below(self, domain: str) -> bool:
        """Whether `domain` is below the functions domain, so that it leads here without further proof."""
        return domain.endswith(f".{self.functions}")


class RuleBook:
    """All rules by domain.

    The deployment of a rule that follows activation is not kept up to date here: whoever visits it gets the
    function's active one.
    """

    def __init__(self, domains: Domains) -> None:
        self._domains = domains
        self._rules: dict[str, Rule] = {}
        self._custom = 0

    def load(self, rules: Iterable[Rule]) -> None:
        """Start with these."""
        self._rules = {rule.domain: rule for rule in rules}
        self._count()

    def find(self, domain: str) -> Rule | None:
        """The rule of a host name (lower case, without port). A domain elsewhere counts once it has been verified."""
        rule = self._rules.get(domain)
        return rule if rule is None or rule.status == VERIFIED else None

    def has(self, domain: str) -> bool:
        """Whether a domain is taken, verified or not."""
        return domain in self._rules

    @property
    def has_custom(self) -> bool:
        """Whether any rule is for a name that is not below the functions domain."""
        return self._custom > 0

    def put(self, *rules: Rule) -> None:
        """Take over rules as they are now."""
        for rule in rules:
            self._rules[rule.domain] = rule
        self._count()

    def drop(self, *rules: Rule) -> None:
        """Forget deleted rules."""
        for rule in rules:
            self._rules.pop(rule.domain, None)
        self._count()

    def _count(self) -> None:
        self._custom = sum(1 for domain in self._rules if not self._domains.is_below(domain))


class RulesControl:
    """Use cases of rules. Domains come checked, in lower case."""

    def __init__(
        self, *, store: Store, clock: Clock, events: Events, book: RuleBook, domains: Domains, resolve: Resolve
    ) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._book = book
        self._domains = domains
        self._resolve = resolve

    async def load(self) -> None:
        """Fill the book; at start, before the first request."""
        self._book.load(await self._store.projects.rules())

    async def create_function(self, project_id: str, *, domain: str, function_id: str, branch: str = "") -> Rule:
        """Lead a domain to a function: to its active deployment, or to the newest ready one of `branch`.

        Raises `general_argument_invalid`, `rule_resource_not_found`, `rule_already_exists`.
        """

        async def found(unit: Unit, rule: Rule) -> Rule:
            function = await unit.functions.get(function_id)
            if function is None:
                raise Refusal("rule_resource_not_found")
            deployment_id = function.deployment_id
            if branch:
                ready = [it for it in await unit.deployments.all_of(function_id) if _is_ready_on(it, branch)]
                deployment_id = ready[-1].id if ready else ""
            return replace(rule, resource_type=FUNCTION, deployment_id=deployment_id)

        return await self._create(project_id, domain, found, type=DEPLOYMENT, resource_id=function_id, branch=branch)

    async def create_redirect(
        self, project_id: str, *, domain: str, url: str, status_code: int, resource_id: str, resource_type: str
    ) -> Rule:
        """Send visitors of a domain on to `url`. Raises as `create_function`; the resource must be a function."""

        async def found(unit: Unit, rule: Rule) -> Rule:
            if resource_type != FUNCTION or await unit.functions.get(resource_id) is None:
                raise Refusal("rule_resource_not_found")
            return replace(rule, resource_type=FUNCTION, redirect_url=url, redirect_status_code=status_code)

        return await self._create(project_id, domain, found, type=REDIRECT, resource_id=resource_id)

    async def create_api(self, project_id: str, *, domain: str) -> Rule:
        """Serve the API under a domain. Raises `general_argument_invalid`, `rule_already_exists`."""

        async def found(unit: Unit, rule: Rule) -> Rule:
            return rule

        return await self._create(project_id, domain, found, type=API)

    async def list(self, project_id: str, query: ListQuery) -> Page[Rule]:
        """One page of rules."""
        async with self._store.view(project_id) as unit:
            return await unit.rules.list(query)

    async def get(self, project_id: str, rule_id: str) -> Rule:
        """Raises `rule_not_found`."""
        async with self._store.view(project_id) as unit:
            rule = await unit.rules.get(rule_id)
        if rule is None:
            raise Refusal("rule_not_found")
        return rule

    async def verify(self, project_id: str, rule_id: str) -> Rule:
        """Look again where a domain leads. Raises `rule_not_found`, `rule_verification_failed` with the reason."""
        rule = await self.get(project_id, rule_id)
        reason = await self._reason_against(rule.domain)
        changed = await self._set_status(project_id, rule_id, reason)
        self._events.emit(project_id, f"rules.{rule_id}.update", changed)
        if reason:
            raise Refusal("rule_verification_failed", reason)
        return changed

    async def delete(self, project_id: str, rule_id: str) -> None:
        """Raises `rule_not_found`."""
        async with self._store.begin(project_id) as unit:
            rule = await unit.rules.get(rule_id)
            if rule is None:
                raise Refusal("rule_not_found")
            await unit.rules.delete(rule_id)
            await self._events.record(unit, f"rules.{rule_id}.delete", rule)
        self._book.drop(rule)
        self._events.emit(project_id, f"rules.{rule_id}.delete", rule)

    def is_free(self, domain: str) -> bool:
        """Whether a rule could be made for a domain. Raises `general_argument_invalid`."""
        self._check(domain)
        return not self._book.has(domain)

    async def _create(
        self,
        project_id: str,
        domain: str,
        found: Callable[[Unit, Rule], Awaitable[Rule]],
        *,
        type: str,
        resource_id: str = "",
        branch: str = "",
    ) -> Rule:
        """Store a rule that `found` completes in the same transaction, from what the rule is about."""
        self._check(domain)
        reason = await self._reason_against(domain)
        now = self._clock.now()
        rule = Rule(
            id=unique_id(),
            project_id=project_id,
            created_at=now,
            updated_at=now,
            domain=domain,
            type=type,
            resource_id=resource_id,
            branch=branch,
            status=UNVERIFIED if reason else VERIFIED,
            logs=reason,
        )
        try:
            async with self._store.begin(project_id) as unit:
                rule = await unit.rules.insert(await found(unit, rule))
                await self._events.record(unit, f"rules.{rule.id}.create", rule)
        except Conflict:
            raise Refusal("rule_already_exists") from None
        self._book.put(rule)
        self._events.emit(project_id, f"rules.{rule.id}.create", rule)
        return rule

    async def _set_status(self, project_id: str, rule_id: str, reason: str) -> Rule:
        async with self._store.begin(project_id) as unit:
            status = UNVERIFIED if reason else VERIFIED
            changed = await unit.rules.update(rule_id, status=status, logs=reason)
            if changed is None:
                raise Refusal("rule_not_found")
            await self._events.record(unit, f"rules.{rule_id}.update", changed)
        self._book.put(changed)
        return changed

    def _check(self, domain: str) -> None:
        if domain == self._domains.functions:
            raise Refusal(
                "general_argument_invalid",
                f"{domain} is the domain all functions live below. Choose a name below it, such as my-app.{domain}.",
            )
        if domain in self._domains.reserved or domain == "localhost":
            raise Refusal("general_argument_invalid", f"{domain} is a name of this server itself. Choose another one.")

    async def _reason_against(self, domain: str) -> str:
        """Why a domain does not lead here; `""` when it does."""
        if self._domains.is_below(domain):
            return ""
        targets = self._domains.target or (self._domains.functions,)
        found, wanted = await asyncio.gather(self._addresses([domain]), self._addresses(targets))
        if found & wanted:
            return ""
        has = f"has the addresses {', '.join(sorted(found))}" if found else "has no address"
        return (
            f"The domain {domain} {has} and so does not lead to this server. "
            f"Make it a CNAME of, or give it the addresses of, {' or '.join(targets)}, and verify it again."
        )

    async def _addresses(self, names: Sequence[str]) -> frozenset[str]:
        found: set[str] = set()
        for name in names:
            try:
                async with asyncio.timeout(LOOKUP_S):
                    found |= await self._resolve(name)
            except (TimeoutError, OSError):
                continue  # a name that cannot be looked up leads nowhere
        return frozenset(found)


def _is_ready_on(deployment: Deployment, branch: str) -> bool:
    return deployment.status is DeploymentStatus.READY and deployment.provider_branch == branch
