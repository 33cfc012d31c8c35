// A function for any Node.js runtime: entrypoint `main.js`, no build commands.
// Answers GET / with a greeting and everything else with what it was sent.
module.exports = async ({ req, res, log }) => {
  log(`${req.method} ${req.path}`);
  if (req.method === 'GET' && req.path === '/') {
    return res.text('Hello from your function. Send a POST to see what it receives.');
  }
  return res.json({ method: req.method, path: req.path, query: req.query, body: req.bodyText });
};
