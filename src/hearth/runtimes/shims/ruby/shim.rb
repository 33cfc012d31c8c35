# frozen_string_literal: true

# The server inside a Ruby instance: takes frames from descriptor 3, calls the handler, answers; one request at a time.
# Everything is in the module Hearth: the top level belongs to user code.

require_relative 'channel'
require_relative 'context'
require_relative 'logging'
require_relative 'stream'

module Hearth
  RETURN_MISSING = 'Return statement missing. return context.res.empty() if no response is expected.'
  RETURN_INVALID = 'Return value invalid. Return the result of one of the context.res methods.'
  SIGNATURE_INVALID = "Function signature invalid. Did you forget to export a 'main' function?"
  LOAD_ERROR_MAX_CHARS = 100_000
  # The first lines of an execution leave at once, so that a handler that then blocks or dies has been heard, and so
  # does a line after a pause; a flood is gathered into larger frames, the last of which leaves with the answer.
  DIRECT_LINES = 1000
  PAUSE_S = 0.05
  BATCH_BYTES = 16 * 1024
  LOG_FRAME_BYTES = 512 * 1024

  # The code cannot be run; the message says why.
  class LoadFailed < StandardError
  end

  # One request from its first frame to its response.
  class Execution
    attr_reader :frame, :body

    def initialize(channel, frame, body)
      @channel = channel
      @frame = frame
      @body = body
      @is_open = true
      @lines = 0
      @flushed_at = 0.0
      @stream = ''
      @pending = String.new(encoding: Encoding::BINARY)
    end

    # Add whole lines, or any piece of native output, to one of the log streams. Any thread may call it.
    def write(stream, text)
      @channel.lock.synchronize do
        next if !@is_open || !@frame['logging'] || text.empty?

        flush if stream != @stream
        @stream = stream
        @pending << text.b
        @lines += 1
        flush if @lines <= DIRECT_LINES || @pending.bytesize >= BATCH_BYTES || Execution.clock - @flushed_at >= PAUSE_S
      end
    end

    def self.clock
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end

    def error(text)
      write('error', "#{text}\n")
    end

    def flush
      @channel.lock.synchronize do
        @channel.write(take_pending)
        @flushed_at = Execution.clock if @lines >= DIRECT_LINES
      end
    end

    # Answer with what the handler returned; `window`: see `assign` in the protocol.
    def finish(result, window)
      result = { 'stream' => result } if result.is_a?(Enumerator)
      if result.nil?
        error(RETURN_MISSING)
        answer(500)
      elsif !result.is_a?(Hash) || !(result.key?('body') || result.key?('stream'))
        error(RETURN_INVALID)
        answer(500)
      else
        answer_with(result, window)
      end
    end

    def fail(problem)
      error(Logging.describe(problem))
      answer(500)
    end

    private

    def answer_with(result, window)
      status = result.fetch('statusCode', 200)
      raise RangeError, "Invalid status code: #{status}" unless status.is_a?(Integer) && (100..999).cover?(status)

      headers = Hearth.response_headers(result['headers'] || {})
      source = Outflow.iterate(result['stream']) if result.key?('stream')
      body = Hearth.to_bytes(result['body'])
    rescue StandardError => e
      fail(e)
    else
      source.nil? ? answer(status, headers, body) : stream(status, headers, source, window)
    end

    # Answer with the head, then with the pieces that `source` gives.
    def stream(status, headers, source, window)
      header = { type: 'response', id: @frame['id'], status: status, headers: headers, more: true, stream: true }
      @channel.lock.synchronize { @channel.write(take_pending + Channel.frame(header)) }
      outflow = Outflow.new(@channel, self, window)
      begin
        outflow.run(source)
      rescue StandardError => e
        error(Logging.describe(e))
      end
      outflow.finish(!e.nil?)
      @is_open = false
    end

    def answer(status, headers = Hearth.response_headers({}), body = '')
      @channel.lock.synchronize do
        @is_open = false
        header = { type: 'response', id: @frame['id'], status: status, headers: headers }
        @channel.send_response(header, body, take_pending)
      end
    end

    # Log frames not sent yet; forgets them.
    def take_pending
      frames = String.new(encoding: Encoding::BINARY)
      (0...@pending.bytesize).step(LOG_FRAME_BYTES) do |at|
        header = { type: 'log', id: @frame['id'], stream: @stream }
        frames << Channel.frame(header, @pending.byteslice(at, LOG_FRAME_BYTES))
      end
      @pending.clear
      frames
    end
  end

  # The process from its start to its end.
  class Shim
    # Closes the channel in forked children, whose output goes to the real descriptors.
    module Forks
      def _fork
        pid = super
        Hearth.shim.forked if pid.zero?
        pid
      end
    end

    def run
      @channel = Channel.new(3)
      @execution = nil
      Process.singleton_class.prepend(Forks)
      $stdout = NativeStream.over(1) { @execution }
      $stderr = NativeStream.over(2) { @execution }
      @channel.write(Channel.frame({ type: 'ready', pid: Process.pid, version: RUBY_VERSION }))
      frame, = @channel.read
      @channel.write(Channel.frame({ type: 'loaded', concurrency: 1 })) if assign(frame)
      loop { serve } # if nothing was loaded, the host ends this instance
    rescue HostGone
      exit!(0)
    end

    def forked
      @channel.forget
      @execution = nil
    end

    private

    def serve
      @execution = execution = receive
      context = Context.new(execution, Request.new(execution.frame, execution.body, @enforced))
      begin
        result = TOPLEVEL_BINDING.receiver.__send__(:main, context)
      rescue HostGone
        raise
      rescue SystemExit, SignalException => e
        execution.error(Logging.describe(e)) # user code asked to end the process: say so in its log, then do it
        execution.flush
        raise
      rescue Exception => e # rubocop:disable Lint/RescueException - whatever it is, it is the function's
        execution.fail(e)
      else
        execution.finish(result, @window)
      end
    end

    # Wait for a request and all of its body.
    def receive
      frame, body = @channel.read
      frame, body = @channel.read until frame['type'] == 'request' # a word about one that has ended
      more = frame['more']
      while more
        piece, bytes = @channel.read
        body << bytes
        more = piece['more']
      end
      Execution.new(@channel, frame, body)
    end

    # Take the one deployment of this instance; false if its code could not be loaded.
    def assign(frame)
      @window = frame['window']
      ENV.update(frame['environment'])
      enforced = JSON.parse(ENV.fetch('OPEN_RUNTIMES_HEADERS', '').then { |text| text.empty? ? '{}' : text })
      @enforced = enforced.to_h { |name, value| [name.downcase, value.to_s] }
      load_code(frame['code'], frame['entrypoint'])
      true
    rescue LoadFailed => e
      refuse(e.message)
    rescue HostGone
      raise
    rescue SystemExit, SignalException => e
      warn(Logging.describe(e))
      raise
    rescue Exception => e # rubocop:disable Lint/RescueException - SyntaxError and LoadError are no StandardErrors
      refuse("#{Logging.describe(e)}\nFailed to load entrypoint #{frame['entrypoint']}.")
    end

    def refuse(text)
      @channel.write(Channel.frame({ type: 'load_failed', error: text[0, LOAD_ERROR_MAX_CHARS] }))
      false
    end

    # Run the entrypoint, which has to define `main`. Raises LoadFailed, and whatever the code raises.
    def load_code(code, entrypoint)
      file = File.join(code, entrypoint)
      raise LoadFailed, "Failed to load entrypoint, file #{entrypoint} does not exist." unless File.file?(file)

      $PROGRAM_NAME = file
      use_bundle(File.join(code, 'vendor', 'bundle', RUBY_ENGINE, RbConfig::CONFIG['ruby_version']))
      $LOAD_PATH.unshift(code)
      Kernel.load(file)
      raise LoadFailed, SIGNATURE_INVALID unless Object.private_method_defined?(:main) || Object.method_defined?(:main)
    end

    # What the build's Bundler installed comes before the gems of the machine.
    def use_bundle(folder)
      return unless File.directory?(folder) && defined?(Gem)

      Gem.use_paths(folder, [folder, *Gem.path])
      $LOAD_PATH.unshift(*Dir[File.join(folder, 'bundler', 'gems', '*', 'lib')])
    end
  end

  class << self
    attr_reader :shim
  end
  @shim = Shim.new
end

Hearth.shim.run
