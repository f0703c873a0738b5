"""A run folder as a page to read, and the table that terminal, Markdown and pages share."""
