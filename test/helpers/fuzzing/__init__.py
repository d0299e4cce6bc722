"""Small CTs in every format that is read, ways to spoil them, and processes that read what comes of it."""
