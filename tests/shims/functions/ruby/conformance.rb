require 'digest'

MULTIPART = "--12345\r\nContent-Disposition: form-data; name=\"one\"\r\n\r\n1\r\n--12345--\r\n".freeze

$counted = 0
$closed = 0

def logs(context)
  puts 'Native log'
  warn 'Native error'
  context.log('Debug log')
  context.error('Error log')
  context.log('Log+With+Plus+Symbol')
  context.log(42)
  context.log(4.2)
  context.log(true)
  context.log({ 'objectKey' => 'objectValue' })
  context.log(['arrayValue'])
  context.log('a' * 9000)
  context.error('e' * 9000)
  context.res.text('')
end

def url(context)
  req = context.req
  context.res.json(
    {
      url: req.url,
      port: req.port,
      path: req.path,
      query: req.query,
      queryString: req.query_string,
      scheme: req.scheme,
      host: req.host
    }
  )
end

def headers(context)
  given = context.req.headers
  context.res.text(
    'OK',
    200,
    {
      'first-header' => 'first-value',
      'Second-Header' => given['x-open-runtimes-custom-in-header'] || 'missing',
      'cookie' => given['cookie'] || 'missing',
      'x-open-runtimes-custom-out-header' => 'third-value'
    }
  )
end

def sleep_for(context)
  context.log('Timeout start.')
  sleep(context.req.body_text.to_f)
  context.log('Timeout end.')
  context.res.text('Successful response.')
end

def interleave(context)
  5.times do
    puts "native #{context.req.body_text}"
    context.log("own #{context.req.body_text}")
    sleep(0.001)
  end
  context.res.text(context.req.body_text)
end

def body(context)
  value = context.req.body
  value.is_a?(String) ? context.res.text(value) : context.res.json(value)
end

def spread(context)
  context.log('engine:', 'open-runtimes')
  context.error('engine:', 'open-runtimes')
  context.res.text('OK')
end

def twice(context)
  context.res.text('first')
  context.res.text('second')
end

def nothing(context)
  context.res.text('built, not returned')
  nil
end

def log_then_raise(context)
  context.log('before the error')
  raise 'Error!'
end

def busy(context)
  context.log('Busy start.')
  loop { nil }
end

def leave(context)
  context.log('leaving')
  exit(3)
end

def fall(context)
  context.log('falling')
  Process.kill('SEGV', Process.pid)
  sleep(5)
end

def child(context)
  system('echo from the child')
  context.res.text('OK')
end

def flood(context)
  line = 'x' * 79
  context.req.body_text.to_i.times { context.log(line) }
  context.res.text('OK')
end

def stream(context)
  pieces = Enumerator.new do |out|
    context.log('streaming')
    out << 'first,'
    sleep(0.001)
    out << 'second,'
    out << [226, 130, 172]
  end
  context.res.stream(pieces, 202, { 'X-Kind' => 'pieces', 'content-type' => 'text/event-stream' })
end

def stream_raise(context)
  pieces = Enumerator.new do |out|
    out << 'before'
    raise 'midway'
  end
  context.res.stream(pieces)
end

def stream_endless(context)
  pieces = Enumerator.new do |out|
    loop do
      context.log('piece')
      out << ("\x07" * 100_000)
    end
  ensure
    $closed += 1
  end
  context.res.stream(pieces)
end

def stream_stuck(context)
  pieces = Enumerator.new do |out|
    out << 'begun'
    sleep(60)
  end
  context.res.stream(pieces)
end

def stream_flood(context)
  pieces = Enumerator.new do |out|
    out << 'begun'
    100.times { |at| context.log("line #{at}") }
    sleep(60)
  end
  context.res.stream(pieces)
end

