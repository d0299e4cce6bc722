"""Write pages that show a case or a whole run in a browser, offline."""
