"""What each part of the server is told of the operator's settings: its own limits only, as plain values."""

import os

from hearth.api.settings import ApiSettings
from hearth.build.git_sandbox import LocalRepositories
from hearth.control.rules import Domains
from hearth.control.views import ControlLimits
from hearth.executor.limits import MIB, ExecutorLimits, PoolLimits, StemLimits
from hearth.settings import Settings

#: How much more memory instances may be promised than the machine has, where the operator names no budget. A
#: promise is a hard limit of one instance, not what it uses; idle ones use a few MB.
MEMORY_OVERCOMMIT = 8
#: What part of the machine's memory stem cells may take, where the operator names no amount.
STEMS_SHARE = 16


def local_repositories(settings: Settings) -> LocalRepositories:
    """The folders of repositories that installations may name."""
    return LocalRepositories(tuple(path.rstrip("/") for path in settings.git_local_paths.split(",") if path.strip()))


def control_limits(settings: Settings) -> ControlLimits:
    """The part of the settings that use cases decide by."""
    return ControlLimits(
        source_size_bytes=settings.source_size_limit,
        build_output_bytes=settings.build_size_limit,
        build_timeout_s=settings.build_timeout,
        execution_retention_s=settings.execution_retention,
    )


def api_domains(settings: Settings) -> Domains:
    """The names rules are made below, and those nobody may take."""
    return Domains(
        functions=settings.functions_domain.lower().strip("."),
        target=tuple(filter(None, map(str.strip, settings.domain_target.lower().split(",")))),
        reserved=frozenset(filter(None, map(str.strip, settings.api_domain.lower().split(",")))),
    )


def api_settings(settings: Settings) -> ApiSettings:
    """The part of the settings that the API decides by."""
    return ApiSettings(
        abuse=settings.abuse == "on",
        functions_domain=settings.functions_domain,
        function_creations_per_day=settings.function_creations_per_day,
        function_timeout_max_s=settings.functions_timeout,
        build_timeout_s=settings.build_timeout,
        region=settings.region,
        domain_target=api_domains(settings).target,
        source_max_bytes=settings.source_size_limit,
        body_memory_max_bytes=settings.body_memory_mb * MIB,
        uploads_at_once=settings.uploads_at_once,
        allowed_origins=settings.origins,
        trusted_proxies=settings.proxies,
    )


def executor_limits(settings: Settings) -> ExecutorLimits:
    """The part of the settings that the executor is bounded by."""
    machine_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
    return ExecutorLimits(
        pool=PoolLimits(
            max_instances_per_key=settings.max_instances_per_function,
            max_instances=settings.max_instances,
            memory_mb=settings.instance_memory_mb or machine_mb * MEMORY_OVERCOMMIT,
            max_waiting=settings.max_waiting,
            idle_timeout_s=settings.instance_idle,
        ),
        stems=StemLimits(
            per_kind=settings.stems_per_runtime,
            max_stems=settings.stems_max,
            memory_mb=settings.stems_memory_mb or machine_mb // STEMS_SHARE,
        ),
        max_stream_bytes=settings.stream_size_limit,
        code_cache_bytes=settings.code_cache_mb * MIB,
    )
