"""What the market may do: historical windows, Monte Carlo paths and named stresses."""
