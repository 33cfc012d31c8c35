'use strict';
// A handler of ours that uses what handlers use, run once in a stem cell (see `rehearse` in shim.cjs).

module.exports = ({ req, res, log, error }) => {
  log('rehearsal', { query: req.query, url: req.url });
  error(new Error('rehearsal').message);
  return res.json({ body: req.body, headers: req.headers }, 200, { 'x-rehearsal': '1' });
};
