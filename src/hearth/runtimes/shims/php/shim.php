<?php

declare(strict_types=1);

// The server inside a PHP instance: takes frames from descriptor 3, calls the handler, answers; one request at a time.

namespace Hearth;

require __DIR__ . '/channel.php';
require __DIR__ . '/context.php';
require __DIR__ . '/logging.php';
require __DIR__ . '/stream.php';

const RETURN_MISSING = 'Return statement missing. return context.res.empty() if no response is expected.';
const RETURN_INVALID = 'Return value invalid. Return the result of one of the $context->res methods.';
const SIGNATURE_INVALID = "Function signature invalid. Did you forget to export a 'main' function?";
const LOAD_ERROR_MAX_BYTES = 100_000;
// The first lines of an execution leave at once, so that a handler that then blocks or dies has been heard, and so does
// a line after a pause; a flood is gathered into larger frames, the last of which leaves with the answer.
const DIRECT_LINES = 1000;
const PAUSE_S = 0.05;
const BATCH_BYTES = 16 * 1024;
const LOG_FRAME_BYTES = 512 * 1024;
const FATAL = E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR;

/** One request from its first frame to its response. */
final class Execution
{
    public bool $isOpen = true;
    private int $lines = 0;
    private float $flushedAt = 0.0;
    private string $stream = '';
    private string $pending = '';

    public function __construct(private Channel $channel, public array $frame, public string $body)
    {
    }

    /** Add whole lines, or any piece of native output, to one of the log streams. */
    public function write(string $stream, string $text): void
    {
        if (!$this->isOpen || !$this->frame['logging'] || $text === '') {
            return;
        }
        if ($this->stream !== $stream) {
            $this->flush();
            $this->stream = $stream;
        }
        $this->pending .= $text;
        $isDue = ++$this->lines <= DIRECT_LINES || \strlen($this->pending) >= BATCH_BYTES;
        if ($isDue || \microtime(true) - $this->flushedAt >= PAUSE_S) {
            $this->flush();
            $this->flushedAt = $this->lines < DIRECT_LINES ? 0.0 : \microtime(true);
        }
    }

    public function error(string $text): void
    {
        $this->write('error', "$text\n");
    }

    public function flush(): void
    {
        $this->channel->write($this->takePending());
    }

    /** Answer with what the handler returned; `window`: see `assign` in the protocol. */
    public function finish(mixed $result, int $window): void
    {
        if ($result instanceof \Generator) {
            $result = ['stream' => $result];
        }
        if ($result === null) {
            $this->error(RETURN_MISSING);
            $this->answer(500, [], '');
        } elseif (!\is_array($result) || !(isset($result['body']) || isset($result['stream']))) {
            $this->error(RETURN_INVALID);
            $this->answer(500, [], '');
        } else {
            try {
                $status = $result['statusCode'] ?? 200;
                if (!\is_int($status) || $status < 100 || $status > 999) {
                    throw new \RangeException('Invalid status code: ' . textOf($status));
                }
                $headers = responseHeaders($result['headers'] ?? []);
                $source = isset($result['stream']) ? Outflow::iterate($result['stream']) : null;
                $body = $source === null ? toBytes($result['body']) : '';
            } catch (\Throwable $problem) {
                $this->fail($problem);
                return;
            }
            unset($result); // a generator's `finally` blocks run when nobody holds it any more
            if ($source === null) {
                $this->answer($status, $headers, $body);
            } else {
                $this->stream($status, $headers, $source, $window);
            }
        }
    }

    /** Answer with the head, then with the pieces that `source` gives. */
    private function stream(int $status, array $headers, iterable &$source, int $window): void
    {
        $this->flush();
        $header = ['type' => 'response', 'id' => $this->frame['id'], 'status' => $status, 'headers' => $headers];
        $this->channel->write(Channel::frame($header + ['more' => true, 'stream' => true]));
        $outflow = new Outflow($this->channel, $this, $window);
        $isBroken = false;
        try {
            $outflow->run($source);
            $source = null;
        } catch (HostGone $gone) {
            throw $gone;
        } catch (\Throwable $problem) {
            $this->error(describe($problem));
            $isBroken = true;
        }
        $outflow->end($isBroken);
        $this->isOpen = false;
    }

    public function fail(\Throwable $problem): void
    {
        $this->error(describe($problem));
        $this->answer(500, [], '');
    }

    private function answer(int $status, array $headers, string $body): void
    {
        $this->isOpen = false;
        $header = ['type' => 'response', 'id' => $this->frame['id'], 'status' => $status];
        $header['headers'] = $headers ?: responseHeaders([]);
        $this->channel->sendResponse($header, $body, $this->takePending());
    }

    /** Log frames not sent yet; forgets them. */
    private function takePending(): string
    {
        $frames = '';
        foreach ($this->pending === '' ? [] : \str_split($this->pending, LOG_FRAME_BYTES) as $piece) {
            $header = ['type' => 'log', 'id' => $this->frame['id'], 'stream' => $this->stream];
            $frames .= Channel::frame($header, $piece);
        }
        $this->pending = '';
        return $frames;
    }
}

/** The code cannot be run; the message says why. */
final class LoadFailed extends \Exception
{
}

