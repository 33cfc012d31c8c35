# frozen_string_literal: true

# Sends a body that a handler gives piece by piece, never more than the host has asked for (docs/protocol.md).

module Hearth
  # The body of one execution on its way to the host.
  class Outflow
    PIECE_BYTES = 64 * 1024
    SOURCES = 'an object with `each`, or a proc that returns one'

    # What has `each` in `source`. Raises TypeError for what cannot be streamed.
    def self.iterate(source)
      given = source.respond_to?(:call) ? source.call : source
      return [given] if given.is_a?(String)
      raise TypeError, "A body that is streamed must be #{SOURCES}." unless given.respond_to?(:each)

      given
    end

    def initialize(channel, execution, room)
      @channel = channel
      @execution = execution
      @room = room
    end

    # Send everything until the source ends or the host cancels. Raises what the source raises.
    def run(source)
      catch(self) do
        source.each do |value|
          data = Hearth.to_bytes(value)
          (0...data.bytesize).step(PIECE_BYTES) { |at| push(data.byteslice(at, PIECE_BYTES)) }
        end
      end
    end

    # The last frame, also of a response that was canceled: its source has stopped.
    def finish(is_broken)
      send_frame({ more: false, broken: is_broken })
    end

    private

    # `throw` leaves the source through its `ensure` blocks.
    def push(piece)
      while @channel.arrived? || @room < piece.bytesize
        frame, = @channel.read
        next unless frame['id'] == @execution.frame['id']

        throw self if frame['type'] == 'cancel'
        @room += frame['size'] if frame['type'] == 'ack'
      end
      @room -= piece.bytesize
      send_frame({ more: true }, piece)
    end

    def send_frame(header, piece = '')
      @channel.lock.synchronize do
        @execution.flush
        @channel.write(Channel.frame({ type: 'body', id: @execution.frame['id'], **header }, piece))
      end
    end
  end
end
