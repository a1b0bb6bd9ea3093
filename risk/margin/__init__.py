"""Margin rules, tiers, liquidation and bankruptcy prices of isolated positions."""