/** The process from its start to its end. */
final class Shim
{
    private Channel $channel;
    private ?Execution $execution = null;
    private array $enforced = [];
    private string $entrypoint = '';
    private int $window = 0;
    private bool $isLeaving = false;

    public function run(): void
    {
        $this->channel = new Channel();
        \ob_start(fn (string $output): string => $this->onOutput($output), 1);
        \register_shutdown_function(fn () => $this->onEnd());
        try {
            $this->channel->write(Channel::frame(['type' => 'ready', 'pid' => \getmypid(), 'version' => PHP_VERSION]));
            [$frame] = $this->channel->read();
            $handler = $this->assign($frame);
            if ($handler !== null) {
                $this->channel->write(Channel::frame(['type' => 'loaded', 'concurrency' => 1]));
            }
            $level = \ob_get_level();
            while (true) { // if nothing was loaded, the host ends this instance
                $this->execution = $this->next();
                $this->serve($handler, $level);
            }
        } catch (HostGone) {
            $this->isLeaving = true;
            exit(0);
        }
    }

    /** Wait for a request and all of its body. */
    private function next(): Execution
    {
        do {
            [$frame, $body] = $this->channel->read();
        } while ($frame['type'] !== 'request'); // a word about one that has ended
        $pieces = [$body];
        for ($more = $frame['more'] ?? false; $more; $more = $next['more']) {
            [$next, $piece] = $this->channel->read();
            $pieces[] = $piece;
        }
        return new Execution($this->channel, $frame, \implode('', $pieces));
    }

    private function serve(callable $handler, int $level): void
    {
        $execution = $this->execution;
        $context = new Context($execution, new Request($execution->frame, $execution->body, $this->enforced));
        try {
            $result = $handler($context);
        } catch (HostGone $gone) {
            throw $gone;
        } catch (\Throwable $problem) {
            $this->endOutput($level);
            $execution->fail($problem);
            return;
        }
        $this->endOutput($level);
        $execution->finish($result, $this->window);
    }

    /** What the handler began to buffer and did not end is output of this execution. */
    private function endOutput(int $level): void
    {
        while (\ob_get_level() > $level) {
            \ob_end_flush();
        }
    }

    private function assign(array $frame): ?callable
    {
        $this->window = $frame['window'];
        foreach ($frame['environment'] as $name => $value) {
            \putenv("$name=$value");
            $_ENV[$name] = $_SERVER[$name] = $value;
        }
        try {
            foreach (\json_decode(\getenv('OPEN_RUNTIMES_HEADERS') ?: '{}', true, 512, JSON_THROW_ON_ERROR) as $name => $value) {
                $this->enforced[\strtolower((string) $name)] = \is_string($value) ? $value : textOf($value);
            }
            return $this->load($frame['code'], $frame['entrypoint']);
        } catch (LoadFailed $problem) {
            $text = $problem->getMessage();
        } catch (HostGone $gone) {
            throw $gone;
        } catch (\Throwable $problem) {
            $text = describe($problem) . "\nFailed to load entrypoint {$frame['entrypoint']}.";
        }
        $this->channel->write(Channel::frame(['type' => 'load_failed', 'error' => \substr($text, 0, LOAD_ERROR_MAX_BYTES)]));
        return null;
    }

    /** Include the entrypoint and return the handler it returns. Throws LoadFailed, and whatever the code throws. */
    private function load(string $code, string $entrypoint): callable
    {
        $file = "$code/$entrypoint";
        if (!\is_file($file)) {
            throw new LoadFailed("Failed to load entrypoint, file $entrypoint does not exist.");
        }
        $this->entrypoint = $entrypoint;
        $_SERVER['argv'] = [$_SERVER['SCRIPT_FILENAME'] = $_SERVER['SCRIPT_NAME'] = $_SERVER['PHP_SELF'] = $file];
        \set_include_path(\implode(PATH_SEPARATOR, ['.', $code, \get_include_path()]));
        $handler = (static fn () => require \func_get_arg(0))($file);
        if (!\is_callable($handler)) {
            throw new LoadFailed(SIGNATURE_INVALID);
        }
        return $handler;
    }

    private function onOutput(string $output): string
    {
        if ($this->execution === null) {
            return $output; // while loading: the host keeps it for the first execution
        }
        $this->execution->write('native', $output);
        return '';
    }

    /** Tell whoever is concerned why this process is about to end. */
    private function onEnd(): void
    {
        if ($this->isLeaving) {
            return;
        }
        $last = \error_get_last();
        $isFatal = $last !== null && ($last['type'] & FATAL) !== 0;
        $text = $isFatal
            ? "Fatal error: {$last['message']} in {$last['file']}:{$last['line']}"
            : "exit was called by {$this->entrypoint} or by code that it uses";
        if ($this->execution !== null && $this->execution->isOpen) {
            try {
                $this->execution->error($text);
                $this->execution->flush();
            } catch (HostGone) {
                return; // nobody can be told
            }
        } elseif (!$isFatal) { // PHP itself has written the other on stderr
            \fwrite(STDERR, "$text\n");
        }
    }
}

(new Shim())->run();
