"""Choose settings by measurement: candidates, costs, budgets."""
