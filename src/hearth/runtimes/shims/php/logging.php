<?php

declare(strict_types=1);

// How values become log lines and how errors are shown (contract: runtime-contract 4).

namespace Hearth;

const MESSAGE_MAX_CHARS = 8000;
const CAUSES_MAX = 5;
const TRUNCATED = '... Log truncated due to size limit (' . MESSAGE_MAX_CHARS . ' characters)';

/** One log line (without its newline) from the arguments of one call. */
function line(array $values): string
{
    $text = \implode(' ', \array_map('Hearth\textOf', $values));
    if (\strlen($text) <= MESSAGE_MAX_CHARS) {
        return $text;
    }
    if (\preg_match('/^.{' . MESSAGE_MAX_CHARS . '}(?=.)/us', $text, $cut) === 1) {
        return $cut[0] . TRUNCATED;
    }
    return \preg_match('//u', $text) === 1 ? $text : \substr($text, 0, MESSAGE_MAX_CHARS) . TRUNCATED;
}

function textOf(mixed $value): string
{
    if (\is_string($value)) {
        return $value;
    }
    if (\is_bool($value) || $value === null) {
        return \json_encode($value);
    }
    if ($value instanceof \Throwable) {
        return describe($value);
    }
    if (\is_array($value) || \is_object($value)) {
        if ($value instanceof \Stringable && !$value instanceof \JsonSerializable) {
            return (string) $value;
        }
        $json = \json_encode($value, JSON_FLAGS | JSON_PARTIAL_OUTPUT_ON_ERROR);
        return $json === false ? \get_debug_type($value) : $json;
    }
    return \is_resource($value) ? \get_debug_type($value) : (string) $value;
}

/** An error as its author should read it, causes last: without the frames of this shim. */
function describe(\Throwable $problem): string
{
    $own = __DIR__ . '/';
    $text = '';
    for ($depth = 0; $problem !== null && $depth <= CAUSES_MAX; $depth++, $problem = $problem->getPrevious()) {
        $place = \str_starts_with($problem->getFile(), $own) ? '' : " in {$problem->getFile()}:{$problem->getLine()}";
        $trace = \explode("\n", $problem->getTraceAsString());
        $shown = \array_filter($trace, fn ($line) => !\str_contains($line, $own) && !\str_ends_with($line, '{main}'));
        $cause = $depth === 0 ? '' : "\n[cause]: ";
        $text .= \implode("\n", [$cause . $problem::class . ": {$problem->getMessage()}$place", ...$shown]);
    }
    return $text;
}
