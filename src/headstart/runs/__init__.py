"""Run folders: files, locks, resume state, event log."""
