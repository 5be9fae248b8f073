"""Check datasets: unreadable files, duplicates, leaks, groups, shortcuts, odd classes."""
