<?php

declare(strict_types=1);

// Sends a body that a handler gives piece by piece, never more than the host has asked for (docs/protocol.md).

namespace Hearth;

const PIECE_BYTES = 64 * 1024;
const SOURCES = 'a generator, another iterable, or a function that returns one';

/** The body of one execution on its way to the host. */
final class Outflow
{
    private bool $isOpen = true;

    public function __construct(private Channel $channel, private Execution $execution, private int $room)
    {
    }

    /** What can be iterated in `source`. Throws TypeError for what cannot be streamed. */
    public static function iterate(mixed $source): iterable
    {
        if (\is_string($source)) {
            return [$source];
        }
        $given = $source instanceof \Closure ? $source() : $source;
        return \is_iterable($given) ? $given : throw new \TypeError('A body that is streamed must be ' . SOURCES . '.');
    }

    /** Send everything until the source ends or the host cancels. Throws what the source throws. */
    public function run(iterable $source): void
    {
        foreach ($source as $value) {
            $data = toBytes($value);
            foreach ($data === '' ? [] : \str_split($data, PIECE_BYTES) as $piece) {
                while ($this->channel->hasArrived() || ($this->isOpen && $this->room < \strlen($piece))) {
                    $this->hear();
                }
                if (!$this->isOpen) {
                    return; // what is left of a generator runs its `finally` blocks when it goes
                }
                $this->room -= \strlen($piece);
                $this->execution->flush();
                $this->send(['more' => true], $piece);
            }
        }
    }

    /** The last frame, also of a response that was canceled: its source has stopped. */
    public function end(bool $isBroken): void
    {
        $this->execution->flush();
        $this->send(['more' => false, 'broken' => $isBroken], '');
    }

    private function hear(): void
    {
        [$frame] = $this->channel->read();
        if (($frame['id'] ?? null) !== $this->execution->frame['id']) {
            return;
        }
        if ($frame['type'] === 'ack') {
            $this->room += $frame['size'];
        } elseif ($frame['type'] === 'cancel') {
            $this->isOpen = false;
        }
    }

    private function send(array $header, string $piece): void
    {
        $this->channel->write(Channel::frame(['type' => 'body', 'id' => $this->execution->frame['id']] + $header, $piece));
    }
}
