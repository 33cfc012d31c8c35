"""Where state is kept: the database and the files."""
