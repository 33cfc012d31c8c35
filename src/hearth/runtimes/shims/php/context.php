<?php

declare(strict_types=1);

// What a handler is given: `req`, `res`, `log` and `error` (contract: runtime-contract 2 to 4).

namespace Hearth;

const INTERNAL = 'x-open-runtimes-';

/**
 * The request as the handler sees it. Everything is computed when it is asked for.
 *
 * @property-read string $bodyBinary
 * @property-read string $bodyText
 * @property-read mixed $bodyJson
 * @property-read mixed $body
 * @property-read array<string, string> $headers
 */
final class Request implements \JsonSerializable
{
    private const NAMES = [
        'method', 'scheme', 'host', 'port', 'path', 'query', 'queryString', 'url', 'headers',
        'body', 'bodyBinary', 'bodyText', 'bodyRaw', 'bodyJson',
    ];

    private ?array $lowered = null;

    public function __construct(private array $frame, private string $bytes, private array $enforced)
    {
    }

    public function __get(string $name): mixed
    {
        return \in_array($name, self::NAMES, true) ? $this->$name() : null;
    }

    public function __isset(string $name): bool
    {
        return \in_array($name, self::NAMES, true);
    }

    public function jsonSerialize(): array
    {
        $names = \array_slice(self::NAMES, 0, 9);
        return \array_combine($names, \array_map(fn ($name) => $this->$name(), $names)) + ['bodyRaw' => $this->bytes];
    }

    private function bodyBinary(): string
    {
        return $this->bytes;
    }

    private function bodyText(): string
    {
        return $this->bytes;
    }

    private function bodyRaw(): string
    {
        return $this->bytes;
    }

    private function bodyJson(): mixed
    {
        try {
            return \json_decode($this->bytes, true, 512, JSON_THROW_ON_ERROR);
        } catch (\JsonException $problem) {
            throw new \JsonException("The body is not valid JSON: {$problem->getMessage()}", $problem->getCode());
        }
    }

    private function body(): mixed
    {
        if (!\str_starts_with(\strtolower($this->raw('content-type') ?? 'text/plain'), 'application/json')) {
            return $this->bytes;
        }
        return $this->bytes === '' ? [] : $this->bodyJson();
    }

    private function headers(): array
    {
        if ($this->lowered === null) {
            $headers = [];
            foreach ($this->frame['headers'] as $name => $value) {
                $name = \strtolower((string) $name);
                if (!\str_starts_with($name, INTERNAL)) {
                    $headers[$name] = $value;
                }
            }
            $this->lowered = $this->enforced + $headers;
        }
        return $this->lowered;
    }

    private function method(): string
    {
        return \strtoupper($this->frame['method']);
    }

    private function scheme(): string
    {
        return $this->raw('x-forwarded-proto') ?? 'http';
    }

    private function host(): string
    {
        return \explode(':', $this->raw('host') ?? '', 2)[0];
    }

    private function port(): int
    {
        $port = \explode(':', $this->raw('host') ?? '', 2)[1] ?? '';
        return \ctype_digit($port) ? (int) $port : $this->defaultPort();
    }

    private function path(): string
    {
        return \explode('?', $this->target(), 2)[0];
    }

    private function queryString(): string
    {
        return \explode('?', $this->target(), 2)[1] ?? '';
    }

    private function query(): array
    {
        $query = [];
        foreach (\explode('&', $this->queryString()) as $pair) {
            $parts = \explode('=', $pair, 2);
            if ($parts[0] !== '') {
                $query[$parts[0]] = $parts[1] ?? '';
            }
        }
        return $query;
    }

    private function url(): string
    {
        $port = $this->port() === $this->defaultPort() ? '' : ":{$this->port()}";
        $query = $this->queryString() === '' ? '' : "?{$this->queryString()}";
        return "{$this->scheme()}://{$this->host()}$port{$this->path()}$query";
    }

    private function target(): string
    {
        return \explode('#', $this->frame['path'], 2)[0];
    }

    private function defaultPort(): int
    {
        return $this->scheme() === 'https' ? 443 : 80;
    }

    private function raw(string $name): ?string
    {
        if (isset($this->frame['headers'][$name])) {
            return $this->frame['headers'][$name];
        }
        foreach ($this->frame['headers'] as $key => $value) {
            if (\strtolower((string) $key) === $name) {
                return $value;
            }
        }
        return null;
    }
}

/** Builders of results; a result takes effect only if the handler returns it. */
final class Response
{
    public function binary(mixed $bytes, int $statusCode = 200, array $headers = []): array
    {
        return ['body' => toBytes($bytes), 'statusCode' => $statusCode, 'headers' => $headers];
    }

    public function text(mixed $body, int $statusCode = 200, array $headers = []): array
    {
        return ['body' => toBytes($body), 'statusCode' => $statusCode, 'headers' => $headers];
    }

    public function send(mixed $body, int $statusCode = 200, array $headers = []): array
    {
        return ['body' => toBytes($body), 'statusCode' => $statusCode, 'headers' => $headers];
    }

    /** An empty array is an empty object, because PHP's arrays do not say which they are. */
    public function json(mixed $obj, int $statusCode = 200, array $headers = []): array
    {
        $body = $obj === [] ? '{}' : \json_encode($obj, JSON_FLAGS | JSON_THROW_ON_ERROR);
        $headers = ['content-type' => 'application/json'] + $headers;
        return ['body' => $body, 'statusCode' => $statusCode, 'headers' => $headers];
    }

    /** A body piece by piece: from a generator, any other iterable, or a function that returns one. */
    public function stream(mixed $source, int $statusCode = 200, array $headers = []): array
    {
        return ['stream' => $source, 'statusCode' => $statusCode, 'headers' => $headers];
    }

    public function empty(): array
    {
        return ['body' => '', 'statusCode' => 204, 'headers' => []];
    }

    public function redirect(string $url, int $statusCode = 301, array $headers = []): array
    {
        return ['body' => '', 'statusCode' => $statusCode, 'headers' => ['location' => $url] + $headers];
    }
}

/** The argument of a handler. */
final class Context
{
    public Response $res;

    public function __construct(private Execution $execution, public Request $req)
    {
        $this->res = new Response();
    }

    public function log(mixed ...$messages): void
    {
        $this->execution->write('log', line($messages) . "\n");
    }

    public function error(mixed ...$messages): void
    {
        $this->execution->write('error', line($messages) . "\n");
    }
}

/** The bytes of a body: text as it is, a list of numbers as bytes, anything else as text. */
function toBytes(mixed $value): string
{
    if (\is_string($value)) {
        return $value;
    }
    return \is_array($value) ? \pack('C*', ...$value) : \strval($value);
}

/** Names lower-cased, internal ones dropped, content type completed (contract: runtime-contract 3). */
function responseHeaders(array $given): array
{
    $headers = [];
    foreach ($given as $name => $value) {
        $name = \strtolower((string) $name);
        if (!\str_starts_with($name, INTERNAL) && $value !== null) {
            $headers[$name] = \is_array($value) ? \array_map('strval', \array_values($value)) : \strval($value);
        }
    }
    $type = $headers['content-type'] ?? 'text/plain';
    $type = \is_array($type) ? \implode(', ', $type) : $type;
    if (!\str_starts_with(\strtolower($type), 'multipart/')) { // a boundary is case-sensitive
        $type = \strtolower($type);
        $type .= \str_contains($type, 'charset=') ? '' : '; charset=utf-8';
    }
    $headers['content-type'] = $type;
    return $headers;
}
