// Turns the request body into a slug with a package that `npm ci` installed at build time.
const slugify = require('slugify');

module.exports = async ({ req, res, log }) => {
  const title = req.bodyText.trim();
  if (!title) {
    return res.text('Send a title in the body.', 400);
  }
  const slug = slugify(title, { lower: true, locale: 'de' });
  log(`"${title}" becomes ${slug}`);
  return res.text(slug);
};
