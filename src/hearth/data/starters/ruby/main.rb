# A function for any Ruby runtime: entrypoint `main.rb`, no build commands.
# Answers GET / with a greeting and everything else with what it was sent.
def main(context)
  request = context.req
  context.log("#{request.method} #{request.path}")
  if request.method == 'GET' && request.path == '/'
    return context.res.text('Hello from your function. Send a POST to see what it receives.')
  end

  seen = { method: request.method, path: request.path, query: request.query, body: request.body_text }
  context.res.json(seen)
end
