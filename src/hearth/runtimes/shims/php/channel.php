<?php

declare(strict_types=1);

// The framed protocol over descriptor 3 (docs/protocol.md), blocking. PHP >= 8.0, no extension but json.
// Writes block until the host has taken them: nothing queues up in this process, and what was written before a
// crash has left it.

namespace Hearth;

const FRAME_MAX_BYTES = 2 * 1024 * 1024 + 4;
const BODY_PIECE_BYTES = 512 * 1024;
const READ_BYTES = 64 * 1024;
const JSON_FLAGS = JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE;

/** The host closed the channel: this process has nothing left to do. */
final class HostGone extends \Exception
{
}

final class Channel
{
    /** @var resource */
    private $in;
    /** @var resource */
    private $out;
    private string $buffer = '';

    public function __construct()
    {
        // Two streams: one that reads and writes would forget what it has read ahead.
        $this->in = \fopen('php://fd/3', 'rb');
        $this->out = \fopen('php://fd/3', 'wb');
        \stream_set_chunk_size($this->in, READ_BYTES);
    }

    /** One frame: length of the rest, length of the header, header (JSON), body. */
    public static function frame(array $header, string $body = ''): string
    {
        $head = \json_encode($header, JSON_FLAGS | JSON_THROW_ON_ERROR);
        return \pack('NN', 4 + \strlen($head) + \strlen($body), \strlen($head)) . $head . $body;
    }

    public function write(string $data): void
    {
        while ($data !== '') {
            $sent = @\fwrite($this->out, $data);
            if ($sent === false || $sent === 0) {
                throw new HostGone();
            }
            $data = \substr($data, $sent);
        }
    }

    /** Send a response; `before` holds log frames that leave in the same write. A long body is split. */
    public function sendResponse(array $header, string $body, string $before): void
    {
        $length = \strlen($body);
        $header['more'] = $length > BODY_PIECE_BYTES;
        $this->write($before . self::frame($header, $header['more'] ? \substr($body, 0, BODY_PIECE_BYTES) : $body));
        for ($at = BODY_PIECE_BYTES; $at < $length; $at += BODY_PIECE_BYTES) {
            $more = $at + BODY_PIECE_BYTES < $length;
            $frame = ['type' => 'body', 'id' => $header['id'], 'more' => $more];
            $this->write(self::frame($frame, \substr($body, $at, BODY_PIECE_BYTES)));
        }
    }

    /** Whether something was sent that was not read yet. */
    public function hasArrived(): bool
    {
        $readable = [$this->in];
        $none = null;
        return $this->buffer !== '' || \stream_select($readable, $none, $none, 0) > 0;
    }

    /** Wait for the next frame: its header and body. Throws HostGone. */
    public function read(): array
    {
        $size = \unpack('N', $this->take(4))[1];
        if ($size < 4 || $size > FRAME_MAX_BYTES) {
            throw new \RuntimeException("frame of $size bytes");
        }
        $rest = $this->take($size);
        $headEnd = 4 + \unpack('N', $rest)[1];
        $header = \json_decode(\substr($rest, 4, $headEnd - 4), true, 512, JSON_THROW_ON_ERROR);
        return [$header, \substr($rest, $headEnd)];
    }

    private function take(int $length): string
    {
        while (\strlen($this->buffer) < $length) {
            $data = @\fread($this->in, READ_BYTES);
            if ($data === false || $data === '') {
                throw new HostGone();
            }
            $this->buffer .= $data;
        }
        $taken = \substr($this->buffer, 0, $length);
        $this->buffer = \substr($this->buffer, $length);
        return $taken;
    }
}
