// Greets the person named in the query (`/?name=Ada`) or in a JSON body (`{"name": "Ada"}`).
export default async ({ req, res, log }) => {
  const name = req.query.name || (req.body && req.body.name) || 'World';
  log(`${req.method} ${req.path} for ${name}`);
  log(`called by ${req.headers['user-agent'] || 'an unnamed client'}, trigger ${req.headers['x-appwrite-trigger']}`);

  return res.json(
    { message: `${process.env.GREETING || 'Hi'}, ${name}!`, node: process.version },
    200,
    { 'x-greeted': encodeURIComponent(name) },
  );
};
