"""Define the commands, one file each: parse options, call `api`, print results. Only typer is imported at the top."""
