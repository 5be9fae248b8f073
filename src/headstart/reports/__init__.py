"""Reports of runs: computed as plain data (`summary`), then rendered (`html`, `figures`)."""
