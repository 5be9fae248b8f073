"""Training by gradient: the suffix of a network and its head, from cached states, stoppable and resumable."""
