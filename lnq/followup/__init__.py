"""Two CTs of one patient: which node of one is which node of the other, and how it has changed."""
