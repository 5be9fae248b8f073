"""Train the suffix of a network and its head by gradient descent, from cached activations; resumable."""
