"""Speed and memory against the budgets of the design, in the same run as a plain peer."""
