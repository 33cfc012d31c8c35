"""What stands around functions, composed: projects, keys, platforms, domains, webhooks, and the books in memory."""

from collections.abc import Callable
from dataclasses import dataclass

from hearth.control.environment import MintKey
from hearth.control.keys import KeysControl
from hearth.control.platforms import OriginBook, PlatformsControl
from hearth.control.project_variables import ProjectVariablesControl
from hearth.control.projects import ProjectsControl
from hearth.control.rules import Domains, Resolve, RuleBook, RulesControl
from hearth.control.runnables import ProjectCache, Runnables
from hearth.control.webhooks import WebhookBook, WebhooksControl
from hearth.ports import Clock, Events, Executor, Store


@dataclass(frozen=True, slots=True)
class Hosting:
    """One object per use-case module, and the books they keep."""

    projects: ProjectsControl
    keys: KeysControl
    platforms: PlatformsControl
    project_variables: ProjectVariablesControl
    rules: RulesControl
    webhooks: WebhooksControl
    origin_book: OriginBook
    rule_book: RuleBook
    webhook_book: WebhookBook

    async def load(self) -> None:
        """Fill the books: at start, before the first request."""
        await self.projects.load()
        await self.platforms.load()
        await self.rules.load()
        await self.webhooks.load()


def compose_hosting(
    *,
    store: Store,
    clock: Clock,
    events: Events,
    executor: Executor,
    runnables: Runnables,
    rule_book: RuleBook,
    domains: Domains,
    region: str,
    mint_key: MintKey,
    forget_keys: Callable[[], None],
    resolve: Resolve,
) -> Hosting:
    """Put them together over the seams."""
    origin_book, webhook_book = OriginBook(), WebhookBook()
    return Hosting(
        projects=ProjectsControl(store=store, clock=clock, cache=ProjectCache(store), region=region),
        keys=KeysControl(store=store, clock=clock, mint_key=mint_key, forget=forget_keys),
        platforms=PlatformsControl(store=store, clock=clock, book=origin_book),
        project_variables=ProjectVariablesControl(
            store=store, clock=clock, events=events, executor=executor, runnables=runnables
        ),
        rules=RulesControl(store=store, clock=clock, events=events, book=rule_book, domains=domains, resolve=resolve),
        webhooks=WebhooksControl(store=store, clock=clock, book=webhook_book),
        origin_book=origin_book,
        rule_book=rule_book,
        webhook_book=webhook_book,
    )
