"""One file a command: options in, `api` called, words and rows out.  Only typer is imported at the top."""
