# frozen_string_literal: true

# What a handler is given: `req`, `res`, `log` and `error` (contract: runtime-contract 2 to 4).

module Hearth
  INTERNAL = 'x-open-runtimes-'

  # The request as the handler sees it. Everything is computed when it is asked for.
  class Request
    attr_reader :body_binary

    def initialize(frame, body, enforced)
      @frame = frame
      @body_binary = body
      @enforced = enforced
    end

    def body_text
      @body_text ||= @body_binary.dup.force_encoding(Encoding::UTF_8)
    end

    def body_raw
      body_text
    end

    def body_json
      JSON.parse(body_text)
    end

    def body
      return body_text unless (raw('content-type') || 'text/plain').downcase.start_with?('application/json')

      @body_binary.empty? ? {} : body_json
    end

    def headers
      @headers ||= @frame['headers'].transform_keys(&:downcase)
                                    .reject { |name, _| name.start_with?(INTERNAL) }
                                    .merge(@enforced)
    end

    def method
      @frame['method'].upcase
    end

    def scheme
      raw('x-forwarded-proto') || 'http'
    end

    def host
      (raw('host') || '').partition(':').first
    end

    def port
      text = (raw('host') || '').partition(':').last
      text.match?(/\A\d+\z/) ? text.to_i : default_port
    end

    def path
      target.partition('?').first
    end

    def query_string
      target.partition('?').last
    end

    def query
      query_string.split('&').each_with_object({}) do |pair, query|
        key, _, value = pair.partition('=')
        query[key] = value unless key.empty?
      end
    end

    def url
      port_text = port == default_port ? '' : ":#{port}"
      "#{scheme}://#{host}#{port_text}#{path}#{query_string.empty? ? '' : "?#{query_string}"}"
    end

    private

    def target
      @frame['path'].partition('#').first
    end

    def default_port
      scheme == 'https' ? 443 : 80
    end

    def raw(name)
      @frame['headers'].fetch(name) { @frame['headers'].find { |key, _| key.downcase == name }&.last }
    end
  end

  # Builders of results; a result takes effect only if the handler returns it.
  class Response
    def binary(bytes, status_code = 200, headers = {})
      { 'body' => Hearth.to_bytes(bytes), 'statusCode' => status_code, 'headers' => headers }
    end

    def text(body, status_code = 200, headers = {})
      binary(body, status_code, headers)
    end

    def send(body, status_code = 200, headers = {})
      binary(body, status_code, headers)
    end

    def json(obj, status_code = 200, headers = {})
      binary(JSON.generate(obj), status_code, { **headers, 'content-type' => 'application/json' })
    end

    # A body piece by piece: from anything with `each`, or something to call that returns it.
    def stream(source, status_code = 200, headers = {})
      { 'stream' => source, 'statusCode' => status_code, 'headers' => headers }
    end

    def empty
      binary('', 204)
    end

    def redirect(url, status_code = 301, headers = {})
      binary('', status_code, { **headers, 'location' => url })
    end
  end

  # The argument of a handler.
  class Context
    attr_reader :req, :res

    def initialize(execution, req)
      @execution = execution
      @req = req
      @res = Response.new
    end

    def log(*messages)
      @execution.write('log', "#{Logging.line(messages)}\n")
    end

    def error(*messages)
      @execution.write('error', "#{Logging.line(messages)}\n")
    end
  end

  # The bytes of a body: text as it is, a list of numbers as bytes, anything else as text.
  def self.to_bytes(value)
    (value.is_a?(Array) ? value.pack('C*') : value.to_s).b
  end

  # Names lower-cased, internal ones dropped, content type completed (contract: runtime-contract 3).
  def self.response_headers(given)
    headers = {}
    given.each do |key, value|
      name = key.to_s.downcase
      next if name.start_with?(INTERNAL) || value.nil?

      headers[name] = value.is_a?(Array) ? value.map { |item| plain(item) } : plain(value)
    end
    headers['content-type'] = content_type([headers['content-type'] || 'text/plain'].flatten.join(', '))
    headers
  end

  def self.content_type(given)
    lower = given.downcase
    return given if lower.start_with?('multipart/') # a boundary is case-sensitive

    lower.include?('charset=') ? lower : "#{lower}; charset=utf-8"
  end

  def self.plain(value)
    value.to_s.dup.force_encoding(Encoding::UTF_8).scrub
  end
  private_class_method :content_type, :plain
end