ACTIONS = {
  'text' => ->(c) { c.res.text('Hello World 👋') },
  'json' => ->(c) { c.res.json({ json: true, message: 'fine' }) },
  'charset' => ->(c) { c.res.text('ÅÆ', 200, { 'content-type' => 'text/plain; charset=iso-8859-1' }) },
  'uppercaseType' => ->(c) { c.res.text('ÅÆ', 200, { 'Content-Type' => 'TEXT/PLAIN' }) },
  'multipart' => ->(c) { c.res.text(MULTIPART, 200, { 'content-type' => 'multipart/form-data; boundary=12345' }) },
  'redirect' => ->(c) { c.res.redirect('https://example.com/') },
  'empty' => ->(c) { c.res.empty },
  'nothing' => method(:nothing),
  'twice' => method(:twice),
  'headers' => method(:headers),
  'status' => ->(c) { c.res.text('FAIL', 404) },
  'logThenThrow' => method(:log_then_raise),
  'method' => ->(c) { c.res.text(c.req.method) },
  'url' => method(:url),
  'requestHeaders' => ->(c) { c.res.json(c.req.headers) },
  'bodyText' => ->(c) { c.res.text(c.req.body_text) },
  'bodyJson' => ->(c) { c.res.json(c.req.body_json) },
  'bodyBinary' => ->(c) { c.res.binary(c.req.body_binary) },
  'body' => method(:body),
  'environment' => ->(c) { c.res.json({ set: ENV.fetch('CUSTOM_ENV_VAR', nil), unset: ENV.fetch('NOT_DEFINED_VAR', nil) }) },
  'logs' => method(:logs),
  'spread' => method(:spread),
  'sleep' => method(:sleep_for),
  'interleave' => method(:interleave),
  'busy' => method(:busy),
  'send' => ->(c) { c.res.send(c.req.body_raw) },
  'sendNumber' => ->(c) { c.res.send(50) },
  'sendBytes' => ->(c) { c.res.send([137, 80, 78, 71, 0, 255].pack('C*'), 200, { 'content-type' => 'image/png' }) },
  'binary1' => ->(c) { c.res.binary("\x00\x0A\xFF".b) },
  'binary2' => ->(c) { c.res.binary([0, 20, 255].pack('C*')) },
  'binary3' => ->(c) { c.res.binary([0, 30, 255]) },
  'binary4' => ->(c) { c.res.binary([0, 40, 255].map { |byte| byte.chr(Encoding::BINARY) }.join) },
  'digest' => ->(c) { c.res.text(Digest::MD5.hexdigest(c.req.body_binary), 200, { 'x-method' => c.req.method }) },
  'large' => ->(c) { c.res.binary("\x07" * c.req.body_text.to_i) },
  'cookies' => ->(c) { c.res.text('OK', 200, { 'set-cookie' => ['a=1; Path=/', 'b=2'], 'other' => 'header' }) },
  'badHeaders' => lambda { |c|
    c.res.text('OK', 200, { 'x-split' => "a\r\nx-injected: 1", 'bad name' => 'b', 'fine' => 'c' })
  },
  'manyHeaders' => ->(c) { c.res.text('OK', 200, (0...10_000).to_h { |at| ["x-#{at}", 'v'] }) },
  'badStatus' => ->(c) { c.res.text('OK', 20_000) },
  'notAResult' => ->(_) { 'a string' },
  'exit' => method(:leave),
  'signal' => method(:fall),
  'child' => method(:child),
  'count' => ->(c) { c.res.text(($counted += 1).to_s) },
  'flood' => method(:flood),
  'stream' => method(:stream),
  'streamFunction' => ->(c) { c.res.stream(-> { ['called'] }) },
  'streamItself' => ->(_) { %w[it self].each_entry },
  'streamPlain' => ->(c) { c.res.stream(%w[a b c]) },
  'streamText' => ->(c) { c.res.stream('whole') },
  'streamThrow' => method(:stream_raise),
  'streamNothing' => ->(c) { c.res.stream(5) },
  'streamEndless' => method(:stream_endless),
  'streamStuck' => method(:stream_stuck),
  'closed' => ->(c) { c.res.text($closed.to_s) },
  'streamFlood' => method(:stream_flood),
  'pid' => ->(c) { c.res.text(Process.pid.to_s) }
}.freeze

def main(context)
  action = ACTIONS[context.req.headers['x-action']]
  raise 'Unknown action' if action.nil?

  action.call(context)
end
