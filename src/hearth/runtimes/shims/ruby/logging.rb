# frozen_string_literal: true

# How values become log lines, how native output finds its execution, and how errors are shown
# (contract: runtime-contract 4).

module Hearth
  module Logging
    MESSAGE_MAX_CHARS = 8000
    TRUNCATED = "... Log truncated due to size limit (#{MESSAGE_MAX_CHARS} characters)"
    CAUSES_MAX = 5
    FOLDER = "#{__dir__}/"

    # One log line (without its newline) from the arguments of one call.
    def self.line(values)
      text = values.map { |value| text_of(value) }.join(' ')
      text.length > MESSAGE_MAX_CHARS ? text[0, MESSAGE_MAX_CHARS] + TRUNCATED : text
    end

    def self.text_of(value)
      case value
      when String then utf8(value)
      when Hash, Array then compact(value)
      when Exception then describe(value)
      else utf8(value.to_s)
      end
    end

    # An error as its author should read it: without the frames of this shim.
    def self.describe(problem, depth = 0)
      frames = (problem.backtrace || []).reject { |frame| frame.include?(FOLDER) || frame.start_with?('<internal:') }
      text = ["#{problem.class}: #{utf8(problem.message)}", *frames.map { |frame| "    at #{frame}" }].join("\n")
      return text if problem.cause.nil? || depth >= CAUSES_MAX

      "#{text}\n[cause]: #{describe(problem.cause, depth + 1)}"
    rescue StandardError # an exception whose own text cannot be made must not hide that it happened
      "#{problem.class} (its text could not be made)"
    end

    def self.compact(value)
      JSON.generate(value)
    rescue JSON::JSONError, EncodingError, SystemStackError
      utf8(value.inspect)
    end

    def self.utf8(text)
      text = text.encode(Encoding::UTF_8) unless [Encoding::UTF_8, Encoding::BINARY].include?(text.encoding)
      text.dup.force_encoding(Encoding::UTF_8).scrub
    rescue EncodingError
      text.dup.force_encoding(Encoding::UTF_8).scrub
    end
    private_class_method :compact
  end

  # What `$stdout` and `$stderr` are: gives text to the execution that runs, else to the real descriptor.
  class NativeStream < IO
    def self.over(descriptor, &find)
      stream = for_fd(descriptor, 'w', autoclose: false)
      stream.sync = true
      stream.instance_variable_set(:@find, find)
      stream
    end

    def write(*parts)
      execution = @find.call
      return super if execution.nil?

      text = parts.join
      execution.write('native', text)
      text.bytesize
    end
  end
end
