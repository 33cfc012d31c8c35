// Answers GET / with a greeting and everything else with what it was sent. Entrypoint `main.ts`, no build commands.
export default async ({ req, res, log }: any) => {
  log(`${req.method} ${req.path}`);
  if (req.method === 'GET' && req.path === '/') {
    return res.text('Hello from your function. Send a POST to see what it receives.');
  }
  return res.json({ method: req.method, path: req.path, query: req.query, body: req.bodyText });
};
