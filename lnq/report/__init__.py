"""Pages that show a case and a run in a browser, offline."""
