"""The roads that `api` tells on one page: each composes rooms that do not know one another."""
