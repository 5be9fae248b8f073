"""What models predict: each task reads, checks, trains, scores and saves in its own way, behind one contract."""
