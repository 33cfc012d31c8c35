# frozen_string_literal: true

# The framed protocol over descriptor 3 (docs/protocol.md), blocking. Standard library only, Ruby >= 3.0.
# Writes block until the host has taken them: nothing queues up in this process, and what was written before a crash
# has left it.

require 'io/wait'
require 'json'
require 'monitor'

module Hearth
  FRAME_MAX_BYTES = 2 * 1024 * 1024 + 4
  BODY_PIECE_BYTES = 512 * 1024
  READ_BYTES = 64 * 1024

  # The host closed the channel: this process has nothing left to do.
  class HostGone < Exception # rubocop:disable Lint/InheritException - no `rescue` of a handler may catch it
  end

  # Frames to and from the host. Any thread may write.
  class Channel
    # Held while frames are put together and written: user code may log from any thread.
    attr_reader :lock

    def initialize(descriptor)
      @io = IO.for_fd(descriptor, 'r+b', autoclose: false)
      @io.close_on_exec = true
      @io.sync = true
      @buffer = String.new(encoding: Encoding::BINARY)
      @lock = Monitor.new
    end

    # One frame: length of the rest, length of the header, header (JSON), body.
    def self.frame(header, body = '')
      head = JSON.generate(header).b
      [4 + head.bytesize + body.bytesize, head.bytesize].pack('NN') << head << body.b
    end

    def write(data)
      @lock.synchronize { @io.write(data) } unless data.empty?
    rescue SystemCallError, IOError
      raise HostGone
    end

    # Send a response; `before` holds log frames that leave in the same write. A long body is split.
    def send_response(header, body, before)
      size = body.bytesize
      more = size > BODY_PIECE_BYTES
      write(before + Channel.frame({ **header, more: more }, body.byteslice(0, BODY_PIECE_BYTES)))
      (BODY_PIECE_BYTES...size).step(BODY_PIECE_BYTES) do |at|
        piece = { type: 'body', id: header[:id], more: at + BODY_PIECE_BYTES < size }
        write(Channel.frame(piece, body.byteslice(at, BODY_PIECE_BYTES)))
      end
    end

    # Whether something was sent that was not read yet.
    def arrived?
      !@buffer.empty? || !@io.wait_readable(0).nil?
    end

    # Wait for the next frame: its header and body. Raises HostGone.
    def read
      size = take(4).unpack1('N')
      raise "frame of #{size} bytes" if size < 4 || size > FRAME_MAX_BYTES

      rest = take(size)
      head_end = 4 + rest.unpack1('N')
      [JSON.parse(rest.byteslice(4, head_end - 4).force_encoding(Encoding::UTF_8)), rest.byteslice(head_end..)]
    end

    # A forked child is not the instance: it cannot answer requests.
    def forget
      @io.close
    end

    private

    def take(length)
      @buffer << @io.readpartial(READ_BYTES) while @buffer.bytesize < length
      @buffer.slice!(0, length)
    rescue SystemCallError, IOError
      raise HostGone
    end
  end
end
